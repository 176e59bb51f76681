"""Which turns the watchdog ends for their CPU time, with the kernel's figures in files of the test's."""

from __future__ import annotations

import asyncio
import pathlib
from typing import Any

import pytest

from gateway.workers.forks import ForkWorker
from gateway.workers.watchdog import Watchdog
from worker.spec import Limits, SpawnRequest


class _Server:
    """Hears what it is asked for."""

    def __init__(self) -> None:
        self.orders: list[Any] = []

    def send(self, order: Any) -> None:
        self.orders.append(order)


class Burning:
    """A worker that runs and uses CPU time, and a watchdog that looks after it."""

    def __init__(self, directory: pathlib.Path, *, turn_cpu_seconds: int, is_built_in: bool = False) -> None:
        self.file = directory / "cpuacct.usage"
        self.server = _Server()
        self.used(0)
        request = SpawnRequest(
            argv=("x",), env={}, cwd="/", home="/", session_key="s", is_built_in=is_built_in,
            limits=Limits(turn_cpu_seconds=turn_cpu_seconds),
        )  # fmt: skip
        self.worker = ForkWorker.__new__(ForkWorker)
        self.worker.__dict__.update(
            pid=1, turn=0, _turns=0, request=request, cpu_file=str(self.file), _id=7, _server=self.server,
            _cpu_seconds=0.0, _exited=asyncio.get_running_loop().create_future(),
        )  # fmt: skip
        self.watchdog = Watchdog(lambda: [self.worker])

    def used(self, seconds: float) -> None:
        self.file.write_text(f"{round(seconds * 1e9)}\n")

    async def seen(self, seconds: float) -> list[str]:
        """The causes that its end was asked for with, after a look at so many seconds."""
        self.used(seconds)
        await self.watchdog._look_at_turns()
        return [order.cause for order in self.server.orders]


@pytest.mark.parametrize("is_built_in", [False, True])
async def test_a_turn_past_its_cpu_time_is_ended(is_built_in: bool, tmp_path: pathlib.Path) -> None:
    burning = Burning(tmp_path, turn_cpu_seconds=10, is_built_in=is_built_in)
    assert await burning.seen(1_000) == [], "no turn, no limit"
    burning.worker.begin_turn()
    assert await burning.seen(1_001) == []
    assert await burning.seen(1_011) == []
    assert await burning.seen(1_011.5) == ["turn_cpu"]


async def test_each_turn_has_its_own(tmp_path: pathlib.Path) -> None:
    burning = Burning(tmp_path, turn_cpu_seconds=10)
    for number in range(5):
        burning.worker.begin_turn()
        assert await burning.seen(20 * number) == []
        assert await burning.seen(20 * number + 9) == []
        burning.worker.end_turn()
        assert await burning.seen(20 * number + 19) == [], "between turns nothing is counted"


async def test_without_a_limit_nothing_is_ended(tmp_path: pathlib.Path) -> None:
    burning = Burning(tmp_path, turn_cpu_seconds=0)
    burning.worker.begin_turn()
    assert await burning.seen(0) == []
    assert await burning.seen(1e6) == []


async def test_a_round_is_one_turn_of_a_thread_for_all_and_one_that_fails_hides_no_other(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = tmp_path / "memory.events"
    events.write_text("low 0\nhigh 3\nmax 7\noom 1\noom_kill 1\n")
    all_of_them = [Burning(tmp_path, turn_cpu_seconds=0) for _ in range(20)]
    for burning in all_of_them:
        burning.worker.__dict__.update(memory_events=str(events), processes_events="")
    del all_of_them[7].worker.__dict__["memory_events"]
    hops, hop = list[object](), asyncio.to_thread

    async def counted(*args: Any, **named: Any) -> Any:
        hops.append(args)
        return await hop(*args, **named)

    monkeypatch.setattr(asyncio, "to_thread", counted)
    await Watchdog(lambda: [burning.worker for burning in all_of_them])._look_at_all(does_count_disk=False)
    await asyncio.sleep(0)
    causes = [[order.cause for order in burning.server.orders] for burning in all_of_them]
    assert causes == [[] if number == 7 else ["memory"] for number in range(20)]
    assert len(hops) == 1
