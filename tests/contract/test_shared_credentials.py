"""What two gateways on one database do to each other's keys, secrets and sums: nothing that either has not
asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest_asyncio

from gateway.auth.keys import KeyRing
from gateway.stores.credentials import ApiKey
from gateway.stores.idempotency import Remembered
from gateway.stores.postgresql.beside import PostgresqlTables
from gateway.stores.postgresql.changes import PostgresqlChanges
from gateway.stores.postgresql.credentials import PostgresqlCredentials, PostgresqlUsage
from gateway.stores.postgresql.idempotency import PostgresqlIdempotency
from gateway.stores.postgresql.people import PostgresqlPeople
from gateway.stores.postgresql.secrets import PostgresqlSecrets
from gateway.stores.postgresql.sequences import PostgresqlSequences
from gateway.stores.postgresql.signing import PostgresqlSigning
from gateway.stores.postgresql.tenants import PostgresqlTenants
from gateway.stores.secrets import SecretName, StoredSecret
from gateway.stores.tenants import KeptTenant
from gateway.stores.usage import DayUse
from tests.contract.engines import MIGRATIONS, migrated_database

Pair = tuple[PostgresqlTables, PostgresqlTables]


@pytest_asyncio.fixture
async def pair() -> AsyncIterator[Pair]:
    """One database, as two gateways reach it."""
    url = migrated_database()
    one, other = PostgresqlTables(url, migrations=MIGRATIONS), PostgresqlTables(url, migrations=MIGRATIONS)
    await one.open()
    await other.open()
    yield one, other
    await one.close()
    await other.close()


async def node(database: PostgresqlTables, name: str) -> int:
    """The id of a gateway that runs."""
    statement = "INSERT INTO nodes (name, place, has_lock) VALUES ($1, '', false) RETURNING id"
    return int(await database.transact(lambda c: c.fetchval(statement, name)))


def rings(pair: Pair) -> tuple[KeyRing, KeyRing]:
    one, other = (KeyRing(PostgresqlCredentials(each), wall_ms=lambda: 5) for each in pair)
    return one, other


async def test_a_key_that_another_gateway_revoked_stays_revoked(pair: Pair) -> None:
    mine, theirs = rings(pair)
    key, text = await mine.mint("t", "s", name="n", scopes=("chat",))
    await theirs.open()
    assert theirs.check(text) is not None
    await mine.revoke(key.id)
    await theirs.note_use()  # of a key that it still thinks is good
    await theirs.rotate(key.id, overlap_ms=1000)
    assert await theirs.read_anew() == {"t/s"}
    assert theirs.check(text) is None
    await mine.read_anew()
    assert mine.check(text) is None
    found = theirs.find(key.id)
    assert found is not None
    assert (found.revoked_at, found.last_used_at) == (5, 5)


async def test_a_key_of_another_gateway_is_learned_and_a_wrong_one_is_not(pair: Pair) -> None:
    mine, theirs = rings(pair)
    _, text = await mine.mint("t", "s", name="n", scopes=("chat",))
    assert not theirs.is_known(text)
    await theirs.learn(text[:-1] + ("a" if text[-1] != "a" else "b"))
    assert theirs.check(text) is not None
    await theirs.learn("agw_aaaaaaaaaaaa_" + "a" * 43)
    assert len(theirs.all()) == 1


async def test_each_kind_of_change_raises_its_number_and_that_of_all(pair: Pair) -> None:
    one, other = pair
    credentials, name = PostgresqlCredentials(one), SecretName("provider", "t/s", "p")
    people, secrets, tenants = PostgresqlPeople(one), PostgresqlSecrets(one), PostgresqlTenants(one)
    key = ApiKey(id="k", hash="h", tenant="t", subject="s", name="n", scopes=("chat",), created_at=1)
    made: list[tuple[str, Callable[[], Awaitable[object]]]] = [
        ("keys", lambda: credentials.put_key(key)),
        ("keys", lambda: credentials.put_key(msgspec.structs.replace(key, revoked_at=3))),
        ("revocations", lambda: credentials.revoke("t/s", 3)),
        ("people", lambda: people.disable("t/s", 3)),
        ("people", lambda: people.enable("t/s")),
        ("tenants", lambda: tenants.put(KeptTenant(name="t"))),
        ("secrets", lambda: secrets.put(StoredSecret(name=name, ciphertext=b"c", key_id="k", set_at=1))),
        ("secrets", lambda: secrets.remove(name, at=2)),
    ]
    changes, expected = PostgresqlChanges(other), dict[str, int]()
    for kind, act in made:
        await act()
        expected[kind] = expected.get(kind, 0) + 1
        assert await changes.numbers() == expected, kind
    await credentials.use_keys({"k": 9})
    await secrets.remove(name, at=2)
    assert await changes.numbers() == expected, "nothing of these is kept by anybody"
    assert await other.query(lambda c: c.fetchval("SELECT changes FROM cluster")) == len(made)


async def test_what_two_gateways_count_of_a_day_is_counted_together(pair: Pair) -> None:
    one, other = (PostgresqlUsage(each) for each in pair)
    name = ("tenant", "t")
    await asyncio.gather(
        *(each.add_uses(7, {name: DayUse(messages=1, cpu_ms=3)}) for each in (one, other) * 20)
    )
    assert await one.uses(7) == await other.uses(7, [name]) == {name: DayUse(messages=40, cpu_ms=120)}


async def test_all_sign_with_the_secret_that_was_offered_first(pair: Pair) -> None:
    one, other = pair
    stores = [PostgresqlSigning(each, node=lambda: 0) for each in (one, other) * 5]
    offered = [bytes([number]) * 32 for number in range(len(stores))]
    found = await asyncio.gather(
        *(store.secrets(secret) for store, secret in zip(stores, offered, strict=True))
    )
    assert len(set(map(tuple, found))) == 1
    assert found[0][0] in offered
    insert = "INSERT INTO signing_secrets (secret) VALUES ($1)"
    await one.transact(lambda c: c.execute(insert, b"new" * 11))
    assert await stores[1].secrets(b"x" * 32) == [b"new" * 11, found[0][0]]


async def test_a_gateway_with_another_secret_is_refused_unless_it_is_alone(pair: Pair) -> None:
    one, other = pair
    mine, theirs = await node(one, "one"), await node(one, "two")
    first = PostgresqlSigning(one, node=lambda: mine)
    second = PostgresqlSigning(other, node=lambda: theirs)
    assert await first.agrees("a")
    assert await second.agrees("a")
    assert not await second.agrees("b")
    await one.transact(lambda c: c.execute("DELETE FROM nodes WHERE id = $1", mine))
    assert await second.agrees("b")


async def test_of_one_request_to_two_gateways_at_once_one_outcome_is_kept(pair: Pair) -> None:
    stores = [PostgresqlIdempotency(each) for each in pair * 5]
    for number in range(20):
        found = await asyncio.gather(
            *(
                store.remember(
                    "t/s", f"k{number}", Remembered(body_hash="h", session_id=f"s{at}"), at=10, since=5
                )
                for at, store in enumerate(stores)
            )
        )
        assert len({one.session_id for one in found}) == 1, found
    again = await asyncio.gather(  # all of it is too old by now
        *(
            store.remember("t/s", "k0", Remembered(body_hash="h", session_id=f"new{at}"), at=30, since=20)
            for at, store in enumerate(stores)
        )
    )
    assert len({one.session_id for one in again}) == 1
    assert again[0].session_id.startswith("new")


async def test_no_two_gateways_are_given_the_same_number(pair: Pair) -> None:
    stores = [PostgresqlSequences(each) for each in pair]
    firsts = await asyncio.gather(*(store.take("messages", 10) for store in stores * 25))
    assert sorted(firsts) == list(range(1, 501, 10))
