"""Connections that speak HTTP/1.1 as a client: one request after the other on each, with as little work as it
takes. A client for all of the web does several times the work.

Guarantees: a connection is used again only after an answer that was whole, to a request that was sent whole,
and if it let the connection stay; what comes unasked, or behind an answer, is never taken for one; an answer
that ends early is never taken for whole; heads and answers that only inform are bounded, and so is what is
not read yet (`READ_AHEAD_BYTES`): the other side then waits; nothing is sent twice.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, Literal

import httptools

HEAD_BYTES: Final = 64 * 1024
INTERIM: Final = 16
"""Answers that only inform, before the one that counts (RFC 9110, section 15.2)."""
READ_AHEAD_BYTES: Final = 64 * 1024
WRITTEN_AHEAD_BYTES: Final = 256 * 1024
"""Of a body: what may wait to leave."""
PIECE_BYTES: Final = 256 * 1024
"""A longer body is written in such pieces, between which others have their turn."""
_CONTINUE: Final = 100
_INFORMING: Final = range(100, 200)
_BODILESS_METHODS: Final = ("GET", "HEAD", "OPTIONS", "DELETE")
_SAYS_ITS_END: Final = (b"content-length", b"transfer-encoding")
Headers = Sequence[tuple[bytes, bytes]]
EndKind = Literal["cut", "silent", "malformed", "closed"]
"""Why a connection has ended: the other side or the way to it; its silence; what it said; this side."""


class AnswerMissing(Exception):
    """The request has left, at least in part, and there was no answer."""

    def __init__(self, words: str, kind: EndKind) -> None:
        super().__init__(words)
        self.kind = kind


class AnswerCut(Exception):
    """The answer ended early."""

    def __init__(self, words: str, kind: EndKind = "cut") -> None:
        super().__init__(words)
        self.kind = kind


class _Unasked(Exception):
    """Leaves the parser: what follows an answer is none."""


class HttpConnection(asyncio.Protocol):
    """One connection, which has one request at a time."""

    def __init__(
        self, *, prepare: Callable[[socket.socket], None] = lambda _socket: None, is_lenient: bool = False
    ) -> None:
        """`prepare` sets the options of the socket; `is_lenient`: the lines of a head may end without a
        carriage return, as those of some small servers do.
        """
        self._loop = asyncio.get_running_loop()
        self._prepare = prepare
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        if is_lenient:
            self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)
        self._waiter: asyncio.Future[None] | None = None
        """Of whoever waits for something to come."""
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._is_wanted = asyncio.Event()
        """Whether the other side wants the body."""
        self._sending: asyncio.Task[None] | None = None
        self._lost = ""
        """Why the connection has ended; empty while it has not."""
        self._lost_kind: EndKind = "cut"
        self._silence: float | None = None
        self._due = 0.0
        """When the other side has been silent for too long."""
        self._timer: asyncio.TimerHandle | None = None
        self.idle_since = 0.0
        self._begin("GET")
        self._is_asked = False

    def _begin(self, method: str) -> None:
        self._method = method
        self._arrived = self._interim = 0
        self._is_wanted.clear()
        self._is_asked = True
        """Whether an answer may come."""
        self._is_sent = False
        self._has_head = False
        self._is_complete = False
        self._is_reusable = False
        self._says_its_end = False
        self._parts: deque[bytes] = deque()
        self._unread = 0
        self._is_paused = False
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []

    # -- what asks ----------------------------------------------------------------------------------------

    async def ask(
        self,
        method: str,
        head: bytes,
        body: bytes | AsyncIterator[bytes] | None,
        *,
        is_chunked: bool = False,
        silence_seconds: float | None = None,
    ) -> None:
        """Sends a request and waits for the head of its answer. A body that is still arriving leaves once it
        is wanted, in chunks if nothing says how long it is. `silence_seconds`: how long the other side may do
        nothing while it is waited for. Raises AnswerMissing.
        """
        self._silence = silence_seconds
        self._begin(method)
        if body is None or isinstance(body, bytes):
            await self._write_whole(head, body or b"")
        else:
            self._write(head)
            sending = self._send(body, is_chunked=is_chunked)
            self._sending = asyncio.create_task(sending, name="a body of a request")
        while not self._has_head:
            if self._lost:
                raise AnswerMissing(self._lost, self._lost_kind)
            await self._something()

    async def _write_whole(self, head: bytes, body: bytes) -> None:
        """All of it, unless there is an answer before; then it is not whole."""
        if len(body) <= PIECE_BYTES:
            self._write(head + body)
            self._is_sent = True
            return
        self._write(head)
        rest = memoryview(body)
        while rest and not self._lost and not self._has_head:
            if self._can_write.is_set():
                self._write(rest[:PIECE_BYTES])
                rest = rest[PIECE_BYTES:]
                await asyncio.sleep(0)
            else:
                await self._something()
        self._is_sent = not rest

    async def _send(self, body: AsyncIterator[bytes], *, is_chunked: bool) -> None:
        try:
            await self._is_wanted.wait()
            async for part in body:
                await self._can_write.wait()
                self._write(b"%x\r\n%b\r\n" % (len(part), part) if is_chunked else part)
            if is_chunked:
                self._write(b"0\r\n\r\n")
            self._is_sent = True
        except Exception as error:
            self._end(f"its body could not be read ({type(error).__name__})")

    async def leave(self) -> bool:
        """Whoever asked is done; whether the connection may be used for another request. If not, it ends."""
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.cancel()
            await asyncio.wait([sending])
        return self.release()

    def release(self) -> bool:
        """The same, for a body that did not arrive piece by piece."""
        if self.is_over and self._is_sent and self._is_reusable and not self._lost and not self._is_paused:
            self._is_asked = False
            return True
        self._end("it was left", "closed")
        return False

    async def part(self) -> bytes:
        """What has come of the body; empty at its end. Raises AnswerCut."""
        while not self._parts:
            if self._is_complete:
                return b""
            if self._lost:
                raise AnswerCut(self._lost, self._lost_kind)
            await self._something()
        part = self._parts.popleft() if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._unread = 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return part

    @property
    def is_over(self) -> bool:
        """Whether nothing of the body is to come."""
        return self._is_complete and not self._parts

    async def _something(self) -> None:
        """Waits until something has come."""
        self._waiter = self._loop.create_future()
        if self._silence is not None:
            self._due = self._loop.time() + self._silence
            if self._timer is None:
                self._timer = self._loop.call_at(self._due, self._look_whether_it_speaks)
        await self._waiter

    def _look_whether_it_speaks(self) -> None:
        """One timer for many waits: most of them are short."""
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return  # the next wait has a timer of its own
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._look_whether_it_speaks)
        else:
            self._end("it said nothing for too long", "silent")

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    @property
    def is_open(self) -> bool:
        """Whether nothing has ended it yet."""
        return not self._lost

    def _write(self, data: bytes | memoryview) -> None:
        if self._transport is not None and not self._lost:
            self._transport.write(data)

    def _end(self, why: str, kind: EndKind = "cut") -> None:
        """What comes from now on is not read."""
        if not self._lost:
            self._lost, self._lost_kind = why, kind
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def close(self) -> None:
        """Nobody needs it any more."""
        self._end("it was closed", "closed")

    # -- asyncio.Protocol ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.set_write_buffer_limits(high=WRITTEN_AHEAD_BYTES)
        self._prepare(transport.get_extra_info("socket"))
        self._transport = transport

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()
        self._wake()

    def data_received(self, data: bytes) -> None:
        if not self._is_asked or self._is_complete:
            self._end("it said more than it was asked", "malformed")
            return
        if not self._has_head:
            self._arrived += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._is_reusable = False  # whatever came behind a whole answer
            if not self._is_complete:
                self._end(f"its answer is not HTTP/1.1 ({type(error).__name__})", "malformed")
        if not self._has_head and self._arrived > HEAD_BYTES:
            self._end("the head of its answer is too large", "malformed")
        if self._unread > READ_AHEAD_BYTES and not self._is_complete and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        return None  # the transport closes

    def connection_lost(self, exc: Exception | None) -> None:
        if self._has_head and not self._says_its_end and exc is None and not self._lost:
            self._is_complete = True  # its end is that of the connection
        self._can_write.set()
        self._is_wanted.set()  # so that whoever reads the body does not wait for ever
        self._end(str(exc) if exc is not None else "it closed the connection")

    # -- httptools ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._is_complete:
            raise _Unasked

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status in _INFORMING:
            if status == _CONTINUE:
                self._is_wanted.set()
            self.headers = []
            self._interim += 1
            if self._interim > INTERIM:
                self._end("it informs without end")
                raise _Unasked
            return
        self.status = status
        self._has_head = True
        self._says_its_end = any(name.lower() in _SAYS_ITS_END for name, _ in self.headers)
        if self._method == "HEAD":
            self._is_complete = True  # the parser waits for a body; the connection is not used again

    def on_body(self, data: bytes) -> None:
        if self._is_complete:
            return
        self._parts.append(data)
        self._unread += len(data)

    def on_message_complete(self) -> None:
        if not self._has_head:
            return  # one that only informs
        self._is_reusable = self._method != "HEAD" and self._parser.should_keep_alive()
        self._is_complete = True


class IdleConnections:
    """Connections that nobody uses now, by where they lead: the one that was used last is used first, and
    none is kept for longer than `seconds`. `close` them.
    """

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds
        self._idle: dict[str, list[HttpConnection]] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    def take(self, place: str) -> HttpConnection | None:
        """One that leads there and is still open."""
        idle = self._idle.get(place)
        while idle:
            if (connection := idle.pop()).is_open:
                return connection
        return None

    def keep(self, place: str, connection: HttpConnection) -> None:
        """It is not needed now."""
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.setdefault(place, []).append(connection)
        if self._sweeping is None:
            self._sweeping = loop.call_later(self._seconds / 2, self._sweep)

    def _sweep(self) -> None:
        """Ends those that nobody has used for long."""
        loop, self._sweeping = asyncio.get_running_loop(), None
        oldest = loop.time() - self._seconds
        for place, idle in list(self._idle.items()):
            late = [each for each in idle if each.idle_since <= oldest or not each.is_open]
            for each in late:
                each.close()
                idle.remove(each)
            if not idle:
                del self._idle[place]
        if self._idle:
            self._sweeping = loop.call_later(self._seconds / 2, self._sweep)

    def close(self) -> None:
        """Ends them."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for idle in self._idle.values():
            for each in idle:
                each.close()
        self._idle.clear()


def head_of(method: str, target: bytes, headers: Headers, *, length: int | None) -> bytes:
    """A request's head; `length` of its body, None while that is still arriving. Raises ValueError for what
    is no line of one.
    """
    lines = [b"%b %b HTTP/1.1" % (method.encode("latin-1"), target)]
    lines += [name + b": " + value for name, value in headers]
    is_said = any(name == b"content-length" for name, _ in headers)
    if length is not None and not is_said and (length or method not in _BODILESS_METHODS):
        lines.append(b"content-length: %d" % length)
    if length is None:
        lines.append(b"expect: 100-continue")
    if any(b"\r" in line or b"\n" in line for line in lines):
        raise ValueError("a header has more than one line")
    return b"\r\n".join((*lines, b"", b""))
