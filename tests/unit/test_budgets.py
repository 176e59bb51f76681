"""Budgets: who is refused, how far calls at once go over, days and months, clocks that jump."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from gateway.config.tables import AgentConfig, Budget, Config, Quota, QuotasConfig, SessionQuota, TenantConfig
from gateway.errors import BudgetReached
from gateway.models.budgets import Amount, Budgets, HeldBack, day_of, month_of
from gateway.principal import Account

DAY_MS = 24 * 3600 * 1000
ALICE = Account("acme/alice", "s1", "key-1", agent="built-in")
BOB = Account("acme/bob", "s2", agent="claude")
EVE = Account("other/eve", "s3", agent="claude")
CENT = Amount(10_000, 100)


def ms(*date: int) -> int:
    return round(datetime.datetime(*date, tzinfo=datetime.UTC).timestamp() * 1000)  # type: ignore[misc, arg-type]


class World:
    """A clock that is set by hand, and budgets under it."""

    def __init__(self, **quotas: Any) -> None:
        self.ms = ms(2026, 11, 28, 12)
        self.config = Config(quotas=QuotasConfig(**quotas))
        self.refused: list[str] = []
        self.budgets = Budgets(lambda: self.config, wall_ms=lambda: self.ms, on_reached=self.refused.append)

    def hold(self, account: Account = ALICE, amount: Amount = CENT) -> HeldBack:
        return self.budgets.hold(account, amount, what="m")

    def call(self, account: Account = ALICE, amount: Amount = CENT) -> list[str]:
        """One whole call; what is nearly used up by it."""
        held = self.hold(account, amount)
        self.budgets.release(held)
        return [near.words for near in self.budgets.add(account, amount, at=self.ms)]


@pytest.mark.parametrize(
    ("scope", "others_go_on"),
    [
        ("gateway", False),
        ("tenant", True),
        ("subject", True),
        ("key", True),
        ("session", True),
        ("agent", True),
    ],
)
@pytest.mark.parametrize("limit", ["cost_per_day", "cost_per_month", "tokens_per_day", "tokens_per_month"])
def test_each_budget_of_each_kind_ends_calls_and_no_other(scope: str, limit: str, others_go_on: bool) -> None:
    kind: Any = {"gateway": Budget, "agent": Budget, "session": SessionQuota}.get(scope, Quota)
    allowed = 0.02 if limit.startswith("cost") else 200
    world = World(**{scope: kind(**{limit: allowed})}, soft_percent=100)
    world.call()
    world.call()
    with pytest.raises(BudgetReached) as caught:
        world.hold()
    error = caught.value
    assert (error.limit, error.used, error.allowed) == (f"{scope}.{limit}", allowed, allowed)
    assert "administrator of this gateway" in error.message
    assert world.refused == [f"{scope}.{limit}"]
    with pytest.raises(BudgetReached):
        world.budgets.check(ALICE)
    if others_go_on:
        world.hold(EVE)
    world.ms = ms(2026, 12, 1)
    world.call()


def test_0_is_no_limit() -> None:
    world = World()
    for _ in range(100):
        assert world.call(amount=Amount(10**12, 10**9)) == []


def test_a_tenants_a_persons_and_an_agents_own_budget_come_before_those_of_all() -> None:
    world = World(tenant=Quota(cost_per_day=0.01), agent=Budget(cost_per_day=0.01))
    tenant = TenantConfig(quota=Quota(), subject_quota=Quota(cost_per_day=0.03))
    world.config = Config(
        quotas=world.config.quotas,
        tenants={"acme": tenant},
        agents={"built-in": AgentConfig(budget=Budget(cost_per_day=1))},
    )
    for _ in range(3):
        world.call()
    with pytest.raises(BudgetReached) as caught:
        world.call()
    assert caught.value.limit == "subject.cost_per_day"


def test_a_hundred_calls_at_once_are_held_to_what_is_left() -> None:
    world = World(tenant=Quota(cost_per_day=0.055))
    held = []
    for number in range(100):
        try:
            held.append(world.hold(Account("acme/alice", f"s{number}")))
        except BudgetReached:
            continue
    assert [each.amount.cost for each in held] == [10_000] * 5 + [5_000]
    for each in held:
        world.budgets.release(each)
        world.budgets.add(ALICE, CENT, at=world.ms)
    with pytest.raises(BudgetReached) as caught:
        world.hold()
    assert caught.value.used == 0.06, "over by less than one call"


def test_what_was_held_is_given_back() -> None:
    world = World(tenant=Quota(tokens_per_day=100))
    held = world.hold(amount=Amount(0, 5_000))
    with pytest.raises(BudgetReached):
        world.hold(BOB)
    world.budgets.check(BOB)
    world.budgets.release(held)
    world.hold(BOB)
    assert len(world.budgets._held) == 5, "nobody who holds nothing is remembered"


def test_a_model_without_a_price_is_not_free() -> None:
    world = World(tenant=Quota(cost_per_month=1))
    with pytest.raises(BudgetReached, match="price of the model m is not known") as caught:
        world.hold(amount=Amount(None, 5))
    assert caught.value.status == 402
    world.hold(EVE, Amount(0, 5))
    world.config = Config(quotas=QuotasConfig(tenant=Quota(cost_per_month=1), unpriced="allow"))
    world.call(amount=Amount(None, 5))
    world = World(tenant=Quota(tokens_per_day=1_000))
    world.call(amount=Amount(None, 5))


def test_a_raised_budget_holds_at_once() -> None:
    world = World(session=SessionQuota(cost_per_day=0.01))
    world.call()
    with pytest.raises(BudgetReached):
        world.call()
    world.config = Config(quotas=QuotasConfig(session=SessionQuota(cost_per_day=0.02)))
    world.call()


def test_most_of_a_budget_is_told_once_in_its_day_and_again_when_it_was_raised() -> None:
    world = World(subject=Quota(cost_per_day=0.05), soft_percent=50)
    assert world.call() == world.call() == []
    [words] = world.call()
    assert words == "This account has used 0.030000 USD of 0.050000 USD a day."
    assert world.call() == []
    world.config = Config(quotas=QuotasConfig(subject=Quota(cost_per_day=0.08), soft_percent=50))
    assert len(world.call()) == 1
    world.ms += DAY_MS
    assert [len(world.call()) for _ in range(4)] == [0, 0, 0, 1]


def test_a_call_counts_for_the_day_it_began_on() -> None:
    world = World(subject=Quota(cost_per_day=0.01))
    world.ms = ms(2026, 11, 30, 23, 59)
    began = world.ms
    held = world.hold()
    world.ms += 120_000
    world.budgets.release(held)
    world.budgets.add(ALICE, CENT, at=began)
    world.call()
    with pytest.raises(BudgetReached):
        world.call()
    assert world.budgets.months.of(month_of(began))["subject", "acme/alice"].cost == 10_000


def test_a_clock_that_jumps_and_comes_back_finds_what_it_left() -> None:
    world = World(subject=Quota(cost_per_day=0.01))
    world.call()
    for days in (1, 400, -400, -1):
        world.ms += days * DAY_MS
        if days > 0:
            world.call()
        with pytest.raises(BudgetReached):
            world.call()


def test_the_end_of_a_month_is_known() -> None:
    world = World(subject=Quota(cost_per_month=0.01, cost_per_day=0.01))
    for now, days_left in ((ms(2026, 12, 30), 2), (ms(2027, 2, 27), 2), (ms(2028, 2, 27), 3)):
        world.ms = now
        world.call()
        world.config = Config(quotas=QuotasConfig(subject=Quota(cost_per_month=0.01)))
        with pytest.raises(BudgetReached, match="next month") as caught:
            world.call()
        assert caught.value.retry_after_seconds == days_left * 24 * 3600


def test_what_is_restored_is_not_added_to_what_was_counted_since() -> None:
    world = World()
    world.call()
    spent = {("subject", "acme/alice"): world.budgets.days.of(day_of(world.ms))["subject", "acme/alice"]}
    world.budgets.days.at_least(day_of(world.ms), spent)
    assert world.budgets.tokens_today(("subject", "acme/alice")) == 100


def test_a_sessions_own_budget_counts_all_its_days_and_can_be_raised_for_it_alone() -> None:
    world = World(session=SessionQuota(cost=0.03), soft_percent=60)
    world.budgets.know_session("s1", spent=0.01, own=None)
    (words,) = world.call()
    assert words == "This session has used 0.020000 USD of 0.030000 USD in all."
    world.ms = ms(2026, 12, 2)
    assert world.call() == []
    with pytest.raises(BudgetReached) as caught:
        world.hold()
    error = caught.value
    assert (error.limit, error.used, error.allowed) == ("session.cost", 0.03, 0.03)
    assert error.retry_after_seconds is None
    assert "in all" in error.message
    assert "when the administrator of this gateway raises its budget" in error.message
    world.hold(BOB)
    world.budgets.know_session("s1", spent=0.03, own=0.05)
    world.call()
    world.budgets.know_session("s1", spent=0.05, own=0)
    world.call()
    world.budgets.forget_live("s1")
    assert world.budgets.of_session("s1") == 0.03


def test_what_a_log_lost_of_a_sessions_costs_the_ledger_knows() -> None:
    world = World(session=SessionQuota(cost=0.02))
    world.budgets.months.add(month_of(world.ms), ("session", "s1"), Amount(20_000, 1))
    world.budgets.know_session("s1", spent=0.01, own=None)
    with pytest.raises(BudgetReached):
        world.hold()


def test_a_session_whose_person_may_raise_its_budget_says_so() -> None:
    world = World(session=SessionQuota(cost=0.01, cost_most=0.5))
    world.budgets.know_session("s1", spent=0.01, own=None)
    with pytest.raises(BudgetReached, match=r"when you raise its budget, up to 0.50 USD, or when"):
        world.hold()
