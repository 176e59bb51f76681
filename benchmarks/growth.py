"""What grows with what there is already: each row at one, ten and a hundred times as much, in one run.

    python -m benchmarks.growth [--whole] [--json FILE]

Rows: a session's start (request to first word) and the gateway's memory beside 10, 100 and 1,000 sessions in
memory; one more delta, State and a message's answer after 30, 300 and 3,000 messages. The figure is the
median of the rounds, with the least and the most; the last column compares a hundred times as much with one.
CPU time is the gateway's own (schedstat), which a busy machine changes less than the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial

import psutil
from msgspec import Struct

from benchmarks.access import cpu_nanoseconds
from benchmarks.gateway import LIMITS, first_turn, pss
from tests.gateways import RunningGateway, running_gateway

TIMES = (1, 10, 100)
SESSIONS = 10
MESSAGES = 30
AT_ONCE = 8
CONFIG = LIMITS + "[sessions]\npark_after_seconds = 0\n"


class GrowthRow(Struct):
    """Figures at each size, each a list of rounds."""

    name: str
    unit: str
    figures: list[list[float]]


async def timed(act: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    await act()
    return (time.perf_counter() - began) * 1000


async def started(gateway: RunningGateway, name: str) -> float:
    """Milliseconds from the request to the first word of a new session, which is deleted then."""
    first, _ = await first_turn(gateway, name)
    await gateway.delete(name)
    return first


async def beside_sessions(gateway: RunningGateway, rounds: int) -> list[GrowthRow]:
    """Sessions in memory without a worker, more and more."""
    first = GrowthRow("session start, request to first word", "ms", [])
    cpu = GrowthRow("session start, the gateway's CPU time", "ms", [])
    memory = GrowthRow("memory of the gateway", "MB", [])
    await started(gateway, "warm")
    made = 0
    for times in TIMES:
        while made < times * SESSIONS:
            count = min(AT_ONCE, times * SESSIONS - made)
            bodies = [{"session_id": f"there-{made + number}"} for number in range(count)]
            await asyncio.gather(*(gateway.post("/api/sessions", body, status=201) for body in bodies))
            made += count
        before = cpu_nanoseconds(gateway.pid)
        first.figures.append([await started(gateway, f"new-{times}-{number}") for number in range(rounds)])
        cpu.figures.append([(cpu_nanoseconds(gateway.pid) - before) / 1e6 / rounds])
        memory.figures.append([pss(psutil.Process(gateway.pid)) / 1e6])
    return [first, cpu, memory]


async def beside_messages(gateway: RunningGateway, rounds: int) -> list[GrowthRow]:
    """One session with more and more messages."""
    delta = GrowthRow("one more delta, the gateway's CPU time", "µs", [])
    state = GrowthRow("GET /api/state, all of it", "ms", [])
    tail = GrowthRow("GET /api/state?last=20", "ms", [])
    turn = GrowthRow("a turn with Prefer: return=minimal", "ms", [])
    last = {"session_id": "long", "last": 20}
    body, headers = {"message": "/echo hi", "session_id": "long"}, {"Prefer": "return=minimal"}
    said = 0
    for times in TIMES:
        while said < times * MESSAGES:
            await gateway.post("/api/system", {"message": "Something to know. " * 5, "session_id": "long"})
            said += 1
        await gateway.chat("long", "/echo warm")
        deltas = []
        for _ in range(max(3, rounds // 4)):
            before = cpu_nanoseconds(gateway.pid)
            await gateway.chat("long", "/count 200 1")
            deltas.append((cpu_nanoseconds(gateway.pid) - before) / 1000 / 200)
        delta.figures.append(deltas)
        state.figures.append([await timed(lambda: gateway.state("long")) for _ in range(rounds)])
        tail.figures.append([await timed(lambda: gateway.get("/api/state", **last)) for _ in range(rounds)])
        post = partial(gateway.post, "/api/chat?wait=60", body, headers=headers)
        turn.figures.append([await timed(post) for _ in range(rounds)])
    return [delta, state, tail, turn]


def show(rows: list[GrowthRow]) -> None:
    """The table."""
    sizes = "".join(f"{f'{times} x':>26}" for times in TIMES)
    print(f"{'median (least to most)':48}{sizes}{'100 x : 1 x':>14}", flush=True)
    for row in rows:
        middle = [statistics.median(figures) for figures in row.figures]
        cells = [f"{m:.2f} ({min(f):.2f} to {max(f):.2f})" for m, f in zip(middle, row.figures, strict=True)]
        print(f"{f'{row.name}, {row.unit}':48}" + "".join(f"{cell:>26}" for cell in cells), end="")
        print(f"{middle[-1] / middle[0]:14.2f}")


async def measured(rounds: int) -> list[GrowthRow]:
    """All rows."""
    with tempfile.TemporaryDirectory() as directory:
        async with running_gateway(pathlib.Path(directory), config=CONFIG) as gateway:
            return [*await beside_sessions(gateway, rounds), *await beside_messages(gateway, rounds)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth")
    parser.add_argument("--whole", action="store_true", help="100 rounds of each")
    parser.add_argument("--json", type=pathlib.Path, help="a file for all figures")
    asked = parser.parse_args()
    rows = asyncio.run(measured(100 if asked.whole else 20))
    print(f"Python {sys.version.split()[0]}; 1 x: {SESSIONS} sessions, {MESSAGES} messages")
    show(rows)
    if asked.json:
        asked.json.write_text(json.dumps([[row.name, row.unit, row.figures] for row in rows]))


if __name__ == "__main__":
    main()
