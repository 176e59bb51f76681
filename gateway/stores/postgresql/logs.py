"""`LogStore` over the one writer; rows and how they are read: log_rows.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.events.facts import Event
from gateway.stores.database import PostgresqlDatabase, Statements
from gateway.stores.logs import READ_BYTES, Sink, StoredLog
from gateway.stores.postgresql import log_rows
from gateway.stores.postgresql.claims import FENCE, HeldSessions
from gateway.stores.postgresql.writer import PostgresqlWriter

_RESERVE: Final = f"UPDATE sessions SET reserved_seq = $4 WHERE key = $1 AND {FENCE}"  # noqa: S608 - literals


class PostgresqlLogs:
    """See the module. What is enqueued while the store is not open is dropped."""

    def __init__(
        self,
        database: PostgresqlDatabase,
        *,
        claims: HeldSessions,
        writer: Callable[[], PostgresqlWriter | None],
    ) -> None:
        self._database = database
        self._claims = claims
        self._writer = writer

    async def stand(self, key: str) -> StoredLog:
        async def act(connection: Statements) -> StoredLog:
            row = await connection.fetchrow("SELECT id, reserved_seq FROM sessions WHERE key = $1", key)
            if row is None:
                return StoredLog(last_seq=0, reserved_seq=0)
            gaps = await connection.fetch(
                "SELECT last_kept, first_new FROM gaps WHERE session = $1 ORDER BY first_new", row[0]
            )
            last = await log_rows.last_seq(connection, row[0])
            return StoredLog(last_seq=last, reserved_seq=row[1], gaps=tuple(map(tuple, gaps)))

        return await self._database.query(act)

    async def reserve(self, key: str, upto: int, *, gap: tuple[int, int] | None = None) -> None:
        async def act(connection: Statements) -> None:
            is_there = await self._claims.change(connection, _RESERVE, key, upto)
            if is_there and gap is not None:
                await connection.execute(
                    "INSERT INTO gaps (session, last_kept, first_new)"
                    " SELECT id, $1::bigint, $2::bigint FROM sessions WHERE key = $3 ON CONFLICT DO NOTHING",
                    *gap,
                    key,
                )

        await self._database.transact(act)

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
        return await self._database.query(
            lambda c: log_rows.read(c, key, after=after, limit=limit, max_bytes=max_bytes)
        )

    async def oldest_seq(self, key: str) -> int:
        """Nothing is dropped here but with its session."""
        return 0

    async def compact(self, key: str, *, through: int) -> int:
        saved = 0
        while True:
            count, is_done = await self._database.transact(
                lambda connection: log_rows.compact(connection, self._claims, key, through), is_long=True
            )
            saved += count
            if is_done:
                return saved

    async def size_bytes(self, key: str) -> int:
        query = (
            "SELECT coalesce(sum(length(body)), 0)::bigint FROM events"
            " WHERE session = (SELECT id FROM sessions WHERE key = $1)"
        )
        return int(await self._database.query(lambda connection: connection.fetchval(query, key)))
