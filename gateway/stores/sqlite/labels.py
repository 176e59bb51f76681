"""`LabelStore` in one table."""

from __future__ import annotations

import sqlite3
from typing import Final

from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.stores.database import Database
from gateway.stores.label_rows import COLUMNS, label_row, labels_of
from gateway.stores.labels import LabelChange, Labels

_OF_OWNER: Final = (
    f"SELECT {COLUMNS}, session_id FROM session_labels JOIN sessions ON id = session WHERE owner = ?"  # noqa: S608 - literals
)
_OF_ONE: Final = f"SELECT {COLUMNS} FROM session_labels WHERE session = ?"  # noqa: S608 - literals
_KEEP: Final = f"INSERT OR REPLACE INTO session_labels (session, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608 - literals
_SAID: Final = (
    "INSERT INTO session_labels (session, said_seq) VALUES (?, ?)"
    " ON CONFLICT (session) DO UPDATE SET said_seq = excluded.said_seq"
)


class SqliteLabels:
    """See the module. That a turn has ended is noted in the commit of its end."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.project((ev.TurnEnded, ev.TurnInterrupted), _ended)

    async def of_owner(self, owner: str) -> dict[str, Labels]:
        rows = await self._database.read(lambda c: c.execute(_OF_OWNER, (owner,)).fetchall())
        return {row[5]: labels_of(row) for row in rows}

    async def find(self, owner: str, session_id: str) -> Labels | None:
        query = f"{_OF_OWNER} AND session_id = ?"
        row = await self._database.read(lambda c: c.execute(query, (owner, session_id)).fetchone())
        return labels_of(row) if row else None

    async def change(self, owner: str, session_id: str, change: LabelChange) -> Labels | None:
        def act(connection: sqlite3.Connection) -> Labels | None:
            found = connection.execute(
                "SELECT id FROM sessions WHERE owner = ? AND session_id = ?", (owner, session_id)
            ).fetchone()
            if found is None:
                return None
            row = connection.execute(_OF_ONE, found).fetchone()
            before = labels_of(row) if row else Labels()
            after = change.applied(before)
            if after != before:
                connection.execute(_KEEP, (*found, *label_row(after)))
            return after

        return await self._database.write(act)


def _ended(connection: sqlite3.Connection, row_id: int, event: Event) -> None:
    connection.execute(_SAID, (row_id, event.seq))
