"""Connections to PostgreSQL, and what goes wrong with them in words.

A pool reads; the one that writes is the writer's own (writer.py). Behind a pooler that gives a connection to
somebody else after each transaction nothing may be prepared and kept, which is found out by asking: the
number of the process that answers is not the one that greeted us.

Guarantees: what an address or a driver's error says of passwords is never repeated.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeVar

import asyncpg

from gateway.errors import GatewayError, StoreFailed, StoreFull
from gateway.stores.database import Statements

log = logging.getLogger(__name__)

T = TypeVar("T")

READERS: Final = 8
"""Connections that read, at most."""
CONNECT_SECONDS: Final = 10.0
"""How long a new connection may take."""
KEPT_STATEMENTS: Final = 100
"""How many prepared statements a connection keeps, unless it is behind a pooler."""
_FULL: Final = ("53100", "53200")
"""disk_full, out_of_memory."""


def worded(error: Exception) -> GatewayError:
    """An error of the driver as one of ours; one of ours stays."""
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate in _FULL:
        return StoreFull()
    if isinstance(error, asyncpg.PostgresError):
        return StoreFailed(f"PostgreSQL refused: {error.args[0] if error.args else type(error).__name__}.")
    return StoreFailed(f"PostgreSQL does not answer ({type(error).__name__}).")


async def connect(url: str, *, keeps: bool) -> Any:
    """A connection of its own; `keeps` prepared statements. Raises what asyncpg raises, or OSError."""
    return await asyncpg.connect(
        url, timeout=CONNECT_SECONDS, statement_cache_size=KEPT_STATEMENTS if keeps else 0
    )


async def is_pooled(url: str) -> bool:
    """True if a pooler is between us and the server."""
    connection = await connect(url, keeps=False)
    try:
        return bool(connection.get_server_pid() != await connection.fetchval("SELECT pg_backend_pid()"))
    finally:
        await connection.close()


class Readers:
    """A pool for what is only read."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: Any = None

    async def open(self, *, keeps: bool) -> None:
        """Raises what asyncpg raises, or OSError."""
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=1,
            max_size=READERS,
            timeout=CONNECT_SECONDS,
            statement_cache_size=KEPT_STATEMENTS if keeps else 0,
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
        async with self._pool.acquire() as connection:
            yield connection

    async def query(self, act: Callable[[Statements], Awaitable[T]]) -> T:
        """Runs `act`, once more if the connection it was given had died. Raises StoreFull, StoreFailed."""
        for is_last in (False, True):
            try:
                async with self.one() as connection:
                    return await act(connection)
            except (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError) as error:
                if is_last:
                    raise worded(error) from error
            except asyncpg.PostgresError as error:
                raise worded(error) from error
        raise AssertionError("unreachable")
