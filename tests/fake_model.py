"""A mock of a model endpoint, on loopback: what it says is a function of what it was told. It speaks OpenAI's
chat completions and responses, Anthropic's messages and Gemini's generateContent.

It is a mock so that tests of the broker, the built-in agent and agents that nobody here wrote need neither
network nor key, and so that an endpoint can fail in every way that real ones do. The socket, the HTTP and the
stream of events are real.

The script: without more, it answers `You said: …` with the last user message. A user who writes
`call NAME {json}` gets a call of the offered tool whose name ends in NAME, then, with the tool's result,
`The tool said: …`. `Behaviour` makes it fail.

    async with fake_model() as model:
        ...                              # model.url, model.requests, model.behaviour = Behaviour(status=500)
    python -m tests.fake_model --port 0  # prints the url
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from aiohttp import web

from tests import gemini_dialect, messages_dialect, responses_dialect

MODEL: Final = "fake-model"
_CALL: Final = re.compile(r"\bcall (\w[\w.-]*)\s*")


@dataclass(frozen=True)
class Behaviour:
    """How the endpoint treats the next calls; the default is well."""

    status: int = 200
    """Another one: refuse with it."""
    error: dict[str, Any] = field(default_factory=lambda: {"message": "refused by the script"})
    """The words of a refusal, or of the error inside the stream."""
    headers: dict[str, str] = field(default_factory=dict)
    fail_times: int | None = None
    """So many calls fail, then it works; None: all of them."""
    silent_after: int | None = None
    """After so many tokens nothing more comes; 0: not even headers."""
    cut_after: int | None = None
    """After so many tokens the connection is dropped; 0: before any header."""
    error_after: int | None = None
    """After so many tokens comes an `error` object."""
    seconds_a_token: float = 0
    is_plain: bool = False
    """Ignores `stream` and answers with one JSON document."""
    refuses_stream_options: bool = False
    usage: object = "words"
    """What it says that an answer cost: its words, None to say nothing, or this as it is."""
    raw: tuple[bytes, ...] | None = None
    """These bytes are the body of the answer, one write each."""


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Answering = Callable[[web.Request, dict[str, Any], Behaviour], Awaitable[web.StreamResponse]]


@dataclass
class Request:
    """What a client sent."""

    path: str
    """With its query."""
    headers: dict[str, str]
    body: dict[str, Any]
    raw: bytes = b""


class FakeModel:
    """The endpoint; `requests` are the chat calls so far."""

    def __init__(self) -> None:
        self.url = ""
        self.behaviour = Behaviour()
        self.script: Callable[[dict[str, Any]], dict[str, Any]] = reply
        """The assistant message that a request gets."""
        self.requests: list[Request] = []
        self.strays: list[str] = []
        """Requests to anything but a model: none is expected."""
        self.tokens = 11
        """What every prompt counts, in the dialects that are not chat completions."""
        self.sent_bytes = 0
        self.received = asyncio.Event()
        """Set by every chat call."""
        self.disconnected = asyncio.Event()
        """Set by a client that leaves before its answer has ended."""
        self.sent_token = asyncio.Event()
        """Set by every token that was written."""

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._completions)
        app.router.add_post(messages_dialect.PATH + "/count_tokens", self._count)
        for path, answered in (
            (messages_dialect.PATH, self._messages),
            (responses_dialect.PATH, self._responses),
            (gemini_dialect.PATH, self._generate),
        ):
            app.router.add_post(path, self._heard(answered))
        app.router.add_route("*", "/{anything:.*}", self._elsewhere)
        return app

    def _heard(self, answered: Answering) -> Handler:
        """A handler that answers by a dialect, as `behaviour` says."""

        async def handle(request: web.Request) -> web.StreamResponse:
            body = await self._note(request)
            how = self._behaviour_now()
            try:
                if (refusal := await self._refusal(request, how)) is not None:
                    return refusal
                return await answered(request, body, how)
            except (asyncio.CancelledError, ConnectionError):
                self.disconnected.set()
                raise

        return handle

    async def _note(self, request: web.Request) -> dict[str, Any]:
        text = await request.read()
        body: dict[str, Any] = json.loads(text) if text else {}
        self.requests.append(Request(request.path_qs, dict(request.headers), body, text))
        self.received.set()
        return body

    async def _elsewhere(self, request: web.Request) -> web.Response:
        self.strays.append(f"{request.method} {request.path_qs}")
        return web.json_response({"error": {"message": "nothing here"}}, status=404)

    async def _count(self, request: web.Request) -> web.Response:
        await self._note(request)
        return web.json_response({"input_tokens": 5})

    async def _messages(
        self, request: web.Request, body: dict[str, Any], how: Behaviour
    ) -> web.StreamResponse:
        plain = messages_dialect.request_of(body)
        message, used = self.script(plain), (self.tokens, 7)
        if not body.get("stream"):
            return web.json_response(messages_dialect.whole_of(message, used, body["model"]))
        return await self._write(request, messages_dialect.events_of(message, used, body["model"]), how)

    async def _responses(
        self, request: web.Request, body: dict[str, Any], how: Behaviour
    ) -> web.StreamResponse:
        plain = responses_dialect.request_of(body)
        message, used = self.script(plain), (self.tokens, 7)
        if not body.get("stream"):
            return web.json_response(responses_dialect.whole_of(message, used, body["model"]))
        return await self._write(request, responses_dialect.events_of(message, used, body["model"]), how)

    async def _generate(
        self, request: web.Request, body: dict[str, Any], how: Behaviour
    ) -> web.StreamResponse:
        message, used = self.script(gemini_dialect.request_of(body)), (self.tokens, 7)
        if not request.path.endswith(":streamGenerateContent"):
            return web.json_response(gemini_dialect.answer_of(message, used))
        return await self._write(request, gemini_dialect.events_of(message, used), how)

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        body = await self._note(request)
        how = self._behaviour_now()
        try:
            return await self._answer(request, body, how)
        except (asyncio.CancelledError, ConnectionError):
            self.disconnected.set()
            raise

    def _behaviour_now(self) -> Behaviour:
        how = self.behaviour
        if how.fail_times is None:
            return how
        if how.fail_times == 0:
            return Behaviour()
        self.behaviour = replace(how, fail_times=how.fail_times - 1)
        return how

    async def _answer(self, request: web.Request, body: dict[str, Any], how: Behaviour) -> web.StreamResponse:
        if (refusal := await self._refusal(request, how)) is not None:
            return refusal
        if how.refuses_stream_options and "stream_options" in body:
            return web.json_response({"error": {"message": "stream_options: unknown"}}, status=400)
        message = self.script(body)
        if how.is_plain or (not body.get("stream") and how.raw is None):
            return web.json_response(_whole(message, body, how))
        return await self._stream(request, message, body, how)

    async def _refusal(self, request: web.Request, how: Behaviour) -> web.Response | None:
        """What fails before any byte of an answer."""
        if how.status != 200:
            return web.json_response({"error": how.error}, status=how.status, headers=how.headers)
        if how.silent_after == 0:
            await asyncio.Event().wait()
        if how.cut_after == 0:
            _cut(request)
        return None

    async def _stream(
        self, request: web.Request, message: dict[str, Any], body: dict[str, Any], how: Behaviour
    ) -> web.StreamResponse:
        return await self._write(request, _stream_bytes(message, body, how), how)

    async def _write(self, request: web.Request, pieces: list[bytes], how: Behaviour) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **how.headers})
        await response.prepare(request)
        for number, piece in enumerate(pieces if how.raw is None else how.raw):
            if number == how.silent_after:
                await asyncio.Event().wait()
            if number == how.cut_after:
                _cut(request)
                return response
            if number == how.error_after:
                await response.write(_event({"error": how.error}))
                return response
            await response.write(piece)
            self.sent_bytes += len(piece)
            self.sent_token.set()
            await asyncio.sleep(how.seconds_a_token)
        return response


def reply(body: dict[str, Any]) -> dict[str, Any]:
    """The assistant message that the script gives to a request."""
    messages = body.get("messages") or [{}]
    last = messages[-1]
    if last.get("role") == "tool":
        return {"role": "assistant", "content": f"The tool said: {_text(last)}"}
    said = next((_text(message) for message in reversed(messages) if message.get("role") == "user"), "")
    offered = [tool.get("function", tool).get("name", "") for tool in body.get("tools") or ()]
    for match in _CALL.finditer(said):
        arguments = _object_at(said, match.end())
        for name in sorted(offered, key=lambda one: one != match[1]):  # not `todowrite` for `write`
            if arguments is not None and name.endswith(match[1]):
                function = {"name": name, "arguments": arguments}
                call = {"id": f"call_{len(messages)}", "type": "function", "function": function}
                return {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"role": "assistant", "content": f"You said: {said}"}


def _object_at(text: str, at: int) -> str | None:
    """The JSON object that begins there; `{}`: none does; None: one that is quoted, in a transcript."""
    if text[at : at + 1] != "{":
        return "{}"
    with contextlib.suppress(ValueError):
        return text[at : json.JSONDecoder().raw_decode(text, at)[1]]
    return None


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def _usage(message: dict[str, Any], body: dict[str, Any], how: Behaviour) -> object:
    """Words are tokens here."""
    if how.usage != "words":
        return how.usage
    sent = sum(len(_text(part).split()) for part in body.get("messages", ()))
    received = len(_text(message).split()) or 1
    return {"prompt_tokens": sent, "completion_tokens": received, "total_tokens": sent + received}


def _finish(message: dict[str, Any]) -> str:
    return "tool_calls" if "tool_calls" in message else "stop"


def _whole(message: dict[str, Any], body: dict[str, Any], how: Behaviour) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": _finish(message)}
    return {**_head("chat.completion"), "choices": [choice], "usage": _usage(message, body, how)}


def _stream_bytes(message: dict[str, Any], body: dict[str, Any], how: Behaviour) -> list[bytes]:
    """The answer as events: a role, then a word or a fragment of arguments each, finish, usage, [DONE]."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": word} for word in re.findall(r"\s*\S+", message.get("content") or "")]
    for index, call in enumerate(message.get("tool_calls", ())):
        arguments = call["function"]["arguments"]
        half = len(arguments) // 2
        first: dict[str, Any] = {
            **call,
            "index": index,
            "function": {"name": call["function"]["name"], "arguments": ""},
        }
        deltas.append({"tool_calls": [first]})
        for part in (arguments[:half], arguments[half:]):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
    choices: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": _finish(message)})
    head = _head("chat.completion.chunk")
    events = [_event({**head, "choices": [choice]}) for choice in choices]
    if (body.get("stream_options") or {}).get("include_usage") and how.usage is not None:
        events.append(_event({**head, "choices": [], "usage": _usage(message, body, how)}))
    return [*events, b"data: [DONE]\n\n"]


def _head(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-fake", "object": kind, "created": 1_700_000_000, "model": MODEL}


def _event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


@contextlib.asynccontextmanager
async def fake_model(*, port: int = 0, model: FakeModel | None = None) -> AsyncIterator[FakeModel]:
    """Serves on loopback until the end of the block; clients that still read are cut off then."""
    model = model or FakeModel()
    runner = web.AppRunner(model.app(), access_log=None, handler_cancellation=True, shutdown_timeout=0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        model.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield model
    finally:
        await runner.cleanup()


async def _serve(port: int) -> None:
    async with fake_model(port=port) as model:
        sys.stdout.write(model.url + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A mock of an OpenAI-compatible endpoint, on loopback.")
    parser.add_argument("--port", type=int, default=0)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args().port))
