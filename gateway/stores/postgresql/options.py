"""`OptionStore` in one table of PostgreSQL."""

from __future__ import annotations

from typing import Final

from gateway.stores.database import PostgresqlDatabase, Statements

_CHOSEN: Final = "SELECT option_id, value, is_switch FROM chosen_options WHERE owner = $1 AND agent = $2"
_CHOOSE: Final = (
    "INSERT INTO chosen_options (owner, agent, option_id, value, is_switch)"
    " SELECT $1, $2, $3, $4, $5 WHERE EXISTS (SELECT FROM sessions WHERE owner = $1)"
    " ON CONFLICT (owner, agent, option_id) DO UPDATE SET value = excluded.value,"
    " is_switch = excluded.is_switch"
)
_GIVE: Final = (
    "INSERT INTO chosen_options (owner, agent, option_id, value, is_switch)"
    " SELECT $2, agent, option_id, value, is_switch FROM chosen_options WHERE owner = $1"
    " ON CONFLICT DO NOTHING"
)
_DROP: Final = "DELETE FROM chosen_options WHERE owner = $1"
_FORGET: Final = (
    "DELETE FROM chosen_options WHERE owner = $1 AND NOT EXISTS (SELECT FROM sessions WHERE owner = $1)"
)


class PostgresqlOptions:
    """See the module."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database

    async def chosen(self, owner: str, agent: str) -> dict[str, str | bool]:
        rows = await self._database.query(lambda c: c.fetch(_CHOSEN, owner, agent))
        return {name: value == "true" if is_switch else value for name, value, is_switch in rows}

    async def choose(self, owner: str, agent: str, option_id: str, value: str | bool) -> None:
        is_switch = isinstance(value, bool)
        text = ("true" if value else "false") if is_switch else value
        await self._database.transact(lambda c: c.execute(_CHOOSE, owner, agent, option_id, text, is_switch))

    async def move(self, giver: str, taker: str) -> None:
        async def given(connection: Statements) -> None:
            await connection.execute(_GIVE, giver, taker)
            await connection.execute(_DROP, giver)

        await self._database.transact(given)


async def forget_options(connection: Statements, _key: str, owner: str) -> None:
    """After a session was deleted: with the last one goes what its owner chose."""
    await connection.execute(_FORGET, owner)
