"""Clients that stay outside of a network namespace and talk into it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

_CLONE_NEWNET: Final = 0x4000_0000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def sockets_inside(pid: int) -> Callable[[Any], socket.socket]:
    """Makes sockets in the network namespace of a process, for aiohttp's connector."""

    def made(address: Any) -> socket.socket:
        family, kind, protocol, *_ = address
        with _entered(pid):
            return socket.socket(family, kind, protocol)

    return made


@contextlib.contextmanager
def _entered(pid: int) -> Iterator[None]:
    """Only this thread, and only until the block ends."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        _enter(there)
        try:
            yield
        finally:
            _enter(own)
    finally:
        os.close(own)
        os.close(there)


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
