"""`LabelStore` in one table of PostgreSQL."""

from __future__ import annotations

from typing import Final

from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.stores.database import PostgresqlDatabase, Statements
from gateway.stores.label_rows import COLUMNS, label_row, labels_of
from gateway.stores.labels import LabelChange, Labels

_OF_OWNER: Final = (
    f"SELECT {COLUMNS}, session_id FROM session_labels JOIN sessions ON id = session WHERE owner = $1"  # noqa: S608 - literals
)
_OF_ONE: Final = f"SELECT {COLUMNS} FROM session_labels WHERE session = $1"  # noqa: S608 - literals
_ROW: Final = "SELECT id FROM sessions WHERE owner = $1 AND session_id = $2 FOR NO KEY UPDATE"
"""Locked, so that two changes at once, from two gateways, are made one after the other."""
_KEEP: Final = (
    f"INSERT INTO session_labels (session, {COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6)"  # noqa: S608 - literals
    " ON CONFLICT (session) DO UPDATE SET is_pinned = excluded.is_pinned, is_archived = excluded.is_archived,"
    " tags = excluded.tags, seen_seq = excluded.seen_seq"
)
_SAID: Final = (
    "INSERT INTO session_labels (session, said_seq) VALUES ($1, $2)"
    " ON CONFLICT (session) DO UPDATE SET said_seq = excluded.said_seq"
)


class PostgresqlLabels:
    """See the module. That a turn has ended is noted in the commit of its end."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database
        database.project((ev.TurnEnded, ev.TurnInterrupted), _ended)

    async def of_owner(self, owner: str) -> dict[str, Labels]:
        rows = await self._database.query(lambda c: c.fetch(_OF_OWNER, owner))
        return {row[5]: labels_of(row) for row in rows}

    async def find(self, owner: str, session_id: str) -> Labels | None:
        query = f"{_OF_OWNER} AND session_id = $2"
        row = await self._database.query(lambda c: c.fetchrow(query, owner, session_id))
        return labels_of(row) if row else None

    async def change(self, owner: str, session_id: str, change: LabelChange) -> Labels | None:
        async def act(connection: Statements) -> Labels | None:
            session = await connection.fetchval(_ROW, owner, session_id)
            if session is None:
                return None
            row = await connection.fetchrow(_OF_ONE, session)
            before = labels_of(row) if row else Labels()
            after = change.applied(before)
            if after != before:
                await connection.execute(_KEEP, session, *label_row(after))
            return after

        return await self._database.transact(act)


async def _ended(connection: Statements, row_id: int, event: Event) -> None:
    await connection.execute(_SAID, row_id, event.seq)
