"""The way of one event, from an agent's pipe to a reader's socket, beside the least that a relay can do.

    python -m benchmarks.streams [--quick] [--synchronous NORMAL|FULL|both] [--only LOAD] [--json FILE]

The gateway, as it ships and with all its threads, has one core; C agents and a C client have another. The
bare durable relay (bare_relay.py) is measured in the same run, on the same core, in rounds in turn. Figures
are medians of the rounds, with their range. Latency is from an agent's write to the client's read; CPU is
what the scheduler counted for all threads. The product's commits use synchronous=FULL. On a busy machine
`chrt -r 1 .venv/bin/python -m benchmarks.streams`, as root, has everything that is measured run before the
rest; without it only CPU is worth quoting there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from benchmarks import relays
from benchmarks.relays import System

SECOND: Final = 1_000_000_000
SETTLE_SECONDS: Final = 1.0
"""From the first events to the window that is measured."""
LATE_SECONDS: Final = 3.0
"""What was sent in the window is waited for so long."""
AT_ONCE: Final = 32
"""Requests in flight while a round is prepared."""
FLOOD_CHUNKS: Final = 100_000
IDLE_STREAMS: Final = 1_000
FLOOD: Final = "one stream, flooding"
IDLE: Final = "idle streams"


class Load(Struct, frozen=True):
    """So many streams, so many events a second on each."""

    name: str
    streams: int
    rate: int
    rounds: int = 3
    seconds: float = 4
    is_beside_flood: bool = False
    """Beside them one agent says a million single letters, as fast as it goes."""


LOADS: Final = (
    Load("200 x 20/s", 200, 20, rounds=5),
    Load("200 x 20/s beside a flood", 200, 20, is_beside_flood=True),
    Load("500 x 20/s", 500, 20),
    Load("500 x 100/s", 500, 100),
)


class Seen(Struct):
    """What the client printed (compiled/client.c)."""

    chunks: int
    frames: int
    carried: int
    p50: float
    p90: float
    p99: float
    max: float
    first: int
    last: int
    seen: int
    lost: int


Figures = dict[str, float]
Results = dict[str, dict[str, list[Figures]]]
"""Load → system → rounds."""


async def stream(system: System, load: Load, programs: pathlib.Path) -> Figures:
    """One round of a load."""
    names = [f"s{number}" for number in range(load.streams)]
    async with relays.client(programs, system, names) as client:
        start = time.monotonic_ns() + round((0.5 + load.streams / 100) * SECOND)
        chunks = round((SETTLE_SECONDS + load.seconds + 0.5) * load.rate)
        await every(names, lambda name: system.say(name, f"stream={chunks},{1_000_000 // load.rate},{start}"))
        assert time.monotonic_ns() < start, "the messages came too late"
        begin = start + round(SETTLE_SECONDS * SECOND)
        stop = begin + round(load.seconds * SECOND)
        end = stop + round(LATE_SECONDS * SECOND)
        reading = asyncio.ensure_future(client.measure(begin, stop, end, chunks * load.streams))
        await until(begin)
        if load.is_beside_flood:
            await system.say("flood", "flood=1000000")
        cpu, wall = system.cpu_seconds(), time.monotonic()
        await until(stop)
        cpu, wall = system.cpu_seconds() - cpu, time.monotonic() - wall
        seen = msgspec.json.decode(await reading, type=Seen)
        await settled(system, names)
    assert seen.lost == 0, f"{seen.lost} streams ended"
    return {
        "carried_per_second": seen.carried / load.seconds,
        "share_of_a_core": cpu / wall,
        "cpu_us": 1e6 * cpu / max(1, seen.carried),
        "chunks_a_frame": seen.carried / max(1, seen.frames),
        "p50_ms": seen.p50,
        "p90_ms": seen.p90,
        "p99_ms": seen.p99,
        "max_ms": seen.max,
    }


async def flood(system: System, programs: pathlib.Path, number: int) -> Figures:
    """As fast as one stream goes."""
    name = f"flood{number}"
    await system.say(name, "hello", wait=True)
    async with relays.client(programs, system, [name]) as client:
        now = time.monotonic_ns()
        reading = asyncio.ensure_future(
            client.measure(now, now + 60 * SECOND, now + 60 * SECOND, FLOOD_CHUNKS)
        )
        cpu = system.cpu_seconds()
        await system.say(name, f"stream={FLOOD_CHUNKS},0,0")
        seen = msgspec.json.decode(await reading, type=Seen)
        cpu = system.cpu_seconds() - cpu
    return {
        "carried_per_second": seen.seen / ((seen.last - seen.first) / SECOND),
        "cpu_us": 1e6 * cpu / seen.seen,
        "chunks_a_frame": seen.seen / max(1, seen.frames),
    }


async def idle(system: System, programs: pathlib.Path, count: int) -> Figures:
    """What a stream costs on which nothing happens."""
    names = [f"s{number % 100}" for number in range(count)]
    async with relays.client(programs, system, names[: count // 10]):
        await asyncio.sleep(0.2)
        before = system.pss()
    async with relays.client(programs, system, names[: count // 10]):
        before = system.pss()
        async with relays.client(programs, system, names):
            await asyncio.sleep(1)
            return {"kilobytes": (system.pss() - before) / count / 1000}


async def settled(system: System, names: Sequence[str]) -> None:
    """Every turn has ended: a message that asks for nothing is answered."""
    if isinstance(system, relays.GatewaySystem):
        await every(names, lambda name: system.say(name, "hello", wait=True))


async def every(names: Sequence[str], act: Any) -> None:
    """For each of them, some at a time."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> None:
        async with free:
            await act(name)

    await asyncio.gather(*map(one, names))


async def until(at: int) -> None:
    await asyncio.sleep((at - time.monotonic_ns()) / SECOND)


# -- the run ----------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def opened(
    top: pathlib.Path, programs: pathlib.Path, cores: tuple[int, int], synchronous: Sequence[str]
) -> AsyncIterator[list[System]]:
    """All systems, with their sessions' agents started."""
    async with contextlib.AsyncExitStack() as stack:
        systems = [
            await stack.enter_async_context(relays.bare(top / how, programs, cores, how))
            for how in synchronous
        ]
        systems.append(await stack.enter_async_context(relays.gateway(top / "gateway", programs, cores)))
        yield systems


async def run(arguments: argparse.Namespace, top: pathlib.Path) -> Results:
    """Every load, in rounds."""
    programs = top / "programs"
    programs.mkdir()
    relays.compiled(programs)
    first, second = sorted(os.sched_getaffinity(0))[:2]
    synchronous = ("NORMAL", "FULL") if arguments.synchronous == "both" else (arguments.synchronous,)
    results: Results = {}
    with relays.on_core(second):
        async with opened(top, programs, (first, second), synchronous) as systems:
            if arguments.only in IDLE:  # first: what the others leave in memory would be used again
                for system in systems:
                    await started(system, 100)
                    note(results, IDLE, system, await idle(system, programs, IDLE_STREAMS))
            for load in LOADS:
                if arguments.only in load.name:
                    await rounds_of(load, systems, programs, arguments, results)
            if arguments.only in FLOOD:
                await rounds_of_flood(systems, programs, arguments, results)
    return results


async def rounds_of(
    load: Load, systems: list[System], programs: pathlib.Path, arguments: argparse.Namespace, results: Results
) -> None:
    """One system and the other in turn."""
    if arguments.quick:
        load = msgspec.structs.replace(load, seconds=load.seconds / 2, rounds=2)
    for system in systems:
        await started(system, load.streams)
    for number in range(arguments.rounds or load.rounds):
        for system in systems if number % 2 == 0 else systems[::-1]:
            figures = await stream(system, load, programs)
            note(results, load.name, system, figures)


async def rounds_of_flood(
    systems: list[System], programs: pathlib.Path, arguments: argparse.Namespace, results: Results
) -> None:
    """The same of one stream that floods."""
    for number in range(arguments.rounds or (2 if arguments.quick else 5)):
        for system in systems:
            note(results, FLOOD, system, await flood(system, programs, number))


async def started(system: System, count: int) -> None:
    """So many sessions have their agents."""
    await every([f"s{number}" for number in range(count)], lambda name: system.say(name, "hello", wait=True))


def note(results: Results, load: str, system: System, figures: Figures) -> None:
    results.setdefault(load, {}).setdefault(system.name, []).append(figures)
    said = "  ".join(f"{name} {value:,.3g}" for name, value in figures.items())
    print(f"  {load:12} {system.name:12} {said}", file=sys.stderr, flush=True)


# -- the table --------------------------------------------------------------------------------------------

ROWS: Final = (
    ("carried_per_second", "events/s", ",.0f"),
    ("cpu_us", "CPU an event, µs", ".1f"),
    ("share_of_a_core", "of one core", ".2f"),
    ("chunks_a_frame", "chunks a frame", ".2f"),
    ("p50_ms", "added latency p50, ms", ".3f"),
    ("p90_ms", "added latency p90, ms", ".3f"),
    ("p99_ms", "added latency p99, ms", ".2f"),
    ("max_ms", "added latency max, ms", ".1f"),
    ("kilobytes", "kB a stream", ".1f"),
)


def table(results: Results) -> str:
    """Medians with ranges, and the last column's ratio to the first."""
    lines = []
    for load, systems in results.items():
        lines.append(f"{load:30}" + "".join(f"{name:>28}" for name in systems) + f"{'ratio':>8}")
        for key, title, form in ROWS:
            columns = [
                [figures[key] for figures in rounds] for rounds in systems.values() if key in rounds[0]
            ]
            if columns:
                middles = [statistics.median(column) for column in columns]
                cells = "".join(f"{_cell(column, form):>28}" for column in columns)
                ratio = f"{middles[-1] / middles[0]:8.2f}" if middles[0] else ""
                lines.append(f"  {title:28}{cells}{ratio}")
        lines.append("")
    return "\n".join(lines)


def _cell(values: Sequence[float], form: str) -> str:
    middle = format(statistics.median(values), form)
    return middle if len(values) == 1 else f"{middle} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams")
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    parser.add_argument("--synchronous", choices=("NORMAL", "FULL", "both"), default="NORMAL",
                        help="of the bare relay's commits")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--only", default="", help="a part of a load's name: 200, 500, flood, idle")
    parser.add_argument("--json", type=pathlib.Path, help="a file for all figures of all rounds")
    arguments = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit("This benchmark needs two cores: one for the gateway, one for agents and readers.")
    with tempfile.TemporaryDirectory(prefix="streams-") as name:
        top = pathlib.Path(name)
        top.chmod(0o755)
        results = asyncio.run(run(arguments, top))
    print(table(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
