"""Model calls on the built-in agent's behalf: streaming chat completions of the default provider.

Guarantees:
- what `models.providers` guarantees of every call: the key, the pace of the caller, its end, the meter;
- every failure of the endpoint is one `ModelError` with a code and words for the user; a passing one is tried
  again, a bounded number of times, before the first token only, so that no word is ever said twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from gateway.agents.completion import (
    ModelAnswer,
    ModelDelta,
    ModelError,
    ModelRequest,
    ModelResult,
    error_words,
    plain_json,
)
from gateway.config.models import DEFAULT_PROVIDER
from gateway.config.tables import ModelConfig
from gateway.egress.own_keys import CallKey
from gateway.errors import BudgetReached, OwnKeyMissing
from gateway.models.dialects.chat import CHAT
from gateway.models.dialects.contract import AskedCall
from gateway.models.dialects.parts import BYTES_A_TOKEN, counted_bytes
from gateway.models.providers import (
    TRAILER_SECONDS,
    Broken,
    Metering,
    ModelProvider,
    Providers,
    Upstream,
    pause_before,
)
from gateway.principal import LOCAL, Account
from worker import foreign
from worker.foreign import OnOdd

WORDS_LIMIT: Final = 300
"""How much of the endpoint's own words is repeated, in characters."""
DRAIN_SECONDS: Final = 0.05
"""After [DONE]: how long the end of the body may take, for the connection to be used again."""
_NOBODY: Final = Account(LOCAL.owner, "")

_log = logging.getLogger(__name__)


class _Call(NamedTuple):
    """A call that is under way."""

    asked: AskedCall
    key: CallKey
    metering: Metering


class Broker:
    """The built-in agent's client of its provider."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        providers: Providers | None = None,
        on_odd: OnOdd = foreign.ignored,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`providers` are the gateway's; without them it has a client of its own. `on_odd` hears of every
        value in the endpoint's answers that was left out.
        """
        self._on_odd = on_odd
        self.models = config.models
        self.is_configured = config.is_configured
        self._config = config
        self._sleep = sleep
        self._own = ModelProvider(DEFAULT_PROVIDER, config.as_provider)
        self.providers = providers or Providers({})

    @property
    def _provider(self) -> ModelProvider:
        """`[providers.default]` with all that it says; its own one if it was given none."""
        return self.providers.get(DEFAULT_PROVIDER) or self._own

    async def stream(
        self,
        request: ModelRequest,
        on_delta: Callable[[ModelDelta], Awaitable[None]],
        *,
        account: Account = _NOBODY,
    ) -> ModelResult:
        """Calls the model and hands over its answer as it comes; `on_delta`'s own exceptions pass through.
        `account` pays.

        Raises ModelError, after the retries, if there is no (whole) answer.
        """
        self.check(request)
        asked, refusal = self._asked(request), None
        try:
            key = self.providers.key_for(self._provider, account)
            async with self.providers.metered(self._provider, key, asked, CHAT, account) as metering:
                return await self._tries(_Call(asked, key, metering), on_delta)
        except (BudgetReached, OwnKeyMissing) as error:
            refusal = ModelError(error.code, error.message)
        raise refusal

    async def _tries(self, call: _Call, on_delta: Callable[[ModelDelta], Awaitable[None]]) -> ModelResult:
        is_begun = False

        async def deliver(delta: ModelDelta) -> None:
            nonlocal is_begun
            is_begun = True
            await on_delta(delta)

        tries = 0
        while True:
            outcome = await self._once(call, deliver)
            if isinstance(outcome, ModelResult):
                return outcome
            _log.warning("model call failed (try %d): %s", tries + 1, outcome.code)
            pause = pause_before(tries, outcome.retry_after_seconds)
            if is_begun or not outcome.retryable or tries >= self._config.retries or pause is None:
                raise outcome
            tries += 1
            await self._sleep(pause)

    async def close(self) -> None:
        """Closes every connection; further calls fail."""
        await self.providers.close()

    def check(self, request: ModelRequest) -> None:
        """Raises ModelError for a call that can not be made here."""
        if not self.is_configured:
            raise ModelError("model_not_configured", "No model is configured on this gateway.")
        if request.model and request.model not in self.models:
            text = f"This model may not be used here. Choose one of: {', '.join(self.models)}."
            raise ModelError("model_not_allowed", text[:WORDS_LIMIT])

    def _asked(self, request: ModelRequest) -> AskedCall:
        """The request as a call of its dialect."""
        model = request.model or self.models[0]
        fields: dict[str, Any] = {"model": model, "messages": request.messages, "stream": True}
        if request.tools is not None and request.tools != [] and request.tools != Raw(b"[]"):
            fields["tools"] = request.tools  # several endpoints refuse an empty list
        raw = {name: Raw(msgspec.json.encode(value)) for name, value in fields.items()}
        return AskedCall(
            operation="generate",
            path="chat/completions",
            model=model,
            fields=raw,
            is_stream=True,
            input_tokens=-(-sum(counted_bytes(bytes(value)) for value in raw.values()) // BYTES_A_TOKEN),
        )

    async def _once(
        self, call: _Call, deliver: Callable[[ModelDelta], Awaitable[None]]
    ) -> ModelResult | ModelError:
        """One try. Failures are returned, not raised."""
        providers, provider = self.providers, self._provider
        if (blocking := providers.blocked(provider, call.key, call.asked.model)) is not None:
            seconds = blocking.seconds_left
            text = f"The model endpoint is not called for {seconds:.0f} s, because {blocking.why}."
            return ModelError("model_unavailable", text, retryable=True, retry_after_seconds=seconds or 1.0)
        outcome: ModelResult | ModelError | None = None
        try:
            outcome = await self._called(call, deliver)
        finally:
            if outcome is None:
                providers.abandon(provider, call.key, call.asked.model)
        return outcome

    async def _called(
        self, call: _Call, deliver: Callable[[ModelDelta], Awaitable[None]]
    ) -> ModelResult | ModelError:
        asks_usage, metering = self._provider.asks_usage, call.metering
        response = await self._post(call, asks_usage)
        if isinstance(response, Broken):
            return self._broken(response, call)
        metering.status = response.status
        try:
            if response.is_compressed:
                text = "The model endpoint answers compressed, although it was asked not to."
                return self._noted(ModelError("model_bad_answer", text), call)
            if response.status == 200:
                outcome = await self._receive(response, deliver, call)
                return self._noted(outcome, call)
            metering.is_sent = False
            refusal = await self._refusal(response)
        finally:
            response.close()
        if asks_usage and response.status in (400, 422) and "stream_options" in refusal:
            self._provider.asks_usage = False
            return await self._called(call, deliver)
        judged = self._judge(response.status, refusal, call.key, response.retry_after)
        return self._noted(judged, call, status=response.status)

    def _noted(
        self, outcome: ModelResult | ModelError, call: _Call, *, status: int = 200
    ) -> ModelResult | ModelError:
        """Tells the breaker of an outcome."""
        provider, key, model = self._provider, call.key, call.asked.model
        if isinstance(outcome, ModelResult) or outcome.code in _ANSWERED:
            self.providers.note_answer(provider, key, model)
        else:
            why = outcome.message.removesuffix(".")
            why = f"it does not accept the key ({status})" if status in (401, 403) else why
            self.providers.note_failure(provider, key, model, why, status=status)
        return outcome

    async def _post(self, call: _Call, asks_usage: bool) -> Upstream | Broken:
        url = self._config.url.strip().rstrip("/") + "/chat/completions"
        headers = CHAT.headers(call.key.value, {}, self._provider.rules)
        call.metering.sent()
        response = await self.providers.attempt(
            self._provider, url, CHAT.encoded(call.asked, asks_usage=asks_usage), headers
        )
        if isinstance(response, Broken):
            call.metering.is_sent = response.kind in ("silent", "cut")
        return response

    async def _receive(
        self,
        response: Upstream,
        deliver: Callable[[ModelDelta], Awaitable[None]],
        call: _Call,
    ) -> ModelResult | ModelError:
        metering = call.metering
        answer = ModelAnswer(self._on_odd)
        while not answer.is_over:
            chunk = await response.read(TRAILER_SECONDS if answer.finish_reason else None)
            if isinstance(chunk, Broken):
                return answer.result(instead_of=self._error_of(chunk))
            if chunk:
                metering.begun()
                metering.reader.feed(chunk)
            for delta in answer.feed(chunk) if chunk else answer.end():
                await deliver(delta)
        if answer.error is not None:
            status, words = error_words(answer.error)
            return self._judge(status, words, call.key)
        metering.is_whole = True
        if not response.at_eof:
            with contextlib.suppress(TimeoutError):
                await response.read(DRAIN_SECONDS)
        return answer.result()

    async def _refusal(self, response: Upstream) -> str:
        """The words of an answer that is not 200."""
        body = await response.refusal()
        return error_words(plain_json(body) or body.decode("utf-8", "replace"))[1]

    def _broken(self, broken: Broken, call: _Call) -> ModelError:
        if broken.kind != "closed":
            self.providers.note_failure(self._provider, call.key, call.asked.model, broken.words)
        return self._error_of(broken)

    def _error_of(self, broken: Broken) -> ModelError:
        """What a broken try means for the user."""
        config = self._config
        match broken.kind:
            case "connect_timeout":
                seconds = config.connect_timeout_seconds
                text = f"The model endpoint did not take the connection within {seconds:g} s."
                return ModelError("model_refused", text, retryable=True)
            case "silent":
                text = f"The model endpoint said nothing for {config.silence_timeout_seconds:g} s."
                return ModelError("model_silent", text, retryable=True)
            case "refused":
                return ModelError("model_refused", "The model endpoint cannot be reached.", retryable=True)
            case "no_http":
                text = "The model endpoint does not speak HTTP; its address may be wrong."
                return ModelError("model_bad_answer", text)
            case "bad_address":
                text = "The address or the key of the model endpoint is not a valid one."
                return ModelError("model_refused", text)
            case "closed":
                return ModelError("model_refused", "The gateway is shutting down.")
            case "cut":
                text = "The connection to the model endpoint broke."
                return ModelError("model_cut", text, retryable=True)

    def _judge(self, status: int, words: str, key: CallKey, retry_after: float | None = None) -> ModelError:
        """The error for a status and the endpoint's words, which never repeat the key."""
        if key.value:  # some endpoints quote it, or its beginning
            start = key.value[:8] if len(key.value) >= 16 else key.value
            words = re.sub(re.escape(start) + r"\S*", "…", words)
        said = f" It says: {words[:WORDS_LIMIT]}" if words else f" (status {status})"
        if status in (401, 403):  # and here its end as well
            text = f"The model endpoint did not accept the gateway's key ({status})."
            return ModelError("model_unauthorized", text)
        if status == 413 or (status in (400, 422, 500) and _TOO_LONG.search(words)):
            text = "This conversation is longer than the model can take. Start a new one or send less."
            return ModelError("context_too_long", text)
        if status == 429:
            text = f"The model endpoint takes no more requests for the moment.{said}"
            passes = not _SPENT.search(words)
            return ModelError("model_rate_limited", text, retryable=passes, retry_after_seconds=retry_after)
        if status >= 500 or status == 408:
            text = f"The model endpoint has a problem.{said}"
            return ModelError("model_unavailable", text, retryable=True, retry_after_seconds=retry_after)
        if status >= 400:
            return ModelError("model_bad_request", f"The model endpoint refused the request.{said}")
        text = f"The model endpoint did not answer but sent status {status}; its address may be wrong."
        return ModelError("model_bad_answer", text)


_TOO_LONG: Final = re.compile(
    r"context[ _](length|window|size)|maximum context|too many (input )?tokens|(prompt|input) is too long"
    r"|reduce the length|max_model_len|exceed\w* the (available |model'?s? )?context",
    re.IGNORECASE,
)
_SPENT: Final = re.compile(r"insufficient_quota|billing", re.IGNORECASE)
_ANSWERED: Final = ("model_bad_request", "context_too_long", "model_rate_limited")
"""Failures that say nothing against the endpoint."""
