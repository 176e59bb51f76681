"""What the gateway adds: the same agent spoken to over its bare pipe and through the gateway, in one run.

    python -m benchmarks.gateway [--quick]

Rows: latency from the worker's write to the client's read at 1 and at 200 streams; events a second on one
stream; session start; memory a session. Figures are medians of one run on this machine: quote the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import psutil
from msgspec import Struct

from tests.gateways import ROOT, RunningGateway, running_gateway
from tests.scrapes import scrape
from tests.streams import open_stream
from worker import acp

AGENT = (sys.executable, "-m", "benchmarks.stamping_agent")
STAMP = re.compile(r"\d{6,}")
ENDS = ("turn_ended", "turn_interrupted")
STREAMS = 200
PACE_MILLISECONDS = 50
LIMITS = """
[limits]
session_requests_per_second = 100000
session_burst = 100000
address_requests_per_second = 100000
address_burst = 100000
"""


def quantiles(values: Sequence[float]) -> tuple[float, float]:
    """p50 and p99."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def percentiles(values: Sequence[float]) -> str:
    """p50 and p99 in words."""
    p50, p99 = quantiles(values)
    return f"{p50:8.3f} {p99:8.3f}"


def row(name: str, figures: str, note: str = "") -> None:
    """One line of the table."""
    print(f"{name:58} {figures:>20}   {note}", flush=True)


# -- the bare pipe ----------------------------------------------------------------------------------------


class Pipe:
    """The agent without a gateway: the floor of every figure."""

    async def __aenter__(self) -> Pipe:
        self.began = time.monotonic()
        self.process = await asyncio.create_subprocess_exec(
            *AGENT, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**24
        )
        await self.call("initialize", {"protocolVersion": 1})
        await self.call("session/new", {})
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        await self.process.wait()

    async def call(self, method: str, params: object) -> list[tuple[int, int]]:
        """(written, read) in nanoseconds for every chunk up to the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(acp.request(1, method, params))
        seen: list[tuple[int, int]] = []
        while b'"id":1' not in (line := await self.process.stdout.readline()):
            now = time.monotonic_ns()
            seen += [(int(found), now) for found in STAMP.findall(line.decode())]
        return seen

    async def prompt(self, text: str) -> list[tuple[int, int]]:
        """One turn."""
        return await self.call("session/prompt", {"prompt": [{"type": "text", "text": text}]})


# -- through the gateway ----------------------------------------------------------------------------------


async def streamed(gateway: RunningGateway, session_id: str, text: str) -> list[tuple[int, int]]:
    """One turn of a session, as its client sees it."""
    seen: list[tuple[int, int]] = []
    before = (await gateway.get("/api/state", session_id=session_id))["seq"]
    async with open_stream(gateway.http, session_id, after=before) as stream:
        await gateway.post("/api/chat", {"message": text, "session_id": session_id, "agent": "stamp"})
        while (frame := await stream.next()) is not None and frame.event not in (
            "turn_ended",
            "turn_interrupted",
        ):
            if frame.event == "text_delta":
                now = time.monotonic_ns()
                seen += [(int(found), now) for found in STAMP.findall(frame.data["text"])]
    return seen


def milliseconds(seen: list[tuple[int, int]]) -> list[float]:
    """Write to read."""
    return [(read - written) / 1e6 for written, read in seen]


def rate(seen: list[tuple[int, int]]) -> float:
    """Chunks a second from the first write to the last read."""
    return len(seen) / ((seen[-1][1] - seen[0][0]) / 1e9)


async def latency(gateway: RunningGateway, chunks: int) -> None:
    """One stream beside the pipe, then many streams at once."""
    text = f"{chunks} {PACE_MILLISECONDS}"
    async with Pipe() as pipe:
        bare = milliseconds(await pipe.prompt(text))
    one = milliseconds(await streamed(gateway, "latency", text))
    row("latency, bare pipe, 1 stream (ms p50 p99)", percentiles(bare))
    row("latency, gateway, 1 stream", percentiles(one), ratio(one, bare))
    names = [f"many-{number}" for number in range(STREAMS)]
    await asyncio.gather(*(streamed(gateway, name, "1 0") for name in names))
    every = await asyncio.gather(
        *(streamed(gateway, name, f"{chunks // 2} {PACE_MILLISECONDS}") for name in names)
    )
    many = [value for seen in every for value in milliseconds(seen)]
    row(f"latency, gateway, {STREAMS} streams", percentiles(many), ratio(many, bare))
    for name in [*names, "latency"]:
        await gateway.delete(name)


def ratio(ours: Sequence[float], bare: Sequence[float]) -> str:
    """Of the medians."""
    return f"{statistics.median(ours) / statistics.median(bare):.1f} x the bare pipe's p50"


async def throughput(gateway: RunningGateway, chunks: int) -> None:
    """As fast as one stream goes."""
    async with Pipe() as pipe:
        bare = rate(await pipe.prompt(f"{chunks} 0"))
    ours = rate(await streamed(gateway, "flood", f"{chunks} 0"))
    row("events a second, bare pipe, 1 stream", f"{bare:,.0f}")
    row("events a second, gateway, 1 stream", f"{ours:,.0f}", f"{ours / bare:.2f} x the bare pipe")
    await gateway.delete("flood")


class Starts(Struct, frozen=True):
    """Milliseconds of so many starts each."""

    bare: list[float]
    from_spare: list[float]
    without_spare: list[float]


async def starts(gateway: RunningGateway, count: int) -> Starts:
    """From the request to the first word, the built-in agent's and the bare one's."""
    bare = []
    for _ in range(count):
        async with Pipe() as pipe:
            await pipe.prompt("1 0")
            bare.append((time.monotonic() - pipe.began) * 1000)
    row("session start, bare process (ms p50 p99)", percentiles(bare))
    from_spare, whole = await first_words(gateway, count, spares=1)
    name = "session start, gateway, from a spare"
    row(f"{name}, to first word", percentiles(from_spare), ratio(from_spare, bare).replace("pipe", "process"))
    row(f"{name}, to the turn's end", percentiles(whole))
    with tempfile.TemporaryDirectory() as directory:
        config = LIMITS + "[workers]\nspares = 0\n"
        async with running_gateway(pathlib.Path(directory), config=config) as without:
            await without.chat("warm", "/echo hi")
            first, whole = await first_words(without, count, spares=0)
    name = "session start, gateway, without spares"
    row(f"{name}, to first word", percentiles(first), ratio(first, bare).replace("pipe", "process"))
    row(f"{name}, to the turn's end", percentiles(whole))
    return Starts(bare, from_spare, first)


async def first_words(gateway: RunningGateway, count: int, *, spares: int) -> tuple[list[float], list[float]]:
    """`first_turn` of some sessions; each begins when so many spares are free."""
    first, whole = [], []
    for number in range(count):
        while (await scrape(gateway)).value("spares", agent="built-in") < spares:
            await asyncio.sleep(0.02)
        to_word, to_end = await first_turn(gateway, f"start-{number}")
        first.append(to_word)
        whole.append(to_end)
    return first, whole


async def first_turn(gateway: RunningGateway, name: str) -> tuple[float, float]:
    """Milliseconds from the request to the first word of a new session, and to the end of its turn."""
    async with open_stream(gateway.http, name) as stream:
        began = time.monotonic()
        await gateway.post("/api/chat", {"message": "/echo hi", "session_id": name})
        await stream.until_event("text_delta")
        first = (time.monotonic() - began) * 1000
        await stream.until_event("turn_ended")
        return first, (time.monotonic() - began) * 1000


async def memory(gateway: RunningGateway, count: int) -> None:
    """Of the live sessions that `starts` left, after some turns each."""
    for number in range(count):
        for _ in range(3):
            await gateway.chat(f"start-{number}", "/echo hello again")
    workers = [pss(process) for process in gateway.workers()]
    mine = pss(psutil.Process(gateway.pid))
    row("memory, gateway (MB PSS)", f"{mine / 1e6:.1f}")
    row(f"memory a live session, {count} of them (MB PSS)", f"{sum(workers) / count / 1e6:.2f}")


def pss(process: psutil.Process) -> int:
    """Proportional set size: shared pages are shared out."""
    return int(process.memory_full_info().pss)


async def run(*, is_quick: bool) -> None:
    """All rows."""
    agent = (
        f"[agents.stamp]\ncommand = {list(AGENT)!r}\nreadable = ['{ROOT}']\n"
        f"[agents.stamp.env]\nPYTHONPATH = '{ROOT}'\n"
    )
    with tempfile.TemporaryDirectory() as directory:
        async with running_gateway(pathlib.Path(directory), config=LIMITS + agent) as gateway:
            print(
                f"{psutil.cpu_count()} CPUs, Python {sys.version.split()[0]}; write to read, one run",
                flush=True,
            )
            await latency(gateway, 40 if is_quick else 200)
            await throughput(gateway, 5_000 if is_quick else 50_000)
            await starts(gateway, 10 if is_quick else 50)
            await memory(gateway, 10 if is_quick else 50)


def main() -> Any:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    asyncio.run(run(is_quick=parser.parse_args().quick))


if __name__ == "__main__":
    main()
