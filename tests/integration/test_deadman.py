"""Workers of a gateway that does not say any more that it may work: they rest, go on, or end."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import time
from typing import Literal

import pytest

from gateway.workers.spawner import StartFailed
from tests.patience import soon
from tests.shared import crowding
from tests.walls import PYTHON, Inmate, Yard, yard
from worker.forkserver import tree
from worker.spec import GoOn, Profile, Stop

TICKS = (
    "import os, time\n"
    "if os.fork():\n"
    "    os.wait()\n"
    "out = os.open('ticks', os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
    "print('begun', flush=True)\n"
    "while True:\n"
    "    os.write(out, b'%d\\n' % time.monotonic_ns())\n"
    "    time.sleep(0.002)\n"
)
"""The child of an agent's process writes down when it ran."""
MILLISECOND = 1_000_000
BOUND = 100 * MILLISECOND
"""In which the fork server has its turn on a machine that is not busy."""
FREEZERS = [("strict", "auto"), ("basic", "off")]


def in_ms(until: float, end: float) -> GoOn:
    """So many milliseconds from now."""
    now = time.monotonic_ns()
    return GoOn(until_ns=now + round(until * MILLISECOND), end_ns=now + round(end * MILLISECOND))


def ticks(inmate: Inmate) -> list[int]:
    """When it ran."""
    path = pathlib.Path(inmate.worker.request.cwd) / "ticks"
    return [int(line) for line in path.read_text().splitlines()]


LONG = GoOn(until_ns=2**62, end_ns=2**62)
"""Longer than poll(2) waits."""


async def ticking(here: Yard) -> Inmate:
    inmate = await here.spawn(PYTHON, "-c", TICKS)
    assert await inmate.read_line() == "begun"
    await more(inmate)
    return inmate


async def more(inmate: Inmate) -> None:
    """It runs on."""
    count, end = len(ticks(inmate)), time.monotonic() + 10 * crowding()
    while len(ticks(inmate)) <= count:
        assert time.monotonic() < end, "it does not run"
        await asyncio.sleep(0.005)


async def still(inmate: Inmate) -> int:
    """It stands still: when it ran last."""
    end = time.monotonic() + 10 * crowding()
    last, since = ticks(inmate)[-1], time.monotonic()
    while time.monotonic() - since < 0.15:
        assert time.monotonic() < end, "it does not rest"
        await asyncio.sleep(0.02)
        if ticks(inmate)[-1] != last:
            last, since = ticks(inmate)[-1], time.monotonic()
    return last


@pytest.mark.parametrize(("profile", "cgroups"), FREEZERS)
async def test_workers_rest_past_the_moment_go_on_by_the_next_word_and_end_if_none_comes(
    profile: Profile, cgroups: str
) -> None:
    """By the freezer of control groups, or without one."""
    async with yard(profile, cgroups=cgroups) as here:  # type: ignore[arg-type]
        here.spawner.hold_to(LONG)
        async with await ticking(here) as inmate:
            word = in_ms(50, 60_000)
            here.spawner.hold_to(word)
            assert await still(inmate) < word.until_ns + BOUND * crowding()
            here.spawner.hold_to(LONG)
            await more(inmate)
            word = in_ms(30, 250)
            here.spawner.hold_to(word)
            ended = await soon(asyncio.shield(inmate.worker.exited), 10)
            assert ended.cause == "lease"
            assert time.monotonic_ns() >= word.end_ns
            assert ticks(inmate)[-1] < word.until_ns + BOUND * crowding(), "it made no other step"
            with pytest.raises(StartFailed, match="lost its place"):
                await here.spawn(PYTHON, "-c", TICKS)
            here.spawner.hold_to(LONG)
            async with await ticking(here) as other:
                assert not other.worker.exited.done()


async def test_what_was_stopped_before_stays_so_after_a_rest() -> None:
    async with yard("basic", cgroups="off") as here:
        here.spawner.hold_to(LONG)
        async with await ticking(here) as inmate:
            ticker = tree.descendants(inmate.worker.pid)[-1]
            os.kill(ticker, signal.SIGSTOP)
            at = await still(inmate)
            here.spawner.hold_to(in_ms(0, 60_000))
            here.spawner.hold_to(LONG)
            assert await still(inmate) == at
            os.kill(ticker, signal.SIGCONT)
            await more(inmate)


@pytest.mark.parametrize("cgroups", ["auto", "off"])
async def test_what_its_gateway_freezes_thaws_stops_or_starts_meanwhile(
    cgroups: Literal["auto", "off"],
) -> None:
    async with yard("basic", cgroups=cgroups) as here:
        here.spawner.hold_to(LONG)
        async with await ticking(here) as inmate:
            freezer = inmate.worker.freezer
            if freezer.freeze():
                at = await still(inmate)
                here.spawner.hold_to(in_ms(0, 60_000))
                here.spawner.hold_to(LONG)
                assert await still(inmate) == at, "it stays frozen"
                here.spawner.hold_to(in_ms(0, 60_000))
                freezer.thaw()
            here.spawner.hold_to(in_ms(0, 60_000))
            at = await still(inmate)
            starting = asyncio.create_task(here.spawn(PYTHON, "-c", TICKS))
            inmate.worker._server.send(Stop(id=inmate.worker._id, is_gentle=True))
            await soon(asyncio.shield(inmate.worker.exited), 10)
            assert ticks(inmate)[-1] == at, "it is killed, not asked"
            assert not starting.done()
            here.spawner.hold_to(LONG)
            async with await starting as other:
                assert await other.read_line() == "begun"


@pytest.mark.parametrize(("profile", "cgroups"), FREEZERS)
async def test_what_starts_in_a_rest_that_does_not_end_never_runs(profile: Profile, cgroups: str) -> None:
    async with yard(profile, cgroups=cgroups) as here:  # type: ignore[arg-type]
        here.spawner.hold_to(in_ms(0, 1_000 * crowding()))
        with pytest.raises(StartFailed, match="ended before its walls stood"):
            await here.spawn(PYTHON, "-c", TICKS)


async def test_a_fork_server_that_is_started_again_knows_what_its_gateway_said() -> None:
    async with yard("none") as here:
        here.spawner._tasks.start("fork server", here.spawner._keep_alive)
        here.spawner.hold_to(in_ms(0, 0))
        first = here.spawner.server_pid
        os.kill(first, signal.SIGKILL)
        end = time.monotonic() + 10 * crowding()
        while here.spawner.server_pid in (0, first) or not here.spawner.is_ready:
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        with pytest.raises(StartFailed, match="lost its place"):
            await here.spawn(PYTHON, "-c", TICKS)
