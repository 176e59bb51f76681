"""`ChangeStore` in one small table, and one number for all of it, which comes with each beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.stores.changes import ChangeKind
from gateway.stores.database import PostgresqlDatabase, Statements

_NOTE: Final = (
    "WITH kind AS (INSERT INTO changes AS c (kind, number) VALUES ($1, 1)"
    " ON CONFLICT (kind) DO UPDATE SET number = c.number + 1)"
    " UPDATE cluster SET changes = changes + 1"
)


async def note(connection: Statements, kind: ChangeKind) -> None:
    """Something of this kind is changed, in the transaction that changes it."""
    await connection.execute(_NOTE, kind)


async def change(database: PostgresqlDatabase, kind: ChangeKind, statement: str, *values: object) -> None:
    """Runs a statement that changes something of this kind."""

    async def act(connection: Statements) -> None:
        await connection.execute(statement, *values)
        await note(connection, kind)

    await database.transact(act)


class PostgresqlChanges:
    """See the module."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database

    async def numbers(self) -> Mapping[str, int]:
        rows = await self._database.query(lambda c: c.fetch("SELECT kind, number FROM changes"))
        return {row[0]: row[1] for row in rows}
