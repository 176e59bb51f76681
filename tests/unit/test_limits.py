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
        self.start_bytes = 10
        self.taken_bytes = 0

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


async def test_a_lowered_limit_does_not_keep_those_who_wait() -> None:
    idle = [Holder(idle=number, may_give_way=True) for number in range(2)]
    slots = WorkerSlots(2, 9)
    for holder in idle:
        slots.enter(holder)
    slots.resize(1, 9)
    late = Holder()
    slots.enter(late)
    assert [holder.is_giving_way for holder in idle] == [True, True]
    for holder in idle:
        slots.leave(holder)
    assert (late.has_place, slots.taken) == (True, 1)


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


class Memory:
    """So much is free, and so much is kept free."""

    def __init__(self, free: int, *, kept: int = 10) -> None:
        self.free, self.kept = free, kept
        self.count = 0

    @property
    def is_short(self) -> bool:
        return self.free < self.kept

    def has_room(self, bytes_wanted: int) -> bool:
        return self.free - bytes_wanted >= self.kept

    def parked(self, count: int) -> None:
        self.count += count


async def test_only_as_many_start_as_memory_has_room_for() -> None:
    memory = Memory(35)
    slots = WorkerSlots(9, 9, memory)
    first, second, third, fourth = (Holder() for _ in range(4))
    for holder in (first, second):
        slots.enter(holder)
    assert (slots.taken, slots.waiting) == (2, 0)
    slots.enter(third)
    assert slots.position(third) == 1, "10 of 35 are kept, and the first two have not taken their 10 yet"
    assert slots.short_of == "memory"
    slots.enter(fourth)
    first.taken_bytes, memory.free = 10, 25
    slots.look()
    assert (third.has_place, fourth.has_place) == (False, False), "nothing has been given back"
    memory.free = 30
    slots.look()
    assert (third.has_place, fourth.has_place) == (True, False)
    for holder in (first, second, third):
        slots.settled(holder)
    assert fourth.has_place


async def test_while_memory_is_short_the_longest_idle_are_parked_a_few_at_a_time() -> None:
    memory = Memory(1_000)
    slots = WorkerSlots(99, 9, memory)
    idle = [Holder(idle=number, may_give_way=True) for number in range(16)]
    for holder in idle:
        slots.enter(holder)
        slots.settled(holder)
    memory.free = 9
    slots.look()
    assert [holder.idle_seconds for holder in idle if holder.is_giving_way] == [14, 15]
    slots.look()
    assert memory.count == 2, "those are still about to go"
    for holder in idle[14:]:
        slots.leave(holder)
    slots.look()
    assert [holder.idle_seconds for holder in idle[:14] if holder.is_giving_way] == [12, 13]
    assert slots.room == 0
    memory.free = 1_000
    slots.look()
    assert memory.count == 4
    assert slots.room == 99 - 14


async def test_one_may_always_start() -> None:
    """If something else has eaten the memory, the line goes on with one worker at a time."""
    slots = WorkerSlots(9, 9, Memory(0))
    first, second = Holder(), Holder()
    slots.enter(first)
    slots.enter(second)
    assert (slots.taken, second.has_place) == (1, False)
    slots.look()
    assert not second.has_place
    slots.leave(first)
    assert second.has_place


async def test_those_who_wait_hear_what_they_wait_for() -> None:
    memory = Memory(1_000)
    slots = WorkerSlots(2, 9, memory)
    for _ in range(2):
        slots.enter(running := Holder())
    slots.enter(waits := Holder())
    assert slots.short_of == "places"
    memory.free = 0
    slots.leave(running)
    slots.look()
    assert (slots.short_of, waits.has_place) == ("memory", False)
