"""The loop of one agent: JSON-RPC over two file descriptors, timers, and one coroutine that waits for them.

asyncio costs a forked worker more than a megabyte and a millisecond; an agent needs one poll of two
descriptors.

Guarantees:
- everything happens in one thread: a message is handled while the turn waits, never in the middle of a step;
- stdin is read between any two waits of the turn, so that a cancellation is seen between two words;
- a write never blocks the loop: what the pipe does not take at once waits in memory, and `sleep` holds the
  turn back until most of it is gone;
- `run` returns at the end of stdin, when the reader of stdout has gone, or when `leave` was called.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import select
import stat
import sys
from collections.abc import Coroutine, Generator
from itertools import count
from time import monotonic
from typing import Any, Final, Protocol, TypeVar

import msgspec

from worker import acp

READ_BYTES: Final = 64 * 1024
HIGH_WATER_BYTES: Final = 64 * 1024
"""A turn that has this much unsent waits for its reader instead of filling memory."""

FLUSH_AT_END_SECONDS: Final = 0.03
"""How long the last lines may take after stdin has ended: an agent is gone within 50 ms."""

R = TypeVar("R")


class Cancelled(BaseException):
    """The user stopped the turn; raised inside it, where it waits."""


class RequestFailed(Exception):
    """The other side answered a request with an error."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class Wait:
    """One thing that a turn waits for; awaiting it twice gives the same answer."""

    def __init__(self) -> None:
        self.task: Task | None = None
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None

    def __await__(self) -> Generator[Wait, None, Any]:
        if not self._done:
            yield self
        if self._error is not None:
            raise self._error
        return self._value

    def resolve(self, value: Any = None) -> None:
        self._settle(value, None)

    def reject(self, error: BaseException) -> None:
        self._settle(None, error)

    def _settle(self, value: Any, error: BaseException | None) -> None:
        if self._done:
            return
        self._done, self._value, self._error = True, value, error
        if self.task is not None:
            self.task.step()


class Call(Wait):
    """A request in flight; `id` is its JSON-RPC id."""

    def __init__(self, call_id: int) -> None:
        super().__init__()
        self.id = call_id


class Task:
    """Drives one coroutine from wait to wait; the coroutine answers for its own errors."""

    def __init__(self, coroutine: Coroutine[Wait, None, None]) -> None:
        self._coroutine = coroutine
        self._waiting: Wait | None = None

    def step(self, error: BaseException | None = None) -> None:
        """Runs the coroutine up to its next wait."""
        self._waiting = None
        try:
            wait = self._coroutine.throw(error) if error is not None else self._coroutine.send(None)
        except StopIteration:
            return
        wait.task = self
        self._waiting = wait

    def cancel(self) -> None:
        """Raises `Cancelled` where the coroutine waits; nothing if it has ended."""
        if self._waiting is None:
            return
        self._waiting.task = None
        self.step(Cancelled())


class Io(Protocol):
    """What a turn sees of the loop."""

    def sleep(self, seconds: float) -> Wait:
        """Waits this long, and until the client has taken most of what was sent; stdin is read meanwhile."""

    def begin(self, method: str, params: object) -> Call:
        """Sends a request; awaiting it gives its raw result or raises `RequestFailed`."""

    async def call(self, method: str, params: object, kind: type[R]) -> R:
        """Sends a request and waits for its result as `kind`; raises `RequestFailed`."""

    def notify(self, method: str, params: object) -> None:
        """Sends a notification."""


class Peer(Protocol):
    """Who handles what the client sends of its own accord."""

    def on_message(self, message: acp.Envelope) -> None:
        """A request or a notification."""


class Loop:
    """`Io` over two descriptors, driven by `poll`."""

    def __init__(self, stdin_fd: int, stdout_fd: int) -> None:
        self._stdin = stdin_fd
        self._stdout = stdout_fd
        self._lines = acp.Lines()
        self._unsent = bytearray()
        self._calls: dict[int, Call] = {}
        self._ids = count()
        self._timers: list[tuple[float, int, Wait]] = []
        self._order = count()
        self._held: list[Wait] = []
        self._open = True
        self.stays_after_eof = False
        _unblock(stdout_fd)

    def sleep(self, seconds: float) -> Wait:
        wait = Wait()
        heapq.heappush(self._timers, (monotonic() + seconds, next(self._order), wait))
        return wait

    def begin(self, method: str, params: object) -> Call:
        call = Call(next(self._ids))
        self._calls[call.id] = call
        self.write(acp.request(call.id, method, params))
        return call

    async def call(self, method: str, params: object, kind: type[R]) -> R:
        return parse_result(await self.begin(method, params), kind)

    def notify(self, method: str, params: object) -> None:
        self.write(acp.notification(method, params))

    def respond(self, request_id: acp.Id, result: object) -> None:
        self.write(acp.response(request_id, result))

    def fail(self, request_id: acp.Id, code: int, message: str, data: object = None) -> None:
        self.write(acp.error_response(request_id, code, message, data))

    def write(self, data: bytes) -> None:
        """Sends bytes as they are, in order, without blocking."""
        self._unsent += data
        self.flush()

    def leave(self) -> None:
        """Makes `run` return."""
        self._open = False

    @property
    def unsent_bytes(self) -> int:
        """What the pipe has not taken yet."""
        return len(self._unsent)

    def run(self, peer: Peer) -> None:
        """Serves until stdin ends (unless `stays_after_eof`), stdout's reader has gone, or `leave`."""
        poll = select.poll()
        poll.register(self._stdin, select.POLLIN)
        while self._open:
            if self._unsent:
                poll.register(self._stdout, select.POLLOUT)
            for fd, _ in poll.poll(self._milliseconds_to_next()):
                if fd == self._stdin:
                    if not self.read(peer):
                        poll.unregister(fd)
                        self._open = self._open and self.stays_after_eof
                else:
                    self.flush()
                    poll.unregister(fd)
            self.fire_timers()
        self._flush_last()

    def read(self, peer: Peer) -> bool:
        """Handles what stdin holds; False at its end."""
        try:
            chunk = os.read(self._stdin, READ_BYTES)
        except BlockingIOError:
            return True
        for message in self._lines.feed(chunk):
            self._dispatch(message, peer)
        return bool(chunk)

    def flush(self) -> None:
        """Writes what the pipe takes now."""
        try:
            while self._unsent:
                with memoryview(self._unsent) as view:
                    sent = os.write(self._stdout, view[:READ_BYTES])
                del self._unsent[:sent]
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()
            self.leave()

    def fire_timers(self) -> None:
        """Wakes what is due, unless the client is behind with reading."""
        now = monotonic()
        due = self._held
        self._held = []
        while self._timers and self._timers[0][0] <= now:
            due.append(heapq.heappop(self._timers)[2])
        for wait in due:
            if len(self._unsent) > HIGH_WATER_BYTES:
                self._held.append(wait)
            else:
                wait.resolve()

    def hurry(self) -> None:
        """Wakes every timer at once, until none is left."""
        while self._timers:
            heapq.heappop(self._timers)[2].resolve()

    def _milliseconds_to_next(self) -> float | None:
        return max(0.0, self._timers[0][0] - monotonic()) * 1000 if self._timers else None

    def _dispatch(self, message: acp.AcpMessage, peer: Peer) -> None:
        if not isinstance(message, acp.Envelope):
            kind = "too long" if isinstance(message, acp.Oversize) else "not JSON-RPC"
            self.fail(None, acp.PARSE_ERROR, f"A line was {kind} and was skipped.")
        elif not message.is_response:
            peer.on_message(message)
        elif isinstance(message.id, int) and (call := self._calls.pop(message.id, None)) is not None:
            if isinstance(message.error, acp.RpcError):
                call.reject(RequestFailed(message.error.code, message.error.message, message.error.data))
            else:
                call.resolve(message.result)

    def _flush_last(self) -> None:
        """The client may close our stdin and still read its last answers."""
        end = monotonic() + FLUSH_AT_END_SECONDS
        poll = select.poll()
        poll.register(self._stdout, select.POLLOUT)
        while self._unsent and (left := end - monotonic()) > 0:
            poll.poll(left * 1000)
            self.flush()


def parse_result(result: msgspec.Raw | msgspec.UnsetType, kind: type[R]) -> R:
    """A result as `kind`; one of another shape raises `RequestFailed`, as an error response would."""
    try:
        return acp.parse(result, kind)
    except msgspec.DecodeError as error:
        raise RequestFailed(acp.INTERNAL_ERROR, f"The client's answer could not be read: {error}") from None


def log(text: str) -> None:
    """One line on stderr, where the client looks when something fails."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _unblock(fd: int) -> None:
    """Only where the open file is surely ours: a terminal's flags are shared with the shell."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)
