"""`LabelStore` in one table."""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.stores.database import Database
from gateway.stores.labels import LabelChange, Labels

_COLUMNS: Final = "is_pinned, is_archived, tags, seen_seq, said_seq"
_OF_OWNER: Final = (
    f"SELECT session_id, {_COLUMNS} FROM session_labels JOIN sessions ON id = session WHERE owner = ?"  # noqa: S608 - literals
)
_FIND: Final = (
    f"SELECT {_COLUMNS} FROM session_labels JOIN sessions ON id = session WHERE owner = ? AND session_id = ?"  # noqa: S608 - literals
)
_OF_ONE: Final = f"SELECT {_COLUMNS} FROM session_labels WHERE session = ?"  # noqa: S608 - literals
_KEEP: Final = f"INSERT OR REPLACE INTO session_labels (session, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608 - literals
_TAGS: Final = msgspec.json.Decoder(tuple[str, ...])
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
        return {row[0]: _labels(row[1:]) for row in rows}

    async def find(self, owner: str, session_id: str) -> Labels | None:
        row = await self._database.read(lambda c: c.execute(_FIND, (owner, session_id)).fetchone())
        return _labels(row) if row else None

    async def change(self, owner: str, session_id: str, change: LabelChange) -> Labels | None:
        def act(connection: sqlite3.Connection) -> Labels | None:
            found = connection.execute(
                "SELECT id FROM sessions WHERE owner = ? AND session_id = ?", (owner, session_id)
            ).fetchone()
            if found is None:
                return None
            row = connection.execute(_OF_ONE, found).fetchone()
            before = _labels(row) if row else Labels()
            after = change.applied(before)
            if after != before:
                tags = msgspec.json.encode(after.tags).decode()
                values = (after.is_pinned, after.is_archived, tags, after.seen_seq, after.said_seq)
                connection.execute(_KEEP, (*found, *values))
            return after

        return await self._database.write(act)


def _labels(row: tuple[int, int, str, int, int]) -> Labels:
    return Labels(
        is_pinned=bool(row[0]),
        is_archived=bool(row[1]),
        tags=_TAGS.decode(row[2]),
        seen_seq=row[3],
        said_seq=row[4],
    )


def _ended(connection: sqlite3.Connection, row_id: int, event: Event) -> None:
    connection.execute(_SAID, (row_id, event.seq))
