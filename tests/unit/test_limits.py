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


class Idle:
    def __init__(self, seconds: float, *, may_park: bool = True) -> None:
        self.idle_seconds = seconds
        self.parks = may_park
        self.is_asked = False

    def may_park(self) -> bool:
        return self.parks

    def ask_to_park(self) -> None:
        self.is_asked = True


def test_the_longest_idle_worker_gives_way() -> None:
    young, old, busy = Idle(1), Idle(9), Idle(99, may_park=False)
    slots = WorkerSlots(1, lambda: [young, old, busy])
    slots.take()
    with pytest.raises(WorkerLimit) as caught:
        slots.take()
    assert caught.value.retry_after_seconds == 1
    assert (young.is_asked, old.is_asked, busy.is_asked) == (False, True, False)
    slots.give()
    slots.take()
