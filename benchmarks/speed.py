"""Every figure that the gateway's speed is held to, beside its floor, in one run; 1 if an aim is missed.

    python -m benchmarks.speed

Twelve minutes on two cores that do nothing else. Machines differ, so an aim in milliseconds holds for a
machine where the bare process (`benchmarks.gateway`: the same agent without a gateway) says its first word
after 38 ms (p50) and 55 ms (p99); here it is that share of what the bare process takes here.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from typing import Final

import psutil
from msgspec import Struct

from benchmarks import gateway, http, peers, streams, walls
from tests.aims import Aim
from tests.gateways import RunningGateway, running_gateway
from tests.streams import open_stream

BARE_MS: Final = (38.0, 55.0)
"""First word of the bare process where the aims in milliseconds were set: p50 and p99."""
STARTS: Final = 50
WAKES: Final = 50
COLD_STARTS: Final = 10
MB: Final = 1_000_000


class Line(Struct, frozen=True):
    """An aim, and what was measured for it, in words."""

    aim: Aim
    seen: str


def most(what: str, value: float, floor: float, bound: float, unit: str) -> Line:
    """A value that is at most so many times its floor."""
    seen = f"{value:,.4g} {unit} beside {floor:,.4g}"
    return Line(Aim(what=f"{what}, times the bare one", seen=value / floor, most=bound), seen)


# -- streams ------------------------------------------------------------------------------------------------


def of_streams(results: streams.Results) -> list[Line]:
    """What `benchmarks.streams` found, beside the bare relay with synchronous=NORMAL (and FULL in words)."""
    lines = []
    calm, busy = results["200 x 20/s"], results["500 x 100/s"]
    for key, bound, unit in (
        ("p50_ms", 1.8, "ms"), ("p99_ms", 4, "ms"), ("max_ms", 3, "ms"), ("cpu_us", 2, "µs of CPU an event")
    ):  # fmt: skip
        lines.append(_beside(f"200 streams x 20/s, {key}", calm, key, bound, unit))
    carried = _middle(busy["gateway"], "carried_per_second")
    aim = Aim(what="500 streams: durable events/s of one core", seen=carried, least=25_000)
    lines.append(Line(aim, f"{_middle(busy['gateway'], 'share_of_a_core'):.0%} of it used"))
    lines.append(_beside("500 streams at that rate, p99_ms", busy, "p99_ms", 1.5, "ms"))
    flood, key = results[streams.FLOOD], "carried_per_second"
    ours, bare = _middle(flood["gateway"], key), _middle(flood[_normal(flood)], key)
    aim = Aim(what="one flooding stream, times the bare one", seen=ours / bare, least=0.75)
    lines.append(Line(aim, f"{ours:,.0f} events/s beside {bare:,.0f}"))
    idle = results[streams.IDLE]
    bare = _middle(idle[_normal(idle)], "kilobytes")
    aim = Aim(what="an idle stream, kB", seen=_middle(idle["gateway"], "kilobytes"), most=20)
    return [*lines, Line(aim, f"beside {bare:.1f}")]


def _beside(what: str, load: dict[str, list[streams.Figures]], key: str, bound: float, unit: str) -> Line:
    value = _middle(load["gateway"], key)
    line = most(what, value, _middle(load[_normal(load)], key), bound, unit)
    full = [_middle(rounds, key) for name, rounds in load.items() if "FULL" in name]
    return Line(line.aim, line.seen + "".join(f" ({one:,.4g} with FULL)" for one in full))


def _normal(load: dict[str, list[streams.Figures]]) -> str:
    return next(name for name in load if "NORMAL" in name)


def _middle(rounds: list[streams.Figures], key: str) -> float:
    return statistics.median(figures[key] for figures in rounds)


# -- sessions -----------------------------------------------------------------------------------------------


def of_starts(starts: gateway.Starts, turns: list[float], wakes: list[float]) -> list[Line]:
    """First words and first turns, in shares of what the bare process takes."""
    bare, lines = gateway.quantiles(starts.bare), []
    rows: tuple[tuple[str, list[float], tuple[float, ...]], ...] = (
        ("request to first word, strict", starts.without_spare, (6, 12)),
        ("the same from a spare", starts.from_spare, (3, 8)),
        ("request to the end of a first turn, strict", turns, (9, 25)),
        ("wake of a parked session to its first word", wakes, (10,)),
    )
    for what, values, bounds in rows:
        for name, value, floor, bound, reference in zip(
            ("p50", "p99"), gateway.quantiles(values), bare, bounds, BARE_MS, strict=False
        ):
            lines.append(most(f"{what}, {name}", value, floor, bound / reference, "ms"))
    return lines


async def woken(running: RunningGateway) -> list[float]:
    """Milliseconds from a message to a parked session to the first word of its answer."""
    found = []
    for number in range(WAKES):
        name = f"parked-{number}"
        await running.chat(name, "/echo hi")
        async with running.operator() as operator:
            watched = (await operator.watched_sessions()).sessions
            await operator.park(max(watched, key=lambda one: one.created_at).key)
        after = (await running.state(name))["seq"]
        async with open_stream(running.http, name, after=after) as stream:
            began = time.monotonic()
            await running.post("/api/chat", {"message": "/echo hi", "session_id": name})
            await stream.until_event("text_delta")
            found.append((time.monotonic() - began) * 1000)
    return found


async def cold() -> tuple[list[float], float, float]:
    """Seconds from the start of the program to /health; MB that it and its fork server take then."""
    seconds, mine, server = [], 0.0, 0.0
    for _ in range(COLD_STARTS):
        with tempfile.TemporaryDirectory() as directory:
            began = time.monotonic()
            async with running_gateway(pathlib.Path(directory)) as running:
                seconds.append(time.monotonic() - began)
                await asyncio.sleep(1)
                process = psutil.Process(running.pid)
                [forks] = process.children()
                mine, server = process.memory_info().rss / MB, forks.memory_info().rss / MB
    return seconds, mine, server


async def of_program(bare: Sequence[float]) -> list[Line]:
    """How soon the program answers, and what it takes then."""
    seconds, mine, server = await cold()
    return [
        most("cold start to /health, p50", statistics.median(seconds) * 1000, gateway.quantiles(bare)[0],
             450 / BARE_MS[0], "ms"),
        Line(Aim(what="RSS of the idle gateway, MB", seen=mine, most=50), ""),
        Line(Aim(what="RSS of its fork server, MB", seen=server, most=12), ""),
    ]  # fmt: skip


async def of_memory() -> list[Line]:
    """Of a session with the same bare Python child."""
    ours = await peers.measured(peers.OURS, peers.PEERS[peers.OURS])
    theirs = await peers.measured(peers.WEBSOCKETD, peers.PEERS[peers.WEBSOCKETD])
    if ours is None or theirs is None:
        raise SystemExit("websocketd cannot be installed here")
    return [most("memory a session, beside websocketd's", ours, theirs, 4.2 / 3.8, "MB")]


# -- the run ------------------------------------------------------------------------------------------------


async def run() -> list[Line]:
    """All lines."""
    arguments = Namespace(quick=False, synchronous="both", only="", rounds=0)
    with tempfile.TemporaryDirectory(prefix="streams-") as name:
        os.chmod(name, 0o755)  # noqa: S103 - a worker's own uid runs the agent's program
        found = await streams.run(arguments, pathlib.Path(name))
    print(streams.table(found))
    lines = of_streams(found)
    with tempfile.TemporaryDirectory() as directory:
        config = gateway.LIMITS + "[workers]\nrequire = 'strict'\n"
        async with running_gateway(pathlib.Path(directory), config=config) as running:
            await running.chat("warm", "/echo hi")
            starts = await gateway.starts(running, STARTS)
    with tempfile.TemporaryDirectory() as directory:
        config = gateway.LIMITS + "[workers]\nrequire = 'strict'\nspares = 0\n"
        async with running_gateway(pathlib.Path(directory), config=config) as running:
            wakes = await woken(running)
    turns = [second * 1000 for second in await walls.over_http()]
    lines += of_starts(starts, turns, wakes)
    lines += await of_memory()
    ratios = await http.compared(3.0, 5)
    for path, ratio in ratios.items():
        aim = Aim(what=f"GET {path}: requests/s, times bare Starlette", seen=ratio, least=0.65)
        lines.append(Line(aim, ""))
    return lines + await of_program(starts.bare)


def main() -> int:
    """Prints all lines; 1 if an aim is missed."""
    before = os.getloadavg()[0]
    lines = asyncio.run(run())
    print(f"\nload before: {before:.1f}")
    for line in lines:
        print(f"{line.aim.words()}   {line.seen}")
    return int(not all(line.aim.is_met for line in lines))


if __name__ == "__main__":
    sys.exit(main())
