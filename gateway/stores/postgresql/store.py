"""The store on PostgreSQL: its connections, its tables, and the concerns, each in a module of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import asyncpg

from gateway.stores.database import PostgresqlProjection, Statements
from gateway.stores.directory import Directory
from gateway.stores.migrations import Migrations
from gateway.stores.postgresql import schema
from gateway.stores.postgresql.connections import Readers, connect, is_pooled, worded

T = TypeVar("T")


class PostgresqlStore:
    """`Store` in one database."""

    directory: Directory | None = None

    def __init__(self, url: str, *, migrations: Sequence[Migrations] = ()) -> None:
        self._url = url
        self._migrations = migrations
        self._projections: dict[type, list[PostgresqlProjection]] = {}
        self._readers = Readers(url)
        self._writes: Any = None
        self._lock = asyncio.Lock()

    @property
    def tables(self) -> PostgresqlStore:
        """For applications: this database."""
        return self

    def project(self, kinds: Iterable[type], act: PostgresqlProjection) -> None:
        """Has rows of other tables made of events, in their commits; called before it is opened."""
        for kind in kinds:
            self._projections.setdefault(kind, []).append(act)

    async def open(self) -> None:
        """Raises StoreFailed if it cannot be."""
        try:
            keeps = not await is_pooled(self._url)
            self._writes = await connect(self._url, keeps=keeps)
            await schema.migrate(self._writes, self._migrations)
            await self._readers.open(keeps=keeps)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise worded(error) from error

    async def close(self) -> None:
        """Lets go."""
        await self._readers.close()
        if self._writes is not None:
            await self._writes.close()

    async def query(self, act: Callable[[Statements], Awaitable[T]]) -> T:
        """Runs `act` on a connection that reads; for stores of other things in the same database, too."""
        return await self._readers.query(act)

    async def transact(self, act: Callable[[Statements], Awaitable[T]], *, is_long: bool = False) -> T:
        """Runs `act` in a transaction of its own."""
        try:
            async with self._lock, self._writes.transaction():
                return await act(self._writes)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise worded(error) from error

    async def has_table(self, name: str) -> bool:
        """True if the database has a table of this name."""
        return await self.query(lambda connection: schema.has_table(connection, name))
