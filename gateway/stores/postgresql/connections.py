"""Connections to PostgreSQL.

A pool reads; the one that writes is the writer's own (writer.py). Behind a pooler that gives a connection to
somebody else after each transaction nothing may be prepared and kept, which is found out by asking: the
number of the process that answers is not the one that greeted us.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeVar

import asyncpg

from gateway.errors import StoreFailed
from gateway.stores.database import Statements
from gateway.stores.postgresql import texts
from gateway.stores.postgresql.errors import OF_THE_DRIVER, is_gone, is_to_be_done_again, of_the_url, worded

T = TypeVar("T")

log = logging.getLogger(__name__)

OLDEST: Final = 14
"""Version of PostgreSQL."""
READERS: Final = 8
"""Connections that read, at most."""
CONNECT_SECONDS: Final = 5.0
"""How long a new connection may take."""
KEPT_STATEMENTS: Final = 100
"""How many prepared statements a connection keeps, unless it is behind a pooler."""
SILENT_SECONDS: Final = 5
"""A peer that does not even confirm what it was sent is gone after so long."""
PATIENCE_SECONDS: Final = 4.0
"""For so long those who wait are not told that PostgreSQL does not answer: it may be restarting."""
ACQUIRE_SECONDS: Final = 5.0
"""For so long a read waits for one of the connections: they may all be busy with a server that is gone."""
TRIES: Final = 5
"""How often what was undone because of others is done."""
PAUSE_SECONDS: Final = 0.05
"""Between attempts to connect, at first."""
_SERVER_SETTINGS: Final = {
    "application_name": "agent-gateway",
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    **dict.fromkeys(("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"), "0"),
}
"""So that a server finds out that we are gone, and lets go of what we hold; and no commit is cancelled."""


async def connect(url: str, *, keeps: bool) -> Any:
    """A connection of its own; `keeps` prepared statements. Raises what asyncpg raises, OSError, or
    StoreFailed if the URL cannot be used.
    """
    connection = await _connected(url, keeps=keeps)
    await prepare(connection)
    return connection


async def _connected(url: str, *, keeps: bool) -> Any:
    try:
        return await asyncpg.connect(url, **_options(keeps=keeps))
    except ValueError as error:
        raise of_the_url(error) from None


def _options(*, keeps: bool) -> dict[str, Any]:
    return {
        "timeout": CONNECT_SECONDS,
        "statement_cache_size": KEPT_STATEMENTS if keeps else 0,
        "server_settings": _SERVER_SETTINGS if keeps else None,
    }


async def prepare(connection: Any) -> None:
    """Makes a new connection one of ours: texts without loss, and a peer that vanished is noticed."""
    await connection.set_type_codec(
        "text", schema="pg_catalog", encoder=texts.kept, decoder=texts.given, format="text"
    )
    transport = getattr(connection, "_transport", None)
    found = transport.get_extra_info("socket") if transport is not None else None
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    for option, value in _keepalive():
        found.setsockopt(*option, value)


def _keepalive() -> list[tuple[tuple[int, int], int]]:
    probes = {"TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": SILENT_SECONDS - 2}
    probes["TCP_USER_TIMEOUT"] = 1000 * SILENT_SECONDS
    known = [(name, value) for name, value in probes.items() if hasattr(socket, name)]
    options = [((socket.IPPROTO_TCP, getattr(socket, name)), value) for name, value in known]
    return [((socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1), *options]


async def look_at(connection: Any) -> None:
    """Warns of a server that acknowledges what it may lose. Raises StoreFailed if it is too old."""
    if int(await connection.fetchval("SHOW server_version_num")) < 10_000 * OLDEST:
        raise StoreFailed(f"This PostgreSQL is too old: it must be of version {OLDEST} or later.")
    for setting in ("fsync", "synchronous_commit"):
        if await connection.fetchval(f"SHOW {setting}") == "off":
            log.warning(
                "PostgreSQL has %s = off: what it has acknowledged may be lost when it crashes.", setting
            )


async def is_pooled(url: str) -> bool:
    """True if a pooler is between us and the server."""
    connection = await _connected(url, keeps=False)
    try:
        return bool(connection.get_server_pid() != await connection.fetchval("SELECT pg_backend_pid()"))
    finally:
        await connection.close()


async def _as_it_is(_connection: Any) -> None:
    """What only reads leaves nothing behind, so that nothing is asked of the server to clean a connection."""


class ReadPool:
    """A pool for what is read, and for what is written without waiting for the writer's groups."""

    def __init__(self, url: str, *, size: int = READERS, at_first: int = 1) -> None:
        """Of so many connections at most; `at_first`: that are made when it is opened."""
        self._url = url
        self._size, self._at_first = size, at_first
        self._pool: Any = None
        self._in_use: set[Any] = set()
        self._is_troubled = False
        """Whether the last who asked was told that PostgreSQL does not answer."""

    async def open(self, *, keeps: bool) -> None:
        """Raises what asyncpg raises, or OSError."""
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=self._at_first,
            max_size=self._size,
            init=prepare,
            reset=_as_it_is,
            **_options(keeps=keeps),
        )

    async def close(self) -> None:
        """Lets go of all."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[Statements]:
        """One of them, for as long as the block runs."""
        if self._pool is None:
            raise StoreFailed("The store is closed.")
        async with self._pool.acquire(timeout=ACQUIRE_SECONDS) as connection:
            self._in_use.add(connection)
            try:
                yield connection
            except AttributeError as error:
                if not connection.is_closed():
                    raise
                # The driver looks whether it is closed before its first step, not before the others.
                raise asyncpg.ConnectionDoesNotExistError("the connection was ended") from error
            finally:
                self._in_use.discard(connection)

    def interrupt(self) -> None:
        """The connections in use are dead, as somebody else found out."""
        for connection in self._in_use:
            connection.terminate()

    async def transact(self, act: Callable[[Statements], Awaitable[T]]) -> T:
        """Runs `act` in a transaction, again if it was undone because of others. Raises StoreFull,
        StoreFailed.
        """
        for tries in range(1, TRIES + 1):
            try:
                return await self._transact(act)
            except OF_THE_DRIVER as error:
                if tries == TRIES or not is_to_be_done_again(error):
                    raise worded(error) from error
        raise StoreFailed

    async def _transact(self, act: Callable[[Statements], Awaitable[T]]) -> T:
        async with self.one() as found:
            connection: Any = found
            async with connection.transaction():
                return await act(connection)

    async def query(self, act: Callable[[Statements], Awaitable[T]]) -> T:
        """Runs `act`, again while the connections it is given are dead, but not for long. Raises StoreFull,
        StoreFailed.
        """
        until = time.monotonic() + (0 if self._is_troubled else PATIENCE_SECONDS)
        tries = 0
        while True:
            try:
                async with self.one() as connection:
                    found = await act(connection)
            except OF_THE_DRIVER as error:
                tries += 1
                if not is_gone(error) or (tries > 1 and time.monotonic() >= until):
                    self._is_troubled = is_gone(error)
                    raise worded(error) from error
            else:
                self._is_troubled = False
                return found
            if tries > 1:
                await asyncio.sleep(PAUSE_SECONDS)
