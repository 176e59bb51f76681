"""People who are disabled, in one table of PostgreSQL."""

from __future__ import annotations

from gateway.stores.database import PostgresqlDatabase
from gateway.stores.postgresql import changes


class PostgresqlPeople:
    """`PeopleStore`."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database

    async def disabled(self) -> dict[str, int]:
        rows = await self._database.query(lambda c: c.fetch("SELECT owner, at FROM disabled_people"))
        return {row[0]: row[1] for row in rows}

    async def disable(self, owner: str, at: int) -> None:
        statement = "INSERT INTO disabled_people (owner, at) VALUES ($1, $2) ON CONFLICT DO NOTHING"
        await changes.change(self._database, "people", statement, owner, at)

    async def enable(self, owner: str) -> None:
        statement = "DELETE FROM disabled_people WHERE owner = $1"
        await changes.change(self._database, "people", statement, owner)
