"""Token buckets, gauges and worker slots."""

from __future__ import annotations

import pytest

from gateway.buckets import Gauge, MemoryBuckets, TokenBuckets
from gateway.errors import RateLimited, WorkerLimit
from gateway.sessions.slots import WorkerSlots


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    clock = Clock()
    buckets = TokenBuckets(rate=2, burst=3, monotonic=clock)
    for _ in range(3):
        buckets.take("a")
    with pytest.raises(RateLimited) as caught:
        buckets.take("a")
    assert caught.value.retry_after_seconds == pytest.approx(0.5)
    buckets.take("b")
    clock.now += 0.5
    buckets.take("a")


def test_buckets_that_are_full_again_are_forgotten() -> None:
    clock = Clock()
    buckets = MemoryBuckets(clock)
    for number in range(1_000):
        buckets.spend(f"session-{number}", rate=1, burst=3)
        clock.now += 0.1
    assert len(buckets._buckets) < 20
    for _ in range(2):
        buckets.spend("session-999", rate=1, burst=3)
    clock.now += 0.1
    assert buckets.wait("session-999", rate=1, burst=3) > 0, "what is not full is remembered"


def test_a_gauge_counts_and_forgets() -> None:
    gauge = Gauge(2)
    assert gauge.take("a")
    assert gauge.take("a")
    assert not gauge.take("a")
    assert gauge.take("b")
    gauge.give("a")
    assert gauge.take("a")
    assert gauge.total == 3


class Holder:
    """A session with a worker, or one that waits."""

    def __init__(self, tenant: str = "t", *, idle: float = 0, may_give_way: bool = False) -> None:
        self.tenant = tenant
        self.idle_seconds = idle
        self.may_give_way = may_give_way
        self.is_giving_way = False
        self.has_place = False
        self.position = 0

    def ask_to_park(self) -> None:
        self.may_give_way, self.is_giving_way = False, True

    def on_place(self) -> None:
        self.has_place = True

    def on_moved(self, position: int) -> None:
        self.position = position


async def test_the_longest_idle_worker_gives_way() -> None:
    young, old = Holder(idle=1, may_give_way=True), Holder(idle=9, may_give_way=True)
    slots = WorkerSlots(3, 0)
    for holder in (young, old, Holder(idle=99)):
        slots.enter(holder)
    for _ in range(2):
        with pytest.raises(WorkerLimit) as caught:
            slots.enter(Holder())
        assert caught.value.retry_after_seconds == 1
        assert (young.is_giving_way, old.is_giving_way) == (False, True), "one place is wanted"
    slots.leave(old)
    slots.enter(Holder())
    assert slots.taken == 3


async def test_as_many_give_way_as_wait_and_nobody_passes_the_line() -> None:
    idle = [Holder(idle=number, may_give_way=True) for number in range(3)]
    slots = WorkerSlots(3, 9)
    for holder in idle:
        slots.enter(holder)
    first, second = Holder(), Holder()
    slots.enter(first)
    slots.enter(second)
    assert [holder.is_giving_way for holder in idle] == [False, True, True]
    slots.leave(idle[2])
    late = Holder()
    slots.enter(late)
    assert (first.has_place, second.has_place, slots.position(late)) == (True, False, 2)
    slots.leave(second)
    assert slots.position(late) == 1
    slots.resize(4, 9)
    assert (late.has_place, slots.taken, slots.waiting) == (True, 4, 0)


async def test_tenants_take_turns_in_the_line() -> None:
    running, slots = Holder(), WorkerSlots(1, 9)
    slots.enter(running)
    names = ("a", "a", "b", "a", "c", "b")
    line = [Holder(name) for name in names]
    for holder in line:
        slots.enter(holder)
    assert [slots.position(holder) for holder in line] == [1, 4, 2, 6, 3, 5]
    served, last = [], running
    while slots.waiting:
        before = [slots.position(holder) for holder in line]
        slots.leave(last)
        last = line[before.index(1)]
        assert last.has_place
        served.append(last.tenant)
        rest = [(slots.position(holder), place) for holder, place in zip(line, before, strict=True) if place]
        assert all(now == (was - 1 or None) for now, was in rest), "everybody is one place further"
    assert served == ["a", "b", "c", "a", "b", "a"]
