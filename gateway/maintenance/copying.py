"""Copying a store into another, of any engine, and comparing two.

Guarantees: what is compared is what is stored, whichever engine packs it how: of each session the events, of
every other table its rows; a copy that was cut goes on if it is run again; a target that holds anything else
is refused, and no gateway takes a half copy for a store.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from msgspec import Struct

from gateway.config.applications import installed
from gateway.errors import StoreFailed
from gateway.stores.bulk import LogDigest, Shape, Side, Sum, Target, log_digests
from gateway.stores.bulk_opening import opener
from gateway.stores.migrations import Migrations

EVENTS: Final = "events"
SAY_SECONDS: Final = 2.0
"""Between two lines about a large table."""
NAMED_MOST: Final = 20
"""Sessions that are named if they differ."""


class Copied(Struct, frozen=True):
    """What a copy moved in this run."""

    rows: int
    events_bytes: int
    seconds: float


class Compared(Struct, frozen=True):
    """Two stores side by side; `differences` in words, one each."""

    tables: int
    sessions: int
    events: int
    digest: str
    differences: list[str]


def every_migration() -> list[Migrations]:
    """Those of all applications that are installed: what they have stored goes along, if they run or not."""
    return [
        Migrations(one.name, one.migrations) for one in installed().values() if one.migrations is not None
    ]


async def copy(
    source: str, target: str, *, is_alone: bool = True, say: Callable[[str], None] = lambda _: None
) -> Copied:
    """Copies everything from one store to another, or what is not there yet. `is_alone`: the source is not
    taken while a gateway uses it. Raises StoreFailed.
    """
    migrations = every_migration()
    async with (
        opener(source, migrations).reading(is_alone=is_alone) as one,
        opener(target, migrations).filling() as other,
    ):
        return await _copied_all(one, other, say)


async def check(source: str, target: str) -> Compared:
    """Looks at everything in both stores. Raises StoreFailed."""
    migrations = every_migration()
    async with (
        opener(source, migrations).reading(is_alone=True) as one,
        opener(target, migrations).reading(is_alone=True) as other,
    ):
        return await compare(one, other)


async def _copied_all(source: Side, target: Target, say: Callable[[str], None]) -> Copied:
    began, rows, size = time.monotonic(), 0, 0
    shapes = await _shapes_of(source, target)
    done = await target.begin(source.name)
    for shape in _in_order(shapes):
        if shape.name not in done:
            moved = await _copied(source, target, shape)
            if moved:
                say(f"{shape.name}: {moved} rows")
            rows += moved
    if EVENTS not in done:
        moved, size = await _copied_events(source, target, say)
        rows += moved
    await target.finish(await source.last_numbers())
    return Copied(rows, size, time.monotonic() - began)


async def _by_name(side: Side) -> dict[str, Shape]:
    return {shape.name: shape for shape in await side.shapes()}


async def _shapes_of(source: Side, target: Side) -> list[Shape]:
    """The tables of the source that are copied. Raises StoreFailed if one of them has no place."""
    there = await _by_name(target)
    found = []
    for shape in await source.shapes():
        place = there.get(shape.name)
        if place is None:
            async for batch in source.rows(shape):
                if batch:
                    raise StoreFailed(
                        f"{source.name} has rows in {shape.name}, {target.name} has no such table. It is of "
                        "an application that is not installed, or that has no tables for this engine."
                    )
        elif sorted(place.columns) != sorted(shape.columns):
            raise StoreFailed(
                f"The table {shape.name} has other columns in {target.name} than in {source.name}."
            )
        else:
            found.append(shape)
    return found


def _in_order(shapes: Sequence[Shape]) -> list[Shape]:
    """What is referred to comes first."""
    names = {shape.name for shape in shapes}
    ordered: list[Shape] = []
    while rest := [shape for shape in shapes if shape not in ordered]:
        placed = {shape.name for shape in ordered}
        ready = [shape for shape in rest if shape.refers_to & names <= placed]
        if not ready:
            raise StoreFailed(f"Tables refer to each other: {', '.join(shape.name for shape in rest)}.")
        ordered += ready
    return ordered


async def _copied(source: Side, target: Target, shape: Shape) -> int:
    await target.clear(shape)
    count = 0
    async for batch in source.rows(shape):
        await target.put(shape, batch)
        count += len(batch)
    await target.note(shape.name)
    return count


async def _copied_events(source: Side, target: Target, say: Callable[[str], None]) -> tuple[int, int]:
    began = said = time.monotonic()
    count = size = 0
    async for batch in source.events(await target.last_event()):
        await target.put_events(batch)
        count += len(batch)
        size += sum(len(row[3]) for row in batch)
        if time.monotonic() - said >= SAY_SECONDS:
            said = time.monotonic()
            say(f"{EVENTS}: {count} rows, {size / 1e6:.0f} MB, {size / 1e6 / (said - began):.0f} MB/s")
    await target.note(EVENTS)
    seconds = max(time.monotonic() - began, 0.001)
    say(f"{EVENTS}: {count} rows, {size / 1e6:.1f} MB, {size / 1e6 / seconds:.0f} MB/s")
    return count, size


async def compare(one: Side, other: Side) -> Compared:
    """Looks at everything in both. Raises StoreFailed."""
    differences: list[str] = []
    whole = Sum()
    tables = 0
    mine, theirs = await _by_name(one), await _by_name(other)
    for name in sorted(mine.keys() | theirs.keys()):
        tables += 1
        columns = sorted((mine.get(name) or theirs[name]).columns)
        shape = Shape(name=name, columns=tuple(columns))
        first, second = await _summed(one, shape, mine), await _summed(other, shape, theirs)
        whole.add([(name, first.hex)])
        if (first.count, first.hex) != (second.count, second.hex):
            differences.append(f"{name}: {first.count} rows in {one.name}, {second.count} in {other.name}")
            if first.count == second.count:
                differences[-1] += ", and they differ"
    logs = await _compared_logs(one, other, whole)
    return Compared(tables, logs.sessions, logs.events, whole.hex, [*differences, *logs.differences])


async def _summed(side: Side, shape: Shape, there: dict[str, Shape]) -> Sum:
    """A table that is not there has no rows."""
    found = Sum()
    place = there.get(shape.name)
    if place is not None:
        async for batch in side.rows(shape if sorted(place.columns) == list(shape.columns) else place):
            found.add(batch)
    return found


async def _compared_logs(one: Side, other: Side, whole: Sum) -> Compared:
    sessions = events = 0
    differing: list[tuple[LogDigest | None, LogDigest | None]] = []
    count = 0
    async for mine, theirs in _side_by_side(log_digests(one), log_digests(other)):
        if mine is not None:
            sessions, events = sessions + 1, events + mine.count
            whole.add([(mine.session, mine.hex)])
        if mine != theirs:
            count += 1
            if len(differing) < NAMED_MOST:
                differing.append((mine, theirs))
    differences = await _named(one, other, differing)
    if count > len(differing):
        differences.append(f"and {count - len(differing)} more sessions")
    return Compared(0, sessions, events, "", differences)


async def _side_by_side(
    one: AsyncIterator[LogDigest], other: AsyncIterator[LogDigest]
) -> AsyncIterator[tuple[LogDigest | None, LogDigest | None]]:
    """Both in the order of sessions; None if one side has no log of it."""
    mine, theirs = await anext(one, None), await anext(other, None)
    while mine is not None or theirs is not None:
        if theirs is None or (mine is not None and mine.session < theirs.session):
            yield mine, None
            mine = await anext(one, None)
        elif mine is None or theirs.session < mine.session:
            yield None, theirs
            theirs = await anext(other, None)
        else:
            yield mine, theirs
            mine, theirs = await anext(one, None), await anext(other, None)


async def _named(
    one: Side, other: Side, differing: Sequence[tuple[LogDigest | None, LogDigest | None]]
) -> list[str]:
    ids = [log.session for pair in differing if (log := pair[0] or pair[1]) is not None]
    names = await other.session_names(ids) | await one.session_names(ids)
    words = []
    for session, (mine, theirs) in zip(ids, differing, strict=True):
        counts = f"{_count(mine)} events in {one.name}, {_count(theirs)} in {other.name}"
        same = ", and they differ" if _count(mine) == _count(theirs) else ""
        words.append(f"session {names.get(session, session)}: {counts}{same}")
    return words


def _count(digest: LogDigest | None) -> int:
    return digest.count if digest is not None else 0
