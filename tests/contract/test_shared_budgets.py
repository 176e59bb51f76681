"""Budgets of several gateways on one database: together they keep to them, and count each call once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio

from gateway.config.tables import Config, Quota, QuotasConfig
from gateway.errors import BudgetReached
from gateway.models.budgets import Amount, Budgets, day_of
from gateway.models.ledger import Ledger
from gateway.models.meter import CallUsage, ModelCall, Reservation
from gateway.models.prices import Prices
from gateway.models.shared_budgets import SharedBudgets
from gateway.principal import Account
from gateway.stores.ledger import Chosen
from gateway.stores.postgresql.beside import PostgresqlTables
from gateway.stores.postgresql.held import PostgresqlHeld
from gateway.stores.postgresql.ledger import PostgresqlLedger
from tests.contract.engines import MIGRATIONS, migrated_database

TOKENS: Final = 400
"""That a call holds back, and uses."""
ALLOWED: Final = 1000
CONFIG: Final = Config(quotas=QuotasConfig(tenant=Quota(tokens_per_day=ALLOWED)))
_INSERT: Final = "INSERT INTO nodes (name, place, has_lock) VALUES ($1, '', false) RETURNING id"


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


class Node:
    """A gateway's ledger."""

    def __init__(self, database: PostgresqlTables, number: int) -> None:
        self.database = database
        self.number = number
        budgets = Budgets(lambda: CONFIG, wall_ms=wall_ms)
        self.shared = SharedBudgets(PostgresqlHeld(database, node=lambda: number), budgets)
        self.ledger = Ledger(
            PostgresqlLedger(database, node=lambda: number),
            budgets,
            Prices(dict),
            wall_ms=wall_ms,
            monotonic=time.monotonic,
            shared=self.shared,
        )

    async def reserve(self, name: str, *, tokens: int = TOKENS) -> Reservation | None:
        """A call that may be made."""
        account = Account("acme/ann", f"session {self.number}", agent="a")
        call = ModelCall(
            id=name, account=account, provider="p", model="m", dialect="chat", input_tokens=tokens - 1,
            max_output_tokens=1,
        )  # fmt: skip
        try:
            reservation = self.ledger.reserve(call)
            await reservation.kept()
        except BudgetReached:
            return None
        return reservation

    async def used(self) -> int:
        today = day_of(wall_ms())
        rows = await self.ledger._store.sums((), Chosen(from_day=today, to_day=today), limit=1)
        return rows[0].total.tokens if rows else 0

    async def die(self) -> None:
        await self.database.transact(lambda c: c.execute("DELETE FROM nodes WHERE id = $1", self.number))


def settle(reservation: Reservation) -> None:
    reservation.settle(CallUsage(input=TOKENS), status=200)


@pytest_asyncio.fixture
async def nodes() -> AsyncIterator[list[Node]]:
    url = migrated_database()
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for name in ("a", "b", "c"):
            database = PostgresqlTables(url, migrations=MIGRATIONS)
            await database.open()
            stack.push_async_callback(database.close)
            number = await database.transact(lambda c, name=name: c.fetchval(_INSERT, name))  # type: ignore[misc]
            made.append(Node(database, number))
        for node in made:
            await node.ledger.open()
        yield made
        for node in made:
            await node.ledger.close()


async def test_calls_of_three_gateways_at_once_go_over_a_budget_by_no_more_than_one(
    nodes: list[Node],
) -> None:
    asked = await asyncio.gather(*(nodes[number % 3].reserve(f"c{number}") for number in range(30)))
    made = [one for one in asked if one is not None]
    assert len(made) == 3, "two fit, and the third begins below the limit"
    for one in made:
        settle(one)
    for node in nodes:
        await node.ledger.close()
    assert await nodes[0].used() == 3 * TOKENS <= ALLOWED + TOKENS
    assert [await node.reserve("another") for node in nodes] == [None, None, None]


async def test_of_calls_as_large_as_the_budget_one_is_made_at_a_time(nodes: list[Node]) -> None:
    for turn in range(5):
        asked = await asyncio.gather(
            *(node.reserve(f"{turn} {node.number}", tokens=2 * ALLOWED) for node in nodes)
        )
        (made,) = [one for one in asked if one is not None]
        made.settle(CallUsage(), status=200)
        for node in nodes:
            await node.ledger.close()


async def test_what_is_used_less_than_it_was_held_back_for_is_anybodys_again(nodes: list[Node]) -> None:
    one, other, _ = nodes
    for number in range(3):
        held = await one.reserve(f"c{number}")
        assert held is not None
        held.settle(CallUsage(input=1), status=200)
    await one.ledger.close()
    found = [await other.reserve(f"d{number}") for number in range(4)]
    assert [reservation is not None for reservation in found] == [True, True, True, False]


async def test_what_a_dead_gateway_held_back_is_used_and_not_held_any_more(nodes: list[Node]) -> None:
    one, other, third = nodes
    assert await one.reserve("c1") is not None
    await other.ledger.open()
    assert await other.used() == 0, "a gateway that runs settles its calls itself"
    await one.die()
    await other.ledger.open()
    await third.ledger.open()
    assert await other.used() == TOKENS, "estimated, and once"
    found = [await third.reserve(f"d{number}") for number in range(3)]
    assert [reservation is not None for reservation in found] == [True, True, False]


async def test_a_message_is_refused_by_what_others_used(nodes: list[Node]) -> None:
    one, other, _ = nodes
    account = Account("acme/ann", "s")
    other.ledger.budgets.add(account, Amount(0, 1), at=wall_ms())  # it knows the tenant
    for number in range(3):
        held = await one.reserve(f"c{number}")
        assert held is not None
        settle(held)
    await one.ledger.close()
    other.ledger.budgets.check(account)
    await other.shared.hear(wall_ms())
    with pytest.raises(BudgetReached):
        other.ledger.budgets.check(account)
