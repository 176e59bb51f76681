"""How events get into their logs in PostgreSQL, and the fence.

A log is written by the gateway that claimed its session: its row says which, and how often it was claimed. A
statement that writes events joins it, and the row of the gateway itself. What another one has is `fenced`. It
also looks if the database has everything that this gateway has committed (recent.py).
"""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from gateway.events.facts import Event
from gateway.stores.database import PostgresqlProjection, Statements
from gateway.stores.logs import Sink
from gateway.stores.packing import MARKS, Row, rows_of, turn_after
from gateway.stores.postgresql import log_rows
from gateway.stores.postgresql.claims import HeldSessions
from gateway.stores.postgresql.errors import NodeLost, TailLost, is_gone
from gateway.stores.postgresql.recent import RecentCommits

ALIVE: Final = "alive AS (SELECT id FROM nodes WHERE id = $1 FOR KEY SHARE)"
_CLAIM: Final = (
    f"WITH {ALIVE} UPDATE sessions SET node = $1, generation = generation + 1 FROM alive"  # noqa: S608 - literals
    " WHERE key = ANY($2::text[]) RETURNING key, sessions.id, generation"
)
_PUT: Final = (
    f"WITH {ALIVE}, whole AS ("  # noqa: S608 - literals
    "SELECT id FROM alive WHERE NOT EXISTS (SELECT FROM commits WHERE node = $1 AND number < $10)),"
    " noted AS (UPDATE commits SET number = $11 FROM whole WHERE commits.node = whole.id),"
    " fence AS (SELECT sessions.id FROM whole,"
    " unnest($2::bigint[], $3::int[]) AS f (id, generation) JOIN sessions"
    " ON sessions.id = f.id AND sessions.generation = f.generation AND sessions.node = $1),"
    " turns AS (UPDATE sessions SET has_open_turn = t.turn FROM unnest($4::bigint[], $5::smallint[])"
    " AS t (id, turn) JOIN fence ON fence.id = t.id WHERE sessions.id = t.id),"
    " put AS (INSERT INTO events (session, seq, at, body) SELECT e.* FROM"
    " unnest($6::bigint[], $7::bigint[], $8::bigint[], $9::bytea[]) AS e (session, seq, at, body)"
    " JOIN fence ON fence.id = e.session ON CONFLICT DO NOTHING)"
    " SELECT EXISTS (SELECT FROM alive), EXISTS (SELECT FROM whole), ARRAY(SELECT id FROM fence)"
)
_CLAIM_AGAIN: Final = (
    f"WITH {ALIVE} UPDATE sessions AS s SET node = $1, generation = c.generation FROM alive,"  # noqa: S608 - literals
    " unnest($2::text[], $3::bigint[], $4::int[]) AS c (key, id, generation)"
    " WHERE s.id = c.id AND s.key = c.key AND s.generation < c.generation"
    " AND (s.node IS NULL OR s.node = $1 OR NOT EXISTS (SELECT FROM nodes AS n WHERE n.id = s.node))"
    " RETURNING s.id"
)
"""A failover has undone claims: a lower generation says that nobody has claimed them since. The id of a row
that a failover has undone may be another session's by now.
"""
_FENCE: Final = (
    "SELECT sessions.id FROM unnest($2::bigint[], $3::int[]) AS f (id, generation) JOIN sessions"
    " ON sessions.id = f.id AND sessions.generation = f.generation AND sessions.node = $1"
)
_THERE: Final = "SELECT key FROM sessions WHERE key = ANY($1::text[])"
_IS_THERE: Final = "SELECT EXISTS (SELECT FROM nodes WHERE id = $1)"
_TURNS: Final = (
    "UPDATE sessions SET has_open_turn = t.turn FROM unnest($1::bigint[], $2::smallint[]) AS t (id, turn)"
    " WHERE sessions.id = t.id"
)

Logs = list[tuple[int, int, list[Event]]]
"""(row of the session, generation, events)"""


class CommitAttempt(Struct):
    """A commit that is tried."""

    number: int = 0
    """See recent.py; 0 if nothing was sent."""
    pid: int = 0
    """Of the process that has its transaction; 0 if it is a statement of events alone."""
    began: datetime.datetime | None = None
    """When, by the clock of PostgreSQL."""
    is_in_doubt: bool = False
    """Whether it was sent, and the answer did not come."""


async def noting_doubt(attempt: CommitAttempt, sent: Awaitable[Any]) -> Any:
    """Awaits what commits; if the connection is lost meanwhile, its outcome is in doubt."""
    try:
        found = await sent
    except Exception as error:
        attempt.is_in_doubt = is_gone(error)
        raise
    return found


class Appender:
    """See the module."""

    def __init__(
        self,
        claims: HeldSessions,
        projections: Mapping[type, Sequence[PostgresqlProjection]],
        recent: RecentCommits,
    ) -> None:
        """`projections` of events, by their types, may grow."""
        self.claims = claims
        self.recent = recent
        self._projections = projections

    async def append(self, connection: Statements, logs: Sequence[tuple[int, Sequence[Event]]]) -> None:
        """Writes events of logs, by the ids of their rows, and what follows from them; inside a
        transaction.
        """
        rows: list[Row] = []
        turns: dict[int, int] = {}
        projected: list[tuple[PostgresqlProjection, int, Event]] = []
        for session, events in logs:
            rows += rows_of(session, events)
            turns |= _turns(session, events)
            for event in events:
                projected += [(project, session, event) for project in self._projections.get(event.kind, ())]
        await log_rows.insert(connection, rows)
        if turns:
            await connection.execute(_TURNS, list(turns), list(turns.values()))
        for project, session, event in projected:
            await project(connection, session, event)

    def is_one_statement(self, logs: dict[Sink, list[Event]]) -> bool:
        """Whether no rows are made of any of these, and they are not too many bytes for one statement."""
        size = 0
        for events in logs.values():
            for event in events:
                if event.kind in self._projections:
                    return False
                size += len(event.body)
        return size <= log_rows.STATEMENT_BYTES

    async def claim(self, connection: Any, logs: Iterable[Sink]) -> None:
        """Takes the sessions of these logs, those that are there, for a gateway that is alone; outside a
        transaction, because what is claimed is noted. One of several has claimed what it may write.
        """
        unknown = [sink.key for sink in logs if sink.key not in self.claims.held]
        if not unknown or not self.claims.is_alone:
            return
        found = await connection.fetch(_CLAIM, self.claims.node, unknown)
        for key, row_id, generation in found:
            self.claims.take(key, row_id, generation)
        if len(found) < len(unknown) and not await connection.fetchval(_IS_THERE, self.claims.node):
            raise NodeLost  # else the sessions are gone

    def claimed(self, logs: Mapping[Sink, list[Event]]) -> Logs:
        """(row, generation, events) of logs whose session is there and this gateway's."""
        pairs = ((self.claims.held.get(sink.key), events) for sink, events in logs.items())
        return [(*claim, events) for claim, events in pairs if claim is not None]

    async def put(
        self, connection: Any, attempt: CommitAttempt, logs: Mapping[Sink, list[Event]]
    ) -> set[Sink]:
        """Events alone; those logs that another gateway has. A log that is not found any more was claimed in
        vain, if a failover has undone that, or has gone with its session.
        """
        await self.claim(connection, logs)
        found = await self._put_as_one(connection, attempt, self.claimed(logs))
        again = self._others_than(found, logs)
        if not again:
            return set()
        await self._claim_again(connection, again)
        found |= await self._put_as_one(connection, attempt, self.claimed(again))
        return await self._fenced(connection, self._others_than(found, logs))

    def _others_than(self, found: set[int], logs: Mapping[Sink, list[Event]]) -> dict[Sink, list[Event]]:
        held = self.claims.held
        return {sink: events for sink, events in logs.items() if held.get(sink.key, (0,))[0] not in found}

    async def _claim_again(self, connection: Any, logs: Mapping[Sink, list[Event]]) -> None:
        if self.claims.is_alone:
            for sink in logs:
                self.claims.drop(sink.key)
            await self.claim(connection, logs)
        else:
            held = self.claims.held
            await self.claim_again(connection, {s.key: held[s.key] for s in logs if s.key in held})

    async def claim_again(self, connection: Any, claims: Mapping[str, tuple[int, int]]) -> None:
        """Takes sessions again, by key, that this one of several gateways had, if that was undone."""
        rows = [(key, *claim) for key, claim in claims.items()]
        if rows:
            columns = (list(column) for column in zip(*rows, strict=True))
            await connection.fetch(_CLAIM_AGAIN, self.claims.node, *columns)

    async def _fenced(self, connection: Any, logs: Mapping[Sink, list[Event]]) -> set[Sink]:
        """Those whose session is there, and another gateway's."""
        if self.claims.is_alone or not logs:
            return set()
        there = await connection.fetch(_THERE, [sink.key for sink in logs])
        keys = {row[0] for row in there}
        return {sink for sink in logs if sink.key in keys}

    async def fenced(self, connection: Any, logs: Mapping[Sink, list[Event]]) -> set[Sink]:
        """Those that another gateway has; inside a transaction that has found this gateway's own row."""
        if self.claims.is_alone or not logs:
            return set()
        found: set[int] = set()
        for _ in range(2):
            claimed = self.claimed(self._others_than(found, logs))
            ids, generations = [one[0] for one in claimed], [one[1] for one in claimed]
            rows = await connection.fetch(_FENCE, self.claims.node, ids, generations)
            found |= {row[0] for row in rows}
            if not (others := self._others_than(found, logs)):
                return set()
            await self._claim_again(connection, others)
        return await self._fenced(connection, self._others_than(found, logs))

    async def _put_as_one(self, connection: Any, attempt: CommitAttempt, logs: Logs) -> set[int]:
        """Events of logs as one statement; those logs that were found."""
        if not logs:
            return set()
        attempt.number = attempt.number or self.recent.next()
        rows: list[Row] = []
        turns: dict[int, int] = {}
        for session, _, events in logs:
            rows += rows_of(session, events)
            turns |= _turns(session, events)
        statement = connection.fetchrow(
            _PUT,
            self.claims.node,
            [session for session, _, _ in logs],
            [generation for _, generation, _ in logs],
            list(turns),
            list(turns.values()),
            *([row[column] for row in rows] for column in range(4)),
            self.recent.acknowledged,
            attempt.number,
        )
        is_alive, is_whole, found = await noting_doubt(attempt, statement)
        if not is_alive:
            raise NodeLost
        if not is_whole:
            raise TailLost
        return set(found)


def _turns(session: int, events: Sequence[Event]) -> dict[int, int]:
    """What `has_open_turn` of a session is after these, if that changes."""
    found: dict[int, int] = {}
    for event in events:
        if event.kind in MARKS and (turn := turn_after(event)) is not None:
            found[session] = turn
    return found
