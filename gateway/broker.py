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
import json
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
from msgspec import UNSET, Raw, Struct, UnsetType
from yarl import URL

from gateway.config import ModelConfig

LINE_LIMIT_BYTES: Final = 16 * 1024 * 1024
"""One event of the stream, or a whole answer where the endpoint does not stream."""
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


class ModelError(Exception):
    """A model call failed: `code` for programs, `message` for the user, `retryable` if a new try may help."""

    def __init__(
        self, code: str, message: str, *, retryable: bool = False, retry_after_seconds: float | None = None
    ) -> None:
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class ModelRequest(Struct, frozen=True):
    """What a worker asks: OpenAI chat messages and tools, raw or decoded; `model` None is the default one."""

    messages: Raw | list[Any]
    model: str | None = None
    tools: Raw | list[Any] | None = None


class ModelResult(Struct, frozen=True):
    """How a call ended and what it cost; None where the endpoint does not say."""

    finish_reason: str
    input_tokens: int | None = None
    output_tokens: int | None = None


class ModelDelta(Struct, frozen=True):
    """What one network read brought, as `_model/delta`; a thought comes before the text beside it.

    `toolCalls` is `[{index, id?, name?, arguments?}]`: id and name come once, arguments in fragments to join.
    """

    text: str | UnsetType = UNSET
    thought: str | UnsetType = UNSET
    toolCalls: list[dict[str, Any]] | UnsetType = UNSET


class Broker:
    """The gateway's one client of the model endpoint; `close` ends it and every call in flight."""

    def __init__(
        self, config: ModelConfig, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
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
        self._check(request)
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

    def _check(self, request: ModelRequest) -> None:
        if not self.is_configured:
            raise ModelError("model_not_configured", "No model is configured on this gateway.")
        if request.model is not None and request.model not in self.models:
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
        answer = _Answer()
        while not answer.is_over:
            chunk = await self._read(response, TRAILER_SECONDS if answer.finish_reason else None)
            if isinstance(chunk, ModelError):
                return answer.result(instead_of=chunk)
            for delta in answer.feed(chunk) if chunk else answer.end():
                await deliver(delta)
        if answer.error is not None:
            status, words = _error_words(answer.error)
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
        return _error_words(_plain_json(body[:REFUSAL_READ_BYTES]) or body.decode("utf-8", "replace"))[1]

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


class _Function(Struct):
    name: str | None = None
    arguments: Any = None


class _ToolCall(Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Part(Struct):
    content: Any = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(Struct):
    index: int | None = None
    delta: _Part | None = None
    message: _Part | None = None
    finish_reason: str | None = None


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


class _Answer:
    """An answer as it comes in, whatever its spelling: bytes in, deltas out. Pure, and nothing raises."""

    def __init__(self) -> None:
        self.is_over = False
        self.finish_reason: str | None = None
        self.error: Any = None
        """The endpoint's own error, in the middle of the stream."""
        self._failure: ModelError | None = None
        self._usage: dict[str, Any] = {}
        self._is_plain: bool | None = None
        self._is_foreign = False
        self._line: list[bytes] = []
        self._held_bytes = 0
        self._batch = _Batch()

    def feed(self, chunk: bytes) -> list[ModelDelta]:
        """The deltas that these bytes complete: one, unless a thought follows a text."""
        if self._is_plain is None and (start := chunk.lstrip()):
            self._is_plain = start[:1] in (b"{", b"[")  # an endpoint that does not know `stream`
            self._is_foreign = start[:1] == b"<"
        *finished, rest = [chunk] if self._is_plain else chunk.split(b"\n")
        for part in finished:
            if not self.is_over:
                self._hold(part)
                self._take_line()
        self._hold(rest)
        return self._batch.take()

    def end(self) -> list[ModelDelta]:
        """The deltas of what the endpoint left without a line end."""
        if self._is_plain:
            chunk = _decode(b"".join(self._line))
            if chunk is None or not (chunk.choices or chunk.error):
                self._fail("an answer that cannot be read")
            else:
                self._take(chunk)
                self.finish_reason = self.finish_reason or "stop"
        else:
            value = b"".join(self._line).partition(b":")[2].strip()
            if value == b"[DONE]" or _decode(value) is not None:  # else it was cut inside the line
                self._take_line()
            if self._is_foreign and self.finish_reason is None:
                self._fail("a web page; its address may be wrong")
        self.is_over = True
        return self._batch.take()

    def result(self, *, instead_of: ModelError | None = None) -> ModelResult | ModelError:
        """The result, if the model had finished; else what went wrong."""
        if self._failure is not None:
            return self._failure
        if self.finish_reason is None:
            text = "The model's answer broke off."
            return instead_of or ModelError("model_cut", text, retryable=True)
        sent, received = self._usage.get("prompt_tokens"), self._usage.get("completion_tokens")
        return ModelResult(
            "tool_calls" if self._batch.has_calls and self.finish_reason == "stop" else self.finish_reason,
            sent if isinstance(sent, int) else None,
            received if isinstance(received, int) else None,
        )

    def _fail(self, what: str) -> None:
        self.is_over = True
        self._failure = ModelError("model_bad_answer", f"The model endpoint sent {what}.")

    def _hold(self, part: bytes) -> None:
        self._held_bytes += len(part)
        if self._held_bytes > LINE_LIMIT_BYTES:
            self._line.clear()
            self._fail(f"more than {LINE_LIMIT_BYTES >> 20} MiB in one piece")
        elif part:
            self._line.append(part)

    def _take_line(self) -> None:
        line = b"".join(self._line).removesuffix(b"\r")
        self._line.clear()
        name, _, value = line.partition(b":")
        if name == b"data":
            self._take_data(value)
        self._held_bytes = 0

    def _take_data(self, value: bytes) -> None:
        if value.strip() == b"[DONE]":
            self.is_over = True
            self.finish_reason = self.finish_reason or "stop"
        elif (chunk := _decode(value)) is not None:
            self._take(chunk)
        else:
            self._fail("an event that cannot be read")

    def _take(self, chunk: _Chunk) -> None:
        if chunk.error:
            self.error, self.is_over = chunk.error, True
        self._usage = chunk.usage or self._usage
        for choice in chunk.choices or ():
            if not choice.index:
                self._batch.add(choice.delta or choice.message or _Part())
                self.finish_reason = choice.finish_reason or self.finish_reason


class _Batch:
    """Joins what one network read brought into as few deltas as its order allows."""

    def __init__(self) -> None:
        self._deltas: list[ModelDelta] = []
        self._text = self._thought = ""
        self._calls: dict[int, dict[str, Any]] = {}
        self._ids: list[str] = []
        """The id that the endpoint gave each call so far."""
        self._at: dict[int | None, int] = {}
        """The endpoint's index → ours: some give every call the index 0, some give none."""

    @property
    def has_calls(self) -> bool:
        return bool(self._ids)

    def add(self, part: _Part) -> None:
        text, thought = _texts(part.content)
        thought = part.reasoning_content or part.reasoning or thought
        if thought and (self._text or self._calls):
            self._flush()
        self._thought += thought
        self._text += text
        for call in part.tool_calls or ():
            self._add_call(call)

    def take(self) -> list[ModelDelta]:
        self._flush()
        deltas, self._deltas = self._deltas, []
        return deltas

    def _add_call(self, fragment: _ToolCall) -> None:
        function = fragment.function or _Function()
        index = self._at.get(fragment.index)
        call: dict[str, Any] = {}
        if index is None or (function.name and self._is_another(fragment, self._ids[index])):
            index = self._at[fragment.index] = len(self._ids)
            self._ids.append(fragment.id or "")
            call = {"id": fragment.id or f"call_{random.getrandbits(48):012x}", "name": function.name or ""}
        call = self._calls.setdefault(index, {"index": index, **call})
        if arguments := function.arguments:
            text = arguments if isinstance(arguments, str) else json.dumps(arguments)
            call["arguments"] = call.get("arguments", "") + text

    def _is_another(self, fragment: _ToolCall, known_id: str) -> bool:
        return fragment.id != known_id if fragment.id else fragment.index is None

    def _flush(self) -> None:
        if self._text or self._thought or self._calls:
            calls = list(self._calls.values())
            self._deltas.append(ModelDelta(self._text or UNSET, self._thought or UNSET, calls or UNSET))
        self._text = self._thought = ""
        self._calls.clear()


def _texts(content: Any) -> tuple[str, str]:
    """Text and thought of a content, which is a string or (Mistral) a list of parts."""
    if isinstance(content, str):
        return content, ""
    text = thought = ""
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and part.get("type") == "thinking":
            thought += _texts(part.get("thinking"))[0]
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            text += part["text"]
    return text, thought


_chunk_decoder = msgspec.json.Decoder(_Chunk)


def _decode(data: bytes) -> _Chunk | None:
    """A chunk, also one with broken UTF-8 or half an emoji's escape (both U+FFFD); None if it is none."""
    try:
        return _chunk_decoder.decode(data)
    except (ValueError, RecursionError):
        pass
    try:
        return msgspec.convert(_plain_json(data), _Chunk)
    except (ValueError, RecursionError):
        return None


def _plain_json(data: bytes) -> Any:
    try:
        text = json.dumps(json.loads(data.decode("utf-8", "replace")), ensure_ascii=False)
        return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    except (ValueError, RecursionError):
        return None


def _error_words(error: Any) -> tuple[int, str]:
    """Status (500 if it says none) and words of an error in any of the usual spellings."""
    if isinstance(error, list):
        error = error[0] if error else ""
    if isinstance(error, dict):
        error = error.get("error") or error
    if not isinstance(error, dict):
        return 500, _one_line(str(error or ""))
    words = error.get("message") or error.get("detail") or error
    words = words if isinstance(words, str) else json.dumps(words)
    code = error.get("code")
    slug = code if isinstance(code, str) else error.get("type")
    if isinstance(slug, str) and slug not in words:
        words += f" ({slug})"
    status = code if isinstance(code, int) and 400 <= code <= 599 else 500
    return 429 if _TOO_FAST.search(words) else status, _one_line(words)


def _one_line(text: str) -> str:
    text = re.sub(r"<[^>]*>", " ", text) if text.lstrip().startswith("<") else text
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


_TOO_LONG: Final = re.compile(
    r"context[ _](length|window|size)|maximum context|too many (input )?tokens|(prompt|input) is too long"
    r"|reduce the length|max_model_len|exceed\w* the (available |model'?s? )?context",
    re.IGNORECASE,
)
_TOO_FAST: Final = re.compile(r"rate.?limit|too many requests", re.IGNORECASE)
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
