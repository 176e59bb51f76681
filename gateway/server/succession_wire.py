"""How one gateway takes the place of another on one machine: what they say, by a socket in its directory.

    successor                              predecessor
    Hello(token) ────────────────────────►
                 ◄──── Here(url, uids, …)  with its lock and its listener; nothing has changed yet
    opens everything but its doors
    Take(url)    ────────────────────────► accepts no connection any more; what does nothing leaves it
                 ◄──── Kept(sessions)      what has something to do stays, and is its own
    accepts connections
                 ◄──── Left(session)       each, when it has done it
                 ◄──── the end             the predecessor has ended

One JSON line each. Both hold the directory's lock until they end, so no third gateway comes in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import socket
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from gateway.errors import StoreFailed
from gateway.server.operators_socket import address, open_door

SOCKET_NAME: Final = "succession.sock"
ANSWER_SECONDS: Final = 30.0
"""How long either side waits for the other's next word, before sessions are handed over."""
LINE_BYTES: Final = 64 * 1024 * 1024
"""Of the longest line: the sessions that stay, some 100 bytes each."""
_READ_BYTES: Final = 64 * 1024
_FDS: Final = 2

Word = TypeVar("Word", bound=Struct)


class Hello(Struct, frozen=True, tag="hello"):
    """Somebody who may read the data directory asks to take over. `token` is the operator's."""

    token: str
    version: str


class Here(Struct, frozen=True, tag="here"):
    """Who is there."""

    pid: int
    version: str
    url: str
    """Of its listener for the other gateway."""
    uids: list[int]
    """Those that its sessions have, stored or not."""


class NotHandedOver(Struct, frozen=True, tag="not_handed_over"):
    """Why nothing is handed over."""

    words: str


class Take(Struct, frozen=True, tag="take"):
    """The successor is ready."""

    pid: int
    url: str


class HandedSession(Struct, frozen=True):
    """A session that the predecessor has, or had."""

    owner: str
    session_id: str


class Kept(Struct, frozen=True, tag="kept"):
    """All that the predecessor has at the moment in which it accepts no more."""

    sessions: list[HandedSession]


class Left(Struct, frozen=True, tag="left"):
    """One has left it: it is the successor's from now on."""

    session: HandedSession


def send_with_fds(sock: socket.socket, word: Here, fds: tuple[int, int]) -> None:
    """The answer to a hello, with the lock's and the listener's descriptors. Waits; raises OSError."""
    line = _line(word)
    sent = socket.send_fds(sock, [line], list(fds))
    sock.sendall(line[sent:])


def receive_with_fds(sock: socket.socket) -> tuple[Here, int, int]:
    """The answer to a hello; the descriptors are the caller's. Waits; raises OSError, StoreFailed."""
    line, fds, _, _ = socket.recv_fds(sock, _READ_BYTES, _FDS)
    try:
        while line and not line.endswith(b"\n") and (more := sock.recv(_READ_BYTES)):
            line += more
        word = _decoded(line, Here | NotHandedOver)
        if isinstance(word, NotHandedOver):
            raise StoreFailed(word.words)
        if len(fds) != _FDS:
            raise StoreFailed("The gateway that runs there did not pass its lock and its listener.")
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return word, fds[0], fds[1]


def say_first(sock: socket.socket, word: Hello | NotHandedOver) -> None:
    """Asks to take over, or refuses that. Waits; raises OSError."""
    sock.sendall(_line(word))


def receive_hello(sock: socket.socket) -> Hello:
    """The first word of somebody who has connected. Waits; raises OSError, StoreFailed."""
    line = b""
    while not line.endswith(b"\n") and len(line) < _READ_BYTES and (more := sock.recv(_READ_BYTES)):
        line += more
    hello: Hello = _decoded(line, Hello)
    return hello


class Channel:
    """What follows, both ways."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, sock: socket.socket) -> Channel:
        """Takes the socket over."""
        sock.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=sock, limit=LINE_BYTES))

    def say(self, word: Take | Kept | Left) -> None:
        """Sends a word, in time."""
        self._writer.write(_line(word))

    async def hear(self, kind: type[Word]) -> Word | None:
        """The next word; None: the other side has ended. Raises StoreFailed if it is another one."""
        try:
            line = await self._reader.readline()
        except (OSError, ValueError):
            return None
        return _decoded(line, kind) if line.endswith(b"\n") else None

    async def aclose(self) -> None:
        """Lets go."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def _line(word: Struct) -> bytes:
    return msgspec.json.encode(word) + b"\n"


def _decoded(line: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.DecodeError as error:
        raise StoreFailed(
            f"The other gateway of this directory says something unexpected: {error}."
        ) from None


def connect(data_path: pathlib.Path) -> socket.socket:
    """A blocking connection to the gateway that runs there. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(ANSWER_SECONDS)
    try:
        with address(data_path, SOCKET_NAME) as path:
            sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


def listen(data_path: pathlib.Path) -> socket.socket:
    """The socket at which a gateway hears of its successor. Raises OSError."""
    sock = open_door(data_path, SOCKET_NAME)
    sock.listen(1)
    sock.setblocking(False)
    return sock
