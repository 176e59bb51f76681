"""Logs as rows of PostgreSQL: how they are read, copied and made small. What a row holds: stores/packing.py.

Everything here runs inside a transaction, or as one statement.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from gateway.events.facts import LARGE_BYTES, Event
from gateway.stores.compacting import READ_BYTES, READ_ROWS, Batch, Rewriting, StoredRow, Unpacking
from gateway.stores.database import Statements
from gateway.stores.packing import SAID_HEAD, SILENT, Row, next_page, rows_of
from gateway.stores.postgresql.claims import FENCE, HeldSessions
from gateway.stores.sessions import FORK_BYTES, FORK_EVENTS, Forking

STATEMENT_BYTES: Final = 16 * 1024 * 1024
"""About as much is written by one statement: PostgreSQL takes at most a gigabyte at once."""

_READ: Final = (
    "SELECT seq, at, {body} FROM (SELECT seq, at, body, sum(length(body)) OVER (ORDER BY seq) - length(body)"
    " AS before FROM events WHERE session = {session} AND seq > $2 ORDER BY seq LIMIT $3) AS page"
    " WHERE before <= $4 ORDER BY seq"
)
"""The length of a long body is known without reading it."""
_READ_OF_ROW: Final = _READ.format(body="body", session="$1")
_READ_OF_KEY: Final = _READ.format(body="body", session="(SELECT id FROM sessions WHERE key = $1)")
_READ_SAID: Final = _READ.format(
    body="CASE WHEN length(body) > $5 AND substr(body, 10, 10) <> 'text_delta'"
    " AND substr(body, 1, length($6::bytea)) <> $6 THEN NULL ELSE body END",
    session="$1",
)
_PAGE: Final = (
    "SELECT seq, at, CASE WHEN length(body) > $3"
    " AND substr(body, 10, 10) NOT IN ('text_delta', 'thought_de') THEN NULL ELSE body END"
    " FROM (SELECT seq, at, body, sum(length(body)) OVER (ORDER BY seq) - length(body) AS before"
    " FROM events WHERE session = $1 AND seq > $2 ORDER BY seq LIMIT $4) AS page"
    " WHERE before < $5 ORDER BY seq"
)
"""A page of rows, without the bodies of large ones that are no deltas: nothing of them is made small."""
_COMPACTED: Final = f"SELECT id, compacted_seq FROM sessions WHERE key = $1 AND {FENCE}"  # noqa: S608 - literals
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
    connection: Statements, session: int | str, *, after: int, limit: int, max_bytes: int
) -> list[Event]:
    """The next events of a log, by the row or the key of its session, above a cursor: at most so many, and no
    more bytes, but for the first.
    """
    query = _READ_OF_KEY if isinstance(session, str) else _READ_OF_ROW
    rows = await connection.fetch(query, session, after, limit, max_bytes)
    return next_page(after, rows, limit=limit, max_bytes=max_bytes)


async def read_said(
    connection: Statements, session: int, *, after: int, limit: int, max_bytes: int
) -> list[Event]:
    """The same for whoever looks for what was said: a large event without text comes as a stand-in."""
    rows = await connection.fetch(_READ_SAID, session, after, limit, max_bytes, LARGE_BYTES, SAID_HEAD)
    found = ((seq, at, SILENT if body is None else body) for seq, at, body in rows)
    return next_page(after, found, limit=limit, max_bytes=max_bytes)


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
        kept = forking.copies(page)
        await insert(connection, rows_of(target, kept))
        last = kept[-1].seq if kept else last
    await insert(connection, rows_of(target, forking.added))
    return forking.added[-1].seq if forking.added else last


# -- making small -----------------------------------------------------------------------------------------


async def compact(connection: Statements, claims: HeldSessions, key: str, through: int) -> tuple[int, bool]:
    """Compacts the next stretch of a session's log: (events saved, whether that was the last). Raises
    SessionFenced.
    """
    found = await connection.fetchrow(_COMPACTED, *claims.of(key))
    if found is None:
        await claims.check_gone(connection, key)
    if found is None or found[1] >= through:
        return 0, True
    session, start = found
    batch = Batch(start, through)
    async for row in _stored(connection, session, start):
        if not batch.add(row):
            break
    if batch.survey.saved:
        await _rewrite(connection, session, batch)
    await connection.execute(
        "UPDATE sessions SET compacted_seq = $1 WHERE id = $2",
        through if batch.is_last else batch.stop,
        session,
    )
    return batch.survey.saved, batch.is_last


async def _rewrite(connection: Statements, session: int, batch: Batch) -> None:
    """Puts compact rows in the place of those of a batch."""
    rewriting = Rewriting(batch)
    async for row in _stored(connection, session, batch.start):
        if not rewriting.add(row):
            break
        if rewriting.is_due:
            await _replace(connection, session, *rewriting.take())
    rewriting.end()
    await _replace(connection, session, *rewriting.take())


async def _replace(connection: Statements, session: int, old: list[int], new: Sequence[Event]) -> None:
    if old:
        query = "DELETE FROM events WHERE session = $1 AND seq = ANY($2::bigint[])"
        await connection.execute(query, session, old)
    await insert(connection, rows_of(session, new))


async def _stored(connection: Statements, session: int, after: int) -> AsyncIterator[StoredRow]:
    """The rows of a log above a cursor, in order; those that were read may be changed meanwhile."""
    unpacking = Unpacking()
    while rows := await connection.fetch(_PAGE, session, after, LARGE_BYTES, READ_ROWS, READ_BYTES):
        for row in rows:
            yield unpacking.row(*row)
        after = rows[-1][0]
