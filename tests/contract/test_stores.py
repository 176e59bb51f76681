"""What every store does alike; the one in memory is the reference."""

from __future__ import annotations

import asyncio
import sys
import tracemalloc
from typing import Any, Final

import msgspec
import pytest

from gateway.errors import GatewayError, SessionExists, SessionNotFound
from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.sessions.log import EventLog
from gateway.stores.contract import Remembered, Store
from gateway.stores.logs import StoredLog
from gateway.stores.memory.store import MemoryStore
from gateway.stores.sessions import Forking, Founding
from tests.contract.engines import Collector, delta, filled, record, tombstone
from tests.patience import within

DAY = 24 * 3600 * 1000
PIECE_CHARACTERS: Final = 10_000
"""Three times as many are in a piece of a long text."""
MOST_BYTES: Final = 5 * 1024 * 1024
"""Of a log of 6 MB while it is compacted, with its events as they are decoded."""


TOGETHER: Final = 200
"""Turns that end, say: so many times several events belong together."""


async def test_a_session_is_found_by_its_owner_and_id(store: Store) -> None:
    await store.sessions.create(record())
    assert await store.sessions.find("t/s", "a") == record()
    assert await store.sessions.find("t/other", "a") is None
    assert await store.sessions.find("t/s", "A") is None
    assert await store.sessions.count() == 1


async def test_an_id_is_taken_once_by_one_owner(store: Store) -> None:
    await store.sessions.create(record())
    with pytest.raises(SessionExists):
        await store.sessions.create(msgspec.structs.replace(record(), key="another"))
    await store.sessions.create(record(owner="t/other"))


async def test_a_refused_creation_takes_nothing_else_with_it(store: Store) -> None:
    await store.sessions.create(record())
    outcomes = await asyncio.gather(
        store.sessions.create(msgspec.structs.replace(record(), key="x")),
        store.sessions.create(record("b")),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], SessionExists)
    assert outcomes[1] is None
    assert await store.sessions.find("t/s", "b") is not None


async def test_a_session_is_created_with_what_its_log_begins_with(store: Store) -> None:
    begun = [Event(41, 5, ev.SessionCreated("a", "built-in")), Event(42, 5, ev.TurnStarted("t", "u", "r"))]
    founding = Founding(reserved_seq=99, gap=(0, 41), events=begun)
    await store.sessions.create(record(), founding)
    assert await store.logs.stand(record().key) == StoredLog(last_seq=42, reserved_seq=99, gaps=((0, 41),))
    found = await store.logs.read_events(record().key, after=0, limit=9)
    assert [(event.seq, event.data) for event in found] == [(event.seq, event.data) for event in begun]
    with pytest.raises(SessionExists):
        await store.sessions.create(msgspec.structs.replace(record(), key="another"), founding)
    assert await store.logs.stand("another") == StoredLog(last_seq=0, reserved_seq=0)


async def test_a_record_is_replaced_with_what_is_committed_next(store: Store) -> None:
    await store.sessions.create(record())
    changed = msgspec.structs.replace(record(), title="T")
    store.sessions.update_soon(changed)
    await store.sessions.create(record("b"))
    assert await store.sessions.find("t/s", "a") == changed
    store.sessions.update_soon(record())
    async with within(5):  # with nothing else it goes by itself
        while await store.sessions.find("t/s", "a") != record():
            await asyncio.sleep(0.01)


async def test_records_are_replaced(store: Store) -> None:
    await store.sessions.create(record())
    changed = msgspec.structs.replace(
        record(),
        title="T",
        agent_session_id="x",
        uid=7,
        message_count=3,
        last_active_at=2,
        retention_days=0.5,
        expires_at=9,
    )
    await store.sessions.update(changed)
    assert await store.sessions.find("t/s", "a") == changed
    assert await store.sessions.taken_uids() == {7}


async def test_sessions_are_listed_last_active_first(store: Store) -> None:
    for name, at in (("a", 1), ("b", 3), ("c", 2)):
        await store.sessions.create(record(name, at=at))
    await store.sessions.create(record("d", owner="t/other", at=9))
    assert [found.session_id for found in await store.sessions.of_owner("t/s", limit=2)] == ["b", "c"]
    newest = await store.sessions.newest("t/s")
    assert newest is not None
    assert newest.session_id == "c"


async def test_sessions_of_all_owners_are_listed_last_active_first(store: Store) -> None:
    for name, owner, at in (("a", "t/s", 1), ("b", "t/other", 3), ("c", "tt/s", 2)):
        await store.sessions.create(record(name, owner=owner, at=at))
    found = await store.sessions.of_all(tenant=None, limit=2)
    assert [(one.owner, one.session_id) for one in found] == [("t/other", "b"), ("tt/s", "c")]
    found = await store.sessions.of_all(tenant="t", limit=9)
    assert [one.session_id for one in found] == ["b", "a"]


async def test_sessions_expire_in_their_order(store: Store) -> None:
    for name, expires_at in (("a", 5), ("b", 3), ("c", None), ("d", 9)):
        await store.sessions.create(
            msgspec.structs.replace(record(name), expires_at=expires_at, retention_days=1.5)
        )
    expired = await store.sessions.expired(9, limit=9)
    assert [(found.session_id, found.retention_days) for found in expired] == [("b", 1.5), ("a", 1.5)]
    await store.sessions.update(msgspec.structs.replace(record("b"), expires_at=20))
    assert [found.session_id for found in await store.sessions.expired(9, limit=9)] == ["a"]


async def test_events_come_back_in_order_above_a_cursor(store: Store) -> None:
    await store.sessions.create(record())
    sink = Collector(record().key)
    events = [delta(seq, str(seq)) for seq in (1, 2, 5, 9)]
    await filled(store, sink, events)
    found = await store.logs.read_events(sink.key, after=2, limit=10)
    assert [(event.seq, event.at, event.body) for event in found] == [
        (e.seq, e.at, e.body) for e in events[2:]
    ]
    assert len(await store.logs.read_events(sink.key, after=0, limit=3)) == 3
    assert await store.logs.read_events(sink.key, after=9, limit=3) == []
    assert (await store.logs.stand(sink.key)).last_seq == 9


async def test_two_sessions_events_do_not_mix(store: Store) -> None:
    sinks = []
    for name in ("a", "b"):
        await store.sessions.create(record(name))
        sinks.append(Collector(record(name).key))
    for seq in range(1, 20):
        for sink in sinks:
            store.logs.enqueue(sink, delta(seq, sink.key), urgent=seq == 19)
    for sink in sinks:
        await sink.until(19)
        found = await store.logs.read_events(sink.key, after=0, limit=100)
        assert {event.data.text for event in found if isinstance(event.data, ev.TextDelta)} == {sink.key}


class Noting(EventLog):
    """A log that notes up to where it is committed, each time."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.steps: list[int] = []

    def committed(self, seq: int) -> None:
        self.steps.append(seq)
        super().committed(seq)


async def test_what_a_log_is_given_together_is_committed_together(store: Store) -> None:
    await store.sessions.create(record())
    log = Noting(
        record().key, store=store.logs, wall_ms=lambda: 1000, on_visible=lambda _event: None,
        on_refused=lambda _seqs, _error: None, on_fenced=lambda: None, max_events=9999, max_bytes=9_000_000,
    )  # fmt: skip
    await log.load()
    first, parts = log.append() + 1, [ev.TextDelta("m", "t1", name) for name in "abc"]
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)  # who writes is in another thread
    try:
        for _ in range(TOGETHER):
            last = log.append(*parts, durable=True)
            await log.commit(last)  # so that who writes waits for the next ones
    finally:
        sys.setswitchinterval(before)
    assert (log.steps[-1], last) == (last, first - 1 + TOGETHER * len(parts))
    assert [seq for seq in log.steps if (seq - first + 1) % len(parts)] == []


async def test_numbers_are_reserved_and_gaps_are_kept(store: Store) -> None:
    await store.sessions.create(record())
    assert (await store.logs.stand(record().key)).reserved_seq == 0
    await store.logs.reserve(record().key, 500)
    await store.logs.reserve(record().key, 900, gap=(3, 501))
    stand = await store.logs.stand(record().key)
    assert (stand.reserved_seq, stand.gaps) == (900, ((3, 501),))


async def test_a_deleted_session_leaves_a_tombstone_and_nothing_else(store: Store) -> None:
    await store.sessions.create(record())
    sink = Collector(record().key)
    await filled(store, sink, [delta(1, "secret")])
    await store.idempotency.remember("t/s", "k", Remembered(body_hash="b", session_id="a"), at=1, since=0)
    await store.sessions.delete(record().key, tombstone())
    assert await store.sessions.find("t/s", "a") is None
    assert await store.logs.read_events(sink.key, after=0, limit=9) == []
    assert await store.tombstones.find("t/s", "h") == tombstone()
    fresh = Remembered(body_hash="new", session_id="a")
    assert await store.idempotency.remember("t/s", "k", fresh, at=2, since=0) == fresh
    await store.sessions.create(record())
    assert await store.logs.read_events(sink.key, after=0, limit=9) == []


async def test_old_tombstones_and_keys_are_forgotten(store: Store) -> None:
    await store.sessions.create(record())
    await store.sessions.delete(record().key, tombstone(at=5))
    kept = Remembered(body_hash="b", session_id="z")
    await store.idempotency.remember("t/s", "k", kept, at=5, since=0)
    await store.idempotency.drop(before=5)
    assert await store.tombstones.drop(before=5) == 0
    assert await store.idempotency.remember("t/s", "k", kept, at=6, since=0) == kept
    assert await store.tombstones.drop(before=6) == 1
    await store.idempotency.drop(before=6)
    assert await store.tombstones.find("t/s", "h") is None
    other = Remembered(body_hash="c", session_id="z")
    assert await store.idempotency.remember("t/s", "k", other, at=7, since=0) == other


async def test_a_key_stands_for_the_first_request_until_it_is_old(store: Store) -> None:
    first, second = Remembered(body_hash="1", session_id="a"), Remembered(body_hash="2", session_id="b")
    assert await store.idempotency.remember("t/s", "k", first, at=100, since=0) == first
    assert await store.idempotency.remember("t/s", "k", second, at=101, since=0) == first
    assert await store.idempotency.remember("t/other", "k", second, at=101, since=0) == second
    assert await store.idempotency.remember("t/s", "k", second, at=102 + DAY, since=102) == second


async def test_what_a_person_chose_of_an_agent_is_kept_until_the_last_session_goes(store: Store) -> None:
    await store.options.choose("t/s", "a", "mode", "plan")
    assert await store.options.chosen("t/s", "a") == {}
    await store.sessions.create(record())
    other = msgspec.structs.replace(record("b"), key="another")
    await store.sessions.create(other)
    await store.options.choose("t/s", "a", "mode", "plan")
    await store.options.choose("t/s", "a", "mode", "ask")
    await store.options.choose("t/s", "a", "fast", value=True)
    await store.options.choose("t/s", "b", "fast", value=False)
    assert await store.options.chosen("t/s", "a") == {"mode": "ask", "fast": True}
    assert await store.options.chosen("t/s", "b") == {"fast": False}
    assert await store.options.chosen("t/other", "a") == {}
    await store.sessions.delete(other.key, tombstone())
    assert await store.options.chosen("t/s", "b") == {"fast": False}
    await store.sessions.delete(record().key, tombstone())
    assert await store.options.chosen("t/s", "a") == {}


async def test_what_one_owner_chose_becomes_anothers_but_for_what_that_one_chose(store: Store) -> None:
    await store.sessions.create(record())
    taker = msgspec.structs.replace(record("b"), key="another", owner="t/taker")
    await store.sessions.create(taker)
    for option, value in (("mode", "plan"), ("model", "m2")):
        await store.options.choose("t/s", "a", option, value)
    await store.options.choose("t/taker", "a", "mode", "ask")
    await store.options.move("t/s", "t/taker")
    assert await store.options.chosen("t/s", "a") == {}
    assert await store.options.chosen("t/taker", "a") == {"mode": "ask", "model": "m2"}
    await store.options.move("t/s", "t/taker")
    assert await store.options.chosen("t/taker", "a") == {"mode": "ask", "model": "m2"}


async def test_compaction_keeps_the_text_and_the_last_seq(store: Store) -> None:
    await store.sessions.create(record())
    sink = Collector(record().key)
    log = [Event(1, 1, ev.TurnStarted("t1", "u", "r")), *[delta(seq, str(seq)) for seq in range(2, 7)]]
    log.append(Event(7, 7, ev.TurnEnded("t1", "end_turn")))
    await filled(store, sink, [*log, delta(8, "later")])
    assert await store.logs.compact(sink.key, through=7) == 4
    found = await store.logs.read_events(sink.key, after=3, limit=9)
    assert [event.seq for event in found] == [6, 7, 8]
    assert found[0].data == ev.MessageAdded("m", "agent", "23456", "t1", False)
    assert await store.logs.compact(sink.key, through=7) == 0


async def test_a_long_text_is_compacted_in_little_memory(store: Store) -> None:
    await store.sessions.create(record())
    sink = Collector(record().key)
    log = [Event(1, 1, ev.TurnStarted("t1", "u", "r")), *[delta(seq, str(seq)) for seq in range(2, 7)]]
    long = [
        Event(seq, seq, ev.TextDelta("long", "t1", f"{seq} " + "🙂 a" * PIECE_CHARACTERS))
        for seq in range(7, 107)
    ]
    log += [
        *long,
        *[delta(seq, "later ") for seq in range(107, 110)],
        Event(110, 110, ev.TurnEnded("t1", "x")),
    ]
    await filled(store, sink, log)
    bodies = {event.seq: event.body for event in long}
    del log, long
    tracemalloc.start()
    try:
        assert await store.logs.compact(sink.key, through=110) == 6
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < MOST_BYTES
    found: list[Event] = []
    while page := await store.logs.read_events(sink.key, after=found[-1].seq if found else 0, limit=999):
        found += page
    assert [event.seq for event in found] == [1, 6, *bodies, 109, 110]
    assert {event.seq: event.body for event in found if event.seq in bodies} == bodies
    assert found[-2].data == ev.MessageAdded("m", "agent", "23456" + 3 * "later ", "t1", False)


async def test_a_sequence_gives_each_number_to_one_caller(store: Store) -> None:
    firsts = await asyncio.gather(*(store.sequences.take("product_chat_messages", 7) for _ in range(20)))
    assert sorted(firsts) == [1 + 7 * place for place in range(20)]
    assert await store.sequences.take("another", 1) == 1


def forking(source: str, through: int) -> Forking:
    return Forking(source=source, through=through, copied=lambda event: event, added=[])


async def test_a_fork_has_its_beginning_and_leaves_the_other_as_it_was(store: Store) -> None:
    await store.sessions.create(record())
    await filled(store, Collector(record().key), [delta(seq, f"{seq} ") for seq in range(1, 30)])
    await store.logs.reserve(record().key, 1000)
    child = record("child", at=2000)

    def without_odd(event: Event) -> Event | None:
        return event if event.seq % 2 == 0 else None

    wanted = Forking(
        source=record().key, through=9, copied=without_odd, added=[delta(10, "end"), delta(11, "!")]
    )
    child = msgspec.structs.replace(child, uploaded_bytes=7)
    kept = await store.sessions.fork(child, wanted)
    assert (kept.parent, kept.stored_bytes) == ("a", await store.logs.size_bytes(child.key) + 7)
    assert (await store.sessions.find("t/s", "child") or record()).uploaded_bytes == 7
    copied = await store.logs.read_events(child.key, after=0, limit=100)
    assert [event.seq for event in copied] == [2, 4, 6, 8, 10, 11]
    assert (await store.logs.stand(child.key)).reserved_seq == 11
    assert len(await store.logs.read_events(record().key, after=0, limit=100)) == 29
    await filled(store, Collector(child.key), [delta(12, "more")])
    assert (await store.logs.read_events(child.key, after=11, limit=9))[0].seq == 12
    assert [one.parent for one in await store.sessions.of_owner("t/s", limit=9)] == ["a", None]

    await store.sessions.adopt(record().key, owner="t/other", session_id="b", keeps_shares=True)
    assert (await store.sessions.find("t/s", "child") or record()).parent is None
    await store.sessions.adopt(child.key, owner="t/other", session_id="child", keeps_shares=True)
    assert (await store.sessions.find("t/other", "child") or record()).parent == "b"
    await store.sessions.delete(record().key, tombstone())
    found = await store.sessions.find("t/other", "child")
    assert found is not None
    assert found.parent is None
    assert len(await store.logs.read_events(child.key, after=0, limit=100)) == 7


async def test_a_fork_that_is_refused_leaves_nothing(store: Store) -> None:
    await store.sessions.create(record())
    await filled(store, Collector(record().key), [delta(1, "x")])
    with pytest.raises(SessionExists):
        await store.sessions.fork(msgspec.structs.replace(record(), key="other"), forking(record().key, 1))
    with pytest.raises(SessionNotFound):
        await store.sessions.fork(record("b"), forking("gone", 1))

    def broken(_event: Event) -> Event | None:
        raise ValueError("cannot be copied")

    wanted = msgspec.structs.replace(forking(record().key, 1), copied=broken)
    with pytest.raises((ValueError, GatewayError)):
        await store.sessions.fork(record("c"), wanted)
    assert await store.sessions.count() == 1
    assert await store.logs.read_events(record("c").key, after=0, limit=9) == []


async def test_it_says_how_much_room_it_takes(store: Store) -> None:
    assert (await store.size_bytes() > 0) != isinstance(store, MemoryStore)
