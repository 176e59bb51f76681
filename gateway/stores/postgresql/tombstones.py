"""`TombstoneStore` in one table."""

from __future__ import annotations

from gateway.stores.database import PostgresqlDatabase, Statements
from gateway.stores.postgresql.statements import changed
from gateway.stores.tombstones import Tombstone

_PUT = (
    "INSERT INTO tombstones (owner, session_hash, last_seq, at, reason) VALUES ($1, $2, $3, $4, $5)"
    " ON CONFLICT (owner, session_hash) DO UPDATE SET last_seq = excluded.last_seq, at = excluded.at,"
    " reason = excluded.reason"
)


async def put(connection: Statements, tombstone: Tombstone) -> None:
    """Leaves a tombstone, in the place of an older one."""
    values = (tombstone.owner, tombstone.session_hash, tombstone.last_seq, tombstone.at, tombstone.reason)
    await connection.execute(_PUT, *values)


class PostgresqlTombstones:
    """See the module."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database

    async def find(self, owner: str, session_hash: str) -> Tombstone | None:
        async def act(connection: Statements) -> Tombstone | None:
            row = await connection.fetchrow(
                "SELECT last_seq, at, reason FROM tombstones WHERE owner = $1 AND session_hash = $2",
                owner,
                session_hash,
            )
            return row and Tombstone(
                owner=owner, session_hash=session_hash, last_seq=row[0], at=row[1], reason=row[2]
            )

        return await self._database.query(act)

    async def drop(self, *, before: int) -> int:
        async def act(connection: Statements) -> int:
            return changed(await connection.execute("DELETE FROM tombstones WHERE at < $1", before))

        return await self._database.transact(act)
