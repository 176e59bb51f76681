"""What it costs that a request comes to another gateway than the one that has its session, beside the direct
way in the same run.

    python -m benchmarks.forwarding [--seconds N] [--rounds N] [--streams N] [--rate N]

Two gateways share a PostgreSQL database; both have a session each. The one that is asked, `edge`, has a core
of its own; the other, `owner`, the database and the client have the rest. Of verbs: `GET /api/state` of the
owner's session asked at the edge, beside the edge's own, over one connection after the other (latency) and
over 16 (CPU time). Of streams: so many readers of the owner's session, each of so many events a second, at
the edge, beside as many at the owner. CPU is that of all threads of one process, so a busy machine changes it
little; latency is worth quoting on a quiet one only. The aims: a forwarded verb costs the edge 350 µs at most
and takes 0.5 ms longer, an event of a stream costs the edge 40 µs at most.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import pathlib
import statistics
import tempfile
import time
from typing import Final

import aiohttp

from benchmarks.http import LIMITS, Cost, asked, cpu_ns, pin
from tests.gateways import RunningGateway
from tests.nodes import running_nodes

VERB_AIM_MICROSECONDS: Final = 350
VERB_AIM_MILLISECONDS: Final = 0.5
EVENT_AIM_MICROSECONDS: Final = 40
ASKED_IN_TURN: Final = 400
SETTLE_SECONDS: Final = 1.0
MORE_LIMITS: Final = "streams_per_owner = 10000\n"


async def latencies(gateway: RunningGateway, path: str) -> list[float]:
    """Milliseconds of requests one after the other, sorted."""
    taken = []
    for _ in range(ASKED_IN_TURN):
        began = time.perf_counter()
        async with gateway.http.get(path) as response:
            await response.read()
            assert response.status == 200
        taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken)


async def verbs(edge: RunningGateway, paths: dict[str, str], *, seconds: float, rounds: int) -> None:
    """Prints what a small verb costs, by each way."""
    costs: dict[str, list[Cost]] = {name: [] for name in paths}
    waits: dict[str, list[list[float]]] = {name: [] for name in paths}
    for _ in range(rounds):
        for name, path in paths.items():
            costs[name].append(await asked(edge.url, path, edge.pid, seconds))
            waits[name].append(await latencies(edge, path))
    print(f"{'GET /api/state':24} {'µs CPU at the edge':>20} {'p50 ms':>8} {'p99 ms':>8}")
    medians = {}
    for name in paths:
        cpu = statistics.median(cost.cpu for cost in costs[name])
        p50, p99 = (
            statistics.median(taken[round(len(taken) * part) - 1] for taken in waits[name])
            for part in (0.5, 0.99)
        )
        medians[name] = p50
        print(f"{name:24} {cpu:20.0f} {p50:8.2f} {p99:8.2f}", flush=True)
    more = medians["passed on"] - medians["its own"]
    print(f"{'longer by':24} {'':20} {more:8.2f}   (aims: {VERB_AIM_MICROSECONDS} µs,", end=" ")
    print(f"{VERB_AIM_MILLISECONDS} ms longer)", flush=True)


class Readers:
    """So many readers of one session; counts the events that reach them."""

    def __init__(self, gateway: RunningGateway, session_id: str, count: int) -> None:
        self._gateway = gateway
        self._path = f"/api/chat/stream?view=events&session_id={session_id}"
        self._count = count
        self._tasks: list[asyncio.Task[None]] = []
        self._http = aiohttp.ClientSession(gateway.url, connector=aiohttp.TCPConnector(limit=0))
        self.seen = 0

    async def __aenter__(self) -> Readers:
        self._tasks = [asyncio.create_task(self._read()) for _ in range(self._count)]
        await asyncio.sleep(SETTLE_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.close()

    async def _read(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._http.get(self._path, timeout=timeout) as response:
            async for part in response.content.iter_any():
                self.seen += part.count(b"\nevent: text_delta")


async def events(
    ways: dict[str, tuple[RunningGateway, RunningGateway]], session_id: str, *, streams: int, rate: int,
    seconds: float, rounds: int,
) -> None:  # fmt: skip
    """Prints what an event of a stream costs, by each way: the gateway that is read, the one that has it."""
    print(f"\n{f'{streams} streams x {rate}/s':24} {'µs CPU an event':>20} {'events/s':>10}")
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (read, owner) in ways.items():
            words = round((2 * SETTLE_SECONDS + seconds + 1) * rate)
            async with Readers(read, session_id, streams) as readers:
                await owner.send(session_id, f"/count {words} {round(1000 / rate)}")
                await asyncio.sleep(SETTLE_SECONDS)
                cpu, seen, began = cpu_ns(read.pid), readers.seen, time.monotonic()
                await asyncio.sleep(seconds)
                spent, count = cpu_ns(read.pid) - cpu, readers.seen - seen
                took = time.monotonic() - began
            costs[name].append((spent / max(1, count) / 1000, count / took))
            async with owner.http.post("/api/interrupt", json={"session_id": session_id}) as response:
                await response.read()
    for name, found in costs.items():
        cpu, per_second = (statistics.median(figures) for figures in zip(*found, strict=True))
        aim = f"   (aim: {EVENT_AIM_MICROSECONDS} µs)" if name == "passed on" else ""
        print(f"{name:24} {cpu:20.1f} {per_second:10.0f}{aim}", flush=True)


async def compared(*, seconds: float, rounds: int, streams: int, rate: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as directory:
        async with running_nodes(
            pathlib.Path(directory), 2, config=LIMITS + MORE_LIMITS,
            environ={"AGENT_GATEWAY_CLUSTER_LEASE_SECONDS": "10"},
        ) as nodes:  # fmt: skip
            edge, owner = nodes[0], nodes[1]
            await edge.chat("here", "hello")
            await owner.chat("there", "hello")
            pin(edge.pid, cores[0])
            with contextlib.suppress(ProcessLookupError):
                pin(owner.pid, cores[-1])
            pin(os.getpid(), cores[-1])
            paths = {
                "its own": "/api/state?session_id=here",
                "passed on": "/api/state?session_id=there",
            }
            await verbs(edge, paths, seconds=seconds, rounds=rounds)
            ways = {"at the owner": (owner, owner), "passed on": (edge, owner)}
            await events(ways, "there", streams=streams, rate=rate, seconds=seconds, rounds=rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--rate", type=int, default=20, help="events a second of the session")
    given = parser.parse_args()
    asyncio.run(compared(seconds=given.seconds, rounds=given.rounds, streams=given.streams, rate=given.rate))


if __name__ == "__main__":
    main()
