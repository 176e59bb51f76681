"""The connections of a server: how many each address may hold, and which of their readers stand still.

An address may hold only its share, three quarters at most, so the rest is free for others. Over its share, or
when the process has no more files, a connection is refused; others are not affected.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import socket
import struct
import termios
from collections.abc import Callable
from typing import Final, Protocol

from gateway.buckets import Gauge
from gateway.config.addresses import is_within
from gateway.config.tables import ServerConfig
from gateway.workers.peer_identity import ELSEWHERE, PeerOrigin

LINGERING_REFUSED: Final = 64
"""Connections above the limit that are let go gently at once; the others are reset."""
AGENTS: Final = "agents"
"""What connections that may be agents' are counted as, all together: their addresses are people's too."""
_RESET: Final = struct.pack("ii", 1, 0)
_OUTQ: Final = struct.Struct("i")


class Reader:
    """The peer that reads what a connection sends: whether it still takes anything."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._untaken = 0
        self._taken_at = 0.0

    def has_stalled(self, now: float, *, seconds: float) -> bool:
        """Whether something waits for this reader and not a byte of it was taken for so long.

        A byte counts as soon as the peer's kernel has acknowledged it: the transport's own buffer moves only
        by a third of the kernel's at a time.
        """
        waiting = self._transport.get_write_buffer_size()
        untaken = waiting + _in_kernel(self._transport) if waiting else 0
        if untaken < self._untaken or not self._untaken:
            self._taken_at = now
        self._untaken = untaken
        return bool(untaken) and now - self._taken_at >= seconds

    def cut(self) -> None:
        """Resets the connection: closing it would leave the kernel with what it cannot deliver."""
        sock = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()


class Connection(Protocol):
    """What is counted."""

    transport: asyncio.Transport
    client: tuple[str, int] | None
    origin: PeerOrigin
    reader: Reader
    made_at: float
    has_spoken: bool


class Connections:
    """All connections of a server: how many each address holds, and which of their readers stand still."""

    def __init__(
        self,
        config: ServerConfig,
        *,
        capacity: int,
        origin: Callable[[asyncio.Transport], PeerOrigin] = lambda _: ELSEWHERE,
        counts_addresses: bool = True,
    ) -> None:
        """`capacity`: connections that this process has files for. `origin` says where one comes from.
        `counts_addresses`: each address may hold only its share.
        """
        self._counts_addresses = counts_addresses
        self.config = config
        self.origin = origin
        self._capacity = min(config.max_connections, capacity)
        share = max(1, self._capacity - self._capacity // 4)
        self._held = Gauge(min(config.max_connections_per_address, share))
        self._admitted: dict[Connection, str | None] = {}
        """With the address that each is counted for; of a trusted proxy: none."""
        self._refused: set[Connection] = set()
        self.is_closing = False
        """Whether every answer is the last of its connection: the gateway is about to end."""

    def admit(self, connection: Connection) -> bool:
        """Counts a connection; False if there are too many."""
        name = self._counted_as(connection)
        if len(self._admitted) < self._capacity and (name is None or self._held.take(name)):
            self._admitted[connection] = name
            return True
        self._refused.add(connection)
        return False

    def _counted_as(self, connection: Connection) -> str | None:
        host = connection.client[0] if connection.client else ""
        if connection.origin.may_be_agent:
            return AGENTS
        if not self._counts_addresses or is_within(host, self.config.trusted_proxies):
            return None
        return counted_address(host)

    @property
    def is_crowded(self) -> bool:
        """Whether so many were refused that the next is reset."""
        return len(self._refused) > LINGERING_REFUSED

    def has_unheard(self, now: float, *, seconds: float) -> bool:
        """Whether somebody connected within so many seconds and has not asked for anything yet."""
        return any(not c.has_spoken and now - c.made_at < seconds for c in self._admitted)

    def all(self) -> list[Connection]:
        """Those that are counted."""
        return list(self._admitted)

    def release(self, connection: Connection) -> None:
        """Uncounts it."""
        self._refused.discard(connection)
        name = self._admitted.pop(connection, None)
        if name is not None:
            self._held.give(name)

    def hand_over(self, old: Connection, new: Connection) -> None:
        """A connection goes on under another protocol."""
        if old in self._admitted:
            self._admitted[new] = self._admitted.pop(old)

    def sweep(self, now: float) -> None:
        """Cuts readers that have taken nothing for too long; called about once a second."""
        for connection in [*self._admitted, *self._refused]:
            if connection.reader.has_stalled(now, seconds=self.config.stalled_reader_seconds):
                connection.reader.cut()


def counted_address(host: str) -> str:
    """What a limit counts: an IPv4 address, or the /64 of an IPv6 one, all of which is one customer's."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    return str(address.ipv4_mapped or ipaddress.IPv6Network((address, 64), strict=False))


def _in_kernel(transport: asyncio.Transport) -> int:
    """Bytes that the peer's kernel has not acknowledged; 0 if the socket is gone."""
    sock = transport.get_extra_info("socket")
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, _OUTQ.pack(0))
    except (OSError, ValueError, AttributeError):
        return 0
    return int(_OUTQ.unpack(answer)[0])
