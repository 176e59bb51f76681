"""How events lie in rows of a table, on every engine: one event, or neighbours of one log together as a JSON
array [[seq, at, event], ...]. A row is named by the last seq in it, so that a cursor inside it finds it.

Guarantees: a row that was written twice, by a try that was thought to have failed, is read once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
from msgspec import UNSET, Raw

from gateway.events.facts import Event, MessageAdded, QueueChanged, TurnEnded, TurnInterrupted, TurnStarted

ROW_BYTES: Final = 900
"""A longer row of neighbours would not fit into SQLite's page of 4 KiB with three others, and spill."""
MARKS: Final[frozenset[type]] = frozenset((TurnStarted, TurnEnded, TurnInterrupted, QueueChanged))
"""Facts after which `has_open_turn` may be another."""
_ENDED, _OPEN, _WAITS_FOR_BUDGET = 0, 1, 2
"""Of `has_open_turn`; an earlier program looks for those that are 1."""

SAID_HEAD: Final = b'{"type":"%b"' % str(MessageAdded.__struct_config__.tag).encode()
"""How a large body begins that is read although it is large: all other text comes in pieces."""
SILENT: Final = b'{"type":"large"}'
"""Stands for a large event where only what was said counts: a picture is not read to find words."""

Row = tuple[int, int, int, bytes]
"""session, seq, at, body"""

_encode = msgspec.json.Encoder().encode
_neighbours = msgspec.json.Decoder(list[tuple[int, int, Raw]]).decode


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


def parted(seq: int, at: int, body: bytes) -> Sequence[tuple[int, int, bytes | Raw]]:
    """The events of a row, as they are stored. Raises msgspec.MsgspecError if it cannot be read."""
    return _neighbours(body) if body.startswith(b"[") else ((seq, at, body),)


def events_above(after: int, rows: Iterable[tuple[int, int, bytes]]) -> Iterator[Event]:
    """What is in rows of one log above a cursor, in order: (seq, at, body)."""
    for row in rows:
        for event in [Event.stored(seq, at, bytes(body)) for seq, at, body in parted(*row)]:
            if event.seq > after:
                after = event.seq
                yield event


def next_page(
    after: int, rows: Iterable[tuple[int, int, bytes]], *, limit: int, max_bytes: int
) -> list[Event]:
    """Of these, at most so many, and no more bytes, but for the first."""
    found: list[Event] = []
    size = 0
    for event in events_above(after, rows):
        size += event.size_bytes
        if found and size > max_bytes:
            break
        found.append(event)
        if len(found) == limit:
            break
    return found


def turn_after(event: Event) -> int | None:
    """What `has_open_turn` is after one of the `MARKS`; None: what it was."""
    match event.data:
        case TurnStarted():
            return _OPEN
        case QueueChanged(held_for=held_for):
            return None if held_for is UNSET else _WAITS_FOR_BUDGET
    return _ENDED


def ends_a_turn(event: Event) -> bool:
    """Where a batch of a log may end when it is made small: no message is split."""
    return event.type in ("turn_ended", "turn_interrupted")
