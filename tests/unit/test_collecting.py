"""Full collections wait until nobody would notice, but not for ever."""

from __future__ import annotations

import gc
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import get_args

import pytest

from gateway.events import facts
from gateway.server import collecting
from gateway.server.collecting import Collector


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_a_full_pass_waits_for_a_quiet_moment_or_ten_minutes() -> None:
    now, is_busy = [0.0], [True]
    collector = Collector(lambda: is_busy[0], monotonic=lambda: now[0])
    collector.begin()
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold()[2] == collecting.NEVER
    assert not collector.collect_if_due()  # there is no reason
    gc.collect(1)
    assert gc.get_count()[2] > 0
    assert not collector.collect_if_due()
    now[0] = collecting.LONGEST_SECONDS
    assert collector.collect_if_due()
    gc.collect(1)
    assert not collector.collect_if_due()
    is_busy[0] = False
    assert collector.collect_if_due()
    assert gc.get_count()[2] == 0


def test_no_fact_is_looked_at_by_the_collector() -> None:
    tracked = [kind.__name__ for kind in get_args(facts.CoreData) if kind.__struct_config__.gc]
    assert tracked == []


def test_no_event_is_looked_at_by_the_collector() -> None:
    assert not gc.is_tracked(facts.Event(1, 1, facts.TextDelta("m", "t", "x")))


def test_a_pass_that_comes_during_load_looks_at_few_objects() -> None:
    """Every one of them lives, and costs up to a microsecond: 50,000 stopped the loop for 39 ms."""
    Collector(lambda: True).begin()
    young, older, _ = gc.get_threshold()
    assert young * (older + 2) <= 10_000


def test_what_python_keeps_of_freed_tuples_is_given_back_once_nobody_would_notice() -> None:
    is_busy = [True]
    collector = Collector(lambda: is_busy[0], monotonic=lambda: 0.0)
    collector.begin()
    _leave_tuples()
    kept = _kept_tuples()
    assert kept > 1_000
    collector.ask()
    assert _kept_tuples() >= kept
    is_busy[0] = False
    assert collector.collect_if_due()
    assert _kept_tuples() < 100
    assert not collector.collect_if_due()  # asked once, done once


def _leave_tuples() -> None:
    """Tuples of nine, which Python keeps for the next ones when they are freed."""
    del [tuple(range(9)) for _ in range(3_000)][:]


def _kept_tuples() -> int:
    """How many freed tuples of nine CPython keeps, as it says itself."""
    with tempfile.TemporaryFile() as said:
        before = os.dup(2)
        try:
            os.dup2(said.fileno(), 2)
            sys._debugmallocstats()
        finally:
            os.dup2(before, 2)
            os.close(before)
        said.seek(0)
        found = re.search(rb"(\d+) free 9-sized PyTupleObjects", said.read())
    return int(found[1]) if found else 0
