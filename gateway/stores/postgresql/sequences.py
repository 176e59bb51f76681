"""`SequenceStore` in one table of PostgreSQL, so that several gateways are never given the same number."""

from __future__ import annotations

from typing import Final

from gateway.stores.database import PostgresqlDatabase

_TAKE: Final = (
    "INSERT INTO sequences AS s (name, next) VALUES ($1, 1 + $2::bigint)"
    " ON CONFLICT (name) DO UPDATE SET next = s.next + $2::bigint RETURNING next - $2::bigint"
)


class PostgresqlSequences:
    """See the module. Numbers that were taken do not come again, not even after a restart."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database

    async def take(self, name: str, count: int) -> int:
        return int(await self._database.transact(lambda c: c.fetchval(_TAKE, name, count)))
