"""A gateway that stands still, or that PostgreSQL does not answer: its workers rest, and go on or end."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import sys
import time
from typing import Final

from tests.gateways import RunningGateway, is_running, running_gateway
from tests.postgres import shared_database
from tests.shared import crowding, eventually
from tests.streams import open_stream, state_when

LEASE_SECONDS: Final = 1.0
KILL_SECONDS: Final = 1.5
BOUND_SECONDS: Final = 0.1
"""In which the fork server has its turn on a machine that is not busy."""
TICKS: Final = (
    "import os, time\n"
    "out = os.open('ticks', os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
    "while True:\n"
    "    os.write(out, b'%d\\n' % time.monotonic_ns())\n"
    "    time.sleep(0.005)\n"
)
"""Writes down when it ran."""
TICKING: Final = {
    "turns": [
        [{"spawn": [sys.executable, "-c", TICKS]}, {"say": "first "}, {"sleep": 4000}, {"say": "last"}]
    ],
    "repeat": True,
}


def config(url: str) -> str:
    return (
        f'store = "{url}"\n[cluster]\nlease_seconds = {LEASE_SECONDS}\nbeat_seconds = 0.1\n'
        f"kill_seconds = {KILL_SECONDS}\n"
    )


class Ticks:
    """When what an agent had started ran."""

    def __init__(self, data: pathlib.Path) -> None:
        self._data = data

    def all(self) -> list[float]:
        lines = [line for path in self._data.glob("sessions/**/ticks") for line in path.read_text().split()]
        return [int(line) / 1e9 for line in lines]

    @property
    def last(self) -> float:
        return max(self.all(), default=0.0)

    async def go_on(self) -> None:
        """Returns when there are more."""
        before = self.last

        async def are_more() -> bool:
            return self.last > before

        await eventually(are_more)


async def paused(gateway: RunningGateway, seconds: float) -> tuple[float, float]:
    """Stops a gateway's process for so long, and its workers go on or not; when it began and ended."""
    began = time.monotonic()
    os.kill(gateway.pid, signal.SIGSTOP)
    await asyncio.sleep(seconds)
    ended = time.monotonic()
    return began, ended


async def test_workers_of_a_gateway_that_stands_still_rest_within_its_lease_and_end_if_it_goes_on_so(
    tmp_path: pathlib.Path,
) -> None:
    async with running_gateway(
        tmp_path, config=config(shared_database()), agents={"ticking": TICKING}
    ) as gateway:
        ticks = Ticks(gateway.data_path)
        await gateway.send("a", "go", agent="ticking")
        await ticks.go_on()
        began, ended = await paused(gateway, LEASE_SECONDS + 0.6)
        assert ticks.last < began + LEASE_SECONDS + BOUND_SECONDS * crowding()
        os.kill(gateway.pid, signal.SIGCONT)
        await ticks.go_on()
        state = await state_when(gateway.http, "a", lambda s: not s["is_processing"])
        assert state["messages"][-1]["content"] == "first last"
        print(f"stopped for {ended - began:.2f} s; the last tick came after ...")  # noqa: T201

        await gateway.send("a", "go on")
        await ticks.go_on()
        workers = gateway.workers()
        began, _ = await paused(gateway, LEASE_SECONDS + KILL_SECONDS + 0.5)
        assert not any(is_running(worker) for worker in workers), "it stands still, and they are gone"
        assert ticks.last < began + LEASE_SECONDS + BOUND_SECONDS * crowding()
        os.kill(gateway.pid, signal.SIGCONT)
        state = await state_when(gateway.http, "a", lambda s: not s["is_processing"])
        assert "the agent was ended" in state["messages"][-1]["content"]
        async with open_stream(gateway.http, "a", after=0) as stream:
            cut = await stream.until_event("turn_interrupted")
        assert cut.data["reason"] == "lease_lost"
        assert await gateway.stop() == 0
