"""What every store of credentials and use does alike; the one in memory is the reference."""

from __future__ import annotations

import msgspec

from gateway.stores.contract import SessionRecord, Store, Tombstone
from gateway.stores.credentials import ApiKey, Share
from gateway.stores.secrets import SecretName, StoredSecret
from gateway.stores.usage import DayUse
from worker.foreign import LARGEST


def key(name: str = "k") -> ApiKey:
    return ApiKey(
        id=name, hash="0" * 64, tenant="t", subject="s", name="n", scopes=("chat", "admin"), created_at=5
    )


def share(name: str = "a", *, session: str = "key-1", at: int = 1) -> Share:
    return Share(id=name, hash="h", session_key=session, created_at=at, expires_at=9)


async def with_session(store: Store, session_key: str = "key-1", *, owner: str = "t/s") -> None:
    await store.sessions.create(
        SessionRecord(
            key=session_key, owner=owner, session_id="id", agent="a", created_at=1, last_active_at=1
        )
    )


async def test_keys_are_kept_and_replaced(store: Store) -> None:
    await store.credentials.put_key(key())
    revoked = msgspec.structs.replace(key(), revoked_at=7, expires_at=8, last_used_at=6)
    await store.credentials.put_key(revoked)
    await store.credentials.put_key(key("other"))
    assert {known.id: known for known in await store.credentials.keys()} == {
        "k": revoked,
        "other": key("other"),
    }


async def test_an_older_copy_of_a_key_brings_no_revoked_one_back(store: Store) -> None:
    used = msgspec.structs.replace(key(), last_used_at=6)
    await store.credentials.put_key(used)
    await store.credentials.put_key(msgspec.structs.replace(used, revoked_at=7))
    await store.credentials.put_key(msgspec.structs.replace(key(), revoked_at=9, last_used_at=5))
    await store.credentials.put_key(key())
    assert await store.credentials.keys() == [msgspec.structs.replace(used, revoked_at=7)]
    await store.credentials.put_key(key("other"))
    await store.credentials.put_key(msgspec.structs.replace(key("other"), last_used_at=3))
    assert await store.credentials.find_key("other") == msgspec.structs.replace(key("other"), last_used_at=3)


async def test_a_share_leads_to_its_session_until_it_is_deleted(store: Store) -> None:
    await with_session(store)
    await store.credentials.put_share(share())
    found = await store.credentials.find_share("a")
    assert found is not None
    assert (found.owner, found.session_id, found.share) == ("t/s", "id", share())
    assert list(await store.credentials.shares("key-1")) == [share()]
    assert not await store.credentials.delete_share("another session", "a")
    assert await store.credentials.delete_share("key-1", "a")
    assert await store.credentials.find_share("a") is None


async def test_a_share_keeps_its_kind_and_counts_its_uses(store: Store) -> None:
    await with_session(store)
    made = msgspec.structs.replace(share(), kind="approve", by_approver=True)
    await store.credentials.put_share(made)
    await store.credentials.put_share(share("b"))
    for at in (7, 9):
        await store.credentials.use_share("a", at=at)
    await store.credentials.use_share("nowhere", at=1)
    used = msgspec.structs.replace(made, uses=2, last_used_at=9)
    assert {one.id: one for one in await store.credentials.shares("key-1")} == {"a": used, "b": share("b")}
    found = await store.credentials.find_share("a")
    assert found is not None
    assert found.share == used


async def test_shares_go_with_their_session(store: Store) -> None:
    await with_session(store)
    await store.credentials.put_share(share())
    await store.sessions.delete(
        "key-1", Tombstone(owner="t/s", session_hash="h", last_seq=1, at=1, reason="deleted")
    )
    assert await store.credentials.find_share("a") is None


async def test_a_share_follows_its_session_to_another_owner(store: Store) -> None:
    await with_session(store)
    await store.credentials.put_share(share())
    assert await store.sessions.adopt("key-1", owner="t/new", session_id="id2", keeps_shares=True)
    found = await store.credentials.find_share("a")
    assert found is not None
    assert (found.owner, found.session_id) == ("t/new", "id2")
    assert await store.sessions.find("t/s", "id") is None


async def test_shares_end_with_adoption_unless_they_are_kept(store: Store) -> None:
    await with_session(store)
    await with_session(store, "key-2", owner="t/other")
    await store.credentials.put_share(share())
    await store.credentials.put_share(share("b", session="key-2"))
    assert await store.credentials.count_shares("t/s") == 1
    taken = {"owner": "t/other", "session_id": "id"}
    assert not await store.sessions.adopt("key-1", **taken, keeps_shares=False)
    assert await store.credentials.count_shares("t/s") == 1
    assert await store.sessions.adopt("key-1", owner="t/new", session_id="id", keeps_shares=False)
    assert await store.credentials.find_share("a") is None
    counts = [await store.credentials.count_shares(owner) for owner in ("t/s", "t/new", "t/other", "x/y")]
    assert counts == [0, 0, 1, 0]


async def test_adoption_refuses_an_id_that_the_new_owner_has(store: Store) -> None:
    await with_session(store)
    await with_session(store, "key-2", owner="t/other")
    assert not await store.sessions.adopt("key-1", owner="t/other", session_id="id", keeps_shares=False)
    assert await store.sessions.find("t/s", "id") is not None


async def test_totals_count_sessions_and_bytes_by_owner(store: Store) -> None:
    await with_session(store)
    record = await store.sessions.find("t/s", "id")
    assert record is not None
    await store.sessions.update(msgspec.structs.replace(record, stored_bytes=77))
    await store.sessions.upload("nobody", 3)
    await store.sessions.upload(record.key, 5)
    await store.sessions.upload(record.key, 6)
    await store.sessions.update(msgspec.structs.replace(record, stored_bytes=77))
    kept = await store.sessions.find("t/s", "id")
    assert kept is not None
    assert (kept.stored_bytes, kept.uploaded_bytes) == (77, 6)
    totals = await store.sessions.totals()
    assert [(owner, total.sessions, total.stored_bytes) for owner, total in totals.items()] == [
        ("t/s", 1, 77)
    ]


async def test_the_latest_revocation_stands(store: Store) -> None:
    await store.credentials.revoke("t/s", 5)
    await store.credentials.revoke("t/s", 8)
    assert await store.credentials.revocations() == {"t/s": 8}


async def test_a_one_time_token_is_used_once(store: Store) -> None:
    assert await store.credentials.use_once("a", expires_at=10)
    assert not await store.credentials.use_once("a", expires_at=10)
    await store.credentials.forget_used(now=11)
    assert await store.credentials.use_once("a", expires_at=20)


async def test_use_is_kept_by_day(store: Store) -> None:
    mine = {
        ("tenant", "t"): DayUse(messages=1, tokens=2, cpu_ms=3, memory_mb_seconds=4),
        ("key", "k"): DayUse(messages=9),
    }
    await store.usage.add_uses(7, mine)
    await store.usage.add_uses(8, {("tenant", "t"): DayUse(messages=50)})
    await store.usage.add_uses(7, {("key", "k"): DayUse(messages=1, cpu_ms=LARGEST)})
    await store.usage.add_uses(7, {("key", "k"): DayUse(cpu_ms=LARGEST)})
    of_key = {("key", "k"): DayUse(messages=10, cpu_ms=LARGEST)}
    assert await store.usage.uses(7) == mine | of_key
    assert await store.usage.uses(7, [("key", "k"), ("key", "other")]) == of_key
    await store.usage.forget(before_day=8)
    assert await store.usage.uses(7) == {}
    assert await store.usage.uses(8) == {("tenant", "t"): DayUse(messages=50)}


def secret(
    name: str = "anthropic", *, owner: str = "acme/ann", value: bytes = b"c", at: int = 5
) -> StoredSecret:
    named = SecretName("provider", owner, name)
    return StoredSecret(name=named, ciphertext=value, key_id="k1", set_at=at)


async def test_secrets_are_kept_and_replaced_by_kind_owner_and_name(store: Store) -> None:
    other_kind = msgspec.structs.replace(secret(), name=SecretName("credential", "acme/ann", "anthropic"))
    kept = [secret(owner="acme"), secret(owner=""), secret("other"), other_kind]
    for one in (*kept, secret()):
        await store.secrets.put(one)
    replaced = secret(value=b"\0new", at=6)
    await store.secrets.put(replaced)
    found = {one.name: one for one in await store.secrets.all()}
    assert found == {one.name: one for one in (*kept, replaced)}


async def test_a_secret_that_was_removed_is_gone(store: Store) -> None:
    await store.secrets.put(secret())
    await store.secrets.put(secret("other"))
    assert await store.secrets.remove(secret().name, at=7)
    assert not await store.secrets.remove(secret().name, at=8)
    assert list(await store.secrets.all()) == [secret("other")]
    await store.secrets.forget_removed(before=100)
    await store.secrets.put(secret())
    assert len(await store.secrets.all()) == 2


async def test_erasing_a_person_removes_their_secrets_and_nobody_elses(store: Store) -> None:
    for one in (secret(), secret("other"), secret(owner="acme"), secret(owner="acme/anna")):
        await store.secrets.put(one)
    assert await store.secrets.erase("acme/ann", at=9) == 2
    assert await store.secrets.erase("acme/ann", at=9) == 0
    assert {one.name.owner for one in await store.secrets.all()} == {"acme", "acme/anna"}
