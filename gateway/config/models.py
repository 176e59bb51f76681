"""The providers of models: `[providers.NAME]`. `[model]` is the one called `default`."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import field

from gateway.config.credentials import OwnKeysPolicy
from gateway.config.known_agents import KNOWN_AGENTS, SpokenDialect, started_by
from gateway.config.table import Table

if TYPE_CHECKING:
    from gateway.config.tables import AgentConfig, Config

DEFAULT_PROVIDER: Final = "default"
"""The provider that the built-in agent uses; `[model]` is another way to write its table."""
DIALECTS: Final = ("chat", "responses", "messages", "gemini")
PROVIDER_TOOLS: Final = (
    *("web_search", "web_fetch", "code_execution", "file_search", "mcp", "image_generation"),
    *("background", "batches", "store", "urls", "priority", "other"),
)
"""What a provider does by itself for a model: each leads out past the hosts that an agent may reach. `urls`:
pictures and files that the provider fetches; `priority`: sooner, for more than the model's price, of which
budgets and reports know nothing; `other`: tools that this gateway does not know.
"""
_WILD: Final = ("*", "?", "[")


class PriceConfig(Table, frozen=True, kw_only=True):
    """What a model costs, in dollars per million tokens. A model that costs nothing has a price of 0."""

    names_are_free: ClassVar[bool] = True  # models are called as their providers like

    input: float
    output: float
    """Also of what a model thinks."""
    cache_read: float | None = None
    """Absent: as `input`."""
    cache_write: float | None = None


class ProviderConfig(Table, frozen=True, kw_only=True):
    """An endpoint that answers model calls, and the key for it, which never leaves the gateway."""

    dialect: SpokenDialect | tuple[SpokenDialect, ...] = "chat"
    """How it is spoken to: OpenAI's `chat` completions and `responses`, Anthropic's `messages`, `gemini`."""
    url: str = ""
    """Its base: `https://api.openai.com/v1`, `https://api.anthropic.com`."""
    key: str = ""
    key_file: str = ""
    """A file that holds the key, instead of `key`."""
    models: tuple[str, ...] = ()
    """Those that may be asked for, `claude-haiku-*` is possible; empty: all. The first is the default."""
    own_keys: OwnKeysPolicy = "no"
    """Whether tenants and people may bring keys of their own, which are used before this one."""
    fallback: str = ""
    """The provider that is called instead while this one fails, before the first byte of an answer."""
    provider_tools: tuple[str, ...] = ()
    """What the provider may do by itself: `web_search`, `code_execution`, `urls` …; everything else of that
    kind is taken out of requests.
    """
    prices: dict[str, PriceConfig] = field(default_factory=dict)
    """By model; they replace those that come along."""
    connect_timeout_seconds: float = 10
    silence_timeout_seconds: float = 60
    """Without a byte from the endpoint for so long, a call fails."""
    retries: int = 2
    """Tries again after a passing failure, before the first byte only."""

    def __repr__(self) -> str:
        """Without the key: configurations end up in logs."""
        return f"ProviderConfig(url={self.url!r}, dialect={self.dialect!r}, has_key={bool(self.key)})"

    @property
    def dialects(self) -> tuple[SpokenDialect, ...]:
        """Every dialect that it speaks."""
        return (self.dialect,) if isinstance(self.dialect, str) else self.dialect

    @property
    def named_models(self) -> tuple[str, ...]:
        """The models that are named in full, the default first."""
        return tuple(name for name in self.models if not any(sign in name for sign in _WILD))

    def has_model(self, name: str) -> bool:
        """Whether this model may be asked for."""
        return not self.models or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.models)

    def mistakes(self, name: str, config: Config) -> Iterator[str]:
        """What cannot be, as `setting: words`."""
        url = urlsplit(self.url)
        if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
            yield "url: write the base of the endpoint, https://HOST, as it is without a query"
        elif url.username or url.password:
            yield "url: write the key into a file that key_file names, not into the address"
        if not self.dialects:
            yield f"dialect: name one of {', '.join(DIALECTS)}"
        if self.key and any(sign in self.key.strip() for sign in "\r\n\0"):
            yield "key: must be one line"
        unknown = [tool for tool in self.provider_tools if tool not in PROVIDER_TOOLS]
        for tool in unknown:
            yield f"provider_tools: {tool!r} is not known; there are: {', '.join(PROVIDER_TOOLS)}"
        yield from self._fallback_mistakes(name, config)

    def _fallback_mistakes(self, name: str, config: Config) -> Iterator[str]:
        if not self.fallback:
            return
        other = config.every_provider.get(self.fallback)
        if other is None:
            yield f"fallback: there is no provider {self.fallback!r}"
        elif self.fallback == name:
            yield "fallback: is this provider itself"
        elif not set(self.dialects) & set(other.dialects):
            yield f"fallback: {self.fallback} speaks another dialect"


def provider_mistakes(config: Config) -> list[str]:
    """What cannot be in `[providers.NAME]` and in what agents say of providers."""
    mistakes = []
    for name, provider in config.providers.items():
        mistakes += [f"providers.{name}.{words}" for words in provider.mistakes(name, config)]
    for name, agent in config.agents.items():
        if not agent.provider:
            if agent.home_files and any(_has_placeholder(text) for text in agent.home_files.values()):
                mistakes.append(f"agents.{name}.home_files: {{base}} and {{token}} need a provider")
        elif agent.provider not in config.every_provider:
            mistakes.append(f"agents.{name}.provider: there is no provider {agent.provider!r}")
        elif not agent.argv:
            mistakes.append(f"agents.{name}.provider: is for commands; the built-in agent uses [model]")
        elif not config.has_network(agent):
            mistakes.append(f"agents.{name}.provider: is reached over the network, which it has none of")
        elif words := _misfit(agent, config.every_provider[agent.provider]):
            mistakes.append(f"agents.{name}.provider: {words}")
        mistakes += [f"agents.{name}.home_files: {words}" for words in _file_mistakes(agent.home_files)]
    return mistakes


def _misfit(agent: AgentConfig, provider: ProviderConfig) -> str:
    """Why an agent that is known cannot use a provider; empty if it can."""
    known = KNOWN_AGENTS.get(agent.preset) or started_by(agent.argv)
    if known is None or not known.dialects:
        return ""
    if not set(known.dialects) & set(provider.dialects):
        return f"{known.title} speaks {' or '.join(known.dialects)}, and {agent.provider} does not"
    needs_model = known.needs_model and not provider.named_models
    return (
        f"name a model in providers.{agent.provider}.models, which {known.title} needs" if needs_model else ""
    )


def _has_placeholder(text: str) -> bool:
    return "{base}" in text or "{token}" in text


def _file_mistakes(files: dict[str, str]) -> Iterator[str]:
    for path in files:
        parts = path.split("/")
        if not all(parts) or any(part in (".", "..") for part in parts) or "\0" in path:
            yield f'{path!r} is no path inside HOME; write ".codex/config.toml"'


def with_default_provider(config: Config) -> Config:
    """The configuration in which `[providers.default]` is the model of the built-in agent, if that is how it
    is written.
    """
    provider = config.providers.get(DEFAULT_PROVIDER)
    if provider is None or config.model.url or "chat" not in provider.dialects or not provider.named_models:
        return config
    first, *others = provider.named_models
    model = msgspec.structs.replace(
        config.model,
        url=based(provider.url),
        name=config.model.name or first,
        names=tuple(others),
        key=provider.key,
        key_file=provider.key_file,
        connect_timeout_seconds=provider.connect_timeout_seconds,
        silence_timeout_seconds=provider.silence_timeout_seconds,
        retries=provider.retries,
        prices=provider.prices,
    )
    return msgspec.structs.replace(config, model=model)


def based(url: str) -> str:
    """The base of an endpoint of OpenAI's dialects; one without a path gets the usual version."""
    bare = url.strip().rstrip("/")
    return f"{bare}/v1" if not urlsplit(bare).path else bare
