"""The built-in agent: ACP version 1 on two file descriptors, one turn at a time.

Guarantees:
- every request is answered: unknown ones with -32601, broken ones with -32602, a second prompt during a turn
  with -32600; unknown notifications are ignored;
- `session/cancel` ends the turn at once and its prompt is answered `cancelled`;
- the process ends within 50 ms of the end of stdin, and on SIGTERM;
- without AGENT_MODEL_URL nothing is imported after this module: a forked child shares all of it with its
  parent.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from typing import Any, Final

import msgspec

from worker import acp
from worker.agent import commands, tour
from worker.agent.conversation import META_KEY, History, Prompt, read_prompt
from worker.agent.loop import Cancelled, Loop, RequestFailed, Task, log
from worker.agent.model import BrokerModel, Model
from worker.agent.offline import OfflineModel
from worker.agent.remote import RemoteTools
from worker.agent.turn import BuiltInSession, BuiltInTurn
from worker.agent.updates import Updates

AGENT_VERSION: Final = "0.1.0"

INITIALIZE_RESULT: Final[dict[str, Any]] = {
    "protocolVersion": acp.PROTOCOL_VERSION,
    "agentCapabilities": {
        "loadSession": False,
        "promptCapabilities": {"image": False, "audio": False, "embeddedContext": True},
        "mcpCapabilities": {"http": False, "sse": False},
        "_meta": {META_KEY: {"promptKinds": ["system", "transcript", "context"]}},
    },
    "authMethods": [],
    "agentInfo": {
        "name": "agent-gateway",
        "title": "Agent Gateway's built-in agent",
        "version": AGENT_VERSION,
    },
}

Feed = Callable[..., None]
"""Hands lines to an agent as its client would."""
WARM_UP_TURNS: Final = 16
"""Twice what CPython 3.11 runs a function before it specialises it."""


class NewSession(msgspec.Struct, frozen=True):
    """The params of `session/new` that this agent reads."""

    cwd: str


class PromptParams(msgspec.Struct, frozen=True, rename="camel"):
    """The params of `session/prompt`."""

    session_id: str
    prompt: list[dict[str, Any]]


class Terminated(SystemExit):
    """SIGTERM or SIGINT; a SystemExit because asyncio lets nothing else out of a callback."""

    code: int


class BuiltInAgent:
    """The ACP side of the built-in agent."""

    def __init__(self, loop: Loop, *, endpoint: Model | None = None) -> None:
        self._loop = loop
        self._model: Model = endpoint or OfflineModel(loop)
        self._broker: BrokerModel | None = None
        self._remote = RemoteTools(loop)
        self._sessions: dict[str, BuiltInSession] = {}
        self._turn: tuple[str, Task] | None = None
        self._requests: dict[str, Callable[[acp.Envelope], None]] = {
            "initialize": self._initialize,
            "session/new": self._new_session,
            "session/prompt": self._prompt,
        }
        self._notifications: dict[str, Callable[[acp.Envelope], None]] = {
            "session/cancel": self._cancel,
            "_model/delta": self._take_delta,
        }

    def on_message(self, message: acp.Envelope) -> None:
        """Handles what the client sends."""
        method = message.method or ""
        handler = (self._requests if message.is_request else self._notifications).get(method)
        if handler is None:
            if message.is_request:
                self._fail(message, acp.METHOD_NOT_FOUND, f"This agent does not know {method}.")
            return
        try:
            handler(message)
        except msgspec.DecodeError as error:
            if message.is_request:
                self._fail(message, acp.INVALID_PARAMS, f"The params of {method} cannot be read: {error}")
            else:
                log(f"{method} was ignored: {error}")

    def _initialize(self, message: acp.Envelope) -> None:
        params = acp.parse(message.params, dict[str, Any])
        announced = _at(params, "clientCapabilities", "_meta", META_KEY, "model")
        names = _at(announced, "models")
        if isinstance(names, list) and names and isinstance(names[0], str):
            size = _at(announced, "contextTokens")
            self._broker = BrokerModel(self._loop, names[0], size if isinstance(size, int) else 0)
            self._model = self._broker
        offered = _at(params, "clientCapabilities", "_meta", META_KEY, "tools", "list") is True
        self._remote = RemoteTools(self._loop, is_offered=offered)
        if self._broker is not None:
            self._broker.takes_images = _at(announced, "images") is True
        self._respond(message, _told_of_images(INITIALIZE_RESULT, self._model.takes_images))

    def _new_session(self, message: acp.Envelope) -> None:
        cwd = acp.parse(message.params, NewSession).cwd
        if not os.path.isabs(cwd):
            self._fail(message, acp.INVALID_PARAMS, f"cwd is not an absolute path: {cwd}")
            return
        history = History(context_tokens=self._model.context_tokens or 0)
        session = BuiltInSession("sess_" + os.urandom(8).hex(), cwd, history)
        self._sessions[session.id] = session
        self._respond(message, {"sessionId": session.id})
        Updates(self._loop, session.id).send(
            "available_commands_update", availableCommands=commands.available()
        )

    def _prompt(self, message: acp.Envelope) -> None:
        params = acp.parse(message.params, PromptParams)
        session = self._sessions.get(params.session_id)
        if session is None:
            self._fail(message, acp.INVALID_PARAMS, f"There is no session {params.session_id}.")
            return
        if self._turn is not None:
            self._fail(message, acp.INVALID_REQUEST, "A turn is running; cancel it or wait for its end.")
            return
        turn = BuiltInTurn(self._loop, session, self._model, self._remote)
        task = Task(self._serve(message, turn, read_prompt(params.prompt)))
        self._turn = (session.id, task)
        task.step()

    def _cancel(self, message: acp.Envelope) -> None:
        session_id = acp.parse(message.params, dict[str, Any]).get("sessionId")
        if self._turn is not None and self._turn[0] == session_id:
            self._turn[1].cancel()

    def _take_delta(self, message: acp.Envelope) -> None:
        if self._broker is not None:
            self._broker.deliver(message.params)

    async def _serve(self, message: acp.Envelope, turn: BuiltInTurn, prompt: Prompt) -> None:
        """One turn, from the prompt to its response, whatever happens in between."""
        try:
            result = turn.result(await _run(turn, prompt))
        except Cancelled:
            result = {"stopReason": "cancelled"}
        except RequestFailed as error:
            self._turn = None
            self._fail(message, error.code, error.message, error.data)
            return
        except Exception as error:  # a bug in one turn must not end the session
            self._turn = None
            log(traceback.format_exc())
            self._fail(message, acp.INTERNAL_ERROR, f"The agent failed: {type(error).__name__}.")
            return
        self._turn = None
        self._respond(message, result)

    def _respond(self, message: acp.Envelope, result: object) -> None:
        self._loop.respond(_id(message), result)

    def _fail(self, message: acp.Envelope, code: int, text: str, data: object = None) -> None:
        self._loop.fail(_id(message), code, text, data)


async def _run(turn: BuiltInTurn, prompt: Prompt) -> str:
    """Does what the prompt says; returns the stop reason."""
    history = turn.session.history
    if prompt.transcript is not None:
        history.restore(prompt.transcript)
    for text in prompt.system:
        history.add({"role": "system", "content": text})
    if not prompt.text.strip() and prompt.system and not prompt.images:
        return "end_turn"
    found = commands.find(prompt.typed)
    command = commands.COMMANDS.get(found[0]) if found else None
    if found and command:
        await command.run(turn, found[1])
    elif found and not turn.model.understands_language:
        await commands.unknown(turn, found[0])
    elif not turn.model.understands_language and (words := tour.asked_in(prompt.typed)):
        await tour.play(turn, words)
    else:
        return await turn.answer(prompt.text, context=prompt.context, images=prompt.images)
    return "end_turn"


def main(stdin_fd: int, stdout_fd: int) -> int:
    """Serves ACP on two descriptors until stdin ends; returns the exit code. Takes over SIGTERM, SIGINT."""
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, _terminate)
    try:
        if os.environ.get("AGENT_MODEL_URL"):
            from worker.agent import standalone  # asyncio and aiohttp: only for who has no broker

            return standalone.serve(stdin_fd, stdout_fd)
        loop = Loop(stdin_fd, stdout_fd)
        loop.run(BuiltInAgent(loop))
    except Terminated as ended:
        return ended.code
    return 0


def warm_up() -> None:
    """Plays a few turns in this process, with a broker and without, so that children forked afterwards share
    what the first turns build.

    The interpreter rewrites the code that it has run a few times; done in the child, each page is a copy.
    """
    broker = {"clientCapabilities": {"_meta": {META_KEY: {"model": {"models": ["warm-up"]}}}}}
    _play(broker, _warm_up_broker)
    _play({}, _warm_up_offline)


def _play(capabilities: dict[str, Any], play: Callable[[Loop, Feed, str], None]) -> None:
    """A session of its own that is spoken to by `play` and answers into nothing."""
    stdin_fd, feed_fd = os.pipe()
    nowhere_fd = os.open(os.devnull, os.O_WRONLY)
    loop = Loop(stdin_fd, nowhere_fd)
    agent = BuiltInAgent(loop)

    def feed(*lines: bytes) -> None:
        os.write(feed_fd, b"".join(lines))
        loop.read(agent)

    feed(acp.request(0, "initialize", capabilities), acp.request(1, "session/new", {"cwd": "/"}))
    play(loop, feed, next(iter(agent._sessions)))
    os.close(feed_fd)
    loop.run(agent)
    os.close(stdin_fd)
    os.close(nowhere_fd)


def _warm_up_broker(_loop: Loop, feed: Feed, session_id: str) -> None:
    prompt = {"sessionId": session_id, "prompt": [{"type": "text", "text": "warm up"}]}
    finish = {"finishReason": "stop", "usage": {"inputTokens": 1, "outputTokens": 1}}
    for call_id in range(WARM_UP_TURNS):
        feed(acp.request(2, "session/prompt", prompt))
        delta = acp.notification("_model/delta", {"requestId": call_id, "text": "word "})
        feed(*[delta] * WARM_UP_TURNS, acp.response(call_id, finish))


def _warm_up_offline(loop: Loop, feed: Feed, session_id: str) -> None:
    """The offline model speaks word by word, with pauses: their timers are made to be due at once."""
    prompt = {"sessionId": session_id, "prompt": [{"type": "text", "text": "Tell me, please."}]}
    for _ in range(WARM_UP_TURNS):
        feed(acp.request(2, "session/prompt", prompt))
        loop.hurry()


def _terminate(number: int, frame: object) -> None:
    raise Terminated(128 + number)


def _told_of_images(result: dict[str, Any], takes_images: bool) -> dict[str, Any]:
    """The answer to `initialize` of an agent whose model takes images, or does not."""
    capabilities = result["agentCapabilities"]
    prompt = capabilities["promptCapabilities"] | {"image": takes_images}
    return result | {"agentCapabilities": capabilities | {"promptCapabilities": prompt}}


def _id(message: acp.Envelope) -> acp.Id:
    return None if isinstance(message.id, msgspec.UnsetType) else message.id


def _at(value: object, *keys: str) -> object:
    """The value under nested keys; None if something on the way is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
