"""Somebody with something to lose: `victim.py ROLE CANARY`; prints where everything is, then waits for a
line.

ROLE `session` holds the canary in its files, its memory and its environment. ROLE `gateway` holds it where
processes without walls leave things: a data directory, a configuration, /tmp, shared memory, sockets.
"""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
import socket
import sys
import zlib

PRIVATE = 0o1600
"""IPC_CREAT and the mode."""


def session(canary: str, home: pathlib.Path) -> dict[str, object]:
    (home / "secret").write_text(canary)
    held = ctypes.create_string_buffer(canary.encode())
    keep.append(held)
    return {
        "victim": os.getpid(),
        "address": ctypes.addressof(held),
        "descriptor": os.open(home / "secret", os.O_RDONLY),
    }


def gateway(canary: str, home: pathlib.Path) -> dict[str, object]:
    name = canary[:20]
    places = {"shared": pathlib.Path("/dev/shm", name), "temporary": pathlib.Path("/tmp", name)}
    for path in (home / "database", home / "config.toml", *places.values()):
        path.write_text(canary)
    for address in (str(home / "socket"), "\0" + name):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
        listener.listen()
        keep.append(listener)
    return {
        "gateway": os.getpid(),
        "data": str(home),
        "config": str(home / "config.toml"),
        "abstract": name,
        "segment": shared_segment(canary),
        **{kind: str(path) for kind, path in places.items()},
    }


def shared_segment(canary: str) -> int:
    """A System V segment with the canary; its key."""
    libc.shmat.restype = ctypes.c_void_p
    key = zlib.crc32(canary.encode()) & 0x7FFF_FFFF
    segment = libc.shmget(key, 4096, PRIVATE)
    ctypes.memmove(libc.shmat(segment, None, 0), canary.encode(), len(canary))
    cleanups.append(lambda: libc.shmctl(segment, 0, None))
    return key


libc = ctypes.CDLL(None)
keep: list[object] = []
cleanups: list[object] = []
role, canary = sys.argv[1:3]
there = (session if role == "session" else gateway)(canary, pathlib.Path(os.environ["HOME"]))
os.write(1, json.dumps(there).encode() + b"\n")
sys.stdin.readline()
for place in ("shared", "temporary"):
    if place in there:
        pathlib.Path(str(there[place])).unlink()
for cleanup in cleanups:
    cleanup()  # type: ignore[operator]
