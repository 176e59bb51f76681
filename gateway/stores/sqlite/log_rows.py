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
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from gateway.events.facts import LARGE_BYTES, Event
from gateway.stores.compacting import READ_BYTES, READ_ROWS, Batch, Rewriting, StoredRow, Unpacking
from gateway.stores.packing import SAID_HEAD, SILENT, Row, next_page, rows_of
from gateway.stores.sessions import FORK_BYTES, FORK_EVENTS, Forking

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
_READ_SAID: Final = (
    "SELECT seq, at, body FROM events WHERE session = ?1 AND seq > ?2 UNION ALL"
    " SELECT seq, at, body FROM tail WHERE session = ?1 AND seq > ?2 UNION ALL"
    " SELECT seq, at, id FROM large WHERE session = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
)
"""The same with the places of large ones instead of their bodies: only their beginnings are read."""
_PAGE: Final = (
    "SELECT seq, at, iif(length(body) > ?3 AND substr(body, 10, 10) NOT IN (?4, ?5), NULL, body)"
    " FROM events WHERE session = ?1 AND seq > ?2 ORDER BY seq LIMIT ?6"
)
"""A page of rows, without the bodies of large ones that are no deltas: nothing of them is made small."""
_LARGE_ONES: Final = "SELECT seq FROM large WHERE session = ? AND seq > ? ORDER BY seq"
_DELTAS: Final = (b"text_delta", b"thought_delta"[:10])
"""What follows `{"type":"` in the body of a delta, up to the tenth byte."""
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
        kept = forking.copies(page)
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


def read_said(
    connection: sqlite3.Connection, session: int, *, after: int, limit: int, max_bytes: int
) -> list[Event]:
    """The same for whoever looks for what was said: a large event without text comes as a stand-in."""
    rows = connection.execute(_READ_SAID, (session, after, limit))
    try:
        found = ((seq, at, _said(connection, body)) for seq, at, body in rows)
        return next_page(after, found, limit=limit, max_bytes=max_bytes)
    finally:
        rows.close()


def _said(connection: sqlite3.Connection, body: bytes | int) -> bytes:
    """A body; of a large row, given by its place, a stand-in if it is no message."""
    if isinstance(body, bytes):
        return body
    with connection.blobopen("large", "body", body, readonly=True) as blob:
        head = blob.read(len(SAID_HEAD))
        return head + blob.read() if head == SAID_HEAD else SILENT


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
    batch = Batch(start, through)
    for row in _stored(connection, session, start):
        if not batch.add(row):
            break
    if batch.survey.saved:
        _rewrite(connection, session, batch)
    connection.execute(
        "UPDATE sessions SET compacted_seq = ? WHERE id = ?",
        (through if batch.is_last else batch.stop, session),
    )
    return batch.survey.saved, batch.is_last


def _rewrite(connection: sqlite3.Connection, session: int, batch: Batch) -> None:
    """Puts compact rows in the place of those of a batch."""
    rewriting = Rewriting(batch)
    for row in _stored(connection, session, batch.start):
        if not rewriting.add(row):
            break
        if rewriting.is_due:
            _replace(connection, session, *rewriting.take())
    rewriting.end()
    _replace(connection, session, *rewriting.take())


def _replace(connection: sqlite3.Connection, session: int, old: Sequence[int], new: Sequence[Event]) -> None:
    query = "DELETE FROM events WHERE session = ? AND seq = ?"
    connection.executemany(query, [(session, seq) for seq in old])
    connection.executemany(_INSERT, rows_of(session, new))


def _stored(connection: sqlite3.Connection, session: int, after: int) -> Iterator[StoredRow]:
    """The rows of a log above a cursor, in order; those that were read may be changed meanwhile."""
    large = [seq for (seq,) in connection.execute(_LARGE_ONES, (session, after))]
    return heapq.merge(
        _rows(connection, session, after),
        (StoredRow(seq, [(seq, None)], is_large=True) for seq in large),
        key=lambda row: row.seq,
    )


def _rows(connection: sqlite3.Connection, session: int, after: int) -> Iterator[StoredRow]:
    unpacking = Unpacking()
    while rows := _page(connection, session, after):
        after = rows[-1][0]
        while rows:
            yield unpacking.row(*rows.popleft())


def _page(connection: sqlite3.Connection, session: int, after: int) -> deque[tuple[int, int, bytes | None]]:
    """The next rows: as many as are in memory at a time."""
    rows: deque[tuple[int, int, bytes | None]] = deque()
    size = 0
    found = connection.execute(_PAGE, (session, after, LARGE_BYTES, *_DELTAS, READ_ROWS))
    with contextlib.closing(found):
        for row in found:
            rows.append(row)
            size += len(row[2] or b"")
            if size >= READ_BYTES:
                break
    return rows
