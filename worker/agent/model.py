"""The model as the agent sees it: the gateway's broker over the pipe, or an endpoint of its own.

Which one: the client's `initialize` announces a broker; else AGENT_MODEL_URL names an endpoint; else
`worker.agent.offline` answers. The broker speaks three extension messages on the ACP pipe: the request
`_model/stream`, whose result is the finish; the notification `_model/delta`, while it runs; the notification
`_model/cancel`, which ends it early.

Guarantees: deltas are delivered in order and only while `stream` runs; a model's failure is a `RequestFailed`
whose message is meant for the user and whose data holds a stable `code` and whether trying again may help.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, Protocol

import msgspec

from worker import acp, foreign
from worker.agent.conversation import ModelMessage
from worker.agent.loop import Call, Cancelled, Io, RequestFailed, Wait, parse_result
from worker.foreign import Count, Integer, Name

CONNECT_SECONDS: Final = 10
SILENCE_SECONDS: Final = 120
"""A model that thinks sends nothing for a while; two minutes of nothing is a lost connection."""

ATTEMPTS: Final = 3
RETRY_SECONDS: Final = 0.5
"""The first pause; each further one is twice as long."""


class ToolFragment(msgspec.Struct, frozen=True, rename="camel"):
    """A piece of a tool call; `arguments` are concatenated by `index`."""

    index: Integer = 0
    id: Name | None = None
    name: Name | None = None
    arguments: Name | None = None


class Delta(msgspec.Struct, frozen=True, rename="camel"):
    """A piece of an answer."""

    text: str | None = None
    thought: str | None = None
    tool_calls: tuple[ToolFragment, ...] | None = None


class BrokerDelta(Delta, frozen=True, rename="camel"):
    """`_model/delta`: a piece of the answer to the request with this id."""

    request_id: Integer | None = None


class TokenUsage(msgspec.Struct, frozen=True, rename="camel"):
    """Tokens of one model call; 0 if the endpoint reports none."""

    input_tokens: Count = 0
    output_tokens: Count = 0


class Finish(msgspec.Struct, frozen=True, rename="camel"):
    """How an answer ended; `finish_reason` in the endpoint's words."""

    finish_reason: str | None = None
    usage: TokenUsage | None = None


class EndpointRequest(msgspec.Struct, frozen=True):
    """One call of a model, in the shapes of OpenAI's chat completions."""

    session_id: str
    messages: list[ModelMessage]
    tools: list[dict[str, Any]]


OnDelta = Callable[[Delta], None]


class Model(Protocol):
    """Something that answers a conversation."""

    understands_language: bool
    takes_images: bool
    context_tokens: int | None
    """Size of its context; 0 if the broker did not say, None if usage is not reported."""

    async def stream(self, request: EndpointRequest, on_delta: OnDelta) -> Finish:
        """Answers by calling `on_delta`; raises RequestFailed."""


class BrokerModel:
    """A model behind the client's broker."""

    understands_language = True

    def __init__(self, io: Io, name: str, context_tokens: int = 0) -> None:
        self.context_tokens: int | None = context_tokens
        self._io = io
        self._name = name
        self.takes_images = False
        """Until the client says that its models do."""
        self._call: Call | None = None
        self._on_delta: OnDelta | None = None

    async def stream(self, request: EndpointRequest, on_delta: OnDelta) -> Finish:
        params = {
            "sessionId": request.session_id,
            "model": self._name,
            "messages": request.messages,
            "tools": request.tools,
        }
        call = self._call = self._io.begin("_model/stream", params)
        self._on_delta = on_delta
        try:
            return parse_result(await call, Finish)
        except Cancelled:
            self._io.notify("_model/cancel", {"requestId": call.id})
            raise
        finally:
            self._call = self._on_delta = None

    def deliver(self, params: msgspec.Raw | msgspec.UnsetType) -> None:
        """Takes a `_model/delta`; one of an earlier request is ignored. Raises msgspec.DecodeError."""
        delta = acp.parse(params, BrokerDelta)
        if self._call is not None and self._on_delta is not None and delta.request_id == self._call.id:
            self._on_delta(delta)


class EndpointModel:
    """A model behind an OpenAI-compatible endpoint, called from here; needs a running asyncio loop."""

    understands_language = True
    takes_images = True

    def __init__(self, *, url: str, name: str, key: str | None, context_tokens: int | None) -> None:
        base = url.rstrip("/")
        self._url = base if base.endswith("/chat/completions") else base + "/chat/completions"
        self._name = name
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.context_tokens = context_tokens

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> EndpointModel | None:
        """The endpoint that AGENT_MODEL_URL, AGENT_MODEL and AGENT_MODEL_KEY name; None without a URL."""
        url = environment.get("AGENT_MODEL_URL")
        if not url:
            return None
        context = environment.get("AGENT_MODEL_CONTEXT_TOKENS", "")
        return cls(
            url=url,
            name=environment.get("AGENT_MODEL", "default"),
            key=environment.get("AGENT_MODEL_KEY") or environment.get("OPENAI_API_KEY"),
            context_tokens=int(context) if context.isdecimal() else None,
        )

    async def stream(self, request: EndpointRequest, on_delta: OnDelta) -> Finish:
        import asyncio  # only an agent that was started by itself pays for it

        wait = Wait()
        task = asyncio.create_task(self._answer(request, on_delta), name="model")
        task.add_done_callback(lambda done: _settle(wait, done))
        try:
            finish: Finish = await wait
        except Cancelled:
            task.cancel()
            raise
        return finish

    async def _answer(self, request: EndpointRequest, on_delta: OnDelta) -> Finish:
        import asyncio

        import aiohttp

        body: dict[str, Any] = {"model": self._name, "messages": request.messages, "stream": True}
        body |= {"stream_options": {"include_usage": True}} | (
            {"tools": request.tools} if request.tools else {}
        )
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS, total=None)
        async with aiohttp.ClientSession(timeout=timeout, headers=self._headers) as http:
            for attempt in range(ATTEMPTS):
                try:
                    async with http.post(self._url, json=body) as answer:
                        if answer.status != 200:
                            raise _refusal(answer.status, (await answer.text())[:500])
                        return await _read_stream(answer.content.iter_any(), on_delta)
                except aiohttp.ClientConnectorError as error:
                    failure = _failure(
                        "model_unreachable", f"The model cannot be reached: {error}", retry=True
                    )
                except (aiohttp.ClientError, TimeoutError) as error:
                    raise _failure("model_stream_cut", f"The model's answer broke off: {error}") from None
                except RequestFailed as error:
                    failure = error
                if attempt + 1 == ATTEMPTS or not _may_retry(failure):
                    raise failure
                await asyncio.sleep(RETRY_SECONDS * 2**attempt)
        raise AssertionError("the last attempt returns or raises")


def _settle(wait: Wait, task: Any) -> None:
    if task.cancelled():
        wait.reject(Cancelled())
    elif (error := task.exception()) is not None:
        wait.reject(error)
    else:
        wait.resolve(task.result())


async def _read_stream(chunks: AsyncIterator[bytes], on_delta: OnDelta) -> Finish:
    """Server-sent events of a chat completion. Raises RequestFailed if the stream ends too early."""
    finish_reason: str | None = None
    usage: TokenUsage | None = None
    rest = b""
    numbering = _Numbering()
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[len(b"data:") :].strip()
            if data == b"[DONE]":
                return Finish(finish_reason, usage)
            event = _event(data)
            finish_reason = _deliver(event, numbering, on_delta) or finish_reason
            usage = _usage(event.usage) or usage
    if finish_reason is None:
        raise _failure("model_stream_cut", "The model's answer broke off before its end.")
    return Finish(finish_reason, usage)


class _Function(msgspec.Struct):
    name: Name | None = None
    arguments: Name | None = None


class _ToolCall(msgspec.Struct):
    index: Integer | None = None
    id: Name | None = None
    function: _Function | None = None


class _Part(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    delta: _Part | None = None
    finish_reason: str | None = None


class _Figures(msgspec.Struct):
    prompt_tokens: Count = 0
    completion_tokens: Count = 0


class _Refused(msgspec.Struct):
    message: Name = "no reason given"


class _Event(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Figures | None = None
    error: _Refused | None = None


def _event(data: bytes) -> _Event:
    try:
        event = foreign.read(data, _Event)
    except msgspec.DecodeError:
        raise _failure("model_failed", "The model's endpoint sent something that is not JSON.") from None
    if event.error is not None:
        raise _failure("model_failed", f"The model failed: {event.error.message}")
    return event


class _Begun(msgspec.Struct):
    """A tool call of which fragments have come."""

    index: int
    id: str
    name: str
    arguments: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are complete, so that no fragment of it is missing."""
        try:
            msgspec.json.decode(self.arguments)
        except (msgspec.DecodeError, RecursionError):
            return False
        return True


class _Numbering:
    """Whose fragment is whose: endpoints give parallel calls the same index, or none at all."""

    def __init__(self) -> None:
        self._latest: dict[int | None, _Begun] = {}
        """The endpoint's index → the call that it currently means."""
        self._count = 0

    def fragment(self, call: _ToolCall) -> ToolFragment:
        """The fragment with an index of ours."""
        function = call.function or _Function()
        known = self._latest.get(call.index)
        if known is None or (function.name and _is_another(known, call, function.name)):
            known = self._latest[call.index] = _Begun(self._count, call.id or "", function.name or "")
            self._count += 1
        known.arguments += function.arguments or ""
        return ToolFragment(known.index, call.id, function.name, function.arguments)


def _is_another(known: _Begun, call: _ToolCall, name: str) -> bool:
    """Whether a fragment that names its function begins another call than the one of its index."""
    if call.id:
        return call.id != known.id
    return call.index is None or name != known.name or known.is_whole


def _deliver(event: _Event, numbering: _Numbering, on_delta: OnDelta) -> str | None:
    for choice in event.choices or ():
        delta = choice.delta or _Part()
        calls = tuple(map(numbering.fragment, delta.tool_calls or ()))
        thought = delta.reasoning_content or delta.reasoning
        if delta.content or thought or calls:
            on_delta(Delta(delta.content, thought, calls))
        return choice.finish_reason
    return None


def _usage(figures: _Figures | None) -> TokenUsage | None:
    return TokenUsage(figures.prompt_tokens, figures.completion_tokens) if figures else None


def _refusal(status: int, text: str) -> RequestFailed:
    match status:
        case 401 | 403:
            return _failure("model_unauthorized", "The model's endpoint refused the key (AGENT_MODEL_KEY).")
        case 429:
            return _failure("model_rate_limited", "The model's endpoint is rate limited.", retry=True)
        case _ if status >= 500:
            return _failure("model_failed", f"The model's endpoint failed ({status}): {text}", retry=True)
    return _failure("model_request_refused", f"The model's endpoint refused the request ({status}): {text}")


def _failure(code: str, message: str, *, retry: bool = False) -> RequestFailed:
    return RequestFailed(acp.INTERNAL_ERROR, message, {"code": code, "retryable": retry})


def _may_retry(failure: RequestFailed) -> bool:
    return isinstance(failure.data, dict) and failure.data.get("retryable") is True
