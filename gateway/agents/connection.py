"""AgentConnection: the gateway's end of ACP over a worker's pipes.

Guarantees (each learnt from a real agent):
- messages are handed on in the order of the wire, all of one read together;
- every request that has no answer here gets −32601, so that no agent stalls;
- a line past the limit ends the connection with words, at no more memory than the limit; a long line is
  spooled, waits for its turn among those of all agents, and becomes events bit by bit;
- an agent is not read while it is ahead of what the disk has taken, and is ended with words once its handler
  takes no more, or if it does not read what it is sent;
- lines that are no JSON-RPC are counted, logged and skipped;
- an optional value that is odd counts as absent, a number is inside its bounds (worker/foreign.py);
- when the pipe or the process ends, every waiting call ends with `AgentGone`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Final, Protocol, cast

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from gateway.agents.pace import QUICK_SECONDS, SMALL_BYTES, Pace
from gateway.agents.spool import FileSpool, Intake
from gateway.agents.text_chunks import TextChunk, text_chunks
from gateway.workers.spawner import Worker
from worker import acp, foreign
from worker.foreign import Name, OnOdd

log = logging.getLogger(__name__)

GARBAGE_LOGGED: Final = 20
"""Lines of garbage, and odd values, logged per connection; past it they are only counted."""
SLICE_BYTES: Final = 8 * 1024
"""So much of one agent's output is handled at a time; others are read before the rest of a full pipe is."""
LARGEST_SLICE_BYTES: Final = 8 * SLICE_BYTES
"""The same of output that costs little."""
SLICE_SECONDS: Final = 0.000_5
"""About so long others wait for one slice."""
OUTPUT_SHARE: Final = 0.5
"""Of the loop's time, what one agent's output may take in the long run."""
OUTPUT_BURST_SECONDS: Final = 1.0
"""How far it may run ahead of its share: long answers that come at once do not feel it."""
OUTPUT_PAUSE_SECONDS: Final = 0.2
LONG_PAUSE_SECONDS: Final = 2.0
"""At most so long is an agent not read after a long line, which costs its share of time, too."""
BACKLOG_BYTES: Final = 4 * 1024 * 1024
"""An agent whose events wait for the disk with so many bytes is not read meanwhile."""
UNREAD_BYTES: Final = 4 * 1024 * 1024
"""An agent that has not read so much of what it was sent is ended."""
EXTENSION: Final = "agent-gateway"
"""The key of this gateway's own members in ACP's `_meta`."""


class AgentGone(Exception):
    """The worker's process or pipe has ended."""


class WireError(Exception):
    """The worker broke the protocol past repair; the text says how."""


class OutputLimit(WireError):
    """The agent said more than may be kept; the text is for the user."""


class AgentError(Exception):
    """The agent answered with an error."""

    def __init__(self, error: acp.RpcError) -> None:
        self.error = error
        super().__init__(error.message)


class Implementation(Struct, frozen=True, rename="camel"):
    """ACP `agentInfo`."""

    name: Name | None = None
    title: Name | None = None
    version: Name | None = None


class SessionCapabilities(Struct, frozen=True, rename="camel"):
    """ACP `agentCapabilities.sessionCapabilities`: a present member is a capability."""

    resume: Any = UNSET
    fork: Any = UNSET


class PromptCapabilities(Struct, frozen=True, rename="camel"):
    """ACP `agentCapabilities.promptCapabilities`, as far as the gateway uses them."""

    image: bool = False
    embedded_context: bool = False


class AgentCapabilities(Struct, frozen=True, rename="camel"):
    """ACP `agentCapabilities`, as far as the gateway uses them."""

    load_session: bool = False
    prompt_capabilities: PromptCapabilities | UnsetType | None = UNSET
    session_capabilities: SessionCapabilities | UnsetType | None = UNSET


class AuthVariable(Struct, frozen=True):
    """ACP: a variable that a method of `authenticate` takes."""

    name: Name


class AuthMethod(Struct, frozen=True):
    """ACP: a way to authenticate that an agent offers; `terminal` ones are done by a person in one."""

    id: Name
    name: Name | None = None
    description: str | None = None
    type: str | None = None
    args: tuple[str, ...] | None = None
    vars: tuple[AuthVariable, ...] | None = None


class Initialized(Struct, frozen=True, rename="camel"):
    """ACP's answer to `initialize`."""

    protocol_version: Any = acp.PROTOCOL_VERSION
    agent_capabilities: AgentCapabilities | None = None
    agent_info: Implementation | None = None
    auth_methods: tuple[AuthMethod, ...] | None = None

    @property
    def can_load(self) -> bool:
        return self.agent_capabilities is not None and self.agent_capabilities.load_session

    @property
    def prompt(self) -> PromptCapabilities:
        """What a prompt may contain besides text and links."""
        found = self.agent_capabilities and self.agent_capabilities.prompt_capabilities
        return found if isinstance(found, PromptCapabilities) else PromptCapabilities()

    @property
    def can_resume(self) -> bool:
        return self._has("resume")

    @property
    def can_fork(self) -> bool:
        """Whether it makes a second session of one that it knows."""
        return self._has("fork")

    def _has(self, name: str) -> bool:
        capabilities = self.agent_capabilities and self.agent_capabilities.session_capabilities
        if not isinstance(capabilities, SessionCapabilities):
            return False
        return getattr(capabilities, name) not in (UNSET, None, False)


class AgentSession(Struct, frozen=True, rename="camel"):
    """ACP's answer to `session/new`, `session/load`, `session/resume` and `session/fork`."""

    session_id: Name | UnsetType = UNSET
    modes: Raw | UnsetType = UNSET
    config_options: Raw | UnsetType = UNSET
    models: Raw | UnsetType = UNSET


class ConfigSet(Struct, frozen=True, rename="camel"):
    """ACP's answer to `session/set_config_option`: the whole list as it is now."""

    config_options: Raw | UnsetType = UNSET


class Prompted(Struct, frozen=True, rename="camel"):
    """ACP's answer to `session/prompt`."""

    stop_reason: str = "end_turn"


OnTexts = Callable[[list[TextChunk]], None]
"""Hears what an agent says, as `AgentListener` does."""


class AgentListener(Protocol):
    """What hears what the agent says: the session. Called on the loop, in the order of the wire."""

    def on_updates(self, updates: Sequence[Raw]) -> None:
        """The `update` members of neighbouring `session/update` notifications of one read."""

    def on_long_update(self, update: Raw, used: Callable[[int], None]) -> Iterator[None]:
        """An `update` from a long line, handed on bit by bit; `used` hears of how many of its first bytes
        nothing is looked at any more.
        """

    def refusal(self) -> str | None:
        """Why nothing more is taken of the agent, in words for the user."""

    def is_ahead(self, most_bytes: int) -> bool:
        """Whether more than so much of what was made of the agent's output is not on disk yet, or too much of
        what was made of all agents'.
        """

    async def written(self) -> None:
        """Waits until what was made of the agent's output is on disk."""

    def when_written(self, done: Callable[[], None]) -> None:
        """Calls back once that is so, though the connection may end meanwhile."""

    def on_request(self, message: acp.Envelope) -> bool:
        """A request of the agent; False: not known here, and answered −32601 for you."""

    def on_notification(self, message: acp.Envelope) -> None:
        """A notification other than `session/update`."""


class _UpdateParams(Struct, rename="camel"):
    update: Raw


class AcpConnection:
    """One worker's ACP peer. `async with` connects the pipes; leaving closes them."""

    def __init__(
        self,
        worker: Worker,
        handler: AgentListener,
        *,
        line_bytes: int,
        spool_dir: str,
        intake: Intake,
        on_odd: OnOdd = foreign.ignored,
        on_texts: OnTexts | None = None,
    ) -> None:
        """Long lines are spooled in `spool_dir`; `intake` is all agents'. `on_odd` hears of every value that
        was left out. `on_texts` is given the updates of reads in which there is nothing but text; None: they
        go to the handler, as all others do.
        """
        self._on_texts = on_texts
        self._worker = worker
        self._handler = handler
        self._count_odd = on_odd
        self._odd = 0
        self._lines = acp.Lines(
            limit_bytes=line_bytes, spool=lambda: FileSpool(spool_dir), on_odd=self.on_odd
        )
        self._intake = intake
        self._todo: deque[acp.AcpMessage] = deque()
        """What has been read and waits behind a long line."""
        self._holding: asyncio.Task[None] | None = None
        """While it runs, the agent is not read."""
        self._calls: dict[acp.Id, asyncio.Future[Raw]] = {}
        self._next_id = 0
        self._garbage = 0
        self._end: Exception | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reader = _Reader(self, intake.pace)
        self._reading: asyncio.ReadTransport | None = None
        self._writing: asyncio.WriteTransport | None = None
        self._writer = _Writer()

    def hand_over(self, handler: AgentListener, *, on_odd: OnOdd, on_texts: OnTexts | None = None) -> None:
        """From now on another hears what the agent says; nobody did so far."""
        self._handler, self._count_odd, self._on_texts = handler, on_odd, on_texts

    async def __aenter__(self) -> AcpConnection:
        if self._reading is not None:  # connected before it was handed over
            return self
        connecting = asyncio.ensure_future(self._connect())
        try:
            await asyncio.shield(connecting)
        except asyncio.CancelledError:
            # A session that is deleted while its agent starts. Connecting takes one round of the loop.
            # Cancelled in it, uvloop closes a descriptor that the file closes again, when it is another's.
            await asyncio.wait([connecting])
            await self.__aexit__()
            raise
        return self

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        out, into = os.fdopen(self._worker.stdout, "rb", 0), os.fdopen(self._worker.stdin, "wb", 0)
        self._reading, _ = await loop.connect_read_pipe(lambda: self._reader, out)
        self._writing, _ = await loop.connect_write_pipe(lambda: self._writer, into)

    async def __aexit__(self, *_: object) -> None:
        if self._handler is _NOBODY:  # it was left while it was connected
            return
        self.close_stdin()
        if self._reading is not None:
            self._reading.close()
        self._finish(AgentGone("The connection to the agent was closed."))
        if self._holding is not None:
            self._holding.cancel()
            await asyncio.wait([self._holding])
        # They hold each other, and what has ended must not wait for the collector.
        self._handler, self._on_texts = _NOBODY, None
        self._reader.leave()
        del self._lines

    def close_stdin(self) -> None:
        """EOF on stdin, which ends most agents; what is not written yet is dropped."""
        self._worker.freezer.thaw()
        if self._writing is not None and not self._writing.is_closing():
            self._writing.abort()

    # -- what the gateway says --------------------------------------------------------------------------

    async def call(self, method: str, params: object) -> Raw:
        """A request to the agent. Raises AgentError, AgentGone or WireError."""
        if self._end is not None:
            raise _again(self._end)
        request_id, self._next_id = self._next_id, self._next_id + 1
        future: asyncio.Future[Raw] = asyncio.get_running_loop().create_future()
        self._calls[request_id] = future
        try:
            self._write(acp.request(request_id, method, params))
            return await future
        finally:
            self._calls.pop(request_id, None)
            del future  # its exception holds this frame, and with it the session

    def notify(self, method: str, params: object) -> None:
        """A notification to the agent."""
        self._write(acp.notification(method, params))

    def respond(self, request_id: acp.Id, result: object) -> None:
        """The answer to a request of the agent."""
        self._write(acp.response(request_id, result))

    def respond_error(self, request_id: acp.Id, code: int, message: str, data: object = None) -> None:
        """The answer to a request of the agent that cannot be fulfilled."""
        self._write(acp.error_response(request_id, code, message, data))

    async def drained(self) -> None:
        """Returns when the pipe to the agent has room again."""
        await self._writer.drained()

    async def initialize(self, meta: object) -> Initialized:
        """ACP `initialize`: questions are taken; no file system and no terminal are offered."""
        params = {
            "protocolVersion": acp.PROTOCOL_VERSION,
            "clientCapabilities": {
                "fs": {"readTextFile": False, "writeTextFile": False},
                "terminal": False,
                "elicitation": {"form": {}, "url": {}},
                "session": {"configOptions": {"boolean": {}}},
                "_meta": {EXTENSION: meta},
            },
            "clientInfo": {"name": EXTENSION, "title": "Agent Gateway", "version": "1"},
        }
        return self._shaped(await self.call("initialize", params), Initialized)

    async def authenticate(self, method: str) -> None:
        """ACP `authenticate`."""
        await self.call("authenticate", {"methodId": method})

    async def open_session(self, method: str, params: dict[str, object]) -> AgentSession:
        """ACP `session/new`, `session/load`, `session/resume` or `session/fork`."""
        result = await self.call(method, params)
        return self._shaped(Raw(b"{}") if bytes(result) == b"null" else result, AgentSession)

    async def prompt(self, agent_session_id: str, blocks: list[dict[str, Any]]) -> Prompted:
        """ACP `session/prompt`: returns when the agent has completed the turn."""
        params = {"sessionId": agent_session_id, "prompt": blocks}
        return self._shaped(await self.call("session/prompt", params), Prompted)

    async def set_config(self, agent_session_id: str, option_id: str, value: str | bool) -> ConfigSet:
        """ACP `session/set_config_option`."""
        params: dict[str, object] = {"sessionId": agent_session_id, "configId": option_id, "value": value}
        if isinstance(value, bool):
            params["type"] = "boolean"
        result = await self.call("session/set_config_option", params)
        return self._shaped(Raw(b"{}") if bytes(result) == b"null" else result, ConfigSet)

    def cancel(self, agent_session_id: str) -> None:
        """ACP `session/cancel`: the agent finishes its updates and answers the prompt with `cancelled`."""
        self.notify("session/cancel", {"sessionId": agent_session_id})

    def _write(self, line: bytes) -> None:
        if self._writing is None or self._writing.is_closing():
            return
        self._worker.freezer.thaw()
        unread = self._writing.get_write_buffer_size()  # before the line, which may be a picture
        self._writing.write(line)
        if unread > UNREAD_BYTES:
            self._finish(WireError("The agent does not read what it is sent."))

    def _shaped(self, result: Raw, kind: type[acp.T]) -> acp.T:
        try:
            return acp.parse(result, kind, self.on_odd, limit_bytes=acp.PARSE_BYTES)
        except msgspec.DecodeError as error:
            raise WireError(f"The agent's answer is not ACP: {error}") from None

    # -- what the agent says ----------------------------------------------------------------------------

    def feed(self, chunk: bytes) -> None:
        """Bytes of the agent's stdout."""
        if not self._feed_texts(chunk):
            self._todo += self._lines.feed(chunk)
        self._work()

    def _feed_texts(self, chunk: bytes) -> bool:
        """Hands the lines on that this chunk completes, if all of them are pieces of text."""
        if self._on_texts is None or self._todo or self._end is not None or self._holding is not None:
            return False
        lines = self._lines.whole(chunk)
        chunks = text_chunks(lines) if lines else None
        if chunks is None:
            return False
        self._lines.passed(chunk)
        self._on_texts(chunks)
        self._refuse_more()
        return True

    def _work(self) -> None:
        """Handles what was read, up to a long line or the end."""
        updates: list[Raw] = []
        while self._todo and self._end is None and self._holding is None:
            message = self._todo.popleft()
            if isinstance(message, acp.Envelope) and message.method == "session/update":
                self._collect(message, updates)
                continue
            self._hand_on(updates)
            updates = []
            if isinstance(message, acp.Spooled):
                self._hold(message)
            else:
                self._take(message)
        self._hand_on(updates)
        if self._holding is None and self._handler.is_ahead(BACKLOG_BYTES):
            self._hold(None)

    def _hand_on(self, updates: list[Raw]) -> None:
        if updates and self._end is None:
            self._handler.on_updates(updates)
            self._refuse_more()

    def _refuse_more(self) -> bool:
        """Ends the connection if no more is taken of this agent."""
        words = self._handler.refusal()
        if words is not None:
            self._finish(OutputLimit(words))
        return self._end is not None

    def _hold(self, line: acp.Spooled | None) -> None:
        """Stops reading until a long line is handled, or the disk has caught up."""
        if self._end is not None:
            return
        self._reader.pause("held")
        waiting = self._handler.written() if line is None else self._take_long(line)
        self._holding = asyncio.create_task(self._until(waiting), name=f"output of {self._worker.pid}")

    async def _until(self, waiting: Coroutine[Any, Any, None]) -> None:
        try:
            await waiting
        except Exception:
            log.exception("worker %d: its output could not be handled", self._worker.pid)
            self.broken("What the agent said could not be handled.")
        finally:
            self._holding = None
        self._work()
        if self._holding is None and self._end is None:
            self._reader.resume("held")

    async def _take_long(self, line: acp.Spooled) -> None:
        spent = 0.0
        give = await self._intake.place(line.size_bytes)
        try:
            if not self._refuse_more():
                spent = await self._handle_long(line)
        finally:
            line.spool.drop()
            del line
            self._handler.when_written(give)  # not before: its events are in memory although the agent ends
        await self._handler.written()
        await asyncio.sleep(min(LONG_PAUSE_SECONDS, spent * (1 - OUTPUT_SHARE) / OUTPUT_SHARE))

    async def _handle_long(self, line: acp.Spooled) -> float:
        """Makes events of it; the seconds that decoding took."""
        message, spent = await self._intake.decode(line)
        if self._end is None:
            await self._take_decoded(message, line)
        return spent

    async def _take_decoded(self, message: acp.AcpMessage, line: acp.Spooled) -> None:
        if not isinstance(message, acp.Envelope) or message.method != "session/update":
            self._take(message)
            return
        try:
            update = acp.parse(message.params, _UpdateParams, self.on_odd).update
        except msgspec.DecodeError as error:
            self._log_garbage(f"session/update without an update: {error}")
            return
        for _ in self._handler.on_long_update(update, line.spool.used):
            if self._refuse_more():
                return
            if self._handler.is_ahead(BACKLOG_BYTES // 4):
                await self._handler.written()

    def _collect(self, message: acp.Envelope, updates: list[Raw]) -> None:
        try:
            updates.append(acp.parse(message.params, _UpdateParams, self.on_odd).update)
        except msgspec.DecodeError as error:
            self._log_garbage(f"session/update without an update: {error}")

    def _take(self, message: acp.AcpMessage) -> None:
        match message:
            case acp.Garbage(text=text):
                self._log_garbage(text)
            case acp.Oversize(limit_bytes=limit):
                self._finish(WireError(f"The agent sent a line longer than {limit} bytes."))
            case acp.Unspoolable(reason=reason):
                self._finish(WireError(f"A long line of the agent's could not be kept: {reason}."))
            case acp.Envelope() if message.is_response:
                self._settle(message)
            case acp.Envelope() if message.is_request:
                if not self._handler.on_request(message):
                    self.respond_error(
                        message.id_or_none, acp.METHOD_NOT_FOUND, f"No method {message.method!r}"
                    )
                self._refuse_more()
            case acp.Envelope():
                self._handler.on_notification(message)

    def _settle(self, message: acp.Envelope) -> None:
        future = self._calls.get(message.id_or_none)
        if future is None or future.done():
            return
        if isinstance(message.error, acp.RpcError):
            future.set_exception(AgentError(message.error))
        else:
            future.set_result(acp.raw(message.result))

    def _log_garbage(self, text: str) -> None:
        self._garbage += 1
        if self._garbage <= GARBAGE_LOGGED:
            log.info("worker %d: skipped a line of stdout that is no message: %.200r", self._worker.pid, text)

    def on_odd(self, path: str) -> None:
        """A value of the agent's was left out."""
        self._count_odd(path)
        self._odd += 1
        if self._odd <= GARBAGE_LOGGED:
            log.info("worker %d: left out a value that is not as it must be: %s", self._worker.pid, path)

    def ended(self) -> None:
        """EOF on the agent's stdout."""
        self._finish(AgentGone("The agent closed its output."))

    def broken(self, words: str) -> None:
        """Nothing more is heard of the agent: its session's turn and worker end with these words."""
        self._finish(WireError(words))

    def _finish(self, reason: Exception) -> None:
        if self._end is not None:
            return
        self._end = reason
        for message in self._todo:
            if isinstance(message, acp.Spooled):
                message.spool.drop()
        self._todo.clear()
        self._lines.close()
        for future in self._calls.values():
            if not future.done():
                future.set_exception(_again(reason))
        if not self.closed.done():
            self.closed.set_result(None)

    @property
    def end(self) -> Exception | None:
        """Why the connection ended; None while it is open."""
        return self._end


def _again(reason: Exception) -> Exception:
    """The same: an exception keeps the frames that it passes, and the connection keeps the first one."""
    return type(reason)(*reason.args)


class Unheard:
    """The handler of a connection that has ended, or of an agent that has no session yet."""

    def is_ahead(self, most_bytes: int) -> bool:
        return False

    def on_updates(self, updates: Sequence[Raw]) -> None:
        return

    def on_long_update(self, update: Raw, used: Callable[[int], None]) -> Iterator[None]:
        return iter(())

    def refusal(self) -> str | None:
        return None

    async def written(self) -> None:
        return

    def when_written(self, done: Callable[[], None]) -> None:
        done()

    def on_request(self, message: acp.Envelope) -> bool:
        return False

    def on_notification(self, message: acp.Envelope) -> None:
        return


_NOBODY: Final = Unheard()


class _Reader(asyncio.Protocol):
    """Bytes from the worker's stdout into the connection, at most at a share of the loop's time.

    A full pipe is handled in slices, between which others have their turn. The share is of the time that
    handling takes, not of bytes: a flood of two-byte lines costs more than a picture. An agent over its share
    is not read for a while: its pipe fills and only this agent waits. A busy pipe rests when its `pace` says
    so.
    """

    def __init__(self, connection: AcpConnection, pace: Pace | None = None) -> None:
        self._connection: AcpConnection | None = connection
        """None once it is closed."""
        self._pace = pace or Pace()
        self._rest = b""
        """What was read and waits for its turn."""
        self._slice_bytes = SLICE_BYTES
        self._spent = 0.0
        self._since = 0.0
        self._reasons: set[str] = set()
        """Why it is not read at the moment."""
        self._transport: asyncio.ReadTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.ReadTransport", transport)

    def leave(self) -> None:
        """The connection is closed, and hears nothing more."""
        self._connection = None

    def data_received(self, data: bytes) -> None:
        if len(data) <= self._slice_bytes:
            self._take(data)
            return
        self.pause("sliced")
        self._rest = data
        self._take_slice()

    def _take_slice(self) -> None:
        size = self._slice_bytes
        data, self._rest = self._rest[:size], self._rest[size:]
        seconds = self._take(data)
        if seconds > SLICE_SECONDS:
            self._slice_bytes = max(SLICE_BYTES, size // 2)
        elif 2 * seconds < SLICE_SECONDS and len(data) == size:
            self._slice_bytes = min(LARGEST_SLICE_BYTES, 2 * size)
        if self._rest:
            asyncio.get_running_loop().call_soon(self._take_slice)
        else:
            self.resume("sliced")

    def _take(self, data: bytes) -> float:
        """How long it took."""
        if self._connection is None:
            return 0.0
        loop = asyncio.get_running_loop()
        began = loop.time()
        quiet, self._since = began - self._since, began
        clock = time.perf_counter
        started = clock()
        try:
            self._connection.feed(data)
        except Exception:
            log.exception("what an agent said could not be handled")
            self._connection.broken("What the agent said could not be handled.")
        seconds = clock() - started
        self._pace.note(began, seconds)
        if self._pace.is_slow and quiet < QUICK_SECONDS and len(data) < SMALL_BYTES:
            self.pause("pace")
            self._pace.rest(functools.partial(self.resume, "pace"))
        self._spent = max(0.0, self._spent - quiet * OUTPUT_SHARE) + seconds
        if self._spent > OUTPUT_BURST_SECONDS:
            self.pause("share")
            loop.call_later(OUTPUT_PAUSE_SECONDS, self.resume, "share")
        return seconds

    def pause(self, reason: str) -> None:
        """Stops reading until this reason, and every other, has gone."""
        if not self._reasons and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._reasons.add(reason)

    def resume(self, reason: str) -> None:
        """This reason not to read has gone."""
        if reason not in self._reasons:
            return
        self._reasons.discard(reason)
        if not self._reasons and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> None:
        data, self._rest = self._rest, b""
        self._take(data)
        if self._connection is not None:
            self._connection.ended()

    def connection_lost(self, exc: Exception | None) -> None:
        self.eof_received()


class _Writer(asyncio.BaseProtocol):
    """Flow control of the pipe to the worker's stdin."""

    def __init__(self) -> None:
        self._has_room = asyncio.Event()
        self._has_room.set()

    def pause_writing(self) -> None:
        self._has_room.clear()

    def resume_writing(self) -> None:
        self._has_room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_room.set()

    async def drained(self) -> None:
        await self._has_room.wait()
