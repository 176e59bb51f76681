"""Joining, beating and leaving, with a directory and a clock that the test holds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from gateway.config.cluster import ClusterConfig
from gateway.errors import StoreFailed, StoreUnreachable
from gateway.sessions.lease import LeaseState
from gateway.sessions.membership import Membership
from tests.directory import Shelf, silent
from tests.patience import soon
from worker.spec import GoOn

CONFIG = ClusterConfig(lease_seconds=3, beat_seconds=0.001, kill_seconds=30)


class Place:
    """A membership, and what it says to others."""

    def __init__(self, shelf: Shelf, name: str = "a") -> None:
        self.now = 100.0
        self.words: list[GoOn] = []
        self.ends: list[str] = []
        self.shelf = shelf
        self.membership = Membership(
            shelf,
            name=name,
            config=CONFIG,
            monotonic=lambda: self.now,
            hold_to=self.words.append,
            on_fenced=self.ends.append,
        )

    @property
    def state(self) -> LeaseState:
        return self.membership.lease.state

    async def beats(self, count: int = 1) -> None:
        """So many more whole ones, answered or not."""
        for _ in range(count + 1):
            self.shelf.beaten.clear()
            await soon(self.shelf.beaten.wait(), 5)

    @contextlib.asynccontextmanager
    async def joined(self) -> AsyncIterator[Place]:
        await self.membership.join()
        beating = asyncio.create_task(self.membership.beat_for_ever())
        try:
            yield self
        finally:
            beating.cancel()
            await asyncio.wait([beating])


async def test_each_answer_is_a_new_word_to_the_workers() -> None:
    async with Place(Shelf()).joined() as place:
        await place.beats(2)
        word = place.words[-1]
        assert 2.9e9 < word.until_ns - time.monotonic_ns() < 3e9
        assert word.end_ns - word.until_ns == 30e9
        assert place.membership.lease.may_work_now()
        place.membership.check()


async def test_without_answers_nothing_is_done_until_there_are_some() -> None:
    shelf = Shelf()
    async with Place(shelf).joined() as place:
        await place.beats()
        silent(shelf)
        await place.beats()
        count = len(place.words)
        place.now += 2.9
        place.membership.check()
        place.now += 0.2
        with pytest.raises(StoreUnreachable) as refused:
            place.membership.check()
        assert refused.value.retry_after_seconds
        await place.beats()
        assert (place.state, len(place.words)) == (LeaseState.DOUBTFUL, count)
        shelf.before = lambda: None
        await place.beats()
        assert place.state is LeaseState.HELD
        place.membership.check()


async def test_an_answer_counts_from_before_it_was_asked_for_however_long_it_took() -> None:
    shelf = Shelf()
    async with Place(shelf).joined() as place:
        await place.beats()

        def pause() -> None:
            place.now += 3.5

        shelf.after = pause
        await place.beats()
        assert not place.membership.lease.may_work_now()
        shelf.after, shelf.before = lambda: None, pause
        await place.beats()
        assert not place.membership.lease.may_work_now()
        shelf.before = lambda: None
        await place.beats()
        assert place.membership.lease.may_work_now()


async def test_one_whose_row_is_gone_ends_its_workers_and_itself() -> None:
    shelf = Shelf()
    async with Place(shelf).joined() as place:
        await place.beats()
        shelf.rows.clear()
        while not place.ends:
            await asyncio.sleep(0)
        assert place.state is LeaseState.FENCED
        assert place.words[-1].end_ns == 0
        place.membership.fence()
        await place.membership.leave()
        assert len(place.ends) == 1
        assert not shelf.rows


async def test_a_write_that_is_refused_ends_it_as_well() -> None:
    async with Place(Shelf()).joined() as place:
        place.membership.fence()
        assert (place.state, len(place.ends)) == (LeaseState.FENCED, 1)


async def test_a_name_that_beats_is_refused_and_one_that_does_not_is_taken_over() -> None:
    shelf = Shelf()
    async with Place(shelf).joined() as first:
        second = Place(shelf)
        with pytest.raises(StoreFailed, match="'a': stop it first"):
            await soon(second.membership.join(), 5)
    [left] = shelf.rows
    third = Place(shelf)
    joining = asyncio.create_task(third.membership.join())
    began = third.now
    while not joining.done():
        third.now += 0.4
        await asyncio.sleep(0.003)
    assert third.now - began >= CONFIG.lease_seconds
    assert left not in shelf.rows
    seen = await shelf.beat(1)
    assert not seen.is_mine
    assert first.state is LeaseState.HELD, "it has not heard of it yet, and no write of its own succeeds"


async def test_the_dead_are_removed_and_the_living_are_not() -> None:
    shelf = Shelf()
    async with Place(shelf, "a").joined() as a:
        async with Place(shelf, "b").joined() as b:
            for _ in range(12):
                a.now += 0.5
                b.now += 0.5
                await a.beats()
                await b.beats()
            assert len(shelf.rows) == 2
        for _ in range(8):
            a.now += 0.5
            await a.beats()
        assert [row.name for row in shelf.rows.values()] == ["a"]


async def test_who_leaves_gives_its_place_back() -> None:
    shelf = Shelf()
    async with Place(shelf).joined() as place:
        pass
    await place.membership.leave()
    assert (place.state, shelf.rows) == (LeaseState.GONE, {})
    async with Place(shelf).joined() as other:
        pass
    silent(shelf)
    await other.membership.leave()
