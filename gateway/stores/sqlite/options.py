"""`OptionStore` in one table."""

from __future__ import annotations

import sqlite3
from typing import Final

from gateway.stores.database import Database

_CHOSEN: Final = "SELECT option_id, value, is_switch FROM chosen_options WHERE owner = ? AND agent = ?"
_CHOOSE: Final = (
    "INSERT OR REPLACE INTO chosen_options (owner, agent, option_id, value, is_switch)"
    " SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM sessions WHERE owner = ?1)"
)
_GIVE: Final = (
    "INSERT OR IGNORE INTO chosen_options (owner, agent, option_id, value, is_switch)"
    " SELECT ?2, agent, option_id, value, is_switch FROM chosen_options WHERE owner = ?1"
)
_DROP: Final = "DELETE FROM chosen_options WHERE owner = ?1"
_FORGET: Final = (
    "DELETE FROM chosen_options WHERE owner = ?1 AND NOT EXISTS (SELECT 1 FROM sessions WHERE owner = ?1)"
)


class SqliteOptions:
    """See the module."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def chosen(self, owner: str, agent: str) -> dict[str, str | bool]:
        rows = await self._database.read(lambda c: c.execute(_CHOSEN, (owner, agent)).fetchall())
        return {name: value == "true" if is_switch else value for name, value, is_switch in rows}

    async def choose(self, owner: str, agent: str, option_id: str, value: str | bool) -> None:
        is_switch = isinstance(value, bool)
        text = ("true" if value else "false") if is_switch else value
        row = (owner, agent, option_id, text, is_switch)
        await self._database.write(lambda connection: connection.execute(_CHOOSE, row))

    async def move(self, giver: str, taker: str) -> None:
        def given(connection: sqlite3.Connection) -> None:
            connection.execute(_GIVE, (giver, taker))
            connection.execute(_DROP, (giver,))

        await self._database.write(given)


def forget_options(connection: sqlite3.Connection, owner: str) -> None:
    """After a session was deleted: with the last one goes what its owner chose."""
    connection.execute(_FORGET, (owner,))
