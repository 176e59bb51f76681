"""What PostgreSQL, or the way to it, does to a gateway: nothing that was acknowledged is lost, nothing is
there twice, and one gateway writes at a time.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from gateway.errors import GatewayError, StoreFailed, StoreFull
from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.stores.database import Statements
from gateway.stores.packing import events_above
from gateway.stores.postgresql import appending, connections, lease, log_rows, writer
from gateway.stores.postgresql import store as store_module
from gateway.stores.postgresql.store import PostgresqlStore
from gateway.stores.postgresql.writer import PostgresqlWriter
from tests.contract.core_store import opened
from tests.contract.engines import Collector, delta, filled, leaves_poison_out, record
from tests.patience import within
from tests.postgres import Server, gateways_database, needed, postgres
from tests.postgres_proxy import Proxy, proxy
from tests.shared import SHARED

pytestmark = SHARED

LOGS: Final = 3
ROUNDS: Final = 12
_FULL: Final = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON events EXECUTE FUNCTION full_disk()
"""
_TABLE: Final = "CREATE TABLE IF NOT EXISTS counted (name text)"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Server]:
    """One that keeps what it acknowledged when it is killed."""
    needed()
    async with postgres(is_durable=True) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def store() -> AsyncIterator[PostgresqlStore]:
    async with opened(gateways_database()) as made:
        yield made


# -- what cannot be stored --------------------------------------------------------------------------------


async def overflow(connection: Statements) -> None:
    await connection.execute("INSERT INTO tombstones VALUES ('o', 'h', $1, 1, 'r')", 2**63)


async def bug(_connection: Statements) -> None:
    raise KeyError("a bug")


async def twice(connection: Statements) -> None:
    for _ in range(2):
        await connection.execute("INSERT INTO tombstones VALUES ('twice', 'h', 1, 1, 'r')")


async def nonsense(connection: Statements) -> None:
    await connection.execute("SELECT nothing FROM nowhere")


async def half(connection: Statements) -> None:
    await connection.execute("SELECT $1::text", "\ud800")


@pytest.mark.parametrize("act", [overflow, bug, twice, nonsense, half])
async def test_a_call_that_raises_undoes_only_itself(
    store: PostgresqlStore, act: Callable[[Statements], Awaitable[None]]
) -> None:
    before, failed, after = await asyncio.gather(
        store.sessions.create(record("a")), store.transact(act), store.sessions.create(record("b")),
        return_exceptions=True,
    )  # fmt: skip
    assert before is None
    assert isinstance(failed, StoreFailed)
    assert failed.message.startswith("This cannot be stored")
    assert after is None
    assert await store.sessions.count() == 2
    assert await store.query(lambda c: c.fetchval("SELECT count(*) FROM tombstones")) == 0


async def test_what_cannot_be_asked_is_said_in_words(store: PostgresqlStore) -> None:
    with pytest.raises(StoreFailed):
        await store.query(lambda c: c.fetchval("SELECT $1::bigint", 2**63))


async def test_texts_come_back_as_they_were(store: PostgresqlStore) -> None:
    for number, title in enumerate(["a\0b", "\ufdd0\ufdd1", "\0\ufdd0\0", "שלום", ""]):
        made = record(str(number))
        await store.sessions.create(made)
        await filled(store, Collector(made.key), [Event(1, 1, ev.SessionInfo(title))])
        assert (await store.sessions.find(made.owner, made.session_id) or made).title == title


async def poisoned(connection: Statements, _session: int, event: Event) -> None:
    """A projection that fails for one notice."""
    assert isinstance(event.data, ev.Notice)
    if event.data.text == "poison":
        await overflow(connection)


async def test_an_event_that_cannot_be_stored_is_left_out_alone(store: PostgresqlStore) -> None:
    store.project([ev.Notice], poisoned)
    await leaves_poison_out(store)


async def test_a_disk_that_is_full_is_said_and_events_are_kept(store: PostgresqlStore) -> None:
    sink = Collector(record("a").key)
    await store.sessions.create(record("a"))
    await store.query(lambda connection: connection.execute(_FULL))
    store.logs.enqueue(sink, delta(1, "x"), urgent=True)
    async with within(5):
        while not sink.refusals:
            await asyncio.sleep(0.01)
    assert isinstance(sink.refusals[0], StoreFull)
    assert (sink.seq, sink.lost) == (0, set())
    assert store.logs.backlog() == 1
    store.logs.forget(sink, {1})
    assert store.logs.backlog() == 0
    store.logs.enqueue(sink, delta(2, "y"), urgent=True)
    await store.query(lambda c: c.execute("DROP TRIGGER full_disk ON events"))
    await sink.until(2)
    assert [event.seq for event in await store.logs.read_events(sink.key, after=0, limit=9)] == [2]


async def test_when_the_task_ends_everybody_hears_of_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ends: list[str] = []
    async with opened(gateways_database(), ends) as store:
        sink = Collector(record().key)
        await store.sessions.create(record())
        monkeypatch.setattr(PostgresqlWriter, "_write_group", lambda *_: [].pop())
        store.logs.enqueue(sink, delta(1, "x"), urgent=False)
        async with within(5):
            for _ in range(2):
                with pytest.raises(StoreFailed, match="has ended"):
                    await store.sessions.update(record())
        assert "THE TASK THAT WRITES TO POSTGRESQL HAS ENDED" in caplog.text
        assert ends == ["The task that writes to PostgreSQL has ended (IndexError)."]
        assert sink.refusals


# -- connections that are lost ----------------------------------------------------------------------------


class Load:
    """Events of a few logs and calls, numbered, and what was acknowledged of them."""

    def __init__(self, store: PostgresqlStore) -> None:
        self.store = store
        self.sinks = [Collector(record(f"s{number}").key) for number in range(LOGS)]
        self.seqs = [0] * LOGS
        self.called: list[str] = []
        """Names whose call was acknowledged."""
        self._names = 0

    async def begin(self) -> None:
        await self.store.transact(lambda connection: connection.execute(_TABLE))
        for number in range(LOGS):
            await self.store.sessions.create(record(f"s{number}"))

    def put(self, number: int, text: str) -> None:
        """An event, at once."""
        self.seqs[number] += 1
        event = delta(self.seqs[number], text)
        self.store.logs.enqueue(self.sinks[number], event, urgent=True)

    async def call(self) -> None:
        """A call, which is noted if it was acknowledged."""
        self._names += 1
        name = f"name {self._names}"
        with contextlib.suppress(GatewayError):
            await self.store.transact(lambda c: c.execute("INSERT INTO counted VALUES ($1)", name))
            self.called.append(name)

    async def settled(self) -> None:
        """Everything that was given is acknowledged."""
        for sink, seq in zip(self.sinks, self.seqs, strict=True):
            async with within(20):
                await sink.until(seq)

    async def faults(self) -> dict[str, int]:
        """What is missing of what was acknowledged, and what is there twice, as the tables have it."""
        rows = await self.store.query(lambda c: c.fetch("SELECT name FROM counted"))
        names = collections.Counter(row[0] for row in rows)
        lost = len(set(self.called) - names.keys())
        doubled = sum(count - 1 for count in names.values())
        query = (
            "SELECT seq, at, body FROM events JOIN sessions ON sessions.id = session WHERE key = $1"
            " ORDER BY seq"
        )
        for sink, last in zip(self.sinks, self.seqs, strict=True):
            key = sink.key
            stored = await self.store.query(lambda c, key=key: c.fetch(query, key))  # type: ignore[misc]
            seqs = [event.seq for row in stored for event in events_above(0, [tuple(row)])]
            lost += len(set(range(1, last + 1)) - set(seqs)) + len(sink.lost)
            doubled += len(seqs) - len(set(seqs))
        return {"lost": lost, "doubled": doubled}


async def _terminate(store: PostgresqlStore) -> None:
    """Ends the process that serves the writer."""
    query = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid()"
        " AND (query LIKE '%commits%' OR query LIKE '%fence%' OR query = 'COMMIT;')"
    )
    await store.query(lambda connection: connection.fetch(query))


async def _cut_again_and_again(store: PostgresqlStore, way: Proxy, seed: int) -> tuple[Load, int]:
    """Rounds of load, in each of which one thing goes wrong."""
    chance, load = random.Random(seed), Load(store)
    await load.begin()
    for number in range(ROUNDS):
        mark = f"mark {number} "
        what = number % 6
        if what < 4:
            way.cut_at(b"COMMIT" if what % 2 else mark.encode(), is_answered=what < 2)
        for log in range(LOGS):
            load.put(log, mark if log == 0 else "other")
        calls = [asyncio.create_task(load.call()) for _ in range(1 + what % 2)] if number % 2 else []
        if what == 4:
            await asyncio.sleep(chance.uniform(0, 0.01))
            await _terminate(store)
        await asyncio.gather(*calls)
        await load.settled()
    return load, way.cuts


async def test_nothing_is_lost_or_doubled_when_connections_are_cut() -> None:
    async with proxy(gateways_database()) as way, opened(way.url) as store:
        load, cuts = await _cut_again_and_again(store, way, seed=1)
        assert await load.faults() == {"lost": 0, "doubled": 0}
        assert cuts >= ROUNDS // 2
        assert not any(sink.refusals for sink in load.sinks)
        assert len(load.called) == load._names


async def test_the_checker_finds_what_is_done_twice_if_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any) -> bool:
        return False

    monkeypatch.setattr(PostgresqlWriter, "_was_committed", never)
    async with proxy(gateways_database()) as way, opened(way.url) as store:
        load, _ = await _cut_again_and_again(store, way, seed=1)
        assert (await load.faults())["doubled"] > 0


async def test_the_checker_finds_that_events_are_not_written_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((appending, "_PUT"), (log_rows, "INSERT")):
        bare = getattr(module, name).replace(" ON CONFLICT DO NOTHING", "")
        monkeypatch.setattr(module, name, bare)
    async with proxy(gateways_database()) as way, opened(way.url) as store:
        load, _ = await _cut_again_and_again(store, way, seed=1)
        assert (await load.faults())["lost"] > 0


async def test_a_server_that_is_killed_has_kept_what_it_acknowledged(server: Server) -> None:
    async with opened(await server.database()) as store:
        load = Load(store)
        await load.begin()
        is_over = asyncio.Event()

        async def go_on() -> None:
            while not is_over.is_set():
                for log in range(LOGS):
                    load.put(log, "x")
                await load.call()

        going = asyncio.create_task(go_on())
        async with within(20):
            while len(load.called) < 5:
                await asyncio.sleep(0.01)
        await server.kill()
        await server.start_again()
        async with within(20):
            before = len(load.called)
            while len(load.called) < before + 5:
                await asyncio.sleep(0.01)
        is_over.set()
        await going
        await load.settled()
        assert await load.faults() == {"lost": 0, "doubled": 0}


async def test_a_commit_in_doubt_is_looked_up_though_connections_are_refused_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusals = [asyncpg.TooManyConnectionsError("sorry, too many clients already")] * 2

    async def crowded(url: str, *, keeps: bool) -> Any:
        if refusals:
            raise refusals.pop()
        return await connections.connect(url, keeps=keeps)

    async with proxy(gateways_database()) as way, opened(way.url) as store:
        await store.sessions.create(record("a"))
        monkeypatch.setattr(store_module, "connect", crowded)
        way.cut_at(b"COMMIT", is_answered=True)
        await store.sessions.create(record("b"))
        assert not refusals
        assert await store.sessions.count() == 2


async def test_who_waits_too_long_is_told_and_events_are_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PATIENCE_SECONDS", 0.2)
    async with opened(await server.database()) as store:
        load = Load(store)
        await load.begin()
        await server.kill()
        with pytest.raises(StoreFailed, match="does not answer") as refused:
            await store.sessions.update(record("s0"))
        assert refused.value.retry_after_seconds
        load.put(0, "kept")
        async with within(10):
            while not load.sinks[0].refusals:
                await asyncio.sleep(0.01)
        assert store.logs.backlog() >= 1
        await server.start_again()
        await load.settled()
        assert await load.faults() == {"lost": 0, "doubled": 0}


async def test_a_server_that_does_not_answer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(connections, "PATIENCE_SECONDS", 0.1)
    async with (
        proxy(gateways_database()) as way,
        opened(way.url, lease_seconds=0.4) as store,
    ):
        load = Load(store)
        await load.begin()
        way.stop()
        load.put(0, "x")
        async with within(10):
            with pytest.raises(StoreFailed, match="does not answer"):
                await store.sessions.count()
        way.go_on()
        await load.settled()
        await load.call()
        assert await load.faults() == {"lost": 0, "doubled": 0}


async def test_many_reads_hear_soon_that_a_server_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATIENCE_SECONDS", "CONNECT_SECONDS", "ACQUIRE_SECONDS"):
        monkeypatch.setattr(connections, name, 0.5)
    monkeypatch.setattr(lease, "SILENT_SECONDS", 0.5)
    async with proxy(gateways_database()) as way, opened(way.url) as store:
        way.stop()
        async with within(5):
            told = await asyncio.gather(*(store.sessions.count() for _ in range(100)), return_exceptions=True)
        assert {type(one) for one in told} == {StoreFailed}
        way.go_on()
        assert await store.sessions.count() == 0


async def test_of_several_hosts_the_one_that_takes_writes_is_found() -> None:
    parts = urlsplit(gateways_database())
    several = parts._replace(netloc=f"{parts.username}@127.0.0.1:1,127.0.0.1:{parts.port}")
    async with opened(several.geturl() + "?target_session_attrs=read-write") as store:
        await store.sessions.create(record())
        assert await store.sessions.count() == 1


async def test_more_than_fits_into_one_statement_is_written(
    store: PostgresqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_rows, "STATEMENT_BYTES", 3000)
    sink = Collector(record().key)
    await store.sessions.create(record())
    await filled(store, sink, [delta(seq, "x" * 1000) for seq in range(1, 10)])
    assert len(await store.logs.read_events(sink.key, after=0, limit=20)) == 9
