"""People who are disabled, in one table."""

from __future__ import annotations

from gateway.stores.database import Database


class SqlitePeople:
    """`PeopleStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def disabled(self) -> dict[str, int]:
        return await self._database.read(lambda c: dict(c.execute("SELECT owner, at FROM disabled_people")))

    async def disable(self, owner: str, at: int) -> None:
        await self._database.write(
            lambda c: c.execute(
                "INSERT OR IGNORE INTO disabled_people (owner, at) VALUES (?, ?)", (owner, at)
            )
        )

    async def enable(self, owner: str) -> None:
        await self._database.write(
            lambda c: c.execute("DELETE FROM disabled_people WHERE owner = ?", (owner,))
        )
