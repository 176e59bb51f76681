"""How a stored log is made small, a batch at a time: its rows are looked at once, and read once more to be
replaced. Pure; an engine reads and writes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from gateway.events.compaction import Compactor, Survey
from gateway.events.facts import Event
from gateway.stores.packing import ROW_BYTES, ends_a_turn, events_above

COMPACT_BATCH: Final = 5_000
"""Events compacted in one transaction, about: others' commits wait for it. A turn is never split."""
READ_ROWS: Final = 500
"""Rows that are compacted at a time, at most: so much is in memory, and what is not complete."""
READ_BYTES: Final = 1024 * 1024
"""The same in bytes: pieces of a long text are rows of 64 KiB, and in memory several times as large."""


class StoredRow(NamedTuple):
    """A row and what is in it that was in none before; of a large one the seq alone."""

    seq: int
    events: list[tuple[int, Event | None]]
    is_large: bool


class Unpacking:
    """The rows of a log, in order."""

    def __init__(self) -> None:
        self._seen = 0

    def row(self, seq: int, at: int, body: bytes | None) -> StoredRow:
        """The next one; `body` None: it is large."""
        if body is None:
            new: list[tuple[int, Event | None]] = [(seq, None)] if seq > self._seen else []
        else:
            new = [(event.seq, event) for event in events_above(self._seen, [(seq, at, body)])]
        self._seen = new[-1][0] if new else self._seen
        return StoredRow(seq, new, is_large=body is None)


class Batch:
    """A stretch of a log above `start` that ends with a turn, however long that is, so that no message is
    split: the first look.
    """

    def __init__(self, start: int, through: int) -> None:
        self.start = start
        self.stop = start
        """The last seq in it."""
        self.is_last = True
        self.survey = Survey()
        self._through = through
        self._count = 0
        self._has_ended = False

    def add(self, row: StoredRow) -> bool:
        """The next row; False: the batch ends before it, or in it."""
        for seq, event in row.events:
            if seq <= self.start:
                continue
            if seq > self._through:
                return False
            if self._count >= COMPACT_BATCH and self._has_ended:
                self.is_last = False
                return False
            self._count, self.stop = self._count + 1, seq
            self._has_ended = event is not None and ends_a_turn(event)
            if event is None:
                self.survey.cut()
            else:
                self.survey.add(event)
        return True


class Rewriting:
    """The second look at a batch: the rows that go, and the events that take their place."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._compactor = Compactor(batch.survey)
        self._old: list[int] = []
        self._new: list[Event] = []
        self._new_bytes = 0
        self.is_due = False
        """What there is must be written before the next row is added."""

    def add(self, row: StoredRow) -> bool:
        """The next row; False: the batch ends before it."""
        batch, compactor = self._batch, self._compactor
        if row.events and row.events[0][0] > batch.stop:
            return False
        if row.is_large or self._stays(row):
            self._add(compactor.cut())
            self.is_due = True
            return True
        self._old.append(row.seq)
        for seq, event in row.events:
            if event is not None and batch.start < seq <= batch.stop:
                self._add(compactor.add(event))
            elif event is not None:
                self._add([*compactor.cut(), event])
        self.is_due = len(self._new) >= READ_ROWS or self._new_bytes >= READ_BYTES
        return True

    def _stays(self, row: StoredRow) -> bool:
        """Whether a row would be written as it is: a piece of a long text, which joins nothing."""
        event = row.events[0][1] if len(row.events) == 1 else None
        return event is not None and len(event.body) > ROW_BYTES and self._compactor.keeps(event)

    def _add(self, events: list[Event]) -> None:
        self._new += events
        self._new_bytes += sum(event.size_bytes for event in events)

    def end(self) -> None:
        """There are no more rows."""
        self._add(self._compactor.cut())

    def take(self) -> tuple[list[int], list[Event]]:
        """(rows by their seq, events) to be written now."""
        old, new, self._old, self._new = self._old, self._new, [], []
        self._new_bytes, self.is_due = 0, False
        return old, new
