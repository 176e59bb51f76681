"""Connections to other gateways: one HTTP/1.1 request after the other on each, with as little work as it
takes.

Another gateway is asked for every request that comes to the wrong one, and its streams bring every event of
its sessions: a client for all of the web does several times the work for that.

Guarantees: a connection is used again only after an answer that was whole and let it stay; an answer that
ends early is never taken for whole; what is not read yet is bounded (`READ_AHEAD_BYTES`), the other side then
waits.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Final
from urllib.parse import urlsplit

import httptools

HEAD_BYTES: Final = 64 * 1024
KEPT_SECONDS: Final = 10.0
"""A connection that nobody uses is ended by who asks, before the other side would: so no request meets one
that is just being closed.
"""
READ_AHEAD_BYTES: Final = 64 * 1024
SILENT_SECONDS: Final = 5
"""A peer that confirms nothing, neither what it was sent nor that it is there, is gone after so long."""
WRITTEN_AHEAD_BYTES: Final = 256 * 1024
"""Of a body that is sent as it arrives: what may wait to leave."""
_PORTS: Final = {"http": 80, "https": 443}
_CONTINUE: Final = 100
_INFORMING: Final = range(100, 200)
_BODILESS_METHODS: Final = ("GET", "HEAD", "OPTIONS", "DELETE")
_SAYS_ITS_END: Final = (b"content-length", b"transfer-encoding")
Headers = Sequence[tuple[bytes, bytes]]


class NodeUnreachable(Exception):
    """No connection: nothing of the request has left."""


class NodeSilent(Exception):
    """The request has left, at least in part, and there was no answer."""


class AnswerCut(Exception):
    """The answer ended early."""


class NodeConnection(asyncio.Protocol):
    """One connection, which has one request at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        """Of whoever waits for something to come."""
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._is_wanted = asyncio.Event()
        """Whether the other side wants the body."""
        self._sending: asyncio.Task[None] | None = None
        self._lost = ""
        """Why the connection has ended; empty while it has not."""
        self.idle_since = 0.0
        self._begin("GET")

    def _begin(self, method: str) -> None:
        self._method = method
        self._arrived = 0
        self._is_wanted.clear()
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
        self, method: str, head: bytes, body: bytes | AsyncIterator[bytes] | None, *, is_chunked: bool
    ) -> None:
        """Sends a request and waits for the head of its answer. A body that is still arriving leaves once it
        is wanted, in chunks if nothing says how long it is. Raises NodeSilent.
        """
        self._begin(method)
        if body is None or isinstance(body, bytes):
            self._write(head + body if body else head)
        else:
            self._write(head)
            sending = self._send(body, is_chunked=is_chunked)
            self._sending = asyncio.create_task(sending, name="a body for another gateway")
        while not self._has_head:
            if self._lost:
                raise NodeSilent(self._lost)
            await self._something()

    async def _send(self, body: AsyncIterator[bytes], *, is_chunked: bool) -> None:
        try:
            await self._is_wanted.wait()
            async for part in body:
                await self._can_write.wait()
                self._write(b"%x\r\n%b\r\n" % (len(part), part) if is_chunked else part)
            if is_chunked:
                self._write(b"0\r\n\r\n")
        except Exception as error:
            self._end(f"its body could not be read ({type(error).__name__})")

    async def leave(self) -> bool:
        """Whoever asked is done; whether the connection may be used for another request. If not, it ends."""
        sending, self._sending = self._sending, None
        is_sent = sending is None or sending.done()
        if sending is not None:
            sending.cancel()
            await asyncio.wait([sending])
        if self.is_over and is_sent and self._is_reusable and not self._lost and not self._is_paused:
            return True
        self._end("it was left")
        return False

    async def part(self) -> bytes:
        """What has come of the body; empty at its end. Raises AnswerCut."""
        while not self._parts:
            if self._is_complete:
                return b""
            if self._lost:
                raise AnswerCut(self._lost)
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
        await self._waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    @property
    def is_open(self) -> bool:
        """Whether nothing has ended it yet."""
        return not self._lost

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._lost:
            self._transport.write(data)

    def _end(self, why: str) -> None:
        """What comes from now on is not read."""
        self._lost = self._lost or why
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def close(self) -> None:
        """Nobody needs it any more."""
        self._end("it was closed")

    # -- asyncio.Protocol ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.set_write_buffer_limits(high=WRITTEN_AHEAD_BYTES)
        notice(transport.get_extra_info("socket"))
        self._transport = transport

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    def data_received(self, data: bytes) -> None:
        if not self._has_head:
            self._arrived += len(data)
        elif self._is_complete:
            self._end("it answered more than it was asked")
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._is_complete:
                self._end(f"its answer is not HTTP/1.1 ({type(error).__name__})")
            return
        if not self._has_head and self._arrived > HEAD_BYTES:
            self._end("the head of its answer is too large")
        if self._unread > READ_AHEAD_BYTES and not self._is_complete and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        return None  # the transport closes

    def connection_lost(self, exc: Exception | None) -> None:
        if self._has_head and not self._says_its_end and exc is None and not self._lost:
            self._is_complete = True  # its end is that of the connection
        self._lost = self._lost or (str(exc) if exc is not None else "it closed the connection")
        self._can_write.set()
        self._is_wanted.set()  # so that whoever reads the body does not wait for ever
        self._wake()

    # -- httptools ----------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status in _INFORMING:
            if status == _CONTINUE:
                self._is_wanted.set()
            self.headers = []
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


class NodeConnections:
    """Those to all other gateways that are not in use. `close` them."""

    def __init__(self, *, connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._idle: dict[str, list[NodeConnection]] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLContext | None = None

    async def take(self, url: str) -> NodeConnection:
        """A connection to the gateway at this URL, which has no path. Raises NodeUnreachable."""
        idle = self._idle.get(url)
        while idle:
            if (connection := idle.pop()).is_open:
                return connection
        try:
            return await self._connected(url)
        except (OSError, ValueError) as error:  # the former is a TimeoutError, too, and an error of TLS
            raise NodeUnreachable(str(error) or type(error).__name__) from error

    async def _connected(self, url: str) -> NodeConnection:
        parts = urlsplit(url)
        is_secure = parts.scheme == "https"
        if is_secure and self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        async with asyncio.timeout(self._connect_seconds):
            _, connection = await asyncio.get_running_loop().create_connection(
                NodeConnection,
                parts.hostname or "",
                parts.port or _PORTS[parts.scheme],
                ssl=self._tls if is_secure else None,
            )
        return connection

    async def give_back(self, url: str, connection: NodeConnection) -> None:
        """It is not needed now."""
        if not await connection.leave():
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.setdefault(url, []).append(connection)
        if self._sweeping is None:
            self._sweeping = loop.call_later(KEPT_SECONDS / 2, self._sweep)

    def _sweep(self) -> None:
        """Ends those that nobody has used for long."""
        loop, self._sweeping = asyncio.get_running_loop(), None
        oldest = loop.time() - KEPT_SECONDS
        for url, idle in list(self._idle.items()):
            late = [each for each in idle if each.idle_since <= oldest or not each.is_open]
            for each in late:
                each.close()
                idle.remove(each)
            if not idle:
                del self._idle[url]
        if self._idle:
            self._sweeping = loop.call_later(KEPT_SECONDS / 2, self._sweep)

    def close(self) -> None:
        """Ends all that are not in use."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for idle in self._idle.values():
            for each in idle:
                each.close()
        self._idle.clear()


def notice(sock: socket.socket) -> None:
    """The socket notices that its peer, or the way to it, is gone."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {"TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": SILENT_SECONDS - 2}
    options["TCP_USER_TIMEOUT"] = 1000 * SILENT_SECONDS
    for name, value in options.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


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
