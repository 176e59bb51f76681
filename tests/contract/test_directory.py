"""Several gateways on one database: who may join, who has which session, and that nobody else writes it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import msgspec
import pytest

from gateway.config.cluster import ClusterConfig
from gateway.errors import GatewayError, SessionFenced, StoreFailed
from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.stores.contract import Founding, SessionRecord
from gateway.stores.directory import NodeLoad, NodePlace, NodesSeen
from gateway.stores.ledger import Chosen, LedgerCall, LedgerUse
from gateway.stores.postgresql import appending, lease, schema
from gateway.stores.postgresql.claims import HeldSessions
from gateway.stores.postgresql.directory import PostgresqlDirectory
from gateway.stores.postgresql.nodes import rows_of
from gateway.stores.postgresql.store import PostgresqlStore
from gateway.stores.postgresql.writer import LOST
from tests.contract.core_store import opened, running
from tests.contract.engines import Collector, delta, filled, record, tombstone
from tests.patience import within
from tests.postgres import connected, gateways_database
from tests.shared import SHARED, eventually

pytestmark = SHARED

SESSIONS: Final = 20


class OneNode:
    """A store as one of several has it, and what its beats are told."""

    def __init__(self, url: str, name: str, *, lease_seconds: float = 0.8) -> None:
        self.seen: NodesSeen | None = None
        self.ends: list[str] = []
        self.store = PostgresqlStore(
            url,
            on_end=self.ends.append,
            cluster=ClusterConfig(
                name=name, url=f"http://{name}:1/", lease_seconds=lease_seconds, beat_seconds=0.1
            ),
            on_seen=self._on_seen,
            load=lambda: NodeLoad(sessions=3, worker_limit=7),
            version="1.2",
            mark=lambda: f"mark of {name}",
        )

    def _on_seen(self, seen: NodesSeen) -> None:
        self.seen = seen

    @property
    def directory(self) -> PostgresqlDirectory:
        assert self.store.directory is not None
        return self.store.directory

    async def stand_still(self) -> None:
        """As if its process were stopped: nobody beats."""
        assert self.store._lease is not None
        assert self.store._lease._task is not None
        self.store._lease._task.cancel()
        await asyncio.wait({self.store._lease._task})

    async def claim(self, name: str = "a") -> int:
        """Takes a session of `record`; its generation."""
        found = await self.directory.claim("t/s", name)
        assert isinstance(found, SessionRecord)
        return self.store.claims.held[found.key][1]


@contextlib.asynccontextmanager
async def node(url: str, name: str, *, lease_seconds: float = 0.8) -> AsyncIterator[OneNode]:
    made = OneNode(url, name, lease_seconds=lease_seconds)
    async with running(made.store):
        yield made


@contextlib.asynccontextmanager
async def two_nodes() -> AsyncIterator[tuple[OneNode, OneNode]]:
    url = gateways_database()
    async with node(url, "a") as first, node(url, "b") as second:
        yield first, second


# -- who may join -----------------------------------------------------------------------------------------


async def test_each_hears_of_the_others_with_its_beats() -> None:
    async with two_nodes() as (first, second):
        async with within(10):
            while first.seen is None or [one.load.sessions for one in first.seen.nodes] != [3, 3]:
                await asyncio.sleep(0.01)
        told = {found.name: found for found in first.seen.nodes}
        assert first.seen.mine == told["a"].id == first.directory.node
        other = told["b"]
        assert other.reached == NodePlace(second.directory.node, "b", "http://b:1")
        assert (other.version, other.load) == ("1.2", NodeLoad(sessions=3, worker_limit=7))
        before = first.seen.changes
        await first.store.query(lambda c: c.execute("UPDATE cluster SET changes = changes + 1"))

        async def is_told() -> bool:
            return first.seen is not None and first.seen.changes == before + 1

        await eventually(is_told)


async def _refused(made: OneNode | PostgresqlStore, words: str) -> None:
    store = made if isinstance(made, PostgresqlStore) else made.store
    with pytest.raises(StoreFailed, match=words):
        await store.open()


async def test_who_cannot_live_beside_those_that_are_there_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = gateways_database()
    async with node(url, "a"):
        other = OneNode(url, "a")
        other.store._mark = lambda: "another directory"
        await _refused(other, "Another gateway is called 'a'.*cluster.name")
        await _refused(OneNode(url, "b", lease_seconds=0.9), "lease_seconds = 0.8, this one 0.9")
        await _refused(PostgresqlStore(url), "Several gateways share this database")
        with monkeypatch.context() as patch:
            patch.setattr(schema, "named", lambda _packages: "core 99")
            await _refused(OneNode(url, "b"), "knows other tables than this one: core .* core 99 here")
    async with opened(url):
        await _refused(OneNode(url, "a"), "A gateway that is alone uses this database")
    async with connected(url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM nodes") == 0


async def test_one_that_died_is_replaced_at_once_by_the_next_start_of_its_data_directory() -> None:
    url = gateways_database()
    async with node(url, "a", lease_seconds=30.0) as first:
        await first.store.sessions.create(record())
        await first.stand_still()
        async with within(5), node(url, "a", lease_seconds=30.0) as second:
            assert await second.claim() == 2


async def test_one_of_the_same_name_elsewhere_waits_until_the_row_stands_still() -> None:
    url = gateways_database()
    async with node(url, "a", lease_seconds=30.0) as first:
        await first.stand_still()
        second = OneNode(url, "a", lease_seconds=30.0)
        second.store._mark = lambda: "another directory"
        async with within(10):
            await second.store.open()
        await second.store.close()


async def test_one_that_is_alone_starts_after_several_and_they_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lease, "SILENT_SECONDS", 30.0)
    url = gateways_database()
    async with node(url, "a") as first:
        await first.store.sessions.create(record())
        sink = Collector(record().key)
        await filled(first.store, sink, [delta(1, "x")])
        await first.stand_still()
        async with opened(url, lease_seconds=0.8) as alone:
            await filled(alone, sink, [delta(2, "y")])
    async with node(url, "b") as second:
        assert await second.claim() == 3
        await filled(second.store, sink, [delta(3, "z")])
        assert len(await second.store.logs.read_events(sink.key, after=0, limit=9)) == 3


# -- who has which session --------------------------------------------------------------------------------


async def test_of_two_that_claim_at_once_one_has_each_session() -> None:
    async with two_nodes() as both:
        first, second = both
        names = [f"s{number}" for number in range(SESSIONS)]
        for name in names:
            await first.store.sessions.create(record(name))
            await first.directory.release(record(name).key)
        claims = [one.directory.claim("t/s", name) for name in names for one in both]
        found = await asyncio.gather(*claims)
        for name, pair in zip(names, zip(found[::2], found[1::2], strict=True), strict=True):
            places = [one for one in pair if isinstance(one, NodePlace)]
            assert len(places) == 1, name
            winner = both[0 if isinstance(pair[0], SessionRecord) else 1]
            assert places[0].id == winner.directory.node
            assert winner.store.claims.held[record(name).key][1] == 2
        everywhere = await first.directory.holders([("t/s", name) for name in names])
        taken = {
            name for name, pair in zip(names, found[1::2], strict=True) if isinstance(pair, SessionRecord)
        }
        assert {name for _, name in everywhere} == taken
        assert await second.directory.claim("t/s", "nothing") is None


async def test_a_session_is_born_with_its_node_and_goes_on_when_it_is_released() -> None:
    async with two_nodes() as (first, second):
        await first.store.sessions.create(
            record(), Founding(reserved_seq=9, gap=None, events=[delta(1, "x")])
        )
        key = record().key
        place = NodePlace(first.directory.node, "a", "http://a:1")
        assert await second.directory.claim("t/s", "a") == place
        assert await second.directory.holder("t/s", "a") == await second.directory.holder_of_key(key) == place
        assert await second.directory.holders([("t/s", "")]) == {("t/s", ""): place}
        assert await first.directory.holder("t/s", "a") is None
        assert await first.claim() == 2, "its own it may claim again"
        await first.directory.release(key)
        assert await second.directory.holder("t/s", "a") is None
        assert await second.claim() == 3
        assert await first.directory.holder("t/s", "a") == NodePlace(second.directory.node, "b", "http://b:1")


async def test_sessions_of_living_others_are_counted_by_owner_and_tenant() -> None:
    async with two_nodes() as (first, second):
        for name in ("a", "b"):
            await first.store.sessions.create(record(name))
        await first.store.query(
            lambda c: c.execute("UPDATE sessions SET has_open_turn = 1 WHERE session_id = 'a'")
        )
        for whose in ({"owner": "t/s"}, {"tenant": "t"}):
            assert await second.directory.count_elsewhere(**whose) == (2, 1)
            assert await first.directory.count_elsewhere(**whose) == (0, 0), "its own it counts itself"
        assert await second.directory.count_elsewhere(tenant="other") == (0, 0)
        await first.directory.release(record("b").key)
        assert await second.directory.count_elsewhere(owner="t/s") == (1, 1)
        await first.stand_still()
        row = next(one.row for one in await second.store.query(rows_of) if one.name == "a")
        assert await second.directory.bury(row)
        assert await second.directory.count_elsewhere(owner="t/s") == (0, 0)


async def test_what_a_dead_one_left_open_is_taken_over_once() -> None:
    url = gateways_database()
    async with node(url, "a") as first, node(url, "b") as second, node(url, "c") as third:
        for name in ("open", "waiting", "closed", "expired"):
            expires = 5 if name == "expired" else None
            await first.store.sessions.create(msgspec.structs.replace(record(name), expires_at=expires))
        for number, name in ((1, "open"), (2, "waiting")):
            key = record(name).key
            await first.store.query(
                lambda c, key=key, number=number: c.execute(  # type: ignore[misc]
                    "UPDATE sessions SET has_open_turn = $2 WHERE key = $1", key, number
                )
            )
        assert not await second.directory.claim_open(limit=9)
        assert not await second.directory.claim_expired(9, limit=9)
        await first.stand_still()
        row = next(one.row for one in await second.store.query(rows_of) if one.name == "a")
        assert not await second.directory.bury(msgspec.structs.replace(row, beat=row.beat - 1))
        assert await second.directory.bury(row)
        taken = await asyncio.gather(*(one.directory.claim_open(limit=9) for one in (second, third)))
        assert sorted((one.session_id, one.open_turn) for some in taken for one in some) == [
            ("open", 1),
            ("waiting", 2),
        ]
        gone = await asyncio.gather(*(one.directory.claim_expired(9, limit=9) for one in (second, third)))
        assert [one.session_id for some in gone for one in some] == ["expired"]
        await second.claim("closed")


async def test_a_dead_one_is_removed_though_it_holds_a_transaction_open() -> None:
    async with two_nodes() as (first, second):
        await first.stand_still()
        row = next(one.row for one in await second.store.query(rows_of) if one.name == "a")
        async with connected(first.store._url) as open_one:
            await open_one.execute("BEGIN")
            await open_one.fetch("SELECT id FROM nodes WHERE id = $1 FOR KEY SHARE", row.id)
            async with within(10):
                assert await second.directory.bury(row)


async def test_what_was_used_is_put_down_also_by_one_that_has_lost_its_place() -> None:
    """It has happened, whoever has the place: nobody's money is forgotten, and nothing counts twice."""
    calls = [
        LedgerCall(id=name, at=1, owner="t/s", session_key="k", input=4, cost=7) for name in ("a", "b", "c")
    ]
    over = [msgspec.structs.replace(call, status=200, cost=5) for call in calls]
    estimated = msgspec.structs.replace(calls[1], status=0, is_estimated=True)
    async with two_nodes() as (first, second):
        await first.store.ledger.put(calls[:2])
        await first.stand_still()
        row = next(one.row for one in await second.store.query(rows_of) if one.name == "a")
        assert await second.directory.bury(row)
        await second.store.ledger.put([estimated])  # as it does with what a dead one left in flight
        used = LedgerUse(at=1, owner="t/s", session_key="k", told_tokens=9, cpu_ms=3)
        await first.store.ledger.put([*over, used])
        assert first.ends == [LOST]
        with pytest.raises(StoreFailed, match="has taken the database"):
            await first.store.transact(lambda c: c.execute("SELECT 1"))
        await first.store.ledger.put([calls[2], over[0]])
        (found,) = await second.store.ledger.sums((), Chosen(from_day=0, to_day=1), limit=9)
        total = found.total
        assert (total.calls, total.cost, total.estimated_calls) == (3, 5 + 7 + 5, 1)
        assert (total.told_tokens, total.cpu_ms) == (9, 3)
        assert await second.store.ledger.in_flight() == []


# -- nobody else writes -----------------------------------------------------------------------------------


async def _appended(store: PostgresqlStore, *data: ev.EventData) -> None:
    """Raises what its log is refused with."""
    sink = Collector(record().key)
    for number, one in enumerate(data, start=50):
        store.logs.enqueue(sink, Event(number, 1, one), urgent=True)
    async with within(10):
        while not (sink.seq or sink.refusals):
            await asyncio.sleep(0.005)
    if sink.refusals:
        raise sink.refusals[0]


def _writes(store: PostgresqlStore) -> dict[str, Callable[[], Awaitable[object]]]:
    """Every way in which a session is written to."""
    key, stale = record().key, msgspec.structs.replace(record(), title="late", message_count=9)

    async def soon() -> None:
        store.sessions.update_soon(stale)
        await _appended(store, ev.TextDelta("m", "t", "late"))

    return {
        "events": lambda: _appended(store, ev.TextDelta("m", "t", "late")),
        "projected": lambda: _appended(store, ev.SessionInfo("late")),
        "turns": lambda: _appended(store, ev.TurnInterrupted("t", "late", "late")),
        "record": lambda: store.sessions.update(stale),
        "record soon": soon,
        "upload": lambda: store.sessions.upload(key, 77),
        "numbers": lambda: store.logs.reserve(key, 99_999, gap=(9, 11)),
        "compaction": lambda: store.logs.compact(key, through=3),
        "deletion": lambda: store.sessions.delete(key, tombstone()),
    }


_LOOK: Final = (
    "SELECT (SELECT jsonb_agg(to_jsonb(s) ORDER BY id) FROM sessions AS s)::text"
    " || (SELECT jsonb_agg(to_jsonb(e) ORDER BY seq) FROM events AS e)::text"
    " || (SELECT count(*) FROM gaps)::text || (SELECT count(*) FROM uploads)::text"
    " || (SELECT count(*) FROM tombstones)::text"
)


async def late_writes(first: OneNode, second: OneNode) -> list[str]:
    """What the first node still changes of a session that the second one has by now, though the first one
    thinks otherwise.
    """
    await first.store.sessions.create(record())
    sink = Collector(record().key)
    await filled(first.store, sink, [delta(number, "x") for number in range(1, 5)])
    stale = first.store.claims.held[record().key]
    await first.directory.release(record().key)
    await second.claim()
    found = []
    for name, write in _writes(first.store).items():
        first.store.claims.take(record().key, *stale)
        before = await second.store.query(lambda c: c.fetchval(_LOOK))
        told: GatewayError | None = None
        try:
            await write()
        except SessionFenced as error:
            told = error
        after = await second.store.query(lambda c: c.fetchval(_LOOK))
        if before != after or told is None:
            found.append(name)
    return found


async def test_nothing_is_written_to_a_session_that_another_one_has() -> None:
    async with two_nodes() as (first, second):
        assert await late_writes(first, second) == []
        await filled(second.store, Collector(record().key), [delta(5, "y")])
        await first.store.sessions.create(record("b"))
        assert first.ends == [], "the others are its own as before"


async def test_without_the_fence_the_checker_finds_every_late_write(monkeypatch: pytest.MonkeyPatch) -> None:
    fence = " AND sessions.generation = f.generation AND sessions.node = $1"
    for name in ("_PUT", "_FENCE"):
        monkeypatch.setattr(appending, name, getattr(appending, name).replace(fence, " AND $1::bigint = $1"))
    monkeypatch.setattr(HeldSessions, "of", lambda _self, key: (key, None, 0))
    async with two_nodes() as (first, second):
        assert await late_writes(first, second) == list(_writes(first.store))


async def test_a_generation_that_is_not_raised_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same node takes a session again that it had before: its earlier life may write no more."""
    async with two_nodes() as (first, second):
        await first.store.sessions.create(record())
        stale = first.store.claims.held[record().key]
        await first.directory.release(record().key)
        await second.claim()
        await second.directory.release(record().key)
        assert await first.claim() == stale[1] + 2
        first.store.claims.take(record().key, *stale)
        with pytest.raises(SessionFenced):
            await _appended(first.store, ev.TextDelta("m", "t", "late"))


async def test_of_one_group_only_the_events_of_sessions_that_are_ones_own_are_kept() -> None:
    async with two_nodes() as (first, second):
        for name in ("a", "b"):
            await first.store.sessions.create(record(name))
        stale = first.store.claims.held[record().key]
        await first.directory.release(record().key)
        await second.claim()
        for also in (None, record("c")):
            first.store.claims.take(record().key, *stale)
            mine, lost = Collector(record("b").key), Collector(record().key)
            first.store.logs.enqueue(lost, delta(7, "late"), urgent=False)
            first.store.logs.enqueue(mine, delta(7 if also else 6, "mine"), urgent=True)
            beside = first.store.sessions.create(also) if also else asyncio.sleep(0)
            await asyncio.gather(beside, mine.until(7 if also else 6))
            async with within(10):
                while not lost.refusals:
                    await asyncio.sleep(0.005)
            assert isinstance(lost.refusals[0], SessionFenced)
        assert await second.store.logs.read_events(record().key, after=0, limit=9) == []


async def test_a_claim_that_a_failover_has_undone_is_made_again() -> None:
    async with two_nodes() as (first, second):
        await first.store.sessions.create(record())
        await first.claim()
        sink = Collector(record().key)
        for node_id in ("NULL", str(first.directory.node), "0"):
            undo = f"UPDATE sessions SET node = {node_id}, generation = 1"  # noqa: S608 - numbers
            await first.store.query(lambda c, undo=undo: c.execute(undo))  # type: ignore[misc]
            await filled(first.store, sink, [delta(sink.seq + 1, "y")])
            assert await first.store.query(lambda c: c.fetchval("SELECT generation FROM sessions")) == 2
        await first.directory.release(record().key)
        assert await second.claim() == 3


async def test_one_whose_row_is_gone_writes_nothing_and_claims_nothing() -> None:
    async with two_nodes() as (first, second):
        await first.store.sessions.create(record())
        await first.stand_still()
        row = next(one.row for one in await second.store.query(rows_of) if one.name == "a")
        assert await second.directory.bury(row)
        assert await second.claim() == 2
        place = NodePlace(second.directory.node, "b", "http://b:1")
        assert await first.directory.claim("t/s", "a") == place
        await second.directory.release(record().key)
        with pytest.raises(StoreFailed, match="has lost its place"):
            await first.directory.claim("t/s", "a")
        with pytest.raises(StoreFailed, match="has taken"):
            await _appended(first.store, ev.TextDelta("m", "t", "late"))
        assert first.ends
        assert await second.store.logs.read_events(record().key, after=0, limit=9) == []
