"""Quotas of several gateways on one database: together they keep to them, however many ask at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import pytest
import pytest_asyncio

from gateway.auth.quotas import Held, Quotas
from gateway.config.tables import Config, Quota, QuotasConfig
from gateway.errors import QuotaExceeded
from gateway.models.budgets import Budgets
from gateway.principal import Account
from gateway.stores.postgresql.beside import PostgresqlTables
from gateway.stores.postgresql.credentials import PostgresqlUsage
from gateway.stores.postgresql.held import PostgresqlHeld
from tests.contract.engines import MIGRATIONS, migrated_database
from tests.shared import eventually

TEN: Final = 10
_INSERT: Final = "INSERT INTO nodes (name, place, has_lock) VALUES ($1, '', false) RETURNING id"


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


class Node:
    """A gateway's quotas."""

    def __init__(self, database: PostgresqlTables, number: int, config: Callable[[], Config]) -> None:
        self.database = database
        self.number = number
        self.quotas = Quotas(
            config,
            PostgresqlUsage(database),
            budgets=Budgets(config, wall_ms=wall_ms),
            monotonic=time.monotonic,
            wall_ms=wall_ms,
            shared=PostgresqlHeld(database, node=lambda: number),
        )

    async def start(self, account: Account) -> bool:
        """Whether a turn of this account, with a worker of its own, may begin; as a session does it."""
        try:
            await self.quotas.ready(account, has_worker=False)
        except QuotaExceeded:
            return False
        self.quotas.begin_turn(account)
        self.quotas.take_live(account)
        return True

    def end(self, account: Account) -> None:
        self.quotas.end_turn(account)
        self.quotas.give_live(account)

    async def die(self) -> None:
        await self.database.transact(lambda c: c.execute("DELETE FROM nodes WHERE id = $1", self.number))


Start = Callable[[Quota], Awaitable[list[Node]]]


@pytest_asyncio.fixture
async def start() -> AsyncIterator[Start]:
    """Three gateways on one database, whose tenants and people have this quota."""
    url = migrated_database()
    async with contextlib.AsyncExitStack() as stack:

        async def started(quota: Quota) -> list[Node]:
            nodes = []
            config = Config(quotas=QuotasConfig(tenant=quota))
            for name in ("a", "b", "c"):
                database = PostgresqlTables(url, migrations=MIGRATIONS)
                await database.open()
                stack.push_async_callback(database.close)
                number = await database.transact(lambda c, name=name: c.fetchval(_INSERT, name))  # type: ignore[misc]
                nodes.append(Node(database, number, lambda: config))
            return nodes

        yield started


def account(number: int) -> Account:
    return Account(f"acme/p{number % 7}", f"s{number}")


@pytest.mark.parametrize("quota", [Quota(concurrent_turns=TEN), Quota(sessions_live=TEN)])
async def test_a_hundred_starts_at_once_at_three_gateways_get_exactly_ten(start: Start, quota: Quota) -> None:
    nodes = await start(quota)
    for _ in range(3):  # also when what was held was given back just before
        accounts = [account(number) for number in range(100)]
        begun = await asyncio.gather(*(nodes[number % 3].start(one) for number, one in enumerate(accounts)))
        assert sum(begun) == TEN
        for number, one in enumerate(accounts):
            if begun[number]:
                nodes[number % 3].end(one)


async def test_what_one_gives_back_another_may_have_at_once(start: Start) -> None:
    one, other, _ = await start(Quota(concurrent_turns=1))
    for number in range(20):
        giver, taker = (one, other) if number % 2 else (other, one)
        assert await giver.start(account(number))
        assert not await taker.start(account(number))
        giver.end(account(number))
        assert await taker.start(account(number))
        taker.end(account(number))


async def test_what_has_just_ended_here_may_begin_again_without_waiting(start: Start) -> None:
    """As messages that wait in a session do; another gateway does not get in between."""
    one, other, _ = await start(Quota(concurrent_turns=1))
    assert await one.start(account(1))
    for _ in range(50):
        one.quotas.end_turn(account(1))
        one.quotas.begin_turn(account(1))
        assert not await other.start(account(2))


async def test_what_a_dead_gateway_held_does_not_count(start: Start) -> None:
    one, other, _ = await start(Quota(concurrent_turns=TEN))
    assert all([await one.start(account(number)) for number in range(TEN)])
    assert not await other.start(account(50))
    await one.die()
    assert all([await other.start(account(number)) for number in range(TEN)])
    assert not await other.start(account(50))


async def test_what_the_store_has_lost_is_said_again(start: Start) -> None:
    """As after a failover to a server that had not heard of it."""
    one, other, _ = await start(Quota(concurrent_turns=TEN))
    assert all([await one.start(account(number)) for number in range(TEN)])
    await one.database.transact(lambda c: c.execute("DELETE FROM held"))

    async def is_known() -> bool:
        await one.quotas.keep()
        return bool(await one.database.query(lambda c: c.fetchval("SELECT sum(amount) FROM held")))

    await eventually(is_known)
    assert not await other.start(account(50))


async def test_a_start_that_is_given_up_holds_nothing(start: Start) -> None:
    one, other, _ = await start(Quota(concurrent_turns=1))
    for number in range(10):
        asking = asyncio.create_task(one.quotas.ready(account(number), has_worker=True))
        await asyncio.sleep(0.001 * number)
        asking.cancel()
        await asyncio.wait([asking])

    async def is_free() -> bool:
        return await other.start(account(1))

    await eventually(is_free)


async def test_stored_sessions_are_counted_over_all_gateways(start: Start) -> None:
    nodes = await start(Quota(sessions_stored=TEN))
    insert = (
        "INSERT INTO sessions (key, owner, session_id, agent, created_at, last_active_at)"
        " VALUES ($1, $2, $1, 'a', 1, 1)"
    )

    async def make(node: Node, number: int) -> bool:
        owner = f"acme/p{number % 7}"
        try:
            await node.quotas.ready_to_store(owner)
        except QuotaExceeded:
            return False
        node.quotas.add_session(owner)
        await node.database.transact(lambda c: c.execute(insert, f"k{number}", owner))
        node.quotas.session_stored(owner)
        return True

    for owner in ("acmeother/x", "acm/x", "acme0/x"):
        await nodes[0].database.transact(lambda c, owner=owner: c.execute(insert, owner, owner))  # type: ignore[misc]
    made = await asyncio.gather(*(make(nodes[number % 3], number) for number in range(60)))
    assert sum(made) == TEN
    await nodes[0].database.transact(lambda c: c.execute("DELETE FROM sessions WHERE owner LIKE 'acme/%'"))
    assert await make(nodes[1], 99)


async def test_each_hears_what_the_others_hold_and_used(start: Start) -> None:
    one, other, _ = await start(Quota(messages_per_day=3))
    assert await one.start(account(1))
    one.quotas.take_message(account(1), session_bytes=0)
    other.quotas.take_message(account(1), session_bytes=0)
    for node in (one, other, one):
        await node.quotas.keep()
    assert await _held(one, other) == (1, 1)
    assert [node.quotas.of_tenant("acme")[0].messages for node in (one, other)] == [2, 2]
    one.quotas.take_message(account(1), session_bytes=0)
    for node in (one, other):
        await node.quotas.keep()
    with pytest.raises(QuotaExceeded):
        other.quotas.take_message(account(1), session_bytes=0)


async def test_what_others_store_counts_for_who_has_something_here(start: Start) -> None:
    one, _, _ = await start(Quota(stored_bytes=100))
    insert = (
        "INSERT INTO sessions (key, owner, session_id, agent, created_at, last_active_at, stored_bytes)"
        " VALUES ($1, $2, $1, 'a', 1, 1, 60)"
    )
    for owner in ("acme/p1", "acme/p2", "acme0/p1"):
        await one.database.transact(lambda c, owner=owner: c.execute(insert, owner, owner))  # type: ignore[misc]
    assert await one.start(account(1))
    one.quotas.take_message(account(1), session_bytes=0)
    await one.quotas.keep()
    held = one.quotas.of_tenant("acme")[1]
    assert (held.stored, held.stored_bytes) == (2, 120)
    with pytest.raises(QuotaExceeded):
        one.quotas.take_message(account(1), session_bytes=0)


async def _held(*nodes: Node) -> tuple[int, ...]:
    """How many answers of the tenant run, as each says, once all have heard."""
    found: list[Held] = []

    async def have_heard() -> bool:
        nonlocal found
        for node in nodes:
            await node.quotas.keep()
        found = [node.quotas.of_tenant("acme")[1] for node in nodes]
        return all(held.running for held in found)

    await eventually(have_heard)
    return tuple(held.running for held in found)
