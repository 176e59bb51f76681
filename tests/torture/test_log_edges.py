"""The edges of a log that only faults reach: a hang, a hole or a lost text stood at each of them once."""

from __future__ import annotations

import pathlib

from gateway.errors import StoreFull
from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.sessions.log import RESERVE_AHEAD, EventLog
from gateway.stores.compacting import COMPACT_BATCH
from gateway.stores.contract import SessionRecord, Sink
from gateway.stores.memory.logs import MemoryLogs
from gateway.stores.sqlite.store import SqliteStore
from tests.patience import within
from tests.torture.test_cursors import shown
from tests.unit.test_chat import fold_of


class FaultyStore(MemoryLogs):
    """Commits nothing, or reserves nothing, while it is told so."""

    def __init__(self) -> None:
        super().__init__(max_events=10_000, max_bytes=10_000_000)
        self.is_holding = False
        self.is_full = False

    def enqueue(self, sink: Sink, *events: Event, urgent: bool) -> None:
        if not self.is_holding:
            super().enqueue(sink, *events, urgent=urgent)

    async def reserve(self, key: str, upto: int, *, gap: tuple[int, int] | None = None) -> None:
        if self.is_full:
            raise StoreFull
        await super().reserve(key, upto, gap=gap)


async def opened(store: MemoryLogs) -> EventLog:
    log = EventLog(
        "k",
        store=store,
        wall_ms=lambda: 1,
        max_events=10_000,
        max_bytes=10_000_000,
    )
    await log.load()
    return log


async def test_a_reader_at_the_end_waits_while_the_first_event_after_a_crash_is_committed() -> None:
    store = FaultyStore()
    last = (await opened(store)).append(ev.TextDelta("m", "t", "kept"))
    log = await opened(store)
    store.is_holding = True
    log.append(ev.TurnInterrupted("t", "gateway_restarted", "cut"), durable=True)
    assert (await log.read(last, max_bytes=100)).events == []
    assert not await log.wait(last, seconds=0.01)
    assert log.visible_seq == last


async def test_a_refused_number_is_settled_and_no_reader_waits_at_it() -> None:
    store = FaultyStore()
    log = await opened(store)
    last = log.append(ev.TextDelta("m", "t", "said"))
    store.is_holding = True
    refused = log.append(ev.MessageAdded("u", "user", "no room"), durable=True, rejectable=True)
    log.refused(StoreFull())
    async with within(1):
        await log.commit(refused)
    assert log.visible_seq == last
    assert not await log.wait(last, seconds=0.01)
    store.is_holding = False
    log.append(ev.TextDelta("m", "t", "more"))
    assert [event.seq for event in (await log.read(last, max_bytes=999)).events] == [refused + 1]


async def test_numbers_that_could_not_be_reserved_are_asked_for_again() -> None:
    store = FaultyStore()
    log = await opened(store)
    store.is_full = True
    for number in range(RESERVE_AHEAD + 10):
        last = log.append(ev.TextDelta("m", "t", f"{number} "))
    assert log.visible_seq == RESERVE_AHEAD
    store.is_full = False
    async with within(5):
        await log.commit(last)
    assert log.visible_seq == last


async def test_what_is_committed_is_not_refused_although_it_is_not_visible_yet() -> None:
    store = FaultyStore()
    log = await opened(store)
    store.is_full = True
    for _ in range(RESERVE_AHEAD):
        log.append(ev.TextDelta("m", "t", "x"))
    seq = log.append(ev.MessageAdded("u", "user", "on the disk"), durable=True, rejectable=True)
    log.refused(StoreFull())
    store.is_full = False
    async with within(5):
        await log.commit(seq)
    assert log.visible_seq == seq


class _Keeper:
    """A log's end of the store."""

    key = "k"

    def __init__(self) -> None:
        self.seq = 0

    def committed(self, seq: int) -> None:
        self.seq = seq

    def refused(self, error: Exception) -> None:
        raise AssertionError(error)

    def spoiled(self, seqs: set[int], error: Exception) -> None:
        raise AssertionError(error)


async def test_a_turn_longer_than_a_batch_is_compacted_whole(tmp_path: pathlib.Path) -> None:
    store, keeper = SqliteStore(tmp_path / "x.db"), _Keeper()
    await store.open()
    record = SessionRecord(key="k", owner="o", session_id="s1", agent="a", created_at=1, last_active_at=1)
    await store.sessions.create(record)
    turn: list[ev.EventData] = [ev.MessageAdded("u", "user", "q", "t"), ev.TurnStarted("t", "u", "r")]
    turn += [ev.TextDelta("m", "t", f"{number} ") for number in range(2 * COMPACT_BATCH)]
    log = [Event(seq, seq, data) for seq, data in enumerate((*turn, ev.TurnEnded("t", "end_turn")), 1)]
    for event in log:
        store.logs.enqueue(keeper, event, urgent=False)
    assert await store.logs.compact("k", through=log[-1].seq) == 2 * COMPACT_BATCH - 1
    kept = await store.logs.read_events("k", after=0, limit=100)
    assert shown(fold_of(kept)) == shown(fold_of(log))
    await store.close()
