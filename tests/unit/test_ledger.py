"""The ledger: reserved, settled, written, whatever happens in between."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from gateway.config.models import DEFAULT_PROVIDER, PriceConfig
from gateway.config.tables import Config, ModelConfig, Quota, QuotasConfig
from gateway.errors import BudgetReached, StoreFull
from gateway.models.budgets import Near
from gateway.models.ledger import ledger_of
from gateway.models.meter import ASSUMED_OUTPUT, CallUsage, ModelCall
from gateway.principal import Account
from gateway.stores.ledger import Chosen, LedgerCall, LedgerEntry, UsageSum
from gateway.stores.memory.ledger import MemoryLedger
from gateway.telemetry.clocks import Clock
from gateway.telemetry.metrics import Metrics
from tests.patience import soon, within

ALICE = Account("acme/alice", "s1", "key-1", agent="built-in")
EVER = Chosen(from_day=0, to_day=10**6)
PRICES = {"m": PriceConfig(input=2, output=10, cache_read=0.5)}
USED = CallUsage(input=1_000, cache_read=100, output=50, reasoning=50)
COST = 2_000 + 50 + 1_000


class Slow(MemoryLedger):
    """A store that can be full, or stand still, and counts its groups."""

    def __init__(self) -> None:
        super().__init__()
        self.is_full = False
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.groups: list[int] = []
        self.has_forgotten = asyncio.Event()

    async def put(self, entries: Sequence[LedgerEntry]) -> None:
        await self.may_write.wait()
        if self.is_full:
            raise StoreFull
        self.groups.append(len(entries))
        await super().put(entries)

    async def forget(self, **days: int) -> None:
        await super().forget(**days)
        self.has_forgotten.set()


class World:
    """A ledger on a store in memory."""

    def __init__(self, store: Slow | None = None, *, day: int = 100, **quotas: Any) -> None:
        self.ms = day * 24 * 3600 * 1000
        self.config = Config(model=ModelConfig(prices=PRICES), quotas=QuotasConfig(**quotas))
        self.store = store or Slow()
        self.metrics = Metrics(version="0", monotonic=lambda: 0.0)
        self.heard: list[Any] = []
        clock = Clock(monotonic=lambda: 0.0, wall_ms=lambda: self.ms)
        self.ledger = ledger_of(lambda: self.config, self.store, metrics=self.metrics, clock=clock)
        self.ledger.listener = self

    def settled(self, call: LedgerCall, seconds: float) -> None:
        self.heard.append(call)

    def near(self, session_key: str, near: Near) -> None:
        self.heard.append(near)

    def reached(self, session_key: str, error: BudgetReached) -> None:
        self.heard.append(error)

    async def written(self) -> None:
        await self.ledger.close()

    async def total(self) -> UsageSum:
        rows = await self.store.sums((), EVER, limit=1)
        return rows[0].total if rows else UsageSum()

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"agent_gateway_{name}", labels)


def call(name: str = "c", **fields: Any) -> ModelCall:
    values: dict[str, Any] = {
        "account": ALICE,
        "provider": DEFAULT_PROVIDER,
        "model": "m",
        "dialect": "chat",
    } | fields
    return ModelCall(id=name, input_tokens=500, **values)


async def test_a_reservation_that_is_noted_is_not_waited_for() -> None:
    class Noting(Slow):
        def note(self, call: LedgerCall) -> bool:
            noted.append(call)
            return len(noted) == 1

    noted: list[LedgerCall] = []
    store = Noting()
    store.may_write.clear()
    world = World(store)
    await soon(world.ledger.reserve(call("a")).kept(), 5)
    waiting = asyncio.create_task(world.ledger.reserve(call("b")).kept())
    await asyncio.sleep(0)
    assert [one.id for one in noted] == ["a", "b"]
    assert not waiting.done()
    store.may_write.set()
    await soon(waiting, 5)
    assert {one.id for one in await store.in_flight()} == {"a", "b"}


async def test_what_is_noted_waits_for_a_group_and_a_settlement_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Noting(Slow):
        def note(self, _call: LedgerCall) -> bool:
            return True

    async with within(10):
        world = World(Noting())
        first = world.ledger.reserve(call("a"))
        world.ledger.reserve(call("b"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert world.store.groups == []
        first.settle(USED, status=200)
        await asyncio.sleep(0)
        while not world.store.groups:
            await asyncio.sleep(0)
        assert world.store.groups == [3], "it brings along what waited before it"
        monkeypatch.setattr("gateway.models.ledger.NOTED_SECONDS", 0.001)
        world.ledger.reserve(call("c"))
        while len(world.store.groups) < 2:
            await asyncio.sleep(0.001)
        assert {one.id for one in await world.store.in_flight()} == {"b", "c"}
        monkeypatch.setattr("gateway.models.ledger.NOTED_SECONDS", 60)
        world.ledger.reserve(call("d"))
        await world.written()
        assert {one.id for one in await world.store.in_flight()} == {"b", "c", "d"}


async def test_a_call_is_reserved_settled_priced_and_counted_once() -> None:
    world = World()
    reservation = world.ledger.reserve(call(max_output_tokens=70))
    await reservation.kept()
    [open_call] = await world.store.in_flight()
    assert (open_call.input, open_call.output, open_call.cost) == (500, 70, 1_700)
    for _ in range(3):
        reservation.settle(USED, status=200, model="m-1", first_byte_milliseconds=30)
    await world.written()
    total = await world.total()
    assert (total.calls, total.cost, total.tokens) == (1, COST, 1_200)
    [row] = await world.store.calls(limit=9)
    assert (row.model, row.model_answered, row.first_byte_ms, row.is_estimated) == ("m", "m-1", 30, False)
    assert world.heard == [row]
    assert world.ledger.budgets.tokens_today(("subject", "acme/alice")) == 1_200
    assert world.value("model_cost_usd_total", provider=DEFAULT_PROVIDER, model="m") == COST / 1e6
    tokens = {"provider": DEFAULT_PROVIDER, "model": "m", "kind": "reasoning"}
    assert world.value("model_tokens_total", **tokens) == 50


async def test_a_call_that_names_no_limit_holds_a_usual_answer() -> None:
    world = World()
    world.ledger.reserve(call())
    await world.written()
    world.ledger.reserve(msgspec.structs.replace(call("counts tokens"), input_tokens=0))
    await world.written()
    assert {one.id: one.output for one in await world.store.in_flight()} == {
        "c": ASSUMED_OUTPUT,
        "counts tokens": 0,
    }


async def test_an_unpriced_model_costs_an_unknown_amount() -> None:
    world = World()
    world.ledger.reserve(call(model="other")).settle(USED, status=200)
    await world.written()
    total = await world.total()
    assert (total.unpriced_calls, total.cost, total.tokens) == (1, 0, 1_200)
    assert world.value("model_unpriced_total", provider=DEFAULT_PROVIDER, model="other") == 1


async def test_a_refused_call_leaves_no_row_and_is_heard_of() -> None:
    world = World(subject=Quota(cost_per_day=0.000_001))
    world.ledger.reserve(call("a"))
    with pytest.raises(BudgetReached):
        world.ledger.reserve(call("b"))
    await world.written()
    assert [one.id for one in await world.store.calls(limit=9)] == ["a"]
    assert isinstance(world.heard[0], BudgetReached)


async def test_two_sessions_at_the_limit_go_over_by_no_more_than_they_reserved() -> None:
    world = World(tenant=Quota(tokens_per_day=2_000))
    first = world.ledger.reserve(call("a", max_output_tokens=500))
    second = world.ledger.reserve(
        call("b", max_output_tokens=500, account=Account("acme/bob", "s2", agent="built-in"))
    )
    with pytest.raises(BudgetReached):
        world.ledger.reserve(call("c"))
    for reservation in (first, second):
        reservation.settle(CallUsage(input=500, output=500), status=200)
    with pytest.raises(BudgetReached):
        world.ledger.reserve(call("d"))
    assert world.ledger.budgets.tokens_today(("tenant", "acme")) == 2_000


async def test_most_of_a_budget_is_heard_of() -> None:
    world = World(subject=Quota(cost_per_day=0.003))
    world.ledger.reserve(call()).settle(USED, status=200)
    near = world.heard[-1]
    assert isinstance(near, Near)
    assert near.limit == "subject.cost_per_day"


async def test_calls_that_come_together_are_one_group_and_none_waits_for_another_group() -> None:
    world = World()
    reservations = [world.ledger.reserve(call(f"c{number}")) for number in range(50)]
    await asyncio.gather(*(reservation.kept() for reservation in reservations))
    assert world.store.groups == [50]
    world.store.may_write.clear()
    for number in range(2):
        reservations[number].settle(USED, status=200)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(world.ledger._writing) == 2, "the store has both, in order, though it stands still"
    world.store.may_write.set()
    await world.written()
    assert world.store.groups == [50, 1, 1]


async def test_what_a_full_store_refuses_is_kept_and_written_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gateway.models.ledger.RETRY_SECONDS", 0.01)
    world = World()
    world.store.is_full = True
    reservation = world.ledger.reserve(call())
    async with within(5):
        await reservation.kept()
    reservation.settle(USED, status=200)
    world.ledger.use(ALICE, cpu_ms=5)
    async with within(5):
        while "entries of the ledger wait" not in caplog.text:
            await asyncio.sleep(0.01)
    world.store.is_full = False
    async with within(5):
        while (await world.total()).cpu_ms != 5:
            await asyncio.sleep(0.01)
    assert (await world.total()).calls == 1
    await world.written()


async def test_settling_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    odd: Any = CallUsage(input=2**80, output=-5)
    world.ledger.reserve(call("a")).settle(odd, status=200)
    broken: Any = "no usage"
    with caplog.at_level(logging.ERROR):
        world.ledger.reserve(call("b")).settle(broken, status=200)
    assert "could not be settled" in caplog.text
    await world.written()
    assert (await world.total()).output == 0


async def test_what_a_killed_gateway_left_in_flight_is_estimated_and_counts() -> None:
    first = World()
    done, cut = first.ledger.reserve(call("done")), first.ledger.reserve(call("cut", max_output_tokens=100))
    done.settle(USED, status=200)
    await first.written()
    again = World(first.store, subject=Quota(tokens_per_day=1_800))
    await again.ledger.open()
    rows = {row.id: row for row in await again.store.calls(limit=9)}
    assert (rows["cut"].is_estimated, rows["cut"].status, rows["cut"].tokens) == (True, 0, 600)
    assert not rows["done"].is_estimated
    assert again.ledger.budgets.tokens_today(("subject", "acme/alice")) == 1_800
    with pytest.raises(BudgetReached):
        again.ledger.reserve(call("more"))
    assert again.ledger.budgets.months.of(1970 * 12 + 3)["session", "s1"].tokens == 1_800
    cut.settle(USED, status=200)
    await first.written()
    assert (await again.total()).calls == 2


async def test_a_clock_that_jumps_to_a_day_that_is_stored_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.models.ledger.LOOK_SECONDS", 0.01)
    world = World()
    world.ledger.reserve(call("a")).settle(USED, status=200)
    await world.written()
    again = World(world.store)
    again.ms += 3 * 24 * 3600 * 1000
    await again.ledger.open()
    assert again.ledger.budgets.tokens_today(("gateway", "")) == 0
    keeping = asyncio.create_task(again.ledger.keep_for_ever())
    again.ms -= 3 * 24 * 3600 * 1000
    async with within(5):
        while again.ledger.budgets.tokens_today(("gateway", "")) != 1_200:
            await asyncio.sleep(0.01)
    keeping.cancel()


async def test_a_clock_that_jumps_far_ahead_drops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.models.ledger.LOOK_SECONDS", 0.01)
    world = World()
    world.ledger.reserve(call("a")).settle(USED, status=200)
    await world.written()
    world.ms += 500 * 24 * 3600 * 1000
    keeping = asyncio.create_task(world.ledger.keep_for_ever())
    await soon(world.store.has_forgotten.wait(), 5)
    keeping.cancel()
    assert (await world.total()).calls == 1
    assert await world.store.calls(limit=1)


async def test_old_calls_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.ledger.reserve(call("a")).settle(USED, status=200)
    await world.written()
    again = World(world.store, day=150)
    keeping = asyncio.create_task(again.ledger.keep_for_ever())
    async with within(5):
        while await again.store.calls(limit=1):
            await asyncio.sleep(0.01)
    keeping.cancel()
    assert (await again.total()).calls == 1
