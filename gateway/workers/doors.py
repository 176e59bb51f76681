"""The doors of one worker with the network `broker`, as the gateway holds them: sockets that listen in the
worker's network namespace.

Guarantee: they are closed when the worker has ended, and what serves them hears of it first; a socket that
stays open keeps the namespace, and its kernel memory, alive.
"""

from __future__ import annotations

import array
import socket
from collections.abc import Callable
from typing import Final

from worker.spec import FURTHER_DOORS

_FIRST_PORTS: Final = 4


class DoorSockets:
    """See the module. `further` are the sockets of listed ports besides 80 and 443."""

    def __init__(self, found: list[socket.socket], ports: tuple[int, ...]) -> None:
        """Takes the sockets over. Raises ValueError if they are not as many as were asked for."""
        self._all = found
        self._on_close: Callable[[], None] = lambda: None
        if len(found) != _FIRST_PORTS + len(ports):
            self.close()
            raise ValueError(f"{len(found)} doors came, and {_FIRST_PORTS + len(ports)} were asked for")
        self.own, self.tls, self.http, self.names = found[:_FIRST_PORTS]
        self.further = dict(zip(ports, found[_FIRST_PORTS:], strict=True))
        for door in found:
            door.setblocking(False)

    def __len__(self) -> int:
        return len(self._all)

    def when_closed(self, act: Callable[[], None]) -> None:
        """What to do before they are closed; nothing may be read from them after that."""
        self._on_close = act

    def close(self) -> None:
        """Closes them; again: nothing."""
        if self._all:
            act, self._on_close = self._on_close, lambda: None
            act()
        for door in self._all:
            door.close()
        self._all = []


def channel() -> tuple[socket.socket, int]:
    """A pair of which the worker gets the second end, as a descriptor, and sends its doors to the first.
    Raises OSError.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs.detach()


def receive(ours: socket.socket, ports: tuple[int, ...]) -> DoorSockets:
    """The doors that a worker sent, which it did before it said that it runs. Raises OSError, ValueError."""
    return DoorSockets(sockets_from(ours, _FIRST_PORTS + FURTHER_DOORS), ports)


def sockets_from(channel: socket.socket, most: int) -> list[socket.socket]:
    """The sockets that one datagram brings, so many at most; none at the end of the channel. Raises OSError,
    BlockingIOError if nothing has come yet.
    """
    numbers = array.array("i")
    _, ancillary, _, _ = channel.recvmsg(64, socket.CMSG_SPACE(numbers.itemsize * most))
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    return [socket.socket(fileno=number) for number in numbers]
