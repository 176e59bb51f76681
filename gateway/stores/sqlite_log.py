"""Logs as rows of SQLite: where events arrive (`tail`), where they stay (`events`), and how they are read.

A commit appends to `tail`, a row for the neighbours of each log in it; `settle` moves everything from there
to `events`, where a log's rows lie together. A row is named by the last seq in it, so that a cursor inside it
finds it.

Guarantees: a log reads the same from either table, and while its rows move; a row that was written twice, by
a try that was thought to have failed, is read once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
from msgspec import Raw

from gateway.compaction import compacted
from gateway.events import Event

ROW_BYTES: Final = 900
"""A longer row of neighbours would not fit into SQLite's page of 4 KiB with three others, and spill."""
COMPACT_BATCH: Final = 5_000
"""Events compacted in one transaction, about: others' commits wait for it. A turn is never split."""

Row = tuple[int, int, int, bytes]
"""session, seq, at, body"""

_OF_WHAT_WAS_WRITTEN: Final = frozenset(
    {
        *(sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH),
        *(sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_RANGE),
    }
)

_encode = msgspec.json.Encoder().encode
_neighbours = msgspec.json.Decoder(list[tuple[int, int, Raw]]).decode

_READ: Final = (
    "SELECT seq, at, body FROM events WHERE session = ?1 AND seq > ?2 UNION ALL"
    " SELECT seq, at, body FROM tail WHERE session = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
)
_LAST: Final = (
    "SELECT max(coalesce((SELECT max(seq) FROM events WHERE session = ?1), 0),"
    " coalesce((SELECT max(seq) FROM tail WHERE session = ?1), 0))"
)
_MOVE: Final = "INSERT OR IGNORE INTO events (session, seq, at, body) SELECT session, seq, at, body FROM tail"
_SIZE: Final = (
    "SELECT coalesce((SELECT sum(length(body)) FROM events WHERE session = ?1), 0)"
    " + coalesce((SELECT sum(length(body)) FROM tail WHERE session = ?1), 0)"
)


def code_of(error: Exception) -> int:
    """SQLite's primary result code; 0 for what is not SQLite's."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_damage(error: Exception) -> bool:
    """Whether the file does not hold what SQLite wrote there."""
    return code_of(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_of_the_file(error: Exception) -> bool:
    """Whether the file, or who else uses it, is at fault: nobody could write now. Everything else is the
    fault of what was to be written.
    """
    if code := code_of(error):
        return code not in _OF_WHAT_WAS_WRITTEN
    return isinstance(error, sqlite3.OperationalError)


def rows_of(session: int, events: Sequence[Event]) -> list[Row]:
    """Events of one log, in order, as rows."""
    rows: list[Row] = []
    start = size = 0
    for index, event in enumerate(events):
        length = len(event.body)
        if size + length > ROW_BYTES and index > start:
            rows.append(_row(session, events[start:index]))
            start, size = index, 0
        size += length
    if start < len(events):
        rows.append(_row(session, events[start:]))
    return rows


def _row(session: int, run: Sequence[Event]) -> Row:
    first, last = run[0], run[-1]
    if first is last:
        return session, last.seq, last.at, last.body
    return session, last.seq, first.at, _encode([(event.seq, event.at, Raw(event.body)) for event in run])


def _events_of(seq: int, at: int, body: bytes) -> list[Event]:
    """A row's events. Raises msgspec.MsgspecError where it cannot be read."""
    if not body.startswith(b"["):
        return [Event.stored(seq, at, body)]
    return [Event.stored(number, when, bytes(raw)) for number, when, raw in _neighbours(body)]


# -- writing ----------------------------------------------------------------------------------------------


def append(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Adds rows where they arrive."""
    connection.executemany("INSERT INTO tail (session, seq, at, body) VALUES (?, ?, ?, ?)", rows)


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


# -- reading ----------------------------------------------------------------------------------------------


def read(connection: sqlite3.Connection, session: int, *, after: int, limit: int) -> list[Event]:
    """The next events of a log above a cursor, at most so many."""
    found: list[Event] = []
    for event in _above(after, connection.execute(_READ, (session, after, limit))):
        found.append(event)
        if len(found) == limit:
            break
    return found


def _above(after: int, rows: Iterable[tuple[int, int, bytes]]) -> Iterator[Event]:
    for row in rows:
        for event in _events_of(*row):
            if event.seq > after:
                after = event.seq
                yield event


def last_seq(connection: sqlite3.Connection, session: int) -> int:
    """The last number that is kept; 0 where nothing is."""
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
    rows = connection.execute(
        "SELECT seq, at, body FROM events WHERE session = ? AND seq > ? ORDER BY seq", (session, start)
    )
    before, whole, behind, is_done = _whole_turns(rows, start, through)
    rows.close()
    kept = compacted(whole)
    if len(kept) < len(whole):
        last = (behind or whole)[-1].seq
        connection.execute(
            "DELETE FROM events WHERE session = ? AND seq > ? AND seq <= ?", (session, start, last)
        )
        connection.executemany(
            "INSERT INTO events (session, seq, at, body) VALUES (?, ?, ?, ?)",
            rows_of(session, [*before, *kept, *behind]),
        )
    stop = through if is_done else whole[-1].seq
    connection.execute("UPDATE sessions SET compacted_seq = ? WHERE id = ?", (stop, session))
    return len(whole) - len(kept), is_done


def _whole_turns(
    rows: Iterable[tuple[int, int, bytes]], start: int, through: int
) -> tuple[list[Event], list[Event], list[Event], bool]:
    """A batch that ends with a turn, however long that is, so that no message is split; what its first row
    holds before and its last row behind it; and whether it is the last batch.
    """
    before: list[Event] = []
    whole: list[Event] = []
    behind: list[Event] = []
    is_full, seen = False, 0
    for row in rows:
        for event in _above(seen, [row]):
            seen = event.seq
            is_full = is_full or (len(whole) >= COMPACT_BATCH and _ends_a_turn(whole[-1]))
            if event.seq <= start:
                before.append(event)
            elif is_full or event.seq > through:
                behind.append(event)
            else:
                whole.append(event)
        if behind:
            return before, whole, behind, not is_full
    return before, whole, behind, True


def _ends_a_turn(event: Event) -> bool:
    return event.type in ("turn_ended", "turn_interrupted")
