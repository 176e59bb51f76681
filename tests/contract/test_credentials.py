"""What every credential store does alike; the one in memory is the reference."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator

import msgspec
import pytest
from msgspec import Struct

from gateway.stores.contract import SessionRecord, Store, Tombstone
from gateway.stores.credentials import ApiKey, CredentialStore, Share, Use
from gateway.stores.memory.store import MemoryStore
from gateway.stores.sqlite.credentials import SqliteCredentials
from gateway.stores.sqlite.store import SqliteStore


class Stores(Struct):
    """Sessions and what goes with them."""

    sessions: Store
    credentials: CredentialStore


@pytest.fixture(params=["memory", "sqlite"])
async def stores(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> AsyncIterator[Stores]:
    if request.param == "memory":
        memory = MemoryStore(max_events=100, max_bytes=100_000)
        yield Stores(memory, memory.credentials)
        return
    sqlite = SqliteStore(tmp_path / "gateway.db")
    await sqlite.open()
    yield Stores(sqlite, SqliteCredentials(sqlite))
    await sqlite.close()


def key(name: str = "k") -> ApiKey:
    return ApiKey(
        id=name, hash="0" * 64, tenant="t", subject="s", name="n", scopes=("chat", "admin"), created_at=5
    )


def share(name: str = "a", *, session: str = "key-1", at: int = 1) -> Share:
    return Share(id=name, hash="h", session_key=session, created_at=at, expires_at=9)


async def with_session(stores: Stores, session_key: str = "key-1", *, owner: str = "t/s") -> None:
    await stores.sessions.create_session(
        SessionRecord(
            key=session_key, owner=owner, session_id="id", agent="a", created_at=1, last_active_at=1
        )
    )


async def test_keys_are_kept_and_replaced(stores: Stores) -> None:
    await stores.credentials.put_key(key())
    revoked = msgspec.structs.replace(key(), revoked_at=7, expires_at=8, last_used_at=6)
    await stores.credentials.put_key(revoked)
    await stores.credentials.put_key(key("other"))
    assert {known.id: known for known in await stores.credentials.keys()} == {
        "k": revoked,
        "other": key("other"),
    }


async def test_a_share_leads_to_its_session_until_it_is_deleted(stores: Stores) -> None:
    await with_session(stores)
    await stores.credentials.put_share(share())
    found = await stores.credentials.find_share("a")
    assert found is not None
    assert (found.owner, found.session_id, found.share) == ("t/s", "id", share())
    assert list(await stores.credentials.shares("key-1")) == [share()]
    assert not await stores.credentials.delete_share("another session", "a")
    assert await stores.credentials.delete_share("key-1", "a")
    assert await stores.credentials.find_share("a") is None


async def test_shares_go_with_their_session(stores: Stores) -> None:
    await with_session(stores)
    await stores.credentials.put_share(share())
    await stores.sessions.delete_session(
        "key-1", Tombstone(owner="t/s", session_hash="h", last_seq=1, at=1, reason="deleted")
    )
    assert await stores.credentials.find_share("a") is None


async def test_a_share_follows_its_session_to_another_owner(stores: Stores) -> None:
    await with_session(stores)
    await stores.credentials.put_share(share())
    assert await stores.sessions.adopt("key-1", owner="t/new", session_id="id2", keeps_shares=True)
    found = await stores.credentials.find_share("a")
    assert found is not None
    assert (found.owner, found.session_id) == ("t/new", "id2")
    assert await stores.sessions.find_session("t/s", "id") is None


async def test_shares_end_with_adoption_unless_they_are_kept(stores: Stores) -> None:
    await with_session(stores)
    await with_session(stores, "key-2", owner="t/other")
    await stores.credentials.put_share(share())
    await stores.credentials.put_share(share("b", session="key-2"))
    assert await stores.credentials.count_shares("t/s") == 1
    taken = {"owner": "t/other", "session_id": "id"}
    assert not await stores.sessions.adopt("key-1", **taken, keeps_shares=False)
    assert await stores.credentials.count_shares("t/s") == 1
    assert await stores.sessions.adopt("key-1", owner="t/new", session_id="id", keeps_shares=False)
    assert await stores.credentials.find_share("a") is None
    counts = [await stores.credentials.count_shares(owner) for owner in ("t/s", "t/new", "t/other", "x/y")]
    assert counts == [0, 0, 1, 0]


async def test_adoption_refuses_an_id_that_the_new_owner_has(stores: Stores) -> None:
    await with_session(stores)
    await with_session(stores, "key-2", owner="t/other")
    assert not await stores.sessions.adopt("key-1", owner="t/other", session_id="id", keeps_shares=False)
    assert await stores.sessions.find_session("t/s", "id") is not None


async def test_totals_count_sessions_and_bytes_by_owner(stores: Stores) -> None:
    await with_session(stores)
    record = await stores.sessions.find_session("t/s", "id")
    assert record is not None
    await stores.sessions.update_session(msgspec.structs.replace(record, stored_bytes=77))
    totals = await stores.sessions.totals()
    assert [(owner, total.sessions, total.stored_bytes) for owner, total in totals.items()] == [
        ("t/s", 1, 77)
    ]


async def test_the_latest_revocation_stands(stores: Stores) -> None:
    await stores.credentials.revoke("t/s", 5)
    await stores.credentials.revoke("t/s", 8)
    assert await stores.credentials.revocations() == {"t/s": 8}


async def test_a_one_time_token_is_used_once(stores: Stores) -> None:
    assert await stores.credentials.use_once("a", expires_at=10)
    assert not await stores.credentials.use_once("a", expires_at=10)
    await stores.credentials.forget_old(now=11, before_day=0)
    assert await stores.credentials.use_once("a", expires_at=20)


async def test_use_is_kept_by_day(stores: Stores) -> None:
    mine = {
        ("tenant", "t"): Use(messages=1, tokens=2, cpu_ms=3, memory_mb_seconds=4),
        ("key", "k"): Use(messages=9),
    }
    await stores.credentials.put_uses(7, mine)
    await stores.credentials.put_uses(8, {("tenant", "t"): Use(messages=50)})
    await stores.credentials.put_uses(7, {("key", "k"): Use(messages=10)})
    assert await stores.credentials.uses(7) == mine | {("key", "k"): Use(messages=10)}
    await stores.credentials.forget_old(now=0, before_day=8)
    assert await stores.credentials.uses(7) == {}
    assert await stores.credentials.uses(8) == {("tenant", "t"): Use(messages=50)}
