"""Connections out: made to the addresses that were admitted, and joined to a worker's own.

Guarantees: no name is looked up here but a company proxy's; both directions have their limits, so that a
reader that stands still holds up its writer and no memory; when one end is lost so is the other; what passes
is counted, and a connection past what its session may transfer is cut.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import os
import socket
import urllib.parse
from collections.abc import Callable
from typing import Final, Protocol

from gateway.config.hosts import is_address
from gateway.egress.admission import Admission, Admitted
from gateway.egress.bulk import HALF_CLOSED_SECONDS, Lane, Transfer
from gateway.egress.hello import HELLO_BYTES, server_name
from gateway.egress.lookup import LookupFailed, system_lookup
from gateway.egress.pace import UNSENT_BYTES, Drain, LoopShare, Stalled, Tap
from gateway.workers.waiting import until_writable
from worker.spec import MIB

DIAL_SECONDS: Final = 10.0
"""For all addresses of a host together."""
ADDRESS_SECONDS: Final = 4.0
"""For one, so that the next is tried while the caller still waits."""
REPORTED_BYTES: Final = 256 * 1024
"""What passes is counted in pieces of that size, and at the end."""
BULK_BYTES: Final = 4 * MIB
"""So much within `BULK_SECONDS`, and the connection is a large transfer (`egress.bulk`)."""
BULK_SECONDS: Final = 1.0
BULK_LOOKS: Final = 10
"""How often it is looked whether all that was read is sent, before it becomes one; else it stays as it is."""
BULK_LOOK_SECONDS: Final = 0.005
PROXY_HEAD_BYTES: Final = 8 * 1024
ACCESS_DENIED: Final = bytes((21, 3, 3, 0, 2, 2, 49))
"""A fatal alert of TLS: "access denied" (RFC 8446, 6.2)."""
CANNOT: Final = bytes((21, 3, 3, 0, 2, 2, 80))
"""The same: "internal error"."""


class Unreachable(Exception):
    """No address of a host could be connected to."""


class Interceptor(Protocol):
    """Serves a connection to a host that a credential is added for."""

    async def serve(
        self, client: socket.socket, admitted: Admitted, *, admission: Admission, share: LoopShare
    ) -> None:
        """Until its end. The client's TLS ClientHello is still unread, and names `admitted.host`; the socket
        is closed by the caller. Cancelled when the worker ends. What it takes of the loop's time is the
        worker's `share`.
        """


async def dial(admitted: Admitted) -> socket.socket:
    """A connection to what was admitted. Raises Unreachable."""
    if admitted.proxy:
        return await _through_proxy(admitted)
    return await _to_one_of(admitted.addresses, admitted.port)


async def _to_one_of(addresses: tuple[str, ...], port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    end = loop.time() + DIAL_SECONDS
    for address in addresses:
        if (seconds := min(ADDRESS_SECONDS, end - loop.time())) > 0:
            with contextlib.suppress(OSError):  # TimeoutError is one
                return await connected_to(address, port, seconds=seconds)
    raise Unreachable


async def connected_to(address: str, port: int, *, seconds: float | None = None) -> socket.socket:
    """A connection to an address. Raises OSError."""
    if not is_address(address):
        raise OSError("no address")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await _connect(made, address, port, seconds=seconds)
    except BaseException:
        made.close()
        raise
    return made


async def _connect(made: socket.socket, address: str, port: int, *, seconds: float | None) -> None:
    """Not by the loop's own `sock_connect`, which has a thread look up what is an address already. Raises
    OSError.
    """
    problem = made.connect_ex((address, port))
    if problem == errno.EINPROGRESS:
        async with asyncio.timeout(seconds):
            await until_writable(made.fileno())
        problem = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if problem:
        raise OSError(problem, os.strerror(problem))


def sent_at_once(made: socket.socket, data: bytes) -> int:
    """How much of it a new connection takes before the loop has heard of it: the other end need not wait for
    that. If it is broken, the loop finds out.
    """
    try:
        return made.send(data)
    except OSError:
        return 0


async def _through_proxy(admitted: Admitted) -> socket.socket:
    """By CONNECT through a company's proxy, which resolves the name."""
    try:
        async with asyncio.timeout(DIAL_SECONDS):
            return await _by_proxy(admitted)
    except (OSError, ValueError, LookupFailed):  # TimeoutError is an OSError
        raise Unreachable from None


async def _by_proxy(admitted: Admitted) -> socket.socket:
    url = urllib.parse.urlsplit(admitted.proxy)
    host, port = url.hostname or "", url.port or 80
    made = await _to_one_of(tuple(await system_lookup.addresses(host, port)), port)
    try:
        await _ask_proxy(made, admitted, url)
    except BaseException:
        made.close()
        raise
    return made


async def _ask_proxy(made: socket.socket, admitted: Admitted, url: urllib.parse.SplitResult) -> None:
    """Raises OSError if the proxy does not let it through."""
    loop = asyncio.get_running_loop()
    target = f"{admitted.host}:{admitted.port}"
    asked = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
    if url.username is not None:
        pair = f"{urllib.parse.unquote(url.username)}:{urllib.parse.unquote(url.password or '')}"
        asked += f"Proxy-Authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"
    await loop.sock_sendall(made, f"{asked}\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):  # byte for byte: what comes after it is the host's
        byte = await loop.sock_recv(made, 1)
        head += byte
        if not byte or len(head) > PROXY_HEAD_BYTES:
            raise OSError("the proxy gave no answer")
    if head.split(b" ", 2)[1:2] != [b"200"]:
        raise OSError("the proxy refused")


# -- looking at what a client says, without reading it ---------------------------------------------------


async def readable(*sockets: socket.socket) -> socket.socket:
    """The first of these that has something to read, or has ended."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[socket.socket] = loop.create_future()

    def tell(one: socket.socket) -> None:
        if not found.done():
            found.set_result(one)

    for one in sockets:
        loop.add_reader(one.fileno(), tell, one)
    try:
        return await found
    finally:
        for one in sockets:
            loop.remove_reader(one.fileno())


async def peeked_server_name(client: socket.socket) -> str:
    """The host that a client's ClientHello names, empty if none; the message stays unread. Raises NotTls, and
    ConnectionError if no more comes.

    SO_RCVLOWAT keeps the loop asleep until there is more than what was seen (socket(7)).
    """
    seen = 0
    try:
        while True:
            await readable(client)
            data = client.recv(HELLO_BYTES, socket.MSG_PEEK)
            if (name := server_name(data)) is not None:
                return name
            if len(data) <= seen:
                raise ConnectionResetError("the client went away")
            seen = len(data)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, seen + 1)
    except BlockingIOError:
        raise ConnectionResetError("nothing came") from None
    finally:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


def say_last(client: socket.socket, data: bytes) -> None:
    """The last words on a connection. What was not read is read first: closing over it would reset the
    connection, and the words with it.
    """
    with contextlib.suppress(OSError):
        while client.recv(65_536):
            pass
    with contextlib.suppress(OSError):
        client.send(data)
        client.shutdown(socket.SHUT_WR)


# -- two ends, one connection ----------------------------------------------------------------------------


class TransferCount:
    """Counts what passes on one connection."""

    def __init__(self, admission: Admission, *, on_spent: Callable[[], None]) -> None:
        """`on_spent` hears if the session has used up what it may transfer."""
        self._admission = admission
        self._on_spent = on_spent
        self._sent = self._received = 0

    def sent(self, size: int) -> None:
        """So much went out."""
        self._sent += size
        if self._sent >= REPORTED_BYTES:
            self.report()

    def received(self, size: int) -> None:
        """So much came in."""
        self._received += size
        if self._received >= REPORTED_BYTES:
            self.report()

    def report(self) -> None:
        """What was not counted yet."""
        sent, received = self._sent, self._received
        self._sent = self._received = 0
        may_go_on = not (sent or received) or self._admission.transferred(sent=sent, received=received)
        if not may_go_on:
            self._on_spent()


class End(asyncio.Protocol):
    """One end of a joined connection; what it reads, the other writes."""

    def __init__(
        self, count: Callable[[int], None], on_lost: Callable[[], None], *, share: LoopShare, stalled: Stalled
    ) -> None:
        self._count = count
        self._on_lost = on_lost
        self.tap = Tap(share)
        self._drain = Drain(stalled)
        self._early: list[bytes] = []
        self._has_ended = False
        self.has_moved = False
        """Whether a byte was read since somebody looked."""
        self.other: End | None = None
        self.transport: asyncio.Transport | None = None

    def begin(self, here: socket.socket, there: socket.socket) -> None:
        """Passes on what has come already, before the loop knows of both ends."""
        try:
            data = here.recv(UNSENT_BYTES)
        except OSError:
            return
        if data:
            sent = sent_at_once(there, data)
            self._count(sent)
            self._early = [data[sent:]] if sent < len(data) else []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        transport.set_write_buffer_limits(high=UNSENT_BYTES)
        self.tap.attach(transport)
        if self.other is not None:
            self.other.go_on()

    def go_on(self) -> None:
        """The other end is there."""
        early, self._early = self._early, []
        for data in early:
            self.data_received(data)
        if self._has_ended:
            self._end_other()

    def data_received(self, data: bytes) -> None:
        other = self.other
        if other is None or other.transport is None:
            self._early.append(data)
            return
        self.has_moved = True
        other.transport.write(data)
        self.tap.passed(len(data))
        self._count(len(data))

    def eof_received(self) -> bool:
        self._has_ended = True
        self._end_other()
        return True

    def _end_other(self) -> None:
        other = self.other
        if other is None or other.transport is None or self.transport is None:
            return
        if other._has_ended:  # both have said their last
            self.transport.close()
            other.transport.close()
        elif not other.transport.is_closing():
            with contextlib.suppress(OSError, RuntimeError):
                other.transport.write_eof()

    def pause_writing(self) -> None:
        if self.transport is not None:
            self._drain.is_slow(self.transport)
        if self.other is not None:
            self.other.tap.hold("slow")

    def resume_writing(self) -> None:
        self._drain.is_done()
        if self.other is not None:
            self.other.tap.release("slow")

    def connection_lost(self, exc: Exception | None) -> None:
        self._drain.is_done()
        if self.other is not None and self.other.transport is not None:
            if exc is not None:
                self.other.transport.abort()
            else:
                self.other.transport.close()
        self._on_lost()

    def abort(self) -> None:
        """Ends it, and what was not sent is lost."""
        if self.transport is not None:
            self.transport.abort()

    @property
    def unsent(self) -> int:
        """Bytes that it has not sent yet."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    @property
    def has_ended(self) -> bool:
        """Whether it said its last, or is being closed."""
        return self._has_ended or (self.transport is not None and self.transport.is_closing())


class Splice:
    """A worker's connection and the one that the gateway made for it."""

    def __init__(
        self,
        admission: Admission,
        *,
        share: LoopShare,
        stalled: Stalled,
        lane: Lane | None = None,
    ) -> None:
        """Without a lane, all of it passes through the loop."""
        self._loop = asyncio.get_running_loop()
        self._tally = TransferCount(admission, on_spent=self._spend)
        self._share, self._stalled = share, stalled
        self._lane = lane
        self._abort: Callable[[], None] = lambda: None
        self.is_spent = False
        """Whether it was cut because of what its session may transfer."""

    async def run(self, client: socket.socket, upstream: socket.socket) -> None:
        """Until both are lost. Raises OSError."""
        with contextlib.ExitStack() as taken:
            while (large := await self._pass_on(client, upstream)) is not None and self._lane is not None:
                taken.close()
                client, upstream = map(taken.enter_context, large)
                if not await self._pass_much(client, upstream, self._lane):
                    return

    async def _pass_on(
        self, client: socket.socket, upstream: socket.socket
    ) -> tuple[socket.socket, socket.socket] | None:
        """Through the loop, until both are lost, or they become a large transfer."""
        joint = _Joint(self._tally, share=self._share, stalled=self._stalled, can_be_large=self._has_room)
        self._abort = joint.abort
        try:
            return await joint.run(client, upstream)
        finally:
            joint.abort()
            self._tally.report()

    def _has_room(self) -> bool:
        return self._lane is not None and self._lane.has_room

    async def _pass_much(self, client: socket.socket, upstream: socket.socket, lane: Lane) -> bool:
        """Past the loop; whether they are to go on there, because less passes now."""
        transfer = Transfer(client, upstream, lane=lane, on_passed=lambda: count())

        def count() -> None:
            sent, received = transfer.count()
            self._tally.sent(sent)
            self._tally.received(received)

        self._abort = lambda: lane.bulk.abort(transfer)
        try:
            return await lane.bulk.run(transfer) and not self.is_spent
        finally:
            count()
            self._tally.report()

    def _spend(self) -> None:
        if not self.is_spent:
            self.is_spent = True
            self._abort()


class _Joint:
    """Two ends that are joined in the loop."""

    def __init__(
        self, tally: TransferCount, *, share: LoopShare, stalled: Stalled, can_be_large: Callable[[], bool]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._tally = tally
        self._can_be_large = can_be_large
        self._open = 2
        self._recent, self._since = 0, self._loop.time()
        self._changed: asyncio.Future[None] = self._loop.create_future()
        """Done if both are lost, or much passes."""
        self.client = End(self._sent, self._lose, share=share, stalled=stalled)
        self.upstream = End(self._received, self._lose, share=share, stalled=stalled)
        self.client.other, self.upstream.other = self.upstream, self.client

    async def run(
        self, client: socket.socket, upstream: socket.socket
    ) -> tuple[socket.socket, socket.socket] | None:
        """Until both are lost, or with other sockets of the same connections, which the loop does not know.
        Raises OSError.
        """
        self.client.begin(client, upstream)
        await self._loop.connect_accepted_socket(lambda: self.upstream, upstream)
        await self._loop.connect_accepted_socket(lambda: self.client, client)
        while self._open:
            await asyncio.wait([self._changed], timeout=HALF_CLOSED_SECONDS)
            if not self._changed.done():
                self._cut_if_forgotten()
            elif self._open:
                self._changed = self._loop.create_future()
                if await self._stands_still():
                    return client.dup(), upstream.dup()
        return None

    async def _stands_still(self) -> bool:
        """Reads nothing more, and waits a moment until all that was read is sent. Else it goes on."""
        ends = (self.client, self.upstream)
        for end in ends:
            end.tap.hold("large")
        for _ in range(BULK_LOOKS):
            if self._open < len(ends) or any(end.has_ended for end in ends):
                break
            if not any(end.unsent for end in ends):
                return True
            await asyncio.sleep(BULK_LOOK_SECONDS)
        for end in ends:
            end.tap.release("large")
        return False

    def _sent(self, size: int) -> None:
        self._passed(size)
        self._tally.sent(size)

    def _received(self, size: int) -> None:
        self._passed(size)
        self._tally.received(size)

    def _passed(self, size: int) -> None:
        self._recent += size
        if self._recent >= BULK_BYTES:
            now = self._loop.time()
            is_large = now - self._since <= BULK_SECONDS and self._can_be_large()
            self._recent, self._since = 0, now
            if is_large and not self._changed.done():
                self._changed.set_result(None)

    def _cut_if_forgotten(self) -> None:
        """One end has said its last long ago, and the other says nothing."""
        ends = (self.client, self.upstream)
        if any(end.has_ended for end in ends) and not any(end.has_moved for end in ends):
            for end in ends:
                end.abort()
        for end in ends:
            end.has_moved = False

    def abort(self) -> None:
        """Ends both, and what was not sent is lost."""
        self.client.abort()
        self.upstream.abort()

    def _lose(self) -> None:
        self._open -= 1
        if not self._open and not self._changed.done():
            self._changed.set_result(None)
