"""The gateway's model routes, `/llm/{openai|anthropic|gemini}/…`: what agents call instead of their provider.

Guarantees: without a worker's token nothing is answered, and a token is good only where its worker is: at its
own door, or at the gateway's port if it has none; only the calls that a dialect lists reach a provider, at
an address that the gateway writes itself; whatever is wrong is said as the dialect spells errors.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl

from gateway.egress.routes import RouteAnswer, RouteHandler, RouteRequest
from gateway.errors import BudgetReached
from gateway.models.dialects import BY_FAMILY
from gateway.models.dialects.contract import AskedCall, ModelCallRefused, Tongue
from gateway.models.providers import UNAVAILABLE, Forwarded, ModelProvider, Providers
from gateway.models.tokens import ModelAccess, ModelTokens
from gateway.telemetry.metrics import Metrics

ROOT: Final = "/llm/"
BODY_BYTES: Final = 32 * 1024 * 1024
UNKNOWN_CALLER: Final = "Show the token of this session's worker: it is not here, or its worker has ended."
_PATH: Final = re.compile(r"(?:/[\w.:@~+-]+)+", re.ASCII)
"""No escapes, no empty part, no slash at the end."""
_DOTS: Final = re.compile(r"/\.{1,2}(?:/|$)")
_ANY: Final = BY_FAMILY["openai"]
"""How an address of no family is refused."""
_JSON: Final = ("content-type", "application/json")
_NO_RETRY: Final = ("x-should-retry", "false")

log = logging.getLogger(__name__)


class ModelRoutes:
    """The handlers of the routes; see the module."""

    def __init__(self, providers: Providers, tokens: ModelTokens, *, metrics: Metrics | None = None) -> None:
        self._providers = providers
        self._tokens = tokens
        self._metrics = metrics

    def at_door(self, access: ModelAccess) -> RouteHandler:
        """The handler of one worker's door."""

        async def handle(request: RouteRequest, answer: RouteAnswer) -> None:
            await self._handle(request, answer, own=access)

        return handle

    async def at_port(self, request: RouteRequest, answer: RouteAnswer) -> None:
        """The handler of the gateway's own port, for workers that have no door."""
        await self._handle(request, answer, own=None)

    async def _handle(self, request: RouteRequest, answer: RouteAnswer, *, own: ModelAccess | None) -> None:
        path, _, text = request.target.partition("?")
        family, below = _family(path)
        tongues = BY_FAMILY.get(family, _ANY)
        headers = _joined(request.headers)
        query = dict(parse_qsl(text, keep_blank_values=True))
        access = self._access(tongues[0], headers, query, own)
        if access is None:
            await _refuse(answer, tongues[0], 401, "invalid_token", UNKNOWN_CALLER)
            return
        taking = [one for one in tongues if one.takes(request.method, below)]
        if not taking:
            await _refuse_path(answer, tongues[0], request, headers)
            return
        call = access.begin()
        try:
            await self._answer(answer, taking, access, below, query, headers, request.body)
        except asyncio.CancelledError:
            if call.is_its_end():
                raise ConnectionAbortedError("The call was ended with its turn.") from None
            raise
        finally:
            access.done(call)

    def is_known(self, target: str, headers: Sequence[tuple[str, str]]) -> bool:
        """Whether a request at the gateway's port shows a token that is good there."""
        path, _, text = target.partition("?")
        tongues = BY_FAMILY.get(_family(path)[0], _ANY)
        return self._access(tongues[0], _joined(headers), dict(parse_qsl(text)), None) is not None

    def spelled(self, target: str, status: int, code: str, words: str) -> bytes:
        """An error as the dialect spells it whose address was asked for."""
        family, below = _family(target.partition("?")[0])
        tongues = BY_FAMILY.get(family, _ANY)
        tongue = next((one for one in tongues if one.takes("POST", below)), tongues[0])
        return tongue.error(status, code, words)

    def _access(
        self,
        tongue: Tongue,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        own: ModelAccess | None,
    ) -> ModelAccess | None:
        """Whose token the caller shows; None if it is not good here."""
        for text in tongue.credentials(headers, query):
            access = self._tokens.find(text)
            if access is not None and (access is own if own is not None else not access.has_door):
                return access
        return None

    async def _answer(
        self,
        answer: RouteAnswer,
        taking: Sequence[Tongue],
        access: ModelAccess,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
    ) -> None:
        provider = self._providers.get(access.provider)
        if provider is None:
            words = f"There is no provider {access.provider} any more."
            await _refuse(answer, taking[0], 502, UNAVAILABLE, words)
            return
        tongue = next((one for one in taking if one.name in provider.config.dialects), None)
        if tongue is None:
            words = f"The provider {provider.name} does not speak {taking[0].name} here."
            await _refuse(answer, taking[0], 404, "wrong_dialect", words)
            return
        try:
            asked = tongue.read(path, query, body, provider.rules)
            self._note_dropped(asked, provider)
            if asked.operation == "models" and provider.config.models:
                await _list(answer, tongue, provider.config.named_models, asked.path)
                return
            call = Forwarded(
                tongue=tongue,
                asked=asked,
                sent=headers,
                account=access.account(),
                unavailable=lambda words: access.notice(UNAVAILABLE, words),
            )
            await self._providers.forward(provider, call, answer)
        except ModelCallRefused as refused:
            await _refuse(answer, tongue, refused.status, refused.code, refused.words)
        except BudgetReached as reached:
            body = tongue.error(tongue.budget_status, reached.code, reached.message)
            answer.start(tongue.budget_status, (_JSON, _NO_RETRY))
            await answer.write(body)

    def _note_dropped(self, asked: AskedCall, provider: ModelProvider) -> None:
        for tool in asked.dropped:
            log.info("provider %s: %s was taken out of a call", provider.name, tool)
            if self._metrics is not None:
                self._metrics.model_dropped.labels(tool).inc()


def _family(path: str) -> tuple[str, str]:
    """The family of a path and what is below it; two empty texts if it is none of ours or is not plain."""
    if not path.startswith(ROOT) or not _PATH.fullmatch(path) or _DOTS.search(path):
        return "", ""
    family, _, below = path.removeprefix(ROOT).partition("/")
    return (family, f"/{below}") if family in BY_FAMILY else ("", "")


def shown_token(headers: Mapping[str, str], query: Mapping[str, str]) -> str:
    """What a caller shows as its key in any of the places that dialects have for it; empty if nothing."""
    for tongues in BY_FAMILY.values():
        for text in tongues[0].credentials(headers, query):
            if text:
                return text
    return ""


def _joined(headers: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Headers by name; one that came several times counts with its last value, lists are joined."""
    found: dict[str, str] = {}
    for name, value in headers:
        known = found.get(name)
        found[name] = f"{known},{value}" if known is not None and name == "anthropic-beta" else value
    return found


async def _list(answer: RouteAnswer, tongue: Tongue, models: Sequence[str], path: str) -> None:
    body = tongue.listing(models, path)
    if body is None:
        await _refuse(answer, tongue, 404, "model_not_found", "There is no such model here.")
        return
    answer.start(200, (_JSON,))
    await answer.write(body)


async def _refuse_path(
    answer: RouteAnswer, tongue: Tongue, request: RouteRequest, headers: Mapping[str, str]
) -> None:
    """For what no dialect takes; a WebSocket in words that make its client use plain HTTP."""
    if "websocket" in headers.get("upgrade", "").lower():
        await _refuse(answer, tongue, 426, "upgrade_refused", "Use plain HTTP here: there is no WebSocket.")
        return
    await _refuse(answer, tongue, 404, "not_found", f"{request.method} of this address is not served here.")


async def _refuse(answer: RouteAnswer, tongue: Tongue, status: int, code: str, words: str) -> None:
    answer.start(status, (_JSON, _NO_RETRY) if status < 500 else (_JSON,))
    await answer.write(tongue.error(status, code, words))
