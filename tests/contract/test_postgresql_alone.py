"""One gateway at a time writes to a database of PostgreSQL, and the others are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from gateway.config.cluster import ClusterConfig
from gateway.errors import StoreFailed
from gateway.stores.postgresql import connections, health, lease, writer
from gateway.stores.postgresql.bulk import PostgresqlBulk
from gateway.stores.postgresql.store import PostgresqlStore
from gateway.stores.postgresql.urls import shown
from tests.contract.core_store import opened
from tests.contract.engines import Collector, delta, filled, record
from tests.patience import within
from tests.postgres import connected, gateways_database, shared_database
from tests.shared import SHARED

pytestmark = SHARED

_END_LOCKED: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_END_OTHERS: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest_asyncio.fixture(loop_scope="module")
async def store() -> AsyncIterator[PostgresqlStore]:
    async with opened(gateways_database()) as made:
        yield made


async def test_a_second_gateway_is_refused_and_told_which_is_the_first() -> None:
    url = gateways_database()
    async with opened(url) as first:
        with pytest.raises(StoreFailed, match=r"Another gateway uses .* the one on .*process \d+"):
            await PostgresqlStore(url).open()
        await first.sessions.create(record())
    async with opened(url) as after:
        assert await after.sessions.count() == 1


async def _vanish(store: PostgresqlStore) -> None:
    """As if its process had been killed: nobody beats, and its connections are closed."""
    assert store._lease is not None
    assert store._lease._task is not None
    store._lease._task.cancel()
    await asyncio.wait({store._lease._task})
    store._lease._let_go()


@pytest.mark.parametrize("is_direct", [True, False])
async def test_after_one_was_killed_the_next_starts(monkeypatch: pytest.MonkeyPatch, is_direct: bool) -> None:
    monkeypatch.setattr(lease, "_FRESH", "SELECT false")
    lease_seconds = 30.0 if is_direct else 0.8
    monkeypatch.setattr(lease, "SILENT_SECONDS", lease_seconds)  # or the lock would save five seconds of it
    if not is_direct:
        monkeypatch.setattr("gateway.stores.postgresql.store.is_pooled", _yes)
    url, ends = gateways_database(), list[str]()
    async with opened(url, ends, lease_seconds=lease_seconds) as first:
        await first.sessions.create(record())
        await _vanish(first)
        async with within(10), opened(url, lease_seconds=lease_seconds) as second:
            await second.sessions.create(record("b"))
            sink = Collector(record().key)
            first.logs.enqueue(sink, delta(1, "late"), urgent=True)
            with pytest.raises(StoreFailed, match="has taken the database"):
                await first.sessions.create(record("c"))
            assert ends == [writer.LOST]
            assert (sink.seq, bool(sink.refusals)) == (0, True)
            assert await second.sessions.count() == 2
            assert await second.logs.read_events(sink.key, after=0, limit=9) == []


async def test_one_that_lost_only_its_connection_keeps_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_FRESH", "SELECT false")
    url, ends = gateways_database(), list[str]()
    async with opened(url, ends) as first:
        await first.query(lambda connection: connection.execute(_END_LOCKED))
        with pytest.raises(StoreFailed, match="Another gateway uses this database"):
            await PostgresqlStore(url).open()
        await first.sessions.create(record())
        assert not ends


async def _yes(_url: str) -> bool:
    return True


async def test_one_whose_row_is_gone_hears_of_it_and_writes_no_more(store: PostgresqlStore) -> None:
    ends: list[str] = []
    store.on_end = ends.append
    await store.sessions.create(record())
    await store.query(lambda connection: connection.execute("DELETE FROM nodes"))
    async with within(10):
        while not ends:
            await asyncio.sleep(0.01)
    with pytest.raises(StoreFailed, match="has taken the database"):
        await store.sessions.create(record("b"))
    assert await store.sessions.count() == 1


@pytest.mark.parametrize("is_claimed", [True, False])
async def test_no_event_is_acknowledged_once_the_row_is_gone(
    monkeypatch: pytest.MonkeyPatch, is_claimed: bool
) -> None:
    monkeypatch.setattr(lease.NodeLease, "start", lambda _self: None)
    ends: list[str] = []
    async with opened(gateways_database(), ends) as store:
        await store.sessions.create(record())
        sink = Collector(record().key)
        if is_claimed:
            await filled(store, sink, [delta(1, "x")])
        await store.query(lambda connection: connection.execute("DELETE FROM nodes"))
        store.logs.enqueue(sink, delta(2, "y"), urgent=True)
        async with within(10):
            while not sink.refusals:
                await asyncio.sleep(0.01)
        assert sink.seq == is_claimed
        assert ends == [writer.LOST]


async def test_a_log_that_another_has_taken_is_not_written(store: PostgresqlStore) -> None:
    """The fence is the session's row, too: here its claim was undone, and is made again."""
    await store.sessions.create(record())
    sink = Collector(record().key)
    await filled(store, sink, [delta(1, "x")])
    await store.query(lambda c: c.execute("UPDATE sessions SET generation = generation + 7"))
    await filled(store, sink, [delta(2, "y")])
    assert len(await store.logs.read_events(sink.key, after=0, limit=9)) == 2
    assert await store.query(lambda c: c.fetchval("SELECT generation FROM sessions")) == 9


@pytest.mark.parametrize(
    "password", ["SECRET/more", "SECRET#more", "SECRET?more", "[SECRET", "a@SECRET/more"]
)
async def test_no_password_is_said_that_is_not_written_as_it_must_be(
    password: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"postgresql://me:{password}@127.0.0.1:1/x"
    with pytest.raises(StoreFailed) as refused:
        await PostgresqlBulk(url, []).is_empty()
    said = [
        refused.value.message,
        shown(url),
        caplog.text,
        *(words for _, words in await health.examine(url)),
    ]
    assert "SECRET" not in " ".join(said)


async def test_who_finds_no_root_certificate_hears_of_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    with pytest.raises(StoreFailed, match="sslrootcert"):
        await PostgresqlStore(gateways_database() + "?sslmode=verify-full").open()


async def test_while_no_host_takes_writes_everybody_hears_so_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "PATIENCE_SECONDS", 0.2)
    url = gateways_database()
    name = urlsplit(url).path[1:]
    writes = f"{url}?target_session_attrs=read-write"
    async with connected(url) as other, opened(writes) as store:
        await other.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await other.execute(_END_OTHERS)
        with pytest.raises(StoreFailed, match="does not answer"):
            await store.sessions.count()
        with pytest.raises(StoreFailed, match="does not answer"):
            await PostgresqlStore(writes).open()
        assert [is_well for is_well, _ in await health.examine(writes)] == [False]
        await other.execute("SET default_transaction_read_only = off")
        await other.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        assert await store.sessions.count() == 0


async def test_no_password_is_said() -> None:
    for url in (
        "postgresql://me:SECRET@127.0.0.1:1/x",
        "postgresql://me:SECRET@[::1/x",
        "postgresql://me:SECRET/more@127.0.0.1/x",
    ):
        with pytest.raises(StoreFailed) as refused:
            await PostgresqlStore(url).open()
        assert "SECRET" not in str(refused.value) + refused.value.message
    with pytest.raises(asyncpg.PostgresError):
        await asyncpg.connect(shared_database() + "_missing")
    with pytest.raises(StoreFailed, match="PostgreSQL refused"):
        await PostgresqlStore(shared_database() + "_missing").open()


@pytest.mark.parametrize(("lease_seconds", "waits"), [(3.0, 1.5), (6.0, 1.5), (30.0, 25.0)])
async def test_who_let_go_of_the_lock_has_time_until_its_agents_rest(
    lease_seconds: float, waits: float
) -> None:
    assert lease.unlocked_seconds(ClusterConfig(lease_seconds=lease_seconds)) == waits
