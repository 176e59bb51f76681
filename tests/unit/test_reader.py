"""The one loop over a log: what a reader is handed, when it waits, and when it ends."""

from __future__ import annotations

import asyncio
import pathlib
import re
from typing import Any, Final

import pytest

from gateway.events import facts as ev
from gateway.events.fold import ChatState, Outside
from gateway.sessions.log import EventLog
from gateway.sessions.reader import Beat, Events, Gap, Item, Shelf, changes, follow, pause
from gateway.stores.contract import SessionRecord
from gateway.stores.memory.logs import MemoryLogs

GATEWAY: Final = pathlib.Path(__file__).parent.parent.parent / "gateway"


async def source_of(store: MemoryLogs | None = None, *, max_events: int = 1000, **kwargs: Any) -> Shelf:
    """A log as views read it, with the fold of what is visible."""
    fold = ChatState("s")
    log = EventLog(
        "key",
        store=store or MemoryLogs(max_events=10_000, max_bytes=10_000_000),
        wall_ms=lambda: 1,
        on_visible=fold.apply,
        max_events=max_events,
        max_bytes=10_000_000,
    )
    await log.load(**kwargs)
    record = SessionRecord(key="key", owner="o", session_id="s", agent="a", created_at=1, last_active_at=1)
    return Shelf(record, fold, log, Outside())


def say(source: Shelf, *texts: str) -> None:
    for text in texts:
        source.log.append(ev.TextDelta("m", "t", text))


def texts(item: Item) -> list[str]:
    assert isinstance(item, Events)
    return [event.data.text for event in item.events if isinstance(event.data, ev.TextDelta)]


async def test_a_reader_gets_everything_once_and_ends_when_the_log_is_closed() -> None:
    source, seen = await source_of(max_events=4), list[str]()
    say(source, *(str(number) for number in range(50)))
    async for item in follow(source, 0, page_bytes=2_000):
        seen += texts(item)
        if len(seen) in (50, 51):
            say(source, "later")
        if len(seen) > 51:
            source.log.close()
    assert seen == [*(str(number) for number in range(50)), "later", "later"]


async def test_a_reader_that_waits_holds_no_event() -> None:
    source = await source_of()
    say(source, "a", "b")
    reader = follow(source, 0, beat_seconds=0.01)
    item = await anext(reader)
    assert texts(item) == ["a", "b"]
    assert isinstance(await anext(reader), Beat)
    assert texts(item) == []


async def test_a_cursor_that_cannot_be_served_is_a_gap_and_the_reader_goes_on_from_there() -> None:
    source = await source_of()
    say(source, "a")
    reader = follow(source, 900)
    assert await anext(reader) == Gap(source.log.visible_seq)
    say(source, "b")
    assert texts(await anext(reader)) == ["b"]


async def test_who_is_woken_though_nothing_is_new_gets_a_beat() -> None:
    source = await source_of()
    reader = follow(source, 0)
    waiting = asyncio.ensure_future(anext(reader))
    await asyncio.sleep(0)
    source.log.wake()
    assert isinstance(await waiting, Beat)


async def test_a_reader_up_to_a_number_does_not_wait_and_gets_nothing_beyond() -> None:
    source, seen = await source_of(), list[str]()
    say(source, "a", "b")
    through = source.log.visible_seq
    say(source, "c")
    async for item in follow(source, 0, through=through):
        seen += texts(item)
    assert seen == ["a", "b"]
    assert [item async for item in follow(source, 900, through=901)] == [Gap(source.log.visible_seq)]


async def test_a_stored_session_is_read_to_its_end() -> None:
    store = MemoryLogs(max_events=10_000, max_bytes=10_000_000)
    live = await source_of(store)
    say(live, "a", "b")
    await live.log.written()
    stored = await source_of(store, is_reading_only=True)
    assert [texts(item) async for item in follow(stored, 0)] == [["a", "b"]]
    assert [item async for item in changes(stored, beat_seconds=1)] == [Events([], 2)]


async def test_changes_are_told_at_once_and_merged_while_the_reader_is_busy() -> None:
    source = await source_of()
    reader = changes(source, beat_seconds=0.01)
    assert await anext(reader) == Events([], 0)
    say(source, "a", "b", "c")
    assert await anext(reader) == Events([], 3)
    assert isinstance(await anext(reader), Beat)
    source.log.close()
    with pytest.raises(StopAsyncIteration):
        await anext(reader)


async def test_a_pause_ends_early_if_something_that_is_due_is_appended() -> None:
    source = await source_of()
    clock = asyncio.get_running_loop().time
    began = clock()
    waiting = asyncio.ensure_future(
        pause(source, until=began + 60, is_due=lambda: source.log.visible_seq >= 2)
    )
    await asyncio.sleep(0)
    say(source, "a")
    await asyncio.sleep(0)
    assert not waiting.done()
    say(source, "b")
    await waiting
    assert clock() - began < 30


def test_no_other_module_follows_a_log() -> None:
    loops = {
        str(path.relative_to(GATEWAY))
        for path in GATEWAY.rglob("*.py")
        if re.search(r"\b(log|events)\.(read|wait)\(", path.read_text())
    }
    assert loops == {"sessions/reader.py"}
