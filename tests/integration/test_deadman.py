"""Workers of a gateway that does not say any more that it may work: they rest, go on, or end."""

from __future__ import annotations

import asyncio
import os
import pathlib
import time

import pytest

from gateway.workers.spawner import StartFailed
from tests.patience import soon
from tests.shared import crowding
from tests.walls import PYTHON, Inmate, Yard, yard
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
FAR = 3600_000 * MILLISECOND
FREEZERS = [("strict", "auto"), ("basic", "off"), ("none", "off")]


def in_ms(until: float, end: float) -> GoOn:
    """So many milliseconds from now."""
    now = time.monotonic_ns()
    return GoOn(until_ns=now + round(until * MILLISECOND), end_ns=now + round(end * MILLISECOND))


def ticks(inmate: Inmate) -> list[int]:
    """When it ran."""
    path = pathlib.Path(inmate.worker.request.cwd) / "ticks"
    return [int(line) for line in path.read_text().splitlines()]


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
async def test_workers_rest_past_the_moment_and_go_on_by_the_next_word(
    profile: Profile, cgroups: str
) -> None:
    """By the freezer of control groups, or without one."""
    async with yard(profile, cgroups=cgroups) as here:  # type: ignore[arg-type]
        here.spawner.hold_to(in_ms(60_000, 120_000))
        async with await ticking(here) as inmate:
            alive = in_ms(50, 60_000)
            here.spawner.hold_to(alive)
            assert await still(inmate) < alive.until_ns + BOUND * crowding()
            here.spawner.hold_to(in_ms(60_000, 120_000))
            await more(inmate)
            assert not inmate.worker.exited.done()


async def test_what_was_stopped_or_frozen_before_stays_so_after_a_rest() -> None:
    async with yard("basic", cgroups="off") as here:
        here.spawner.hold_to(in_ms(60_000, 120_000))
        async with await ticking(here) as inmate, await here.spawn(PYTHON, "-c", TICKS, is_freezable=True):
            child = int(
                pathlib.Path(f"/proc/{inmate.worker.pid}/task/{inmate.worker.pid}/children").read_text()
            )
            [ticker] = map(int, pathlib.Path(f"/proc/{child}/task/{child}/children").read_text().split())
            os.kill(ticker, 19)
            at = await still(inmate)
            here.spawner.hold_to(in_ms(0, 60_000))
            here.spawner.hold_to(in_ms(60_000, 120_000))
            assert await still(inmate) == at
            os.kill(ticker, 18)
            await more(inmate)


async def test_a_worker_that_its_gateway_froze_stays_frozen_and_one_that_it_thaws_too_early_rests() -> None:
    async with yard("basic") as here:
        here.spawner.hold_to(in_ms(60_000, 120_000))
        async with await ticking(here) as inmate:
            freezer = inmate.worker.freezer
            if not freezer.freeze():
                pytest.skip("NOT TESTED: this machine freezes no control groups")
            at = await still(inmate)
            here.spawner.hold_to(in_ms(0, 60_000))
            here.spawner.hold_to(in_ms(60_000, 120_000))
            assert await still(inmate) == at
            here.spawner.hold_to(in_ms(0, 60_000))
            freezer.thaw()
            assert await still(inmate) < time.monotonic_ns()
            here.spawner.hold_to(in_ms(60_000, 120_000))
            await more(inmate)


@pytest.mark.parametrize(("profile", "cgroups"), FREEZERS)
async def test_workers_end_without_another_step_if_the_word_does_not_come(
    profile: Profile, cgroups: str
) -> None:
    async with yard(profile, cgroups=cgroups) as here:  # type: ignore[arg-type]
        here.spawner.hold_to(in_ms(60_000, 120_000))
        async with await ticking(here) as inmate:
            alive = in_ms(30, 250)
            here.spawner.hold_to(alive)
            ended = await soon(asyncio.shield(inmate.worker.exited), 10)
            assert ended.cause == "lease"
            assert time.monotonic_ns() >= alive.end_ns
            assert ticks(inmate)[-1] < alive.until_ns + BOUND * crowding()
            with pytest.raises(StartFailed, match="lost its place"):
                await here.spawn(PYTHON, "-c", TICKS)
            here.spawner.hold_to(in_ms(60_000, 120_000))
            async with await ticking(here) as other:
                assert not other.worker.exited.done()


async def test_one_that_is_to_leave_while_it_rests_is_killed_and_one_that_starts_then_rests() -> None:
    async with yard("basic") as here:
        here.spawner.hold_to(in_ms(60_000, 120_000))
        async with await ticking(here) as inmate:
            here.spawner.hold_to(in_ms(0, 60_000))
            at = await still(inmate)
            starting = asyncio.create_task(here.spawn(PYTHON, "-c", TICKS))
            here.spawner._link.send(Stop(id=inmate.worker._id, is_gentle=True))  # type: ignore[union-attr]
            await soon(asyncio.shield(inmate.worker.exited), 10)
            assert ticks(inmate)[-1] == at
            assert not starting.done()
            here.spawner.hold_to(in_ms(60_000, 120_000))
            async with await starting as other:
                assert await other.read_line() == "begun"


async def test_a_fork_server_that_is_started_again_knows_what_its_gateway_said() -> None:
    async with yard("basic") as here:
        here.spawner._tasks.start("fork server", here.spawner._keep_alive)
        here.spawner.hold_to(in_ms(0, 60_000))
        first = here.spawner.server_pid
        os.kill(first, 9)
        end = time.monotonic() + 10 * crowding()
        while here.spawner.server_pid in (0, first) or not here.spawner.is_ready:
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        starting = asyncio.create_task(here.spawn(PYTHON, "-c", TICKS))
        done, _ = await asyncio.wait([starting], timeout=0.3)
        assert not done
        here.spawner.hold_to(in_ms(60_000, 120_000))
        async with await starting as inmate:
            assert await inmate.read_line() == "begun"
