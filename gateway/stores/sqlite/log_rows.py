"""Logs as rows of SQLite: where events arrive (`tail`), where they stay (`events`, and `large`), and how they
are read. What a row holds: stores/packing.py.

A commit appends to `tail`, a row for the neighbours of each log in it; `settle` moves everything from there
to `events`, where a log's rows lie together.

An event too large to be copied is written to `large` in pieces and is never moved.

Guarantees: a log reads the same from any table, and while its rows move.
"""

from __future__ import annotations

import contextlib
import heapq
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from gateway.events.compaction import Compactor, Survey
from gateway.events.facts import LARGE_BYTES, Event
from gateway.stores.packing import Row, ends_a_turn, events_above, next_page, rows_of
from gateway.stores.sessions import Forking

COMPACT_BATCH: Final = 5_000
"""Events compacted in one transaction, about: others' commits wait for it. A turn is never split."""

FORK_EVENTS: Final = 2_000
FORK_BYTES: Final = 1024 * 1024
"""So much of a log is in memory while it is copied."""
READ_ROWS: Final = 500
"""Rows that are compacted at a time: so much is in memory, and what is not complete."""

_OF_WHAT_WAS_WRITTEN: Final = frozenset(
    {
        *(sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH),
        *(sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_RANGE),
    }
)

_APPEND: Final = "INSERT INTO tail (session, seq, at, body) VALUES (?, ?, ?, ?)"
_INSERT: Final = "INSERT INTO events (session, seq, at, body) VALUES (?, ?, ?, ?)"
_READ: Final = (
    "SELECT seq, at, body FROM events WHERE session = ?1 AND seq > ?2 UNION ALL"
    " SELECT seq, at, body FROM tail WHERE session = ?1 AND seq > ?2 UNION ALL"
    " SELECT seq, at, body FROM large WHERE session = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
)
_PAGE: Final = (
    "SELECT seq, at, iif(length(body) > ?3 AND substr(body, 10, 10) NOT IN (?4, ?5), NULL, body)"
    " FROM events WHERE session = ?1 AND seq > ?2 ORDER BY seq LIMIT ?6"
)
_LARGE_ONES: Final = "SELECT seq FROM large WHERE session = ? AND seq > ? ORDER BY seq"
_DELTAS: Final = (b"text_delta", b"thought_delta"[:10])
"""What follows `{"type":"` in the body of a delta, up to the tenth byte."""
"""A page of rows, without the bodies of large ones that are no deltas: nothing of them is made small."""
_LAST: Final = (
    "SELECT max(coalesce((SELECT max(seq) FROM events WHERE session = ?1), 0),"
    " coalesce((SELECT max(seq) FROM tail WHERE session = ?1), 0),"
    " coalesce((SELECT max(seq) FROM large WHERE session = ?1), 0))"
)
_MOVE: Final = "INSERT OR IGNORE INTO events (session, seq, at, body) SELECT session, seq, at, body FROM tail"
_SIZE: Final = (
    "SELECT coalesce((SELECT sum(length(body)) FROM events WHERE session = ?1), 0)"
    " + coalesce((SELECT sum(length(body)) FROM tail WHERE session = ?1), 0)"
    " + coalesce((SELECT sum(length(body)) FROM large WHERE session = ?1), 0)"
)


def code_of(error: Exception) -> int:
    """SQLite's primary result code; 0 for what is not SQLite's."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_damage(error: Exception) -> bool:
    """Whether the file does not hold what SQLite wrote there."""
    return code_of(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_of_the_file(error: Exception) -> bool:
    """Whether the file, or who else uses it, is at fault: nothing can be written now. Everything else is the
    fault of what was to be written.
    """
    if code := code_of(error):
        return code not in _OF_WHAT_WAS_WRITTEN
    return isinstance(error, sqlite3.OperationalError)


# -- writing ----------------------------------------------------------------------------------------------


def append(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Adds rows where they arrive."""
    connection.executemany(_APPEND, [row for row in rows if not _stays(row)])
    for row in filter(_stays, rows):
        _append_large(connection, *row)


def put(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Adds rows where they stay."""
    connection.executemany(_INSERT, [row for row in rows if not _stays(row)])
    for row in filter(_stays, rows):
        _append_large(connection, *row)


def _stays(row: Row) -> bool:
    """Whether a row is written where it stays: a large event, but for text, which may join its neighbours."""
    return len(row[3]) > LARGE_BYTES and row[3][9:19] not in _DELTAS


def _append_large(connection: sqlite3.Connection, session: int, seq: int, at: int, body: bytes) -> None:
    """A large row, written in place: as a value of a statement it would be in memory twice more."""
    made = connection.execute(
        "INSERT OR IGNORE INTO large (session, seq, at, body) VALUES (?, ?, ?, zeroblob(?))",
        (session, seq, at, len(body)),
    )
    if not made.rowcount or made.lastrowid is None:
        return  # by a try that was thought to have failed
    with connection.blobopen("large", "body", made.lastrowid) as blob:
        rest = memoryview(body)
        for start in range(0, len(rest), LARGE_BYTES):
            blob.write(rest[start : start + LARGE_BYTES])


def let_go(connection: sqlite3.Connection) -> None:
    """Gives back what large rows leave in memory: SQLite's pages, and the last values of the statements that
    wrote them, which a statement keeps until it is given others. Not inside a transaction.
    """
    for insert in (_APPEND, _INSERT):
        with contextlib.suppress(sqlite3.IntegrityError):  # no row is without a session: nothing is written
            connection.execute(insert, (None, None, None, None))
    connection.execute("PRAGMA shrink_memory")


def waiting(connection: sqlite3.Connection) -> int:
    """How many rows have not moved."""
    return int(connection.execute("SELECT count(*) FROM tail").fetchone()[0])


def settle(connection: sqlite3.Connection) -> None:
    """Moves every row to its log."""
    connection.execute(f"{_MOVE} ORDER BY session, seq")
    connection.execute("DELETE FROM tail")


def settle_one(connection: sqlite3.Connection, session: int) -> None:
    """Moves the rows of one log."""
    connection.execute(f"{_MOVE} WHERE session = ? ORDER BY seq", (session,))
    connection.execute("DELETE FROM tail WHERE session = ?", (session,))


def unsettled(connection: sqlite3.Connection) -> list[int]:
    """The logs of which rows have not moved."""
    return [row[0] for row in connection.execute("SELECT DISTINCT session FROM tail")]


def fork(connection: sqlite3.Connection, source: int, target: int, forking: Forking) -> int:
    """Copies the beginning of one log to another, page by page; the last number in it."""
    after, last = 0, 0
    while after < forking.through:
        page = read(connection, source, after=after, limit=FORK_EVENTS, max_bytes=FORK_BYTES)
        if not page:
            break
        after = page[-1].seq
        copied = [forking.copied(event) for event in page if event.seq <= forking.through]
        kept = [event for event in copied if event is not None]
        append(connection, rows_of(target, kept))
        last = kept[-1].seq if kept else last
    append(connection, rows_of(target, forking.added))
    settle_one(connection, target)
    return forking.added[-1].seq if forking.added else last


# -- reading ----------------------------------------------------------------------------------------------


def read(
    connection: sqlite3.Connection, session: int, *, after: int, limit: int, max_bytes: int
) -> list[Event]:
    """The next events of a log above a cursor: at most so many, and no more bytes, but for the first."""
    rows = connection.execute(_READ, (session, after, limit))
    try:
        return next_page(after, rows, limit=limit, max_bytes=max_bytes)
    finally:
        rows.close()


def last_seq(connection: sqlite3.Connection, session: int) -> int:
    """The last number that is kept; 0 if nothing is."""
    return int(connection.execute(_LAST, (session,)).fetchone()[0])


def size_bytes(connection: sqlite3.Connection, session: int) -> int:
    """How large a log is."""
    return int(connection.execute(_SIZE, (session,)).fetchone()[0])


# -- making small -----------------------------------------------------------------------------------------


def compact(connection: sqlite3.Connection, key: str, through: int) -> tuple[int, bool]:
    """Compacts the next stretch of a session's log: (events saved, whether that was the last)."""
    found = connection.execute("SELECT id, compacted_seq FROM sessions WHERE key = ?", (key,)).fetchone()
    if found is None or found[1] >= through:
        return 0, True
    session, start = found
    settle_one(connection, session)
    survey, stop, is_done = _survey(connection, session, start, through)
    if survey.saved:
        _rewrite(connection, session, start, stop, Compactor(survey))
    connection.execute(
        "UPDATE sessions SET compacted_seq = ? WHERE id = ?", (through if is_done else stop, session)
    )
    return survey.saved, is_done


def _survey(
    connection: sqlite3.Connection, session: int, start: int, through: int
) -> tuple[Survey, int, bool]:
    """A batch that ends with a turn, however long that is, so that no message is split: what is in it, its
    last seq, and whether it is the last batch.
    """
    survey, count, stop, has_ended = Survey(), 0, start, False
    for row in _stored(connection, session, start):
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


def _rewrite(
    connection: sqlite3.Connection, session: int, start: int, stop: int, compactor: Compactor
) -> None:
    """Puts compact rows in the place of those from `start` to `stop`."""
    out: list[Event] = []
    for row in _stored(connection, session, start):
        if row.events and row.events[0][0] > stop:
            break
        if row.is_large:
            out += compactor.cut()
            _insert(connection, session, out)
            out = []
            continue
        connection.execute("DELETE FROM events WHERE session = ? AND seq = ?", (session, row.seq))
        for seq, event in row.events:
            if event is not None and start < seq <= stop:
                out += compactor.add(event)
            elif event is not None:
                out += (*compactor.cut(), event)
        if len(out) >= READ_ROWS:
            _insert(connection, session, out)
            out = []
    _insert(connection, session, [*out, *compactor.cut()])


class _StoredRow(NamedTuple):
    """A row and what is in it that was in none before; of a large one the seq alone."""

    seq: int
    events: list[tuple[int, Event | None]]
    is_large: bool


def _stored(connection: sqlite3.Connection, session: int, after: int) -> Iterator[_StoredRow]:
    """The rows of a log above a cursor, in order; those that were read may be changed meanwhile."""
    large = [seq for (seq,) in connection.execute(_LARGE_ONES, (session, after))]
    return heapq.merge(
        _rows(connection, session, after),
        (_StoredRow(seq, [(seq, None)], is_large=True) for seq in large),
        key=lambda row: row.seq,
    )


def _rows(connection: sqlite3.Connection, session: int, after: int) -> Iterator[_StoredRow]:
    seen = 0
    while rows := connection.execute(_PAGE, (session, after, LARGE_BYTES, *_DELTAS, READ_ROWS)).fetchall():
        for seq, at, body in rows:
            after = seq
            if body is None:
                yield _StoredRow(seq, [(seq, None)] if seq > seen else [], is_large=True)
                seen = max(seen, seq)
                continue
            found: list[tuple[int, Event | None]] = [
                (e.seq, e) for e in events_above(seen, [(seq, at, body)])
            ]
            seen = found[-1][0] if found else seen
            yield _StoredRow(seq, found, is_large=False)


def _insert(connection: sqlite3.Connection, session: int, events: Sequence[Event]) -> None:
    connection.executemany(_INSERT, rows_of(session, events))
