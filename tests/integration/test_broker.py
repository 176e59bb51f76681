"""The broker against an endpoint on a real socket: what it hands over, how it fails, what it never does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import traceback
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from gateway.agents.broker import Broker
from gateway.agents.completion import ModelDelta, ModelError, ModelRequest, ModelResult
from gateway.config.tables import ModelConfig
from gateway.egress.http_wire import READ_AHEAD_BYTES
from tests.fake_model import MODEL, Behaviour, FakeModel, fake_model
from tests.patience import within

KEY = "sk-canary-0123456789abcdef"
HELLO = ModelRequest(messages=[{"role": "user", "content": "hello there"}])
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
BOUND_SECONDS = 10.0


class Caller:
    """A broker, and everything it handed over."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.pauses: list[float] = []
        self.deltas: list[ModelDelta] = []
        self.has_delta = asyncio.Event()
        self.broker = Broker(ModelConfig(url=url, name=MODEL, key=KEY, **settings), sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def take(self, delta: ModelDelta) -> None:
        self.deltas.append(delta)
        self.has_delta.set()

    async def stream(self, request: ModelRequest = HELLO) -> ModelResult:
        async with within(BOUND_SECONDS):
            return await self.broker.stream(request, self.take)

    async def fail(self, request: ModelRequest = HELLO) -> ModelError:
        with pytest.raises(ModelError) as caught:
            await self.stream(request)
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
        assert KEY not in shown
        assert KEY[:12] not in caught.value.message
        assert caught.value.__context__ is None
        return caught.value

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas if isinstance(delta.text, str))

    @property
    def thought(self) -> str:
        return "".join(delta.thought for delta in self.deltas if isinstance(delta.thought, str))

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The tool calls, joined as a worker joins them."""
        calls: dict[int, dict[str, Any]] = {}
        for delta in self.deltas:
            for part in delta.toolCalls if isinstance(delta.toolCalls, list) else ():
                call = calls.setdefault(part["index"], {"arguments": ""})
                call["arguments"] += part.get("arguments", "")
                call.update({name: part[name] for name in ("id", "name") if name in part})
        return list(calls.values())


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with fake_model() as model:
        yield model


@pytest.fixture
async def caller(model: FakeModel) -> AsyncIterator[Caller]:
    caller = Caller(model.url)
    yield caller
    await caller.broker.close()


def event(*parts: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    """One event of a stream whose choice has these delta fields."""
    delta = {name: value for part in parts for name, value in part.items()}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], **more}).encode() + b"\n\n"


async def test_an_answer_arrives_with_its_usage_and_the_request_is_the_workers(
    model: FakeModel, caller: Caller
) -> None:
    result = await caller.stream()
    assert caller.text == "You said: hello there"
    assert result == ModelResult("stop", input_tokens=2, output_tokens=4)
    (request,) = model.requests
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.body == {
        "model": MODEL,
        "messages": HELLO.messages,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_raw_messages_and_tools_pass_as_they_are(model: FakeModel, caller: Caller) -> None:
    text = (
        b'{"requestId": 7, "model": "fake-model", "messages": [{"role":"user","content":"x"}], "tools": []}'
    )
    await caller.stream(msgspec.json.decode(text, type=ModelRequest))
    raw = ModelRequest(msgspec.Raw(b'[{"role":"user","content":"y"}]'), tools=msgspec.Raw(json.dumps([TOOL])))
    await caller.stream(raw)
    assert [request.body["messages"][0]["content"] for request in model.requests] == ["x", "y"]
    assert "tools" not in model.requests[0].body
    assert model.requests[1].body["tools"] == [TOOL]


async def test_a_delta_encodes_to_the_fields_of_the_worker_protocol() -> None:
    assert msgspec.to_builtins(ModelDelta(text="a")) == {"text": "a"}
    call = {"index": 0, "id": "1", "name": "look"}
    both = msgspec.to_builtins(ModelDelta(thought="b", toolCalls=[call]))
    assert both == {"thought": "b", "toolCalls": [call]}


async def test_a_tool_call_comes_in_fragments_and_the_result_is_answered(caller: Caller) -> None:
    messages = [{"role": "user", "content": 'call look {"at": "שלום"}'}]
    result = await caller.stream(ModelRequest(messages=messages, tools=[TOOL]))
    assert result.finish_reason == "tool_calls"
    (call,) = caller.calls
    assert (call["name"], json.loads(call["arguments"])) == ("look", {"at": "שלום"})
    messages += [{"role": "tool", "tool_call_id": call["id"], "content": "a wall"}]
    await caller.stream(ModelRequest(messages=messages, tools=[TOOL]))
    assert caller.text == "The tool said: a wall"


async def test_tool_calls_without_an_index_or_all_with_index_0_stay_apart(
    model: FakeModel, caller: Caller
) -> None:
    def call(call_id: str | None, name: str | None, arguments: Any, **index: int) -> dict[str, Any]:
        function = {"name": name, "arguments": arguments}
        return {"tool_calls": [{"id": call_id, "function": function, **index}]}

    for index in ({}, {"index": 0}):
        model.behaviour = Behaviour(
            raw=(
                event(call("a", "one", '{"x":', **index)),
                event(call(None, None, "1}", **index)),
                event(call("b", "two", {"y": 2}, **index), finish="stop"),
                b"data: [DONE]\n\n",
            )
        )
        caller.deltas.clear()
        assert (await caller.stream()).finish_reason == "tool_calls"
        assert caller.calls == [
            {"id": "a", "name": "one", "arguments": '{"x":1}'},
            {"id": "b", "name": "two", "arguments": '{"y": 2}'},
        ]


async def test_what_comes_in_one_read_is_one_delta_and_thoughts_keep_their_place(
    model: FakeModel, caller: Caller
) -> None:
    words = [event({"reasoning_content": "hm"}), event({"content": "a"}), event({"content": "b"})]
    later = [event({"reasoning": "oh"}), event({"content": "c"}, finish="stop"), b"data: [DONE]\n\n"]
    model.behaviour = Behaviour(raw=(b"".join(words + later),))
    await caller.stream()
    assert caller.deltas == [ModelDelta(text="ab", thought="hm"), ModelDelta(text="c", thought="oh")]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_bytes_may_be_cut_anywhere(model: FakeModel, caller: Caller, size: int) -> None:
    text = "naïve שלום 🙂"
    choice = {"choices": [{"delta": {"content": text}}], "error": None}
    stream = b"\xef\xbb\xbf: a comment\r\n\r\nevent: message\r\nid: 1\r\n"
    stream += b"data:" + json.dumps(choice, ensure_ascii=False).encode() + b"\r\n\r\n"
    stream += event({}, finish="length") + b'data: {"choices": [], "usage": {"prompt_tokens": 5}}\n\n'
    stream += b"data: [DONE]"
    model.behaviour = Behaviour(raw=tuple(stream[i : i + size] for i in range(0, len(stream), size)))
    assert await caller.stream() == ModelResult("length", input_tokens=5)
    assert caller.text == text


async def test_half_an_emoji_and_broken_utf_8_become_a_replacement_character(
    model: FakeModel, caller: Caller
) -> None:
    raw = [
        rb'data: {"choices":[{"delta":{"content":"a\ud83d"}}]}',
        b'data: {"choices":[{"delta":{"content":"',
    ]
    done = event({}, finish="stop") + b"data: [DONE]\n\n"
    model.behaviour = Behaviour(raw=(raw[0] + b"\n\n" + raw[1] + b'\xff"}}]}\n\n' + done,))
    await caller.stream()
    assert caller.text == "a��"


async def test_an_endpoint_that_ignores_stream_is_understood(model: FakeModel, caller: Caller) -> None:
    model.behaviour = Behaviour(is_plain=True)
    assert await caller.stream() == ModelResult("stop", input_tokens=2, output_tokens=4)
    assert caller.text == "You said: hello there"


async def test_stream_options_are_left_out_where_they_are_refused_and_stay_so(
    model: FakeModel, caller: Caller
) -> None:
    model.behaviour = Behaviour(refuses_stream_options=True)
    assert await caller.stream() == ModelResult("stop")
    await caller.stream()
    assert ["stream_options" in request.body for request in model.requests] == [True, False, False]
    assert caller.pauses == []


async def test_a_stream_that_ends_after_its_finish_without_done_is_whole(
    model: FakeModel, caller: Caller
) -> None:
    model.behaviour = Behaviour(raw=(event({"content": "a"}), event({}, finish="stop"), b"x"), cut_after=2)
    assert await caller.stream() == ModelResult("stop")


async def test_the_connection_is_used_again(model: FakeModel, caller: Caller) -> None:
    await caller.stream()
    await caller.stream()
    assert caller.broker.providers._http.made == 1


@pytest.mark.parametrize(
    ("behaviour", "code", "retryable", "tries"),
    [
        (
            Behaviour(status=401, error={"message": f"Incorrect API key provided: {KEY}"}),
            "unauthorized",
            0,
            1,
        ),
        (Behaviour(status=403), "unauthorized", 0, 1),
        (Behaviour(status=429), "rate_limited", 1, 3),
        (Behaviour(status=429, error={"code": "insufficient_quota"}), "rate_limited", 0, 1),
        (Behaviour(status=500, error={"message": f"bad key {KEY}!"}), "unavailable", 1, 3),
        (Behaviour(status=503), "unavailable", 1, 3),
        (Behaviour(cut_after=0), "cut", 1, 3),
        (Behaviour(cut_after=0, status=200, raw=()), "cut", 1, 3),
        (Behaviour(raw=(event({"content": "lost"})[:-9],)), "cut", 1, 3),
        (Behaviour(silent_after=0), "silent", 1, 3),
        (Behaviour(status=404, error={"message": f"no model {KEY[:14]}"}), "bad_request", 0, 1),
        (Behaviour(status=302, headers={"Location": "/v1/models"}), "bad_answer", 0, 1),
        (Behaviour(raw=(b"<html>hello</html>",)), "bad_answer", 0, 1),
        (Behaviour(raw=(b"data: {nonsense\n\n", b"data: [DONE]\n\n")), "bad_answer", 0, 1),
        (Behaviour(raw=(b'{"choices": 5}',)), "bad_answer", 0, 1),
        (Behaviour(raw=(b'{"choices": [',)), "bad_answer", 0, 1),
        (Behaviour(error_after=0, error={"code": 502, "message": "upstream"}), "unavailable", 1, 3),
        (Behaviour(error_after=0, error={"type": "rate_limit_error"}), "rate_limited", 1, 3),
    ],
)
async def test_each_failure_has_its_code_and_its_number_of_tries(
    model: FakeModel, behaviour: Behaviour, code: str, retryable: bool, tries: int
) -> None:
    caller = Caller(model.url, silence_timeout_seconds=0.15 if code == "silent" else 5)
    model.behaviour = behaviour
    error = await caller.fail()
    assert (error.code, error.retryable) == (f"model_{code}", bool(retryable))
    assert error.message.startswith("The ")
    assert len(error.message) < 400
    assert (len(model.requests), len(caller.pauses), caller.deltas) == (tries, tries - 1, [])
    await caller.broker.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"code": "context_length_exceeded", "message": "too much"}),
        (400, {"message": "This model's maximum context length is 8192 tokens."}),
        (413, {"message": "Payload Too Large"}),
        (400, {"type": "exceed_context_size_error", "message": "request exceeds the available context size"}),
    ],
)
async def test_a_conversation_that_is_too_long_says_so(
    model: FakeModel, caller: Caller, status: int, error: dict[str, Any]
) -> None:
    model.behaviour = Behaviour(status=status, error=error)
    failure = await caller.fail()
    assert (failure.code, failure.retryable, len(model.requests)) == ("context_too_long", False, 1)
    model.behaviour = Behaviour(error_after=0, error=error)
    if status == 400:
        assert (await caller.fail()).code == "context_too_long"


@pytest.mark.parametrize("status", [302, 307, 308])
async def test_a_redirect_takes_the_key_nowhere(model: FakeModel, caller: Caller, status: int) -> None:
    async with fake_model() as stranger:
        target = {"Location": f"{stranger.url}/chat/completions"}
        model.behaviour = Behaviour(status=status, headers=target)
        assert (await caller.fail()).code == "model_bad_answer"
        assert stranger.requests == []


async def test_the_endpoints_words_are_one_short_line(model: FakeModel, caller: Caller) -> None:
    model.behaviour = Behaviour(status=400, error={"message": "no\n\x1b[31m such \t model " + "x" * 5000})
    error = await caller.fail()
    assert error.message.startswith("The model endpoint refused the request. It says: no [31m such model xxx")
    assert len(error.message) < 350


async def test_nothing_listens(unused_tcp_port: int) -> None:
    caller = Caller(f"http://127.0.0.1:{unused_tcp_port}/v1")
    error = await caller.fail()
    assert (error.code, error.message) == ("model_refused", "The model endpoint cannot be reached.")
    assert len(caller.pauses) == 2
    assert caller.pauses[0] <= 0.5 < 1 >= caller.pauses[1]
    await caller.broker.close()


@pytest.mark.parametrize("url", ["http://[bad/v1", "ftp://host/v1", "http://user:pass@127.0.0.1:1/v1"])
async def test_an_address_that_is_none(url: str) -> None:
    caller = Caller(url)
    error = await caller.fail()
    assert (error.code, error.retryable, caller.pauses) == ("model_refused", False, [])
    await caller.broker.close()


async def test_something_that_is_not_http() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        caller = Caller(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        assert (await caller.fail()).code == "model_bad_answer"
        await caller.broker.close()


async def test_early_answers_without_end_are_no_answer() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            while not writer.is_closing():
                writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 20)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        caller = Caller(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        async with within(10):
            assert (await caller.fail()).code == "model_cut"
        await caller.broker.close()


async def test_a_passing_failure_is_tried_again_until_it_works(model: FakeModel, caller: Caller) -> None:
    model.behaviour = Behaviour(status=503, fail_times=2)
    await caller.stream()
    assert caller.text == "You said: hello there"
    assert len(model.requests) == 3


async def test_retry_after_is_honoured_up_to_ten_seconds(model: FakeModel, caller: Caller) -> None:
    model.behaviour = Behaviour(status=429, headers={"Retry-After": "7"}, fail_times=1)
    await caller.stream()
    assert caller.pauses == [7]
    model.behaviour = Behaviour(status=429, headers={"Retry-After": "3600"})
    error = await caller.fail()
    assert (error.retry_after_seconds, error.retryable, caller.pauses) == (3600, True, [7])
    model.behaviour = Behaviour(status=429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})
    assert (await caller.fail()).retry_after_seconds == 0


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (Behaviour(cut_after=3), "model_cut"),
        (Behaviour(silent_after=3), "model_silent"),
        (Behaviour(error_after=3, error={"code": 503, "message": "overloaded"}), "model_unavailable"),
    ],
)
async def test_after_the_first_token_nothing_is_tried_again(
    model: FakeModel, behaviour: Behaviour, code: str
) -> None:
    caller = Caller(model.url, silence_timeout_seconds=0.15 if behaviour.silent_after else 5)
    model.behaviour = behaviour
    error = await caller.fail()
    assert (error.code, error.retryable, caller.text) == (code, True, "You said:")
    assert (len(model.requests), caller.pauses) == (1, [])
    await caller.broker.close()


@pytest.mark.parametrize("silent_after", [0, 2])
async def test_cancelling_closes_the_connection_at_once(
    model: FakeModel, caller: Caller, silent_after: int
) -> None:
    model.behaviour = Behaviour(silent_after=silent_after)
    call = asyncio.create_task(caller.stream())
    async with within(BOUND_SECONDS):
        await (caller.has_delta if silent_after else model.received).wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await model.disconnected.wait()


async def test_closing_ends_the_calls_in_flight_and_later_ones_fail(model: FakeModel, caller: Caller) -> None:
    model.behaviour = Behaviour(silent_after=0)
    call = asyncio.create_task(caller.fail())
    async with within(BOUND_SECONDS):
        await model.received.wait()
        await caller.broker.close()
        await call
    assert (await caller.fail()).message == "The gateway is shutting down."
    assert len(model.requests) == 1


async def test_a_slow_worker_leaves_the_endpoint_waiting(model: FakeModel, caller: Caller) -> None:
    piece = event({"content": "x" * 50_000})
    total = 400
    model.behaviour = Behaviour(raw=(*[piece] * total, event({}, finish="stop")))
    is_ready = asyncio.Event()
    taken = 0

    async def take(delta: ModelDelta) -> None:
        nonlocal taken
        assert isinstance(delta.text, str)
        taken += len(delta.text)
        await is_ready.wait()

    call = asyncio.create_task(caller.broker.stream(HELLO, take))
    async with within(BOUND_SECONDS):
        while True:  # until the server has been stuck for a while
            model.sent_token.clear()
            try:
                await asyncio.wait_for(model.sent_token.wait(), 0.3)
            except TimeoutError:
                break
        assert taken <= 3 * READ_AHEAD_BYTES
        assert model.sent_bytes < total * len(piece) * 0.8
        is_ready.set()
        await call
    assert taken == total * 50_000


async def test_an_error_of_the_taker_is_its_own(model: FakeModel, caller: Caller) -> None:
    async def take(delta: ModelDelta) -> None:
        raise BrokenPipeError("the worker has gone")

    with pytest.raises(BrokenPipeError):
        await caller.broker.stream(HELLO, take)
    assert len(model.requests) == 1


async def test_only_models_on_the_list(model: FakeModel) -> None:
    caller = Caller(model.url, names=("other",))
    assert caller.broker.models == (MODEL, "other")
    error = await caller.fail(ModelRequest(messages=[], model="gpt-9"))
    assert (error.code, model.requests) == ("model_not_allowed", [])
    await caller.stream(ModelRequest(messages=[], model="other"))
    assert model.requests[0].body["model"] == "other"
    await caller.broker.close()


async def test_without_a_model_or_a_key(model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(ModelConfig())
    assert not broker.is_configured
    with pytest.raises(ModelError, match="No model is configured"):
        await broker.stream(HELLO, Caller(model.url).take)
    keyless = Caller(model.url)
    keyless.broker = Broker(ModelConfig(url=model.url, name=MODEL))
    await keyless.stream()
    assert "Authorization" not in model.requests[0].headers
    await keyless.broker.close()


async def test_an_event_without_end_is_refused_in_bounded_memory(
    model: FakeModel, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.agents.completion.LINE_LIMIT_BYTES", 1_000_000)
    model.behaviour = Behaviour(raw=(b'data: {"', *[b"x" * 50_000] * 50))
    assert (await caller.fail()).code == "model_bad_answer"


async def test_the_proxy_of_the_environment_is_used(
    model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", model.url.removesuffix("/v1"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    caller = Caller("http://model.invalid/v1")
    await caller.stream()
    assert model.requests[0].headers["Host"] == "model.invalid"
    await caller.broker.close()


async def test_the_key_is_in_no_log_line(
    model: FakeModel, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for behaviour in (Behaviour(status=401), Behaviour(status=500), Behaviour(cut_after=0)):
        model.behaviour = behaviour
        await caller.fail()
    assert "model call failed" in caplog.text
    assert KEY not in caplog.text
    assert KEY not in repr(caller.broker)


@pytest.fixture
def unused_tcp_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
    return port
