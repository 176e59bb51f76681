"""The share of the loop's time that the doors of one worker have."""

from __future__ import annotations

import asyncio

import pytest

from gateway.egress import pace
from gateway.egress.pace import (
    BURST_SECONDS,
    CROWDED_BURST_SECONDS,
    CROWDED_SECONDS,
    CROWDED_SHARE,
    SHARE,
    SLICE_SECONDS,
    Crowd,
    LoopShare,
)
from tests.patience import soon, within


class World:
    """A share, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.share = LoopShare(lambda: self.now)
        self.went: list[int] = []

    def wait(self, *numbers: int) -> None:
        for number in numbers:
            self.share.take_turn(lambda number=number: self.went.append(number))  # type: ignore[misc]


async def turn() -> None:
    """The loop goes round once."""
    await asyncio.sleep(0)


async def test_a_burst_is_free_and_what_is_beyond_it_waits_for_its_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace, "SLICE_SECONDS", 9.0)
    world = World()
    await turn()
    world.share._begin_turn()
    assert not world.share.spend(BURST_SECONDS)
    assert world.share.spend(0.01)
    world.now = 0.01 / SHARE
    assert not world.share.spend(-1e-9)
    world.now += 3_600
    assert not world.share.spend(BURST_SECONDS), "an idle hour saves up no more than a burst"
    assert world.share.spend(0.1)


async def test_in_one_turn_of_the_loop_a_slice_is_used_and_no_more() -> None:
    share = LoopShare()
    assert not share.spend(SLICE_SECONDS * 0.9)
    assert share.spend(SLICE_SECONDS * 0.2)
    await turn()
    assert not share.spend(SLICE_SECONDS * 0.9)


async def test_those_that_wait_go_on_in_their_order_one_in_a_turn() -> None:
    world = World()
    world.wait(0, 1, 2)
    assert world.share.spend(0), "behind those that wait"
    await turn()
    assert world.went == [0]
    world.wait(3)
    for _ in range(3):
        await turn()
    assert world.went == [0, 1, 2, 3]
    assert not world.share.spend(0)


async def test_nobody_goes_on_while_the_share_is_used_up_and_nobody_is_forgotten() -> None:
    share, went = LoopShare(), asyncio.Event()
    share.spend(BURST_SECONDS + 0.01)
    share.take_turn(went.set)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await soon(went.wait(), 5)
    assert loop.time() - began >= 0.01 / SHARE * 0.9


async def test_while_the_loop_is_late_others_have_most_of_its_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "REST_SECONDS", 0.02)
    world = World()
    world.wait(0, 1, 2)
    world.now += 10  # it comes so late to those that wait
    await turn()
    for _ in range(5):
        await turn()
    assert world.went == [0], "others have their turns"
    async with within(5):
        while world.went != [0, 1, 2]:
            await asyncio.sleep(0.005)


async def test_what_waits_when_the_worker_ends_is_let_go() -> None:
    world = World()
    world.wait(1, 2, 3)
    world.share.close()
    await turn()
    assert world.went == []


async def test_beside_others_a_worker_has_a_smaller_share_until_it_is_alone_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace, "SLICE_SECONDS", 9.0)
    world, crowd = World(), Crowd()
    one, other = (LoopShare(lambda: world.now, crowd=crowd) for _ in range(2))
    await turn()
    one._begin_turn()
    assert not one.spend(BURST_SECONDS), "it is alone"
    world.now += CROWDED_SECONDS / 2
    other.spend(0)
    world.now += 3_600
    other.spend(0)
    assert one.spend(2 * CROWDED_BURST_SECONDS), "beside another one it saved up no more"
    world.now += 0.9 * CROWDED_BURST_SECONDS / CROWDED_SHARE
    other.spend(0)
    assert one.spend(0), "and gets it back slowly"
    world.now += CROWDED_SECONDS
    one.spend(0)
    world.now += 1
    assert not one.spend(BURST_SECONDS), "it is alone again"
