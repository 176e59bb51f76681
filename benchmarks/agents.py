"""What real agents take and how fast they come back: each installed one behind a gateway, its model a mock.

    python -m benchmarks.agents [--only codex] [--sessions 3]

Rows, of each agent: memory of an idle session after a turn (shared pages divided among the sessions), what a
turn takes on top of that at its most, seconds to a first session, seconds until a parked session answers
again, and milliseconds until a frozen one does. Agents that are not installed (`python -m tests.real_agents`)
are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator

from msgspec import Struct

from gateway.workers.forks import ForkWorker
from tests.agent_trials import CASES, Case, answers, config_of
from tests.fake_model import fake_model
from tests.inside import GatewayInside, gateway_inside
from tests.real_agents import AGENTS, CACHE

PARK_SECONDS = 600
WARM_SECONDS = 6_000
LOOK_SECONDS = 0.02
MB = 1_000_000
RETURNS = 3


class AgentFigures(Struct):
    """Of one agent."""

    idle_mb: float = 0
    turn_mb: float = 0
    first_seconds: float = 0
    again_seconds: float = 0
    thawed_ms: float = 0


def private_bytes(worker: ForkWorker) -> int:
    """What only this worker has, as its control group counts it: no files, no shared pages."""
    place = os.path.dirname(worker.memory_events)
    with contextlib.suppress(OSError), open(f"{place}/memory.stat", encoding="ascii") as file:
        pairs = dict(line.split() for line in file)
        return int(pairs.get("anon", pairs.get("total_rss", 0)))
    return 0


async def measured(case: Case, sessions: int, directory: pathlib.Path) -> AgentFigures:
    """One agent, on a gateway of its own."""
    figures, launch = AgentFigures(), AGENTS[case.name]("http://127.0.0.1:9/v1")
    async with fake_model() as model:
        model.script = answers
        config = config_of(case, launch, model) + f"warm_seconds = {WARM_SECONDS}\n"
        config = config.replace("[sessions]\n", f"[sessions]\npark_after_seconds = {PARK_SECONDS}\n")
        async with gateway_inside(directory, config=config) as gateway:
            names = [f"s{number}" for number in range(sessions)]
            figures.first_seconds = await answered(gateway, names[0])
            for name in names[1:]:
                await answered(gateway, name)
            workers = [worker_of(gateway, name) for name in names]
            await asyncio.sleep(2)  # what it does after its turn
            figures.idle_mb = sum(worker.memory_bytes() for worker in workers) / len(workers) / MB
            before = private_bytes(workers[0])
            async with peak_of(workers[0]) as most:
                await answered(gateway, names[0])
            figures.turn_mb = max(0, max(most) - before) / MB
            warm = [await answered(gateway, names[0]) for _ in range(RETURNS)]
            thawed = []
            for _ in range(RETURNS):
                gateway.clock.advance(PARK_SECONDS + 1)
                await gateway.inner.reaper.park()
                thawed.append(await answered(gateway, names[0]))
            figures.thawed_ms = 1000 * (min(thawed) - min(warm))
            again = []
            for _ in range(RETURNS):
                await gateway.session(names[0]).park()
                again.append(await answered(gateway, names[0]))
            figures.again_seconds = min(again)
    return figures


def worker_of(gateway: GatewayInside, name: str) -> ForkWorker:
    process = gateway.session(name).process
    assert isinstance(process, ForkWorker)
    return process


async def answered(gateway: GatewayInside, name: str) -> float:
    """Seconds of a whole turn."""
    began = time.perf_counter()
    body = {"message": "hello", "session_id": name, "agent": "real"}
    state = await gateway.post("/api/chat?wait=200", body)
    assert state["messages"][-1]["sender"] == "agent", state["messages"][-1]["content"]
    return time.perf_counter() - began


@contextlib.asynccontextmanager
async def peak_of(worker: ForkWorker) -> AsyncIterator[list[int]]:
    """What it has, every few milliseconds."""
    seen = [private_bytes(worker)]

    async def look() -> None:
        while True:
            seen.append(private_bytes(worker))
            await asyncio.sleep(LOOK_SECONDS)

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        looking.cancel()
        await asyncio.wait([looking])


async def run(only: list[str], sessions: int) -> None:
    """The table."""
    print(f"Linux {os.uname().release}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'agent':14}{'idle MB':>9}{'turn +MB':>10}{'first s':>9}{'parked s':>10}{'frozen +ms':>12}")
    for case in CASES:
        if (only and case.name not in only) or not (CACHE / case.name).exists():
            continue
        with tempfile.TemporaryDirectory() as directory:
            try:
                f = await measured(case, sessions, pathlib.Path(directory))
            except (AssertionError, TimeoutError, OSError) as error:
                print(f"{case.title:14} not measured: {str(error)[:120]}", flush=True)
                continue
        print(
            f"{case.title:14}{f.idle_mb:9.0f}{f.turn_mb:10.0f}{f.first_seconds:9.2f}{f.again_seconds:10.2f}"
            f"{f.thawed_ms:12.1f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agents")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--sessions", type=int, default=3)
    asked = parser.parse_args()
    asyncio.run(run(asked.only, asked.sessions))


if __name__ == "__main__":
    sys.exit(main())
