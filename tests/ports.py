"""Ports that a server of a test can listen on a moment later: no connection is given one of them meanwhile,
because the kernel takes those from above (`ip_local_port_range`), and tests that run at the same time take
them from other places.
"""

from __future__ import annotations

import itertools
import os
import pathlib
import random
import socket
from typing import Final

LOWEST: Final = 10_000
_RANGE: Final = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")
_PLACES: Final = 16
"""As many processes of pytest take them from places of their own."""


def _ports() -> range:
    end = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32_768
    size = max(end - LOWEST, _PLACES) // _PLACES
    name = os.environ.get("PYTEST_XDIST_WORKER", "")
    place = int(name.removeprefix("gw")) % _PLACES if name else _PLACES - 1
    return range(LOWEST + place * size, LOWEST + (place + 1) * size)


_all: Final = _ports()
_next: Final = itertools.count(random.SystemRandom().randrange(len(_all)))


def free_port() -> int:
    """A port that nobody listens on now, another one each time."""
    for _ in _all:
        port = _all[next(_next) % len(_all)]
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
    raise AssertionError("all ports are taken")
