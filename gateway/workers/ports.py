"""The ports at which a worker's processes listen, and connections to them.

With a network of its own, a worker is reached by sockets that the fork server makes inside of it
(`worker.forkserver.reach`). If it shares the machine's network, a port counts as the worker's only if one of
its own processes holds the socket that listens there; that is looked at before and after a connection is
made, so that nobody is led to a server of somebody else, the gateway's own port among them.

Facts: proc(5), `/proc/PID/net/tcp`; state 0A is LISTEN.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final

from gateway.workers.forks import ForkWorker
from gateway.workers.holders import holds
from gateway.workers.memory import tree
from worker.spec import DOOR_PORT

CONNECT_SECONDS: Final = 5.0
PORTS_SHOWN: Final = 64
_LISTENS: Final = "0A"
_ADDRESSES: Final = {
    "00000000": ("127.0.0.1", "::1"),
    "0100007F": ("127.0.0.1",),
    "0" * 32: ("::1", "127.0.0.1"),
    "00000000000000000000000001000000": ("::1",),
    "0000000000000000FFFF00000100007F": ("127.0.0.1",),
}
"""A listener's address as the kernel prints it → where it is reached on the loopback."""
_DOORS: Final = (80, 443, DOOR_PORT)


class PortClosed(Exception):
    """Nothing of the worker's listens at this port."""


def listening(worker: ForkWorker) -> dict[int, tuple[str, ...]]:
    """The ports of a worker → the loopback addresses at which they are reached. Takes milliseconds: not for
    the loop.
    """
    sandbox = worker.request.sandbox
    rows: list[tuple[int, str, int]] = []
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/{worker.pid}/net/{name}", encoding="ascii") as file:
            rows += [row for line in file if (row := _row(line)) is not None]
    foreign: set[int] = set()
    if not _has_own_network(worker):
        inodes = {inode for _, _, inode in rows}
        own = {inode for pid in tree(worker.pid) for inode in holds(pid, inodes)}
        foreign = {port for port, _, inode in rows if inode not in own}
        rows = [row for row in rows if row[2] in own]
    hidden = {*_DOORS, *sandbox.ports} if sandbox.network == "broker" else set()
    found: dict[int, tuple[str, ...]] = {}
    for port, address, _ in sorted(rows):
        if port not in hidden:
            # all addresses of one family may be another's in the other family (IPV6_V6ONLY)
            at = _ADDRESSES[address][:1] if port in foreign else _ADDRESSES[address]
            found[port] = tuple(dict.fromkeys((*found.get(port, ()), *at)))
    return dict(list(found.items())[:PORTS_SHOWN])


def _has_own_network(worker: ForkWorker) -> bool:
    return worker.profile == "strict" and worker.request.sandbox.network != "shared"


def _row(line: str) -> tuple[int, str, int] | None:
    """(port, address, inode) of a line, if it is a listener that the loopback reaches."""
    words = line.split()
    if len(words) < 10 or words[3] != _LISTENS:
        return None
    address, _, port = words[1].partition(":")
    return (int(port, 16), address, int(words[9])) if address in _ADDRESSES else None


async def connect(worker: ForkWorker, port: int) -> socket.socket:
    """A connection to a port of a worker. Raises PortClosed, OSError and TimeoutError."""
    async with asyncio.timeout(CONNECT_SECONDS):
        for address in await _addresses(worker, port):
            made = await _socket(worker, address)
            try:
                await asyncio.get_running_loop().sock_connect(made, _target(made, address, port))
                if not _has_own_network(worker) and address not in await _addresses(worker, port):
                    raise PortClosed
            except (OSError, PortClosed):
                made.close()
                continue
            except BaseException:
                made.close()
                raise
            return made
    raise PortClosed


async def _addresses(worker: ForkWorker, port: int) -> tuple[str, ...]:
    found = (await asyncio.to_thread(listening, worker)).get(port)
    if found is None or worker.exited.done():
        raise PortClosed
    return found


async def _socket(worker: ForkWorker, address: str) -> socket.socket:
    worker.freezer.thaw()
    if _has_own_network(worker):
        return await worker.open_socket()
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    return made


def _target(made: socket.socket, address: str, port: int) -> tuple[str, int]:
    """How a socket of this family says the address."""
    is_mapped = made.family == socket.AF_INET6 and ":" not in address
    return (f"::ffff:{address}" if is_mapped else address), port
