"""Models: the providers, the tokens of workers and the routes that lead from one to the other, as one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from gateway.config.tables import Config
from gateway.egress.door import BASE_URL
from gateway.egress.own_keys import OwnKeys
from gateway.models.meter import Meter
from gateway.models.providers import Providers
from gateway.models.routes import ROOT, ModelRoutes
from gateway.models.tokens import ModelAccess, ModelTokens
from gateway.telemetry.metrics import Metrics


class Models:
    """See the module. `close` ends every call in flight."""

    def __init__(
        self,
        config: Config,
        *,
        meter: Meter | None = None,
        own_keys: OwnKeys | None = None,
        metrics: Metrics | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.providers = Providers(
            config.every_provider, meter=meter, own_keys=own_keys, metrics=metrics, monotonic=monotonic
        )
        self.tokens = ModelTokens()
        self.routes = ModelRoutes(self.providers, self.tokens, metrics=metrics)

    def take_over(self, config: Config) -> None:
        """Goes by a changed configuration from the next call on."""
        self.providers.configure(config.every_provider)

    async def close(self) -> None:
        """Ends every call in flight."""
        await self.providers.close()


class Placeholders:
    """What a worker's variables and files say of its provider."""

    def __init__(self, access: ModelAccess, models: Models, *, own_url: str) -> None:
        """`own_url` is where workers without a door reach the gateway."""
        provider = models.providers.get(access.provider)
        named = provider.config.named_models if provider is not None else ()
        self.token = models.tokens.issue(access)
        self._values = {
            "{base}": BASE_URL if access.has_door else own_url + ROOT.rstrip("/"),
            "{token}": self.token,
            "{model}": next(iter(named), ""),
            "{small_model}": next((name for name in named if _is_small(name)), next(iter(named), "")),
        }

    def env(self, env: dict[str, str]) -> dict[str, str]:
        """Variables, filled in; those that would name a model are left out if none is named."""
        return {name: self._filled(value) for name, value in env.items() if not self._lacks_model(value)}

    def text(self, text: str) -> str:
        """A file, filled in; lines that would name a model are left out if none is named."""
        lines = [line for line in text.splitlines(keepends=True) if not self._lacks_model(line)]
        return self._filled("".join(lines))

    def _lacks_model(self, text: str) -> bool:
        return not self._values["{model}"] and ("{model}" in text or "{small_model}" in text)

    def _filled(self, text: str) -> str:
        for name, value in self._values.items():
            text = text.replace(name, value)
        return text


_SMALL: Final = ("haiku", "mini", "nano", "flash", "lite", "small")


def _is_small(model: str) -> bool:
    """Whether a model's name says that it is a small one, for an agent's lesser work."""
    return any(word in model for word in _SMALL)
