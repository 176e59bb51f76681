"""What every store does alike; the one in memory is the reference."""

from __future__ import annotations

import asyncio
import functools
import pathlib
import random
import sqlite3
from collections.abc import AsyncIterator

import msgspec
import pytest

from gateway.config.applications import installed
from gateway.errors import GatewayError, SessionExists, StoreFailed
from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.stores.contract import Remembered, SessionRecord, Store, Tombstone
from gateway.stores.memory.store import MemoryStore
from gateway.stores.sqlite import log as sqlite_log
from gateway.stores.sqlite import writer
from gateway.stores.sqlite.own_tables import scripts
from gateway.stores.sqlite.store import SqliteStore, numbered

DAY = 24 * 3600 * 1000


class Collector:
    """A log's end that only notes what it is told."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.seq = 0
        self.refusals: list[GatewayError] = []
        self.lost: set[int] = set()
        self._changed = asyncio.Event()

    def committed(self, seq: int) -> None:
        self.seq = seq
        self._changed.set()

    def refused(self, error: GatewayError) -> None:
        self.refusals.append(error)
        self._changed.set()

    def spoiled(self, seqs: set[int], error: GatewayError) -> None:
        self.lost |= seqs

    async def until(self, seq: int) -> None:
        async with asyncio.timeout(5):
            while self.seq < seq:
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture(params=["memory", "sqlite", "sqlite, settled at once"])
async def store(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Store]:
    made: Store
    if request.param == "memory":
        made = MemoryStore(max_events=1000, max_bytes=10_000_000)
    else:
        made = SqliteStore(tmp_path / "gateway.db")
    if request.param == "sqlite, settled at once":
        monkeypatch.setattr(writer, "SETTLE_ROWS", 1)
    await made.open()
    yield made
    await made.close()


def record(name: str = "a", *, owner: str = "t/s", at: int = 1000) -> SessionRecord:
    return SessionRecord(
        key=f"key-{owner}-{name}",
        owner=owner,
        session_id=name,
        agent="built-in",
        created_at=at,
        last_active_at=at,
    )


def delta(seq: int, text: str, *, name: str = "m") -> Event:
    return Event(seq, 1000 + seq, ev.TextDelta(name, "t1", text))


async def filled(store: Store, sink: Collector, events: list[Event]) -> None:
    for event in events:
        store.enqueue(sink, event, urgent=event is events[-1])
    await sink.until(events[-1].seq)


def tombstone(owner: str = "t/s", *, at: int = 5) -> Tombstone:
    return Tombstone(owner=owner, session_hash="h", last_seq=9, at=at, reason="deleted")


async def test_a_session_is_found_by_its_owner_and_id(store: Store) -> None:
    await store.create_session(record())
    assert await store.find_session("t/s", "a") == record()
    assert await store.find_session("t/other", "a") is None
    assert await store.find_session("t/s", "A") is None
    assert await store.count_sessions() == 1


async def test_an_id_is_taken_once_by_one_owner(store: Store) -> None:
    await store.create_session(record())
    with pytest.raises(SessionExists):
        await store.create_session(msgspec.structs.replace(record(), key="another"))
    await store.create_session(record(owner="t/other"))


async def test_a_refused_creation_takes_nothing_else_with_it(store: Store) -> None:
    await store.create_session(record())
    outcomes = await asyncio.gather(
        store.create_session(msgspec.structs.replace(record(), key="x")),
        store.create_session(record("b")),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], SessionExists)
    assert outcomes[1] is None
    assert await store.find_session("t/s", "b") is not None


async def test_records_are_replaced(store: Store) -> None:
    await store.create_session(record())
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
    await store.update_session(changed)
    assert await store.find_session("t/s", "a") == changed
    assert await store.taken_uids() == {7}


async def test_sessions_are_listed_last_active_first(store: Store) -> None:
    for name, at in (("a", 1), ("b", 3), ("c", 2)):
        await store.create_session(record(name, at=at))
    await store.create_session(record("d", owner="t/other", at=9))
    assert [found.session_id for found in await store.list_sessions("t/s", limit=2)] == ["b", "c"]
    newest = await store.newest_session("t/s")
    assert newest is not None
    assert newest.session_id == "c"


async def test_sessions_of_all_owners_are_listed_last_active_first(store: Store) -> None:
    for name, owner, at in (("a", "t/s", 1), ("b", "t/other", 3), ("c", "tt/s", 2)):
        await store.create_session(record(name, owner=owner, at=at))
    found = await store.list_all_sessions(tenant=None, limit=2)
    assert [(one.owner, one.session_id) for one in found] == [("t/other", "b"), ("tt/s", "c")]
    found = await store.list_all_sessions(tenant="t", limit=9)
    assert [one.session_id for one in found] == ["b", "a"]


async def test_sessions_expire_in_their_order(store: Store) -> None:
    for name, expires_at in (("a", 5), ("b", 3), ("c", None), ("d", 9)):
        await store.create_session(
            msgspec.structs.replace(record(name), expires_at=expires_at, retention_days=1.5)
        )
    expired = await store.expired_sessions(9, limit=9)
    assert [(found.session_id, found.retention_days) for found in expired] == [("b", 1.5), ("a", 1.5)]
    await store.update_session(msgspec.structs.replace(record("b"), expires_at=20))
    assert [found.session_id for found in await store.expired_sessions(9, limit=9)] == ["a"]


async def test_events_come_back_in_order_above_a_cursor(store: Store) -> None:
    await store.create_session(record())
    sink = Collector(record().key)
    events = [delta(seq, str(seq)) for seq in (1, 2, 5, 9)]
    await filled(store, sink, events)
    found = await store.read_events(sink.key, after=2, limit=10)
    assert [(event.seq, event.at, event.body) for event in found] == [
        (e.seq, e.at, e.body) for e in events[2:]
    ]
    assert len(await store.read_events(sink.key, after=0, limit=3)) == 3
    assert await store.read_events(sink.key, after=9, limit=3) == []
    assert (await store.stand(sink.key)).last_seq == 9


async def test_two_sessions_events_do_not_mix(store: Store) -> None:
    sinks = []
    for name in ("a", "b"):
        await store.create_session(record(name))
        sinks.append(Collector(record(name).key))
    for seq in range(1, 20):
        for sink in sinks:
            store.enqueue(sink, delta(seq, sink.key), urgent=seq == 19)
    for sink in sinks:
        await sink.until(19)
        found = await store.read_events(sink.key, after=0, limit=100)
        assert {event.data.text for event in found if isinstance(event.data, ev.TextDelta)} == {sink.key}


async def test_numbers_are_reserved_and_gaps_are_kept(store: Store) -> None:
    await store.create_session(record())
    assert (await store.stand(record().key)).reserved_seq == 0
    await store.reserve(record().key, 500)
    await store.reserve(record().key, 900, gap=(3, 501))
    stand = await store.stand(record().key)
    assert (stand.reserved_seq, stand.gaps) == (900, ((3, 501),))


async def test_a_deleted_session_leaves_a_tombstone_and_nothing_else(store: Store) -> None:
    await store.create_session(record())
    sink = Collector(record().key)
    await filled(store, sink, [delta(1, "secret")])
    await store.remember("t/s", "k", Remembered(body_hash="b", session_id="a"), at=1, since=0)
    await store.delete_session(record().key, tombstone())
    assert await store.find_session("t/s", "a") is None
    assert await store.read_events(sink.key, after=0, limit=9) == []
    assert await store.find_tombstone("t/s", "h") == tombstone()
    fresh = Remembered(body_hash="new", session_id="a")
    assert await store.remember("t/s", "k", fresh, at=2, since=0) == fresh
    await store.create_session(record())
    assert await store.read_events(sink.key, after=0, limit=9) == []


async def test_old_tombstones_and_keys_are_forgotten(store: Store) -> None:
    await store.create_session(record())
    await store.delete_session(record().key, tombstone(at=5))
    kept = Remembered(body_hash="b", session_id="z")
    await store.remember("t/s", "k", kept, at=5, since=0)
    assert await store.drop_old(tombstones_before=5, keys_before=5) == 0
    assert await store.drop_old(tombstones_before=6, keys_before=6) == 1
    assert await store.find_tombstone("t/s", "h") is None
    other = Remembered(body_hash="c", session_id="z")
    assert await store.remember("t/s", "k", other, at=7, since=0) == other


async def test_a_key_stands_for_the_first_request_until_it_is_old(store: Store) -> None:
    first, second = Remembered(body_hash="1", session_id="a"), Remembered(body_hash="2", session_id="b")
    assert await store.remember("t/s", "k", first, at=100, since=0) == first
    assert await store.remember("t/s", "k", second, at=101, since=0) == first
    assert await store.remember("t/other", "k", second, at=101, since=0) == second
    assert await store.remember("t/s", "k", second, at=102 + DAY, since=102) == second


async def test_compaction_keeps_the_text_and_the_last_seq(store: Store) -> None:
    await store.create_session(record())
    sink = Collector(record().key)
    log = [Event(1, 1, ev.TurnStarted("t1", "u", "r")), *[delta(seq, str(seq)) for seq in range(2, 7)]]
    log.append(Event(7, 7, ev.TurnEnded("t1", "end_turn")))
    await filled(store, sink, [*log, delta(8, "later")])
    assert await store.compact(sink.key, through=7) == 4
    found = await store.read_events(sink.key, after=3, limit=9)
    assert [event.seq for event in found] == [6, 7, 8]
    assert found[0].data == ev.MessageAdded("m", "agent", "23456", "t1", False)
    assert await store.compact(sink.key, through=7) == 0


# -- what only a file does --------------------------------------------------------------------------------


async def test_everything_is_there_after_a_restart(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "gateway.db"
    first = SqliteStore(path)
    await first.open()
    await first.create_session(record())
    sink = Collector(record().key)
    await filled(first, sink, [Event(1, 1, ev.TurnStarted("t", "u", "r")), delta(2, "x")])
    await first.close()
    second = SqliteStore(path)
    await second.open()
    assert await second.find_session("t/s", "a") == record()
    assert [event.seq for event in await second.read_events(sink.key, after=0, limit=9)] == [1, 2]
    assert [found.session_id for found in await second.sessions_with_open_turn()] == ["a"]
    await second.close()


async def test_what_was_enqueued_is_written_before_the_store_closes(tmp_path: pathlib.Path) -> None:
    store = SqliteStore(tmp_path / "gateway.db")
    await store.open()
    await store.create_session(record())
    sink = Collector(record().key)
    for seq in range(1, 500):
        store.enqueue(sink, delta(seq, "x"), urgent=False)
    await store.close()
    again = SqliteStore(tmp_path / "gateway.db")
    await again.open()
    found = await again.read_events(sink.key, after=0, limit=1000)
    await again.close()
    assert [event.seq for event in found] == list(range(1, 500))


@pytest.mark.parametrize("has_settled", [True, False])
async def test_a_deleted_text_is_not_in_the_file(tmp_path: pathlib.Path, has_settled: bool) -> None:
    store = SqliteStore(tmp_path / "gateway.db")
    await store.open()
    await store.create_session(record())
    sink = Collector(record().key)
    await filled(store, sink, [delta(1, "CANARY-7f3a")])
    if has_settled:
        await store.write(sqlite_log.settle)
    await store.delete_session(record().key, tombstone())
    await store.close()
    assert not [path for path in tmp_path.iterdir() if b"CANARY-7f3a" in path.read_bytes()]


def a_log(rng: random.Random) -> list[Event]:
    """Some turns: text with tool calls between, under numbers with gaps."""
    log: list[Event] = []
    seq = 0
    for turn in range(rng.randint(1, 6)):
        name = f"t{turn}"
        data: list[ev.EventData] = [ev.TurnStarted(name, f"u{turn}", f"r{turn}")]
        for part in range(rng.randint(0, 40)):
            is_call = rng.random() < 0.1
            text = "x" * rng.choice([1, 5, 60, 2_000])
            data.append(
                ev.ToolCall(f"c{part // 7}", name, title=text)
                if is_call
                else ev.TextDelta(f"m{turn}.{part // 9}", name, text)
            )
        data.append(ev.TurnEnded(name, "end_turn"))
        for item in data:
            seq += rng.choice([1, 1, 1, 7])
            log.append(Event(seq, 1000 + seq, item))
    return log


@pytest.mark.parametrize("seed", range(40))
async def test_a_log_reads_the_same_wherever_its_rows_are(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(sqlite_log, "COMPACT_BATCH", rng.choice([5, 5_000]))
    memory = MemoryStore(max_events=10_000, max_bytes=1 << 30)
    file = SqliteStore(tmp_path / "gateway.db")
    log = a_log(rng)
    for house in (memory, file):
        await house.open()
        await house.create_session(record())
    sinks = [(house, Collector(record().key)) for house in (memory, file)]
    done = 0
    while done < len(log):
        stop = min(len(log), done + rng.randint(1, 60))
        for house, sink in sinks:
            await filled(house, sink, log[done:stop])
        done = stop
        ends = [event.seq for event in log[:done] if event.type == "turn_ended"]
        if ends and rng.random() < 0.4:
            through = rng.choice(ends)
            saved = [await house.compact(record().key, through=through) for house, _ in sinks]
            assert saved[0] == saved[1]
        if rng.random() < 0.3:
            await file.write(sqlite_log.settle)
        for after in rng.sample(range(log[-1].seq + 2), k=min(8, log[-1].seq)):
            limit = rng.choice([1, 3, 1000])
            pages = [await house.read_events(record().key, after=after, limit=limit) for house, _ in sinks]
            told = [[(event.seq, event.at, event.data) for event in page] for page in pages]
            assert told[0] == told[1]
        assert (await file.stand(record().key)).last_seq == log[done - 1].seq
    await file.close()


async def test_rows_that_were_written_twice_are_read_once(tmp_path: pathlib.Path) -> None:
    """A commit can fail after it was done: what was in it is written again, grouped in another way."""
    store = SqliteStore(tmp_path / "gateway.db")
    await store.open()
    await store.create_session(record())
    events = [delta(seq, str(seq)) for seq in range(1, 9)]
    for part in (events[:3], events[:5], events[3:]):
        await store.write(functools.partial(sqlite_log.append, rows=list(sqlite_log.rows_of(1, part))))
    sink = Collector(record().key)
    for _ in range(2):
        found = await store.read_events(sink.key, after=1, limit=100)
        assert [event.seq for event in found] == list(range(2, 9))
        await store.write(sqlite_log.settle)
    assert await store.compact(sink.key, through=8) == 7
    (whole,) = await store.read_events(sink.key, after=0, limit=9)
    assert whole.data == ev.MessageAdded("m", "agent", "12345678", "t1", False)
    await store.close()


async def test_a_newer_schema_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "gateway.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {numbered()[-1][0] + 1}")
    connection.close()
    with pytest.raises(StoreFailed, match="newer program"):
        await SqliteStore(path).open()


async def test_a_damaged_file_is_kept_aside_and_said(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "gateway.db"
    path.write_bytes(b"this is no database" * 1000)
    store = SqliteStore(path)
    await store.open()
    assert await store.count_sessions() == 0
    await store.close()
    (aside,) = tmp_path.glob("gateway.db.damaged-*")
    assert aside.read_bytes().startswith(b"this is no database")
    assert "DAMAGED" in caplog.text


def test_migrations_are_numbered_without_a_hole() -> None:
    """Two applications keep the numbers that their tables had when all were numbered together."""
    folders = [application.migrations for application in installed().values() if application.migrations]
    numbers = [number for number, _ in numbered()] + [n for one in folders for n, _ in scripts(one)]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


async def test_every_query_uses_an_index(tmp_path: pathlib.Path) -> None:
    store = SqliteStore(tmp_path / "gateway.db")
    await store.open()
    await store.close()
    connection = sqlite3.connect(tmp_path / "gateway.db")
    queries = [
        "SELECT * FROM sessions WHERE owner = 'a' AND session_id = 'b'",
        "SELECT * FROM sessions WHERE owner = 'a' ORDER BY id DESC LIMIT 1",
        "SELECT * FROM sessions WHERE owner = 'a' ORDER BY last_active_at DESC, key LIMIT 9",
        "SELECT * FROM sessions WHERE expires_at < 5 ORDER BY expires_at LIMIT 9",
        "SELECT * FROM sessions WHERE has_open_turn = 1",
        "SELECT * FROM events WHERE session = 1 AND seq > 3 ORDER BY seq LIMIT 9",
        "SELECT max(seq) FROM events WHERE session = 1",
        "DELETE FROM tombstones WHERE at < 5",
        "DELETE FROM idempotency_keys WHERE at < 5",
        "DELETE FROM idempotency_keys WHERE owner = 'a' AND session_id = 'b'",
    ]
    for query in queries:
        plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}"))
        assert "SCAN" not in plan, f"{query}: {plan}"
        assert "TEMP B-TREE" not in plan, f"{query}: {plan}"
    connection.close()
