"""A background task that fails starts again, and is known as down until then."""

from __future__ import annotations

import asyncio

import pytest

from gateway.telemetry.tasks import BackgroundTasks
from tests.patience import soon

pytestmark = pytest.mark.usefixtures("no_task_is_left")


class Failing:
    """Fails so many times, then runs until it is stopped."""

    def __init__(self, times: int, *, error: Exception | None) -> None:
        self.times = times
        self.error = error
        self.runs = 0
        self.is_running = asyncio.Event()

    async def run(self) -> None:
        self.runs += 1
        if self.runs > self.times:
            self.is_running.set()
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("error", [RuntimeError("a planted fault"), RecursionError(), None])
async def test_it_starts_again_whatever_ended_it(
    error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[bool] = []
    tasks = BackgroundTasks(on_change=lambda _name, is_up: heard.append(is_up), first_pause_seconds=0.001)
    failing = Failing(3, error=error)
    tasks.start("fragile", failing.run)
    await soon(failing.is_running.wait(), 5)
    assert heard == [True, False] * 3 + [True]
    assert tasks.down == []
    assert len(caplog.records) == 3
    assert error is None or repr(error) in repr(caplog.records[0].exc_info)
    await tasks.stop("fragile")


async def test_it_is_down_while_it_waits_and_others_run_on() -> None:
    changed = asyncio.Event()

    def hear(_name: str, is_up: bool) -> None:
        if not is_up:
            changed.set()

    tasks = BackgroundTasks(on_change=hear, first_pause_seconds=60)
    fragile, sound = Failing(1, error=ValueError()), Failing(0, error=None)
    tasks.start("sound", sound.run)
    tasks.start("fragile", fragile.run)
    await soon(changed.wait(), 5)
    assert tasks.down == ["fragile"]
    assert sound.is_running.is_set()
    await tasks.stop("fragile")
    await tasks.stop("sound")
    assert tasks.down == []


async def test_one_that_waited_for_something_cancelled_starts_again() -> None:
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    gone.cancel()
    runs: list[int] = []
    again = asyncio.Event()

    async def run() -> None:
        runs.append(1)
        if len(runs) > 1:
            again.set()
            await asyncio.Event().wait()
        await gone

    tasks = BackgroundTasks(first_pause_seconds=0.001)
    tasks.start("waits", run)
    await soon(again.wait(), 5)
    await tasks.stop("waits")
