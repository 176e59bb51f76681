"""`LogStore` over the one writer; rows and how they are read: log_rows.py."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from gateway.events.facts import Event
from gateway.stores.database import Database
from gateway.stores.logs import READ_BYTES, Sink, StoredLog
from gateway.stores.sqlite import log_rows
from gateway.stores.sqlite.writer import Writer


class SqliteLogs:
    """See the module. What is enqueued while the store is not open is dropped."""

    def __init__(self, database: Database, *, writer: Callable[[], Writer | None]) -> None:
        self._database = database
        self._writer = writer

    async def stand(self, key: str) -> StoredLog:
        def act(connection: sqlite3.Connection) -> StoredLog:
            row = connection.execute("SELECT id, reserved_seq FROM sessions WHERE key = ?", (key,)).fetchone()
            if row is None:
                return StoredLog(last_seq=0, reserved_seq=0)
            gaps = connection.execute(
                "SELECT last_kept, first_new FROM gaps WHERE session = ? ORDER BY first_new", (row[0],)
            ).fetchall()
            last = log_rows.last_seq(connection, row[0])
            return StoredLog(last_seq=last, reserved_seq=row[1], gaps=tuple(gaps))

        return await self._database.read(act)

    async def reserve(self, key: str, upto: int, *, gap: tuple[int, int] | None = None) -> None:
        def act(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE sessions SET reserved_seq = ? WHERE key = ?", (upto, key))
            if gap is not None:
                connection.execute(
                    "INSERT OR IGNORE INTO gaps (session, last_kept, first_new)"
                    " SELECT id, ?, ? FROM sessions WHERE key = ?",
                    (*gap, key),
                )

        await self._database.write(act)

    def enqueue(self, sink: Sink, *events: Event, urgent: bool) -> None:
        if (writer := self._writer()) is not None:
            writer.put(sink, events, urgent=urgent)

    def backlog(self) -> int:
        writer = self._writer()
        return writer.backlog() if writer is not None else 0

    def forget(self, sink: Sink, seqs: set[int]) -> None:
        if (writer := self._writer()) is not None:
            writer.forget(sink, seqs)

    async def read_events(
        self, key: str, *, after: int, limit: int, max_bytes: int = READ_BYTES
    ) -> list[Event]:
        def act(connection: sqlite3.Connection) -> list[Event]:
            session = _row_id(connection, key)
            if session is None:
                return []
            found = log_rows.read(connection, session, after=after, limit=limit, max_bytes=max_bytes)
            if any(event.is_large for event in found):
                log_rows.let_go(connection)
            return found

        return await self._database.read(act)

    async def oldest_seq(self, key: str) -> int:
        """Nothing is dropped here but with its session."""
        return 0

    async def compact(self, key: str, *, through: int) -> int:
        saved = 0
        while True:
            count, is_done = await self._database.write(
                lambda connection: log_rows.compact(connection, key, through), is_long=True
            )
            saved += count
            if is_done:
                return saved

    async def size_bytes(self, key: str) -> int:
        def act(connection: sqlite3.Connection) -> int:
            session = _row_id(connection, key)
            return 0 if session is None else log_rows.size_bytes(connection, session)

        return await self._database.read(act)


def _row_id(connection: sqlite3.Connection, key: str) -> int | None:
    row = connection.execute("SELECT id FROM sessions WHERE key = ?", (key,)).fetchone()
    return row and int(row[0])
