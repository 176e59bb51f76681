"""The log: visibility, cursors, gaps, and what a refused write leaves."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec import Raw

from gateway.errors import GatewayError, SessionEnded, SessionFenced, StoreFull
from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.events.fold import Elsewhere
from gateway.sessions.log import RESERVE_AHEAD, EventLog, Tails
from gateway.stores.contract import READ_BYTES, Sink
from gateway.stores.memory.logs import MemoryLogs
from tests.patience import within


class SlowStore(MemoryLogs):
    """Commits when told to, refuses when told to."""

    def __init__(self) -> None:
        super().__init__(max_events=10_000, max_bytes=10_000_000)
        self.waiting: list[tuple[Sink, Event]] = []

    def enqueue(self, sink: Sink, *events: Event, urgent: bool) -> None:
        self.waiting += [(sink, event) for event in events]

    def commit(self) -> None:
        waiting, self.waiting = self.waiting, []
        for sink, event in waiting:
            super().enqueue(sink, event, urgent=True)

    def refuse(self) -> None:
        for sink in {sink for sink, _ in self.waiting}:
            sink.refused(StoreFull())

    def forget(self, sink: Sink, seqs: set[int]) -> None:
        self.waiting = [(s, event) for s, event in self.waiting if s is not sink or event.seq not in seqs]


class Seen:
    """What became visible, and what was refused."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.refused: set[int] = set()

    def refuse(self, seqs: set[int], error: GatewayError) -> None:
        self.refused |= seqs


async def log_of(
    store: MemoryLogs,
    seen: Seen,
    *,
    max_events: int = 1000,
    on_fenced: Callable[[], None] = lambda: None,
    **kwargs: Any,
) -> EventLog:
    log = EventLog(
        "key",
        store=store,
        wall_ms=lambda: 1000,
        on_visible=seen.events.append,
        on_refused=seen.refuse,
        on_fenced=on_fenced,
        max_events=max_events,
        max_bytes=10_000_000,
    )
    await log.load(**kwargs)
    return log


def text(value: str) -> ev.TextDelta:
    return ev.TextDelta("m", "t", value)


def texts(events: list[Event]) -> list[str]:
    return [event.data.text for event in events if isinstance(event.data, ev.TextDelta)]


async def test_while_the_gateway_may_not_work_everything_is_hidden_until_it_is_committed() -> None:
    store, seen, may = SlowStore(), Seen(), [True]
    log = await log_of(store, seen)
    log._may_work = lambda: may[0]
    log.append(text("a"))
    may[0] = False
    log.append(text("b"))
    may[0] = True
    log.append(text("c"))
    assert texts(seen.events) == ["a"]
    store.commit()
    assert texts(seen.events) == ["a", "b", "c"]


async def test_an_event_is_visible_at_once_and_a_durable_one_when_it_is_committed() -> None:
    store, seen = SlowStore(), Seen()
    log = await log_of(store, seen)
    log.append(text("a"))
    assert texts(seen.events) == ["a"]
    log.append(text("b"), durable=True)
    log.append(text("c"))
    assert texts(seen.events) == ["a"]
    assert texts((await log.read(0, max_bytes=9999)).events) == ["a"]
    store.commit()
    assert texts(seen.events) == ["a", "b", "c"]
    assert texts((await log.read(1, max_bytes=9999)).events) == ["b", "c"]


async def test_a_refused_event_was_never_seen_and_its_caller_is_told() -> None:
    store, seen = SlowStore(), Seen()
    log = await log_of(store, seen)
    log.append(text("agent"))
    seq = log.append(text("user"), durable=True, rejectable=True)
    waiting = asyncio.create_task(log.commit(seq))
    await asyncio.sleep(0)
    store.refuse()
    with pytest.raises(StoreFull):
        await waiting
    assert seen.refused == {seq}
    log.append(text("more"))
    store.commit()
    assert texts(seen.events) == ["agent", "more"]
    assert texts((await log.read(0, max_bytes=9999)).events) == ["agent", "more"]


async def test_what_the_agent_said_is_kept_when_a_write_is_refused() -> None:
    store, seen = SlowStore(), Seen()
    log = await log_of(store, seen)
    log.append(text("end"), durable=True)
    store.refuse()
    assert seen.refused == set()
    store.commit()
    assert texts(seen.events) == ["end"]


async def test_a_reader_waits_and_is_woken() -> None:
    log = await log_of(MemoryLogs(max_events=100, max_bytes=100_000), Seen())
    waiting = asyncio.create_task(log.wait(0))
    await asyncio.sleep(0)
    assert not waiting.done()
    log.append(text("a"))
    async with within(1):
        await waiting


async def test_closing_wakes_everybody() -> None:
    store = SlowStore()
    log = await log_of(store, Seen())
    reader = asyncio.create_task(log.wait(0))
    writer = asyncio.create_task(log.commit(log.append(text("a"), durable=True)))
    await asyncio.sleep(0)
    log.close()
    await reader
    with pytest.raises(SessionEnded):
        await writer


async def test_an_old_cursor_reads_from_the_store() -> None:
    log = await log_of(MemoryLogs(max_events=10_000, max_bytes=10_000_000), Seen(), max_events=10)
    for n in range(1, 101):
        log.append(text(str(n)))
    found: list[str] = []
    cursor = 0
    while (page := await log.read(cursor, max_bytes=3000)).events:
        found += texts(page.events)
        cursor = page.events[-1].seq
    assert found == [str(n) for n in range(1, 101)]


async def test_a_cursor_before_what_is_kept_is_a_gap() -> None:
    log = await log_of(MemoryLogs(max_events=20, max_bytes=10_000_000), Seen(), max_events=10)
    for n in range(1, 101):
        log.append(text(str(n)))
    assert (await log.read(5, max_bytes=9999)).is_gap
    assert not (await log.read(95, max_bytes=9999)).is_gap


async def test_a_cursor_that_nobody_gave_out_is_a_gap() -> None:
    log = await log_of(MemoryLogs(max_events=20, max_bytes=10_000), Seen())
    log.append(text("a"))
    assert (await log.read(2**62, max_bytes=9999)).is_gap


async def test_after_a_crash_burnt_numbers_are_gaps_in_every_later_life() -> None:
    store = SlowStore()
    log = await log_of(store, Seen())
    log.append(text("kept"))
    store.commit()
    log.append(text("seen, then lost"))
    store.waiting.clear()
    seen = Seen()
    for _ in range(2):
        seen = Seen()
        log = await log_of(store, seen)
        log.append(text("new"))
        store.commit()
        assert (await log.read(2, max_bytes=9999)).is_gap
        assert not (await log.read(1, max_bytes=9999)).is_gap
    assert texts(seen.events) == ["kept", "new", "new"]
    assert log.visible_seq > 2 * RESERVE_AHEAD


async def test_what_is_appended_while_numbers_are_reserved_gets_its_numbers_too() -> None:
    class Reserving(MemoryLogs):
        may = asyncio.Event()

        async def reserve(self, key: str, upto: int, *, gap: tuple[int, int] | None = None) -> None:
            await self.may.wait()
            await super().reserve(key, upto, gap=gap)

    store = Reserving(max_events=100_000, max_bytes=100_000_000)
    store.may.set()
    log = await log_of(store, Seen(), max_events=100_000)
    store.may.clear()
    for _ in range(4):
        log.append(*[text("a")] * RESERVE_AHEAD)
        await asyncio.sleep(0)
    store.may.set()
    async with within(5):
        await log.commit(log.last_seq)
    assert log.visible_seq == 4 * RESERVE_AHEAD


async def test_a_life_that_ended_well_leaves_no_gap() -> None:
    store = MemoryLogs(max_events=100, max_bytes=100_000)
    log = await log_of(store, Seen())
    log.append(text("a"))
    await log.release()
    log.close()
    log = await log_of(store, Seen())
    assert log.append(text("b")) == 2
    assert texts((await log.read(0, max_bytes=9999)).events) == ["a", "b"]


async def test_a_log_made_anew_goes_on_after_the_deleted_one() -> None:
    log = EventLog(
        "key",
        store=MemoryLogs(max_events=10, max_bytes=10_000),
        wall_ms=lambda: 1,
        max_events=10,
        max_bytes=10_000,
    )
    log.begin_above(40)
    await log.load()
    assert (await log.read(40, max_bytes=99)).is_gap
    assert log.append(text("a")) == 41
    assert (await log.read(17, max_bytes=99)).is_gap


async def test_all_logs_together_keep_a_bounded_tail_and_read_the_rest_from_the_store() -> None:
    tails, logs = Tails(3_000, each_bytes=1_000), []
    for name in range(5):
        store = MemoryLogs(max_events=1_000, max_bytes=10_000_000)
        log = EventLog(
            f"log {name}",
            store=store,
            wall_ms=lambda: 1,
            max_events=1_000,
            max_bytes=10_000_000,
            tails=tails,
        )
        await log.load()
        logs.append(log)
    for number in range(40):
        for log in logs:
            log.append(text(f"{number}"))
            await log.written()
    assert tails.bytes <= 3_000 + len(logs) * 1_000
    for log in logs:
        assert texts((await log.read(0, max_bytes=1_000_000)).events) == [str(n) for n in range(40)]
        log.close()
    assert tails.bytes == 0


class Slow(MemoryLogs):
    """Commits nothing before it is told to."""

    def __init__(self) -> None:
        super().__init__(max_events=1_000, max_bytes=10_000_000)
        self.waiting: list[tuple[Sink, int]] = []

    def enqueue(self, sink: Sink, *events: ev.Event, urgent: bool) -> None:
        self.waiting += [(sink, event.seq) for event in events]

    def commit(self) -> None:
        """Everything that waits."""
        waiting, self.waiting = self.waiting, []
        for sink, seq in waiting:
            sink.committed(seq)


async def test_a_log_waits_for_the_disk_with_its_share_once_all_together_have_too_much_open() -> None:
    tails, logs, store = Tails(each_bytes=1_000, open_bytes=5_000), [], Slow()
    for name in range(3):
        log = EventLog(
            f"log {name}",
            store=store,
            wall_ms=lambda: 1,
            max_events=1_000,
            max_bytes=10_000_000,
            tails=tails,
        )
        await log.load()
        logs.append(log)
    large, small, quiet = logs
    large.append(*[text("a" * 100)] * 10)
    assert 1_000 < large.open_bytes < 5_000
    assert not large.is_ahead(100_000), "all together have little open"
    assert large.is_ahead(2_000), "its own bound"
    small.append(*[text("b" * 100)] * 10)
    quiet.append(text("c"))
    assert tails.open_bytes == sum(log.open_bytes for log in logs) > 5_000
    assert [log.is_ahead(100_000) for log in logs] == [True, True, False]
    store.commit()
    assert tails.open_bytes == 0
    assert not any(log.is_ahead(100_000) for log in logs)
    large.append(text("d"))
    large.close()
    assert tails.open_bytes == 0, "what a closed log still owes keeps nobody waiting"
    store.commit()
    assert tails.open_bytes == 0
    small.append(text("e"))
    small.fence()
    small.close()
    assert tails.open_bytes == 0, "nor does what a log owed whose session another gateway has"


def test_an_event_that_was_seen_is_kept_once() -> None:
    call = ev.ToolCall("c", "t", title="ls", raw_input=Raw(b'{"a":1}'))
    event = Event.said(1, 1, call)
    event.slim()
    assert event._data is None
    assert event.data == call


async def test_what_waits_for_the_disk_hears_of_it_although_the_log_is_closed() -> None:
    store, done = SlowStore(), []
    log = await log_of(store, Seen())
    log.when_written(lambda: done.append("nothing waited"))
    log.append(text("a"))
    log.when_written(lambda: done.append("a"))
    log.append(text("refused"), durable=True, rejectable=True)
    log.when_written(lambda: done.append("what is never written"))
    log.close()
    await log.written()
    assert done == ["nothing waited"]
    store.refuse()
    store.commit()
    assert done == ["nothing waited", "a", "what is never written"]


async def test_time_never_goes_back() -> None:
    now = [2000]
    log = EventLog(
        "key",
        store=MemoryLogs(max_events=10, max_bytes=10_000),
        wall_ms=lambda: now[0],
        max_events=10,
        max_bytes=10_000,
    )
    await log.load()
    log.append(text("a"))
    now[0] = 1000
    log.append(text("b"))
    assert [event.at for event in (await log.read(0, max_bytes=9999)).events] == [2000, 2000]


async def test_readers_of_a_large_event_on_disk_hold_one_copy() -> None:
    class Copying(MemoryLogs):
        async def read_events(
            self, key: str, *, after: int, limit: int, max_bytes: int = READ_BYTES
        ) -> list[Event]:
            found = await super().read_events(key, after=after, limit=limit, max_bytes=max_bytes)
            return [Event.stored(event.seq, event.at, bytes(bytearray(event.body))) for event in found]

    log = await log_of(Copying(max_events=10_000, max_bytes=100_000_000), Seen(), max_events=2)
    log.append(text("x" * 2_000_000), *[text("y")] * 5)
    pages = [await log.read(0, max_bytes=100_000)]
    await asyncio.sleep(0)
    log._pages.clear()  # as time does
    pages += [await log.read(0, max_bytes=100_000) for _ in range(3)]
    assert all(page.events[0] is pages[0].events[0] for page in pages)


async def test_readers_of_a_value_on_disk_hold_one_event() -> None:
    class Counting(MemoryLogs):
        reads = -1  # the log is loaded once

        async def read_events(
            self, key: str, *, after: int, limit: int, max_bytes: int = READ_BYTES
        ) -> list[Event]:
            self.reads += 1
            found = await super().read_events(key, after=after, limit=limit, max_bytes=max_bytes)
            return [Event.stored(event.seq, event.at, bytes(bytearray(event.body))) for event in found]

    store = Counting(max_events=10_000, max_bytes=100_000_000)
    log = await log_of(store, Seen(), max_events=2)
    picture = b'["' + b"x" * 2_000_000 + b'"]'
    log.append(ev.ContentBlock("b", "t", Raw(picture)), *[text("y")] * 5)
    values = []
    for _ in range(3):
        values.append(await log.value(Elsewhere(1, "content"), slice_bytes=32_768))
        assert next(values[-1]) == picture[:32_768]
        await asyncio.sleep(0)
        log._pages.clear()  # as time does
    assert store.reads == 1
    assert b"".join(values[0]) == picture[32_768:]
    assert list(await log.value(Elsewhere(99, "content"), slice_bytes=32_768)) == [b"null"]


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Nothing is freed but what nothing refers to."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Owner:
    """Holds its log and hears all that the log has to say, as a session does."""

    def __init__(self, store: MemoryLogs) -> None:
        self.log = EventLog(
            "key",
            store=store,
            wall_ms=lambda: 1000,
            on_visible=self.hear,
            on_refused=self.hear,
            on_spoiled=self.hear,
            max_events=10,
            max_bytes=10_000,
        )

    def hear(self, *_: object) -> None:
        return


async def test_a_log_that_has_ended_is_freed_without_the_collector(uncollected: None) -> None:
    owner = Owner(MemoryLogs(max_events=10, max_bytes=10_000))
    await owner.log.load()
    owner.log.append(text("a"))
    owner.log.close()
    left = weakref.ref(owner)
    del owner
    assert left() is None


class Counting(MemoryLogs):
    """Counts what is read of it."""

    reads = 0

    async def read_events(
        self, key: str, *, after: int, limit: int, max_bytes: int = READ_BYTES
    ) -> list[Event]:
        self.reads += 1
        await asyncio.sleep(0)
        return await super().read_events(key, after=after, limit=limit, max_bytes=max_bytes)


async def test_readers_at_one_place_read_the_store_once_and_ahead() -> None:
    store = Counting(max_events=10_000, max_bytes=10_000_000)
    log = await log_of(store, Seen(), max_events=2)
    log.append(*[text("x" * 1000)] * 100)
    before = store.reads

    async def follow() -> list[Event]:
        seen: list[Event] = []
        while len(seen) < 100:
            page = await log.read(seen[-1].seq if seen else 0, max_bytes=10_000, ahead_bytes=200_000)
            assert 0 < len(page.events) <= 10
            seen += page.events
        return seen

    first, *others = await asyncio.gather(*(follow() for _ in range(5)))
    assert all(map(list.__eq__, [first] * 4, others))
    assert store.reads == before + 1


async def test_what_is_made_of_the_same_events_is_made_once() -> None:
    log = await log_of(MemoryLogs(max_events=10, max_bytes=10_000), Seen())
    log.append(text("a"), text("b"))
    events = (await log.read(0, max_bytes=9999)).events
    made = log.shared.get(events, lambda found: (b"".join(event.frame for event in found),))
    assert log.shared.get(list(events), lambda _: (b"again",)) is made
    others = [Event.stored(event.seq, event.at, event.body) for event in events]
    assert log.shared.get(others, lambda _: (b"of others",)) == (b"of others",)


async def test_a_long_text_is_kept_once_and_can_still_be_read() -> None:
    log = await log_of(MemoryLogs(max_events=10, max_bytes=10_000_000), Seen())
    log.append(text("long" * 10_000), text("short"))
    long, short = (await log.read(0, max_bytes=999_999)).events
    assert long.data is not long.data
    assert long.data == text("long" * 10_000)
    assert short.data is short.data
    assert long.type == "text_delta"


async def test_a_full_tail_is_trimmed_a_little_at_a_time() -> None:
    """What goes at once stops everything else meanwhile."""
    log = await log_of(MemoryLogs(max_events=10_000, max_bytes=10_000_000), Seen(), max_events=80)
    kept = []
    for number in range(400):
        log.append(text(f"{number}"))
        await log.written()
        log.append(text(","))
        kept.append(len(log._tail))
    assert max(kept) <= 80 + 2
    assert min(kept[80:]) >= 70 - 1
    assert "".join(texts((await log.read(0, max_bytes=1_000_000)).events)) == "".join(
        f"{number}," for number in range(400)
    )
    log.close()


async def test_a_thousand_readers_of_one_log_see_everything_once_whoever_falls_behind() -> None:
    log = await log_of(MemoryLogs(max_events=10_000, max_bytes=10_000_000), Seen())
    shown: list[list[int]] = [[] for _ in range(1_000)]

    async def read(number: int) -> None:
        def show(events: list[Event]) -> bool:
            if events[-1].seq % 7 == number % 7 and number % 3 == 0:
                return False  # its connection is full
            shown[number].extend(event.seq for event in events)
            return True

        cursor = 0
        while not log.is_closed or cursor < log.visible_seq:
            page = await log.read(cursor, max_bytes=1_000)
            shown[number].extend(event.seq for event in page.events)
            cursor = page.events[-1].seq if page.events else await log.attend(cursor, show)

    readers = [asyncio.create_task(read(number)) for number in range(len(shown))]
    async with within(60):
        for number in range(30):
            log.append(text(f"{number}"))
            if number % 4 == 0:
                await asyncio.sleep(0)
        log.close()
        await asyncio.gather(*readers)
    assert all(seqs == list(range(1, 31)) for seqs in shown)


async def test_a_log_whose_session_another_gateway_has_says_nothing_more() -> None:
    store, seen, ends = SlowStore(), Seen(), list[str]()
    log = await log_of(store, seen, on_fenced=lambda: ends.append("fenced"))
    kept = log.append(text("kept"), durable=True)
    store.commit()
    shown = log.append(text("shown"))
    saying = asyncio.create_task(log.say(text("refused")))
    await asyncio.sleep(0)
    for sink, _ in store.waiting[:1]:
        sink.refused(SessionFenced())
        sink.refused(SessionFenced())
    with pytest.raises(SessionFenced):
        await saying
    assert ends == ["fenced"]
    await log.commit(kept)
    for late in (shown, log.append(text("late"), durable=True), log.last_seq):
        with pytest.raises(SessionFenced):
            await log.commit(late)
    log.show(text("late"))
    assert texts(seen.events) == ["kept", "shown"]
    assert log.is_settled
    waiting = len(store.waiting)
    await log.release()
    log.close()
    assert (len(store.waiting), (await store.stand("key")).reserved_seq) == (waiting, RESERVE_AHEAD)
