"""`IdempotencyStore` in one table."""

from __future__ import annotations

from gateway.stores.database import PostgresqlDatabase, Statements
from gateway.stores.idempotency import Remembered
from gateway.stores.postgresql.statements import changed

_REMEMBER = (
    "INSERT INTO idempotency_keys AS old (owner, key, body_hash, session_id, at) VALUES ($1, $2, $3, $4, $5)"
    " ON CONFLICT (owner, key) DO UPDATE SET body_hash = excluded.body_hash,"
    " session_id = excluded.session_id, at = excluded.at WHERE old.at < $6"
)


class PostgresqlIdempotency:
    """See the module."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database

    async def recall(self, owner: str, key: str, *, since: int) -> Remembered | None:
        return await self._database.query(lambda connection: _recalled(connection, owner, key, since))

    async def remember(
        self, owner: str, key: str, remembered: Remembered, *, at: int, since: int
    ) -> Remembered:
        async def act(connection: Statements) -> Remembered:
            known = await _recalled(connection, owner, key, since)
            if known is not None:
                return known
            values = (owner, key, remembered.body_hash, remembered.session_id, at, since)
            if changed(await connection.execute(_REMEMBER, *values)):
                return remembered
            return await _recalled(connection, owner, key, since) or remembered

        return await self._database.transact(act)

    async def drop(self, *, before: int) -> None:
        await self._database.transact(
            lambda connection: connection.execute("DELETE FROM idempotency_keys WHERE at < $1", before)
        )


async def _recalled(connection: Statements, owner: str, key: str, since: int) -> Remembered | None:
    row = await connection.fetchrow(
        "SELECT body_hash, session_id FROM idempotency_keys WHERE owner = $1 AND key = $2 AND at >= $3",
        owner,
        key,
        since,
    )
    return row and Remembered(body_hash=row[0], session_id=row[1])
