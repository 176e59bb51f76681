"""The tables of applications for a program that has no sessions, beside a gateway that may run on the same
database: it stops no gateway, and none stops it.

Guarantees: each `transact` is one transaction. Tables are never changed under a gateway that runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from gateway.stores.database import PostgresqlProjection, Statements
from gateway.stores.migrations import Migrations
from gateway.stores.postgresql import schema
from gateway.stores.postgresql.connections import ReadPool, connect, is_pooled
from gateway.stores.postgresql.errors import OF_THE_DRIVER, worded
from gateway.stores.postgresql.store import PostgresqlStore

T = TypeVar("T")


class PostgresqlTables:
    """`PostgresqlDatabase` without the sessions."""

    def __init__(self, url: str, *, migrations: Sequence[Migrations] = ()) -> None:
        self._url = url
        self._migrations = migrations
        self._connections = ReadPool(url)

    @property
    def tables(self) -> PostgresqlTables:
        """For applications: this database."""
        return self

    async def open(self) -> None:
        """Raises StoreFailed if it cannot be, as when the tables are old and a gateway uses them."""
        try:
            keeps = not await is_pooled(self._url)
            if not await self._is_current(keeps=keeps):
                whole = PostgresqlStore(self._url, migrations=self._migrations)
                await whole.open()
                await whole.close()
            await self._connections.open(keeps=keeps)
        except OF_THE_DRIVER as error:
            raise worded(error) from error

    async def _is_current(self, *, keeps: bool) -> bool:
        connection = await connect(self._url, keeps=keeps)
        try:
            return await schema.is_current(connection, self._migrations)
        finally:
            await connection.close()

    async def close(self) -> None:
        """Lets go."""
        await self._connections.close()

    async def query(self, act: Callable[[Statements], Awaitable[T]]) -> T:
        """Reads."""
        return await self._connections.query(act)

    async def transact(self, act: Callable[[Statements], Awaitable[T]], *, is_long: bool = False) -> T:
        """Runs `act` in a transaction, again if it was undone because of others."""
        return await self._connections.transact(act)

    async def has_table(self, name: str) -> bool:
        """True if the database has a table of this name."""
        return await self.query(lambda connection: schema.has_table(connection, name))

    def project(self, kinds: Iterable[type], act: PostgresqlProjection) -> None:
        """Nothing is appended here."""
