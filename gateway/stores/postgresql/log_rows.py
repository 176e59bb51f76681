"""Logs as rows of PostgreSQL: how they are read, copied and made small. What a row holds: stores/packing.py.

Everything here runs inside a transaction, or as one statement.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from gateway.events.compaction import Compactor, Survey
from gateway.events.facts import LARGE_BYTES, Event
from gateway.stores.database import Statements
from gateway.stores.packing import Row, ends_a_turn, events_above, next_page, rows_of
from gateway.stores.sessions import Forking

COMPACT_BATCH: Final = 5_000
"""Events compacted in one transaction, about: others' commits wait for it. A turn is never split."""
FORK_EVENTS: Final = 2_000
FORK_BYTES: Final = 1024 * 1024
"""So much of a log is in memory while it is copied."""
READ_ROWS: Final = 500
"""Rows that are compacted at a time: so much is in memory, and what is not complete."""

STATEMENT_BYTES: Final = 16 * 1024 * 1024
"""About as much is written by one statement: PostgreSQL takes at most a gigabyte at once."""

_READ: Final = (
    "SELECT seq, at, body FROM (SELECT seq, at, body, sum(length(body)) OVER (ORDER BY seq) - length(body)"
    " AS before FROM events WHERE session = $1 AND seq > $2 ORDER BY seq LIMIT $3) AS page"
    " WHERE before <= $4 ORDER BY seq"
)
"""The length of a long body is known without reading it."""
_PAGE: Final = (
    "SELECT seq, at, CASE WHEN length(body) > $3"
    " AND substr(body, 10, 10) NOT IN ('text_delta', 'thought_de') THEN NULL ELSE body END"
    " FROM events WHERE session = $1 AND seq > $2 ORDER BY seq LIMIT $4"
)
"""A page of rows, without the bodies of large ones that are no deltas: nothing of them is made small."""
INSERT: Final = (
    "INSERT INTO events (session, seq, at, body)"
    " SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[]) ON CONFLICT DO NOTHING"
)


async def insert(connection: Statements, rows: Sequence[Row]) -> None:
    """Adds rows, in as many statements as they are bytes for."""
    part: list[Row] = []
    size = 0
    for row in rows:
        if part and size + len(row[3]) > STATEMENT_BYTES:
            await _insert(connection, part)
            part, size = [], 0
        part.append(row)
        size += len(row[3])
    if part:
        await _insert(connection, part)


async def _insert(connection: Statements, rows: list[Row]) -> None:
    await connection.execute(INSERT, *(list(column) for column in zip(*rows, strict=True)))


async def read(
    connection: Statements, session: int, *, after: int, limit: int, max_bytes: int
) -> list[Event]:
    """The next events of a log above a cursor: at most so many, and no more bytes, but for the first."""
    rows = await connection.fetch(_READ, session, after, limit, max_bytes)
    return next_page(after, map(tuple, rows), limit=limit, max_bytes=max_bytes)


async def last_seq(connection: Statements, session: int) -> int:
    """The last number that is kept; 0 if nothing is."""
    query = "SELECT coalesce(max(seq), 0) FROM events WHERE session = $1"
    return int(await connection.fetchval(query, session))


async def size_bytes(connection: Statements, session: int) -> int:
    """How large a log is."""
    query = "SELECT coalesce(sum(length(body)), 0)::bigint FROM events WHERE session = $1"
    return int(await connection.fetchval(query, session))


async def fork(connection: Statements, source: int, target: int, forking: Forking) -> int:
    """Copies the beginning of one log to another, page by page; the last number in it."""
    after, last = 0, 0
    while after < forking.through:
        page = await read(connection, source, after=after, limit=FORK_EVENTS, max_bytes=FORK_BYTES)
        if not page:
            break
        after = page[-1].seq
        copied = [forking.copied(event) for event in page if event.seq <= forking.through]
        kept = [event for event in copied if event is not None]
        await insert(connection, rows_of(target, kept))
        last = kept[-1].seq if kept else last
    await insert(connection, rows_of(target, forking.added))
    return forking.added[-1].seq if forking.added else last


# -- making small -----------------------------------------------------------------------------------------


async def compact(connection: Statements, key: str, through: int) -> tuple[int, bool]:
    """Compacts the next stretch of a session's log: (events saved, whether that was the last)."""
    found = await connection.fetchrow("SELECT id, compacted_seq FROM sessions WHERE key = $1", key)
    if found is None or found[1] >= through:
        return 0, True
    session, start = found
    survey, stop, is_done = await _survey(connection, session, start, through)
    if survey.saved:
        await _rewrite(connection, session, start, stop, Compactor(survey))
    await connection.execute(
        "UPDATE sessions SET compacted_seq = $1 WHERE id = $2", through if is_done else stop, session
    )
    return survey.saved, is_done


async def _survey(connection: Statements, session: int, start: int, through: int) -> tuple[Survey, int, bool]:
    """A batch that ends with a turn, however long that is, so that no message is split: what is in it, its
    last seq, and whether it is the last batch.
    """
    survey, count, stop, has_ended = Survey(), 0, start, False
    async for row in _stored(connection, session, start):
        for seq, event in row.events:
            if seq <= start:
                continue
            if seq > through:
                return survey, stop, True
            if count >= COMPACT_BATCH and has_ended:
                return survey, stop, False
            count, stop = count + 1, seq
            has_ended = event is not None and ends_a_turn(event)
            if event is None:
                survey.cut()
            else:
                survey.add(event)
    return survey, stop, True


async def _rewrite(connection: Statements, session: int, start: int, stop: int, compactor: Compactor) -> None:
    """Puts compact rows in the place of those from `start` to `stop`."""
    out: list[Event] = []
    old: list[int] = []
    async for row in _stored(connection, session, start):
        if row.events and row.events[0][0] > stop:
            break
        if row.is_large:
            out += compactor.cut()
            await _replace(connection, session, old, out)
            old, out = [], []
            continue
        old.append(row.seq)
        for seq, event in row.events:
            if event is not None and start < seq <= stop:
                out += compactor.add(event)
            elif event is not None:
                out += (*compactor.cut(), event)
        if len(out) >= READ_ROWS:
            await _replace(connection, session, old, out)
            old, out = [], []
    await _replace(connection, session, old, [*out, *compactor.cut()])


async def _replace(connection: Statements, session: int, old: list[int], new: Sequence[Event]) -> None:
    if old:
        query = "DELETE FROM events WHERE session = $1 AND seq = ANY($2::bigint[])"
        await connection.execute(query, session, old)
    await insert(connection, rows_of(session, new))


class _PageRow(NamedTuple):
    """A row and what is in it that was in none before; of a large one the seq alone."""

    seq: int
    events: list[tuple[int, Event | None]]
    is_large: bool


async def _stored(connection: Statements, session: int, after: int) -> AsyncIterator[_PageRow]:
    """The rows of a log above a cursor, in order; those that were read may be changed meanwhile."""
    seen = 0
    while rows := await connection.fetch(_PAGE, session, after, LARGE_BYTES, READ_ROWS):
        for seq, at, body in rows:
            after = seq
            if body is None:
                yield _PageRow(seq, [(seq, None)] if seq > seen else [], is_large=True)
                seen = max(seen, seq)
                continue
            found: list[tuple[int, Event | None]] = [
                (e.seq, e) for e in events_above(seen, [(seq, at, body)])
            ]
            seen = found[-1][0] if found else seen
            yield _PageRow(seq, found, is_large=False)
