"""Sockets of a worker's own network, for the gateway: how it reaches a server that an agent has started.

A socket belongs to the network namespace in which it was made, whoever holds it. A short-lived child of the
fork server enters the worker's namespace, makes some, sends them to the gateway and ends. It runs nothing of
the worker's, and has no secret; no process of the worker can see it (it is in another pid namespace).

Facts: setns(2), ioctl_ns(2) `NS_GET_USERNS`. The user namespace that owns the network is entered first if the
fork server has no rights of its own in it (an ordinary user's).
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
from typing import Final, NoReturn

from worker.sandbox import kernel

SOCKETS: Final = 4
"""Made at a time: one page of a development server opens some connections."""
_NS_GET_USERNS: Final = 0xB701


def hand_over(*, network: int, out: int) -> NoReturn:
    """In a new child: sends sockets of a network namespace to the other end of `out`, and ends."""
    try:
        kernel.close_from(max(network, out) + 1)
        with socket.socket(fileno=out) as channel:
            _enter(network)
            made = [_make() for _ in range(SOCKETS)]
            numbers = array.array("i", [each.fileno() for each in made])
            channel.sendmsg([b"+"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
    except OSError:
        os._exit(1)  # the end of the socket tells it
    finally:
        os._exit(0)


def _enter(network: int) -> None:
    try:
        kernel.enter_namespace(network)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        kernel.enter_namespace(fcntl.ioctl(network, _NS_GET_USERNS))
        kernel.enter_namespace(network)


def _make() -> socket.socket:
    """Of both families, if the machine has IPv6: a server may listen at `::1` alone."""
    try:
        made = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    except OSError:
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return made
