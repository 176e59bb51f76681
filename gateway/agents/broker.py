"""Model calls on a worker's behalf: OpenAI-compatible streaming chat completions over one pooled client.

Guarantees:
- the endpoint is read only after the last delta was taken: a slow worker costs one bounded buffer, no memory;
- cancelling the call closes the connection to the endpoint at once, so nobody pays for words nobody reads;
- every failure of the endpoint is one `ModelError` with a code and words for the user; a passing one is tried
  again, a bounded number of times, before the first token only, so that no word is ever said twice;
- the key travels to the configured address only (redirects are not followed) and is in no error, no log line.
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
import random
import re
import time
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
import msgspec
from aiohttp import ClientResponse, ClientTimeout
from msgspec import Raw
from yarl import URL

from gateway.agents.completion import (
    ModelAnswer,
    ModelDelta,
    ModelError,
    ModelRequest,
    ModelResult,
    error_words,
    plain_json,
)
from gateway.config.tables import ModelConfig
from worker import foreign
from worker.foreign import OnOdd

READ_BUFFER_BYTES: Final = 64 * 1024
"""What waits in memory for a slow worker, twice at most; then the endpoint is left waiting by TCP."""
REFUSAL_READ_BYTES: Final = 64 * 1024
WORDS_LIMIT: Final = 300
"""How much of the endpoint's own words is repeated, in characters."""
BACKOFF_SECONDS: Final = 0.5
"""Before the first new try; doubled for each further one, with jitter: sessions must not return in step."""
BACKOFF_LIMIT_SECONDS: Final = 8.0
RETRY_AFTER_LIMIT_SECONDS: Final = 10.0
"""An endpoint that asks for a longer pause is reported to the user instead of waited for."""
TRAILER_SECONDS: Final = 5.0
"""After the model has finished: how long its usage figures may take."""
DRAIN_SECONDS: Final = 0.05
"""After [DONE]: how long the end of the body may take, for the connection to be used again."""

_log = logging.getLogger(__name__)


class Broker:
    """The gateway's one client of the model endpoint; `close` ends it and every call in flight."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        on_odd: OnOdd = foreign.ignored,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`on_odd` hears of every value in the endpoint's answers that was left out."""
        self._on_odd = on_odd
        self.models = config.models
        self.is_configured = config.is_configured
        self._config = config
        self._key = config.key.strip()
        self._sleep = sleep
        self._client: aiohttp.ClientSession | None = None
        self._is_closed = False
        self._asks_usage = True
        """False once the endpoint has refused `stream_options`."""

    async def stream(
        self, request: ModelRequest, on_delta: Callable[[ModelDelta], Awaitable[None]]
    ) -> ModelResult:
        """Calls the model and hands over its answer as it comes; `on_delta`'s own exceptions pass through.

        Raises ModelError, after the retries, if there is no (whole) answer.
        """
        self.check(request)
        is_begun = False

        async def deliver(delta: ModelDelta) -> None:
            nonlocal is_begun
            is_begun = True
            await on_delta(delta)

        tries = 0
        while True:
            outcome = await self._once(request, deliver)
            if isinstance(outcome, ModelResult):
                return outcome
            _log.warning("model call failed (try %d): %s", tries + 1, outcome.code)
            pause = _pause(outcome, tries)
            if is_begun or not outcome.retryable or tries >= self._config.retries or pause is None:
                raise outcome
            tries += 1
            await self._sleep(pause)

    async def close(self) -> None:
        """Closes every connection; further calls fail."""
        self._is_closed = True
        if self._client is not None:
            await self._client.close()

    def check(self, request: ModelRequest) -> None:
        """Raises ModelError for a call that can not be made here."""
        if not self.is_configured:
            raise ModelError("model_not_configured", "No model is configured on this gateway.")
        if request.model and request.model not in self.models:
            text = f"This model may not be used here. Choose one of: {', '.join(self.models)}."
            raise ModelError("model_not_allowed", text[:WORDS_LIMIT])

    async def _once(
        self, request: ModelRequest, deliver: Callable[[ModelDelta], Awaitable[None]]
    ) -> ModelResult | ModelError:
        """One try. Failures are returned: an aiohttp error as the context would drag our headers along."""
        asks_usage = self._asks_usage
        response = await self._post(request, asks_usage)
        if isinstance(response, ModelError):
            return response
        try:
            if response.status == 200:
                return await self._receive(response, deliver)
            refusal = await self._refusal(response)
        finally:
            response.close()
        if asks_usage and response.status in (400, 422) and "stream_options" in refusal:
            self._asks_usage = False
            return await self._once(request, deliver)
        return self._judge(response.status, refusal, _retry_after(response.headers.get("Retry-After")))

    async def _post(self, request: ModelRequest, asks_usage: bool) -> ClientResponse | ModelError:
        if self._is_closed:
            return ModelError("model_refused", "The gateway is shutting down.")
        url = self._config.url.strip().rstrip("/") + "/chat/completions"
        try:
            return await self._session().post(
                url,
                data=self._body(request, asks_usage),
                headers=self._headers(),
                allow_redirects=False,
                proxy=_proxy(URL(url)),
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = _broken(error, self._config)
        return failure

    def _session(self) -> aiohttp.ClientSession:
        if self._client is None:
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),  # one call a worker: workers are what is limited
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=READ_BUFFER_BYTES,
                timeout=ClientTimeout(
                    total=None,
                    connect=self._config.connect_timeout_seconds,
                    sock_read=self._config.silence_timeout_seconds,
                ),
            )
        return self._client

    def _headers(self) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream, application/json",
            "Accept-Encoding": "identity",  # compressors hold tokens back
            "User-Agent": "agent-gateway",
        }
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return headers

    def _body(self, request: ModelRequest, asks_usage: bool) -> bytes:
        model = request.model or self.models[0]
        body: dict[str, Any] = {"model": model, "messages": request.messages, "stream": True}
        if asks_usage:
            body["stream_options"] = {"include_usage": True}
        if request.tools is not None and request.tools != [] and request.tools != Raw(b"[]"):
            body["tools"] = request.tools  # several endpoints refuse an empty list
        return msgspec.json.encode(body)

    async def _receive(
        self, response: ClientResponse, deliver: Callable[[ModelDelta], Awaitable[None]]
    ) -> ModelResult | ModelError:
        answer = ModelAnswer(self._on_odd)
        while not answer.is_over:
            chunk = await self._read(response, TRAILER_SECONDS if answer.finish_reason else None)
            if isinstance(chunk, ModelError):
                return answer.result(instead_of=chunk)
            for delta in answer.feed(chunk) if chunk else answer.end():
                await deliver(delta)
        if answer.error is not None:
            status, words = error_words(answer.error)
            return self._judge(status, words)
        if not response.content.at_eof():
            await self._read(response, DRAIN_SECONDS)
        return answer.result()

    async def _read(self, response: ClientResponse, seconds: float | None) -> bytes | ModelError:
        """What has come; b"" at the end of the body."""
        try:
            async with asyncio.timeout(seconds):
                return await response.content.readany()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = _broken(error, self._config)
        return failure

    async def _refusal(self, response: ClientResponse) -> str:
        """The words of an answer that is not 200."""
        body = b""
        while len(body) < REFUSAL_READ_BYTES:
            chunk = await self._read(response, TRAILER_SECONDS)
            if isinstance(chunk, ModelError) or not chunk:
                break
            body += chunk
        return error_words(plain_json(body[:REFUSAL_READ_BYTES]) or body.decode("utf-8", "replace"))[1]

    def _judge(self, status: int, words: str, retry_after: float | None = None) -> ModelError:
        """The error for a status and the endpoint's words, which never repeat the key."""
        if self._key:  # some endpoints quote it, or its beginning
            start = self._key[:8] if len(self._key) >= 16 else self._key
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


def _broken(error: Exception, config: ModelConfig) -> ModelError:
    """What an error of the connection means. Only its kind is logged: its words may quote our headers."""
    _log.info("model endpoint: %s", getattr(error, "os_error", None) or type(error).__name__)
    match error:
        case aiohttp.ConnectionTimeoutError():
            seconds = config.connect_timeout_seconds
            text = f"The model endpoint did not take the connection within {seconds:g} s."
            return ModelError("model_refused", text, retryable=True)
        case TimeoutError():
            text = f"The model endpoint said nothing for {config.silence_timeout_seconds:g} s."
            return ModelError("model_silent", text, retryable=True)
        case aiohttp.ClientConnectorError() | aiohttp.ClientHttpProxyError():
            return ModelError("model_refused", "The model endpoint cannot be reached.", retryable=True)
        case aiohttp.ClientResponseError():
            text = "The model endpoint does not speak HTTP; its address may be wrong."
            return ModelError("model_bad_answer", text)
        case aiohttp.NonHttpUrlClientError() | ValueError():
            text = "The address or the key of the model endpoint is not a valid one."
            return ModelError("model_refused", text)
        case _:
            return ModelError("model_cut", "The connection to the model endpoint broke.", retryable=True)


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, section 10.2.3): a number or a date."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _pause(failure: ModelError, tries: int) -> float | None:
    """Seconds before the next try; None if the endpoint wants more patience than a user has."""
    asked = failure.retry_after_seconds
    if asked is not None:
        return asked if asked <= RETRY_AFTER_LIMIT_SECONDS else None
    return min(BACKOFF_SECONDS * 2.0**tries, BACKOFF_LIMIT_SECONDS) * random.uniform(0.5, 1)


def _proxy(url: URL) -> str | None:
    """The proxy of the environment for this address.

    Not aiohttp's `trust_env`: that reads ~/.netrc too, whose credentials clash with ours, in a thread a call.
    """
    if urllib.request.proxy_bypass(url.host or ""):
        return None
    return urllib.request.getproxies().get(url.scheme)
