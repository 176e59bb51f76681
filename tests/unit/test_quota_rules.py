"""Quotas: what is refused, what is counted, who pays."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from gateway.auth.quotas import Nearly, Quotas
from gateway.config.tables import Config, Quota, QuotasConfig, SessionQuota, TenantConfig
from gateway.errors import BudgetReached, QuotaExceeded, StoreFailed
from gateway.events.facts import QuotaUse
from gateway.models.budgets import Amount
from gateway.principal import Account
from gateway.stores.contract import OwnerTotal
from gateway.stores.memory.credentials import MemoryUsage
from gateway.stores.usage import DayUse, UseName
from tests.meters import budgets_of

DAY_MS = 24 * 3600 * 1000
ALICE = Account("acme/alice", "s1")
BOB = Account("acme/bob", "s2")
EVE = Account("other/eve", "s3")


class World:
    """Clocks that are set by hand, and quotas under them."""

    def __init__(self, store: MemoryUsage | None = None, **quotas: Any) -> None:
        self.seconds = 1000.0
        self.ms = 100 * DAY_MS + 1
        self.config = Config(quotas=QuotasConfig(**quotas))
        self.store = store or MemoryUsage()
        self.exceeded: list[str] = []
        self.budgets = budgets_of(lambda: self.config, wall_ms=lambda: self.ms)
        self.quotas = Quotas(
            lambda: self.config,
            self.store,
            budgets=self.budgets,
            monotonic=lambda: self.seconds,
            wall_ms=lambda: self.ms,
            on_exceeded=self.exceeded.append,
        )

    def message(self, account: Account, *, size: int = 0) -> list[Nearly]:
        return self.quotas.take_message(account, session_bytes=size)


def test_without_quotas_nothing_is_refused() -> None:
    world = World()
    for _ in range(10_000):
        assert world.message(ALICE) == []


def test_messages_a_minute_are_a_bucket() -> None:
    world = World(subject=Quota(turns_per_minute=2))
    world.message(ALICE)
    world.message(ALICE)
    with pytest.raises(QuotaExceeded) as caught:
        world.message(ALICE)
    error = caught.value
    assert (error.limit, error.used, error.allowed) == ("subject.turns_per_minute", 2, 2)
    assert error.retry_after_seconds == pytest.approx(30)
    world.message(BOB)
    world.seconds += 30
    world.message(ALICE)
    assert world.exceeded == ["turns_per_minute"]


def test_a_refused_message_is_counted_nowhere() -> None:
    world = World(tenant=Quota(messages_per_day=10), subject=Quota(messages_per_day=1))
    world.message(ALICE)
    with pytest.raises(QuotaExceeded):
        world.message(ALICE)
    use, _ = world.quotas.of_tenant("acme")
    assert use.messages == 1


def test_a_tenants_quota_is_shared_by_its_people_and_by_nobody_else() -> None:
    world = World(tenant=Quota(messages_per_day=2))
    world.message(ALICE)
    world.message(BOB)
    with pytest.raises(QuotaExceeded) as caught:
        world.message(ALICE)
    assert caught.value.limit == "tenant.messages_per_day"
    assert 0 < (caught.value.retry_after_seconds or 0) <= 24 * 3600
    world.message(EVE)


def test_a_tenant_of_the_configuration_has_its_own() -> None:
    world = World(tenant=Quota(messages_per_day=1))
    tenant = TenantConfig(quota=Quota(messages_per_day=3), subject_quota=Quota(messages_per_day=2))
    world.config = Config(quotas=world.config.quotas, tenants={"acme": tenant})
    world.message(ALICE)
    world.message(ALICE)
    with pytest.raises(QuotaExceeded, match="account may have 2 messages a day"):
        world.message(ALICE)
    world.message(BOB)
    with pytest.raises(QuotaExceeded, match="organisation may have 3"):
        world.message(BOB)


def test_a_new_day_begins_anew() -> None:
    world = World(session=SessionQuota(messages_per_day=1, tokens_per_day=10))
    world.message(ALICE)
    world.budgets.add(ALICE, Amount(0, 11), at=world.ms)
    with pytest.raises(QuotaExceeded):
        world.message(ALICE)
    world.ms += DAY_MS
    world.message(ALICE)


@pytest.mark.parametrize(
    ("quota", "used"),
    [
        (Quota(cpu_seconds_per_day=3), {"cpu_ms": 3000}),
        (Quota(memory_gb_seconds_per_day=2), {"memory_mb_seconds": 2000}),
    ],
)
def test_what_was_metered_ends_the_next_message(quota: Quota, used: dict[str, int]) -> None:
    world = World(tenant=quota)
    world.message(ALICE)
    world.quotas.meter(ALICE, **used)
    with pytest.raises(QuotaExceeded):
        world.message(BOB)
    world.message(EVE)


def test_most_of_a_quota_is_told_once() -> None:
    world = World(subject=Quota(messages_per_day=10))
    told = [world.message(ALICE) for _ in range(10)]
    assert [bool(words) for words in told] == [False] * 8 + [True, False]
    near = QuotaUse("subject.messages_per_day", 8, 10)
    assert told[8] == [("This account has used 8 of 10 messages a day.", near)]


def test_an_api_key_pays_too() -> None:
    world = World(key=Quota(messages_per_day=1))
    with_key = Account("acme/alice", "s1", "key-1")
    world.message(with_key)
    world.message(ALICE)
    with pytest.raises(QuotaExceeded) as caught:
        world.message(Account("acme/alice", "s9", "key-1"))
    assert caught.value.limit == "key.messages_per_day"


def test_live_sessions_and_answers_are_given_back() -> None:
    world = World(tenant=Quota(sessions_live=1, concurrent_turns=1))
    world.quotas.take_live(ALICE)
    world.quotas.begin_turn(ALICE)
    for take in (world.quotas.take_live, world.quotas.begin_turn):
        with pytest.raises(QuotaExceeded):
            take(BOB)
    world.quotas.end_turn(ALICE)
    world.quotas.give_live(ALICE)
    world.quotas.take_live(BOB)
    world.quotas.begin_turn(BOB)


async def test_stored_sessions_and_bytes_are_counted_from_the_store_on() -> None:
    world = World(subject=Quota(sessions_stored=3, stored_bytes=100))
    await world.quotas.open({"acme/alice": OwnerTotal(2, 90)})
    world.quotas.add_session("acme/alice")
    with pytest.raises(QuotaExceeded, match="3 stored sessions"):
        world.quotas.add_session("acme/alice")
    world.message(ALICE)
    world.quotas.add_bytes("acme/alice", 10)
    with pytest.raises(QuotaExceeded, match="stored bytes"):
        world.message(ALICE)
    world.quotas.drop_session("acme/alice", 50)
    world.message(ALICE)


async def test_what_an_erased_session_used_is_forgotten_and_its_people_still_pay() -> None:
    world = World()
    world.message(ALICE)
    world.quotas.forget_session(ALICE.session_key)
    await world.quotas.keep()
    assert not [name for name in world.quotas._uses if name[0] == "session"]
    assert world.quotas.of_tenant("acme")[0].messages == 1


def test_a_session_that_is_full_takes_no_more() -> None:
    world = World(session=SessionQuota(stored_bytes=1000))
    world.message(ALICE, size=999)
    with pytest.raises(QuotaExceeded, match="This session may have 1,000 stored bytes"):
        world.message(ALICE, size=1000)


async def test_what_was_used_today_survives_a_restart() -> None:
    world = World(subject=Quota(messages_per_day=2))
    world.message(ALICE)
    world.message(ALICE)
    await world.quotas.keep()
    again = World(world.store, subject=Quota(messages_per_day=2))
    await again.quotas.open({})
    with pytest.raises(QuotaExceeded):
        again.message(ALICE)


async def test_sums_of_what_agents_say_can_always_be_kept() -> None:
    world = World()
    for _ in range(3):
        world.quotas.meter(ALICE, cpu_ms=2**62, memory_mb_seconds=2**62)
    await world.quotas.keep()
    [use, *_] = (await world.store.uses(100)).values()
    assert use.cpu_ms == use.memory_mb_seconds == 2**53


class Troubled(MemoryUsage):
    """Refuses what it is told to, once."""

    refuses = ""

    async def uses(self, day: int, names: Collection[UseName] | None = None) -> dict[UseName, DayUse]:
        self._refuse("uses")
        return await super().uses(day, names)

    async def add_uses(self, day: int, uses: dict[UseName, DayUse]) -> None:
        self._refuse("add_uses")
        await super().add_uses(day, uses)

    def _refuse(self, what: str) -> None:
        if self.refuses == what:
            self.refuses = ""
            raise StoreFailed


@pytest.mark.parametrize("refused", ["uses", "add_uses"])
async def test_what_was_used_is_kept_once_though_the_store_refuses_something(refused: str) -> None:
    store = Troubled()
    for seen in (1, 2):
        world = World(store)
        world.message(ALICE)
        store.refuses = refused
        await world.quotas.keep()
        world.message(ALICE)
        await world.quotas.keep()
        assert world.quotas.of_tenant("acme")[0].messages == 2 * seen
        assert (await store.uses(100))["tenant", "acme"].messages == 2 * seen


def test_tokens_are_the_ledgers_to_count() -> None:
    """Messages go by what it has counted, and nothing counts them beside it."""
    world = World(tenant=Quota(tokens_per_day=100))
    world.message(ALICE)
    world.budgets.add(BOB, Amount(0, 100), at=world.ms)
    with pytest.raises(QuotaExceeded) as caught:
        world.message(ALICE)
    assert (caught.value.limit, caught.value.used) == ("tenant.tokens_per_day", 100)
    world.message(EVE)
    assert world.quotas.of_tenant("acme")[0].tokens == 100


async def test_tokens_that_an_earlier_version_counted_today_still_count() -> None:
    world = World(subject=Quota(tokens_per_day=100))
    await world.store.add_uses(100, {("subject", "acme/alice"): DayUse(tokens=100)})
    await world.quotas.open({})
    with pytest.raises(QuotaExceeded):
        world.message(ALICE)


def test_a_budget_in_money_refuses_the_next_message() -> None:
    world = World(subject=Quota(cost_per_day=0.01))
    world.message(ALICE)
    world.budgets.add(ALICE, Amount(10_000, 5), at=world.ms)
    with pytest.raises(BudgetReached, match=r"This account may use 0.01\d* USD of models a day") as caught:
        world.message(ALICE)
    assert (caught.value.limit, caught.value.status) == ("subject.cost_per_day", 402)
    world.message(BOB)


def test_a_clock_that_jumps_and_comes_back_finds_what_it_left_and_the_next_day_begins_anew() -> None:
    world = World(subject=Quota(messages_per_day=2))
    world.message(ALICE)
    world.ms += 400 * DAY_MS
    world.message(ALICE)
    world.ms -= 400 * DAY_MS
    world.message(ALICE)
    with pytest.raises(QuotaExceeded):
        world.message(ALICE)
    for _ in range(5):
        world.ms += DAY_MS
        world.message(ALICE)
        world.message(ALICE)
        with pytest.raises(QuotaExceeded):
            world.message(ALICE)


async def test_what_was_used_on_a_day_that_the_clock_comes_back_to_is_kept_and_restored() -> None:
    first = World()
    first.message(ALICE)
    await first.quotas.keep()
    again = World(first.store)
    again.ms += 400 * DAY_MS
    await again.quotas.open({})
    again.message(ALICE)
    await again.quotas.keep()
    again.ms -= 400 * DAY_MS
    again.message(ALICE)
    await again.quotas.keep()
    today = again.ms // DAY_MS
    for day, messages in ((today, 2), (today + 400, 1)):
        kept = await first.store.uses(day)
        assert kept["subject", "acme/alice"].messages == messages
    assert again.quotas.of_tenant("acme")[0].messages == 2
