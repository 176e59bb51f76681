"""A store as tables that can be read and filled whole: what copying one into another needs of an engine.

Both engines have the same tables with the same columns; which those are is asked of the databases. A value
is one of Python's: True and False are 1 and 0 on either side. The events of all logs are one more table, of
rows as they are stored: one event, or neighbours of one log together.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw, Struct

from gateway.stores import packing

BATCH_ROWS: Final = 10_000
BATCH_BYTES: Final = 8 * 1024 * 1024
"""Rows read, and written in one transaction, at a time."""
FILE_ROWS: Final = 32
"""Of pieces of files, which are of 256 KiB at most."""
COPYING: Final = "store_copying"
"""The table that a store has while another is copied into it."""
ENGINES_OWN: Final = frozenset(
    {
        *("package_migrations", "tail", "large", "events", "nodes", "commits", "sequences", COPYING),
        *("cluster", "changes", "signing_secrets", "signing_digest", "held", "ledger_flights"),
        *("search_stretches", "search_marks", "search_withdrawn"),
    }
)
"""Tables that are not copied as they are: what an engine needs for itself, where it keeps events, and filters
of a search, which are made again from the events.
"""
ENGINES_COLUMNS: Final = frozenset({"node", "generation"})
"""Of `sessions`: which gateway writes it, if several could."""

Row = Sequence[Any]
EventRow = packing.Row

_packed = msgspec.msgpack.Encoder().encode


def rows_at_once(table: str) -> int:
    """How many rows of a table are read at a time."""
    return FILE_ROWS if table.startswith("file_") else BATCH_ROWS // 5


class Shape(Struct, frozen=True, kw_only=True):
    """A table: its columns in order, and the tables that its rows refer to."""

    name: str
    columns: tuple[str, ...]
    refers_to: frozenset[str] = frozenset()


class Side(Protocol):
    """A database that is read as of one moment."""

    name: str
    """What to call it, without a password."""

    async def shapes(self) -> list[Shape]:
        """Its tables, those of events left out."""

    def rows(self, shape: Shape) -> AsyncIterator[list[Row]]:
        """All rows of a table, in batches."""

    def events(self, after: tuple[int, int] = (0, 0)) -> AsyncIterator[list[EventRow]]:
        """Rows of events above (session, seq), in this order, each once, in batches."""

    async def last_numbers(self) -> dict[str, int]:
        """The largest number that a row ever had, of tables whose numbers never come again."""

    async def session_names(self, ids: Sequence[int]) -> dict[int, str]:
        """What to call sessions."""


class Target(Side, Protocol):
    """A database that is filled. It is of no use to a gateway before `finish`."""

    async def begin(self, source: str) -> frozenset[str]:
        """Notes what is copied into it; the tables that an earlier try has filled. Raises StoreFailed if
        there is something else in it.
        """

    async def last_event(self) -> tuple[int, int]:
        """(session, seq) of the last row of events that it has."""

    async def clear(self, shape: Shape) -> None:
        """Removes what an earlier try left in a table."""

    async def put(self, shape: Shape, rows: Sequence[Row]) -> None:
        """Adds rows."""

    async def put_events(self, rows: Sequence[EventRow]) -> None:
        """Adds rows of events."""

    async def note(self, table: str) -> None:
        """A table is filled."""

    async def finish(self, last_numbers: dict[str, int]) -> None:
        """Sets what counts behind the rows. Then a gateway may have it."""


class Opener(Protocol):
    """Opens one of these for the time of a block. Raises StoreFailed."""

    def reading(self, *, is_alone: bool) -> AbstractAsyncContextManager[Side]:
        """`is_alone`: no gateway may use it meanwhile, and it is brought up to date first."""

    def filling(self) -> AbstractAsyncContextManager[Target]:
        """An empty one, or one that an earlier try began; no gateway may use it meanwhile."""

    async def is_empty(self) -> bool:
        """True if it holds nothing, or a copy that was cut."""

    async def empty(self) -> None:
        """Removes everything. Raises StoreFailed."""


class Sum:
    """A digest of rows in any order: two tables that have the same rows have the same."""

    def __init__(self) -> None:
        self.count = 0
        self._total = 0

    def add(self, rows: Sequence[Row]) -> None:
        """More of them."""
        self.count += len(rows)
        for row in rows:
            digest = hashlib.blake2b(_packed(list(row)), digest_size=16).digest()
            self._total += int.from_bytes(digest, "little")

    @property
    def hex(self) -> str:
        """The digest."""
        return f"{self._total % 2**128:032x}"


class LogDigest(Struct, frozen=True):
    """What one log is: how many events, and a digest over number, time and text of each."""

    session: int
    count: int
    hex: str


def _parted(row: EventRow) -> Sequence[tuple[int, int, bytes | Raw]]:
    """The events of a row: seq, at, body. One that cannot be read counts as one event."""
    try:
        return packing.parted(*row[1:])
    except msgspec.MsgspecError:
        return (row[1:],)


async def log_digests(side: Side) -> AsyncIterator[LogDigest]:
    """Of every log that has events, in the order of sessions."""
    session, digest, count, last = 0, hashlib.blake2b(digest_size=16), 0, 0
    async for batch in side.events():
        for row in batch:
            if row[0] != session:
                if count:
                    yield LogDigest(session, count, digest.hexdigest())
                session, digest, count, last = row[0], hashlib.blake2b(digest_size=16), 0, 0
            for seq, at, body in _parted(row):
                if seq > last:
                    last, count = seq, count + 1
                    digest.update(b"%d %d %d\n" % (seq, at, len(bytes(body))))
                    digest.update(body)
    if count:
        yield LogDigest(session, count, digest.hexdigest())
