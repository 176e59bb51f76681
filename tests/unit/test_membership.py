"""What follows from the beats of a store, by a clock that the test holds."""

from __future__ import annotations

import time

import pytest

from gateway.config.cluster import ClusterConfig
from gateway.errors import StoreUnreachable
from gateway.sessions.lease import LeaseState
from gateway.sessions.membership import Membership
from worker.spec import GoOn


class Place:
    """A membership, and what it says to others."""

    def __init__(self) -> None:
        self.now = 100.0
        self.words: list[GoOn] = []
        self.fenced = 0
        self.membership = Membership(
            ClusterConfig(), hold_to=self.words.append, on_fenced=self._count, monotonic=lambda: self.now
        )

    def _count(self) -> None:
        self.fenced += 1

    @property
    def state(self) -> LeaseState:
        return self.membership.lease.state


async def test_each_answer_is_a_new_word_to_the_workers() -> None:
    place = Place()
    with pytest.raises(StoreUnreachable):
        place.membership.check()
    for taken in (0.0, 1.0):
        before = time.monotonic_ns()
        place.membership.beaten(place.now - taken, True)
        place.membership.check()
        word = place.words[-1]
        assert before + (3 - taken) * 1e9 - 1 <= word.until_ns <= time.monotonic_ns() + (3 - taken) * 1e9
        assert word.end_ns - word.until_ns == 30e9
        place.now += 2
    place.membership.leave()
    assert (place.state, place.fenced) == (LeaseState.GONE, 0)


async def test_without_answers_nothing_is_accepted_until_there_is_one() -> None:
    place = Place()
    place.membership.beaten(place.now, True)
    place.now += 3
    with pytest.raises(StoreUnreachable) as refused:
        place.membership.check()
    assert refused.value.retry_after_seconds
    place.membership.beaten(place.now - 3, True)
    assert place.state is LeaseState.DOUBTFUL, "it took as long as the lease"
    place.membership.beaten(place.now, True)
    place.membership.check()
    place.membership.leave()


async def test_one_whose_row_is_gone_ends_its_workers_and_never_comes_back() -> None:
    for is_by_a_beat in (True, False):
        place = Place()
        place.membership.beaten(place.now, True)
        if is_by_a_beat:
            place.membership.beaten(place.now, False)
        else:
            place.membership.fence()
        assert (place.state, place.words[-1]) == (LeaseState.FENCED, GoOn(until_ns=0, end_ns=0))
        place.membership.beaten(place.now, True)
        place.membership.fence()
        place.membership.leave()
        assert (place.state, place.fenced, len(place.words)) == (LeaseState.FENCED, 1, 2)
        with pytest.raises(StoreUnreachable):
            place.membership.check()
