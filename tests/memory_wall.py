"""The campaign at the memory wall: a gateway in a small memory control group of its own, with agents that
together want more than there is, beside a stranger who eats too.

    python -m tests.memory_wall --sessions 40 --rounds 12 --seconds 300

Checked: every message has a turn that ended, in its session; no session is lost; the gateway lives on as the
process that it was; the line is empty at the end. A stranger who takes the last memory while all agents work
may cost one of them its turn: the kernel ends it, and its user reads why. Bounded by `--seconds`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator

from msgspec import Struct

from tests.gateways import RunningGateway, Scenario, running_gateway
from tests.patience import within
from tests.scrapes import scrape
from worker.forkserver import hierarchies

MB = 1_000_000
EATS = 40 * MB
GROUP = 230 * MB
STRANGER = 40 * MB
"""What something else in the group takes, now and then."""
CONFIG = """
[sessions]
stop_grace_seconds = 0.2
[limits]
session_requests_per_second = 10000
session_burst = 10000
address_requests_per_second = 1000000
address_burst = 1000000
"""
FULL_EATER = {
    "about": "Takes memory with its first prompt and keeps it.",
    "load": {},
    "turns": [[{"eat": EATS}, {"sleep": 60}, {"say": "$PROMPT"}], [{"sleep": 60}, {"say": "$PROMPT"}]],
    "repeat": False,
}
"""What admission finds room for: a worker counts with all that it will take until it has run a turn. One that
takes as much again in a later turn, at the same time as others, may cost one of them its turn.
"""
EATER = {
    "about": "Takes memory with each prompt and keeps it.",
    "load": {},
    "turns": [[{"eat": EATS}, {"sleep": 60}, {"say": "$PROMPT"}]],
    "repeat": True,
}


class WallFigures(Struct):
    """What came of it."""

    messages: int = 0
    answered: int = 0
    failed: int = 0
    """Turns that ended with an error."""
    lost: int = 0
    """Sessions whose answers are not exactly those to their messages."""
    gateway_deaths: int = 0
    waited_for_memory: int = 0
    """Messages whose answer at once said that memory is short."""
    parked: int = 0
    killed: int = 0
    """Workers that the kernel ended."""
    left_in_line: int = 0
    seconds: float = 0.0


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[tuple[str, ...]]:
    """The command that runs another in a control group of this size below our own. Raises OSError if this
    machine gives none.
    """
    parent = _own()
    place = parent / f"memory-wall-{os.getpid()}"
    place.mkdir()
    try:
        name = "memory.max" if (place / "memory.max").exists() else "memory.limit_in_bytes"
        (place / name).write_text(str(limit_bytes))
        for swap in ("memory.swap.max", "memory.memsw.limit_in_bytes"):
            with contextlib.suppress(OSError):
                if (place / swap).exists():
                    (place / swap).write_text("0" if swap == "memory.swap.max" else str(limit_bytes))
        yield ("/bin/sh", "-c", f'echo $$ > {place}/cgroup.procs; exec "$@"', "sh")
    finally:
        place.rmdir()


def _own() -> pathlib.Path:
    groups, mounts = (pathlib.Path(f"/proc/self/{name}").read_text() for name in ("cgroup", "mountinfo"))
    for hierarchy in hierarchies.find(groups, mounts, wanted=("memory",)):
        return pathlib.Path(hierarchy.own)
    raise FileNotFoundError("no control group that counts memory")


async def meet(
    *,
    sessions: int,
    rounds: int,
    seconds: float,
    admission: bool = True,
    stranger: bool = True,
    eater: Scenario = EATER,
) -> WallFigures:
    """Runs it once. Raises OSError if there can be no such group here, TimeoutError if it takes too long."""
    figures, began = WallFigures(), time.monotonic()
    table = "" if admission else "[memory]\nadmission = false\n"
    with memory_group(GROUP) as enter, tempfile.TemporaryDirectory() as directory:
        async with running_gateway(
            pathlib.Path(directory), config=CONFIG + table, agents={"eater": eater}, prefix=enter
        ) as gateway:
            names = [f"s{number}" for number in range(sessions)]
            for name in names:
                body = {"session_id": name, "agent": "eater"}
                await gateway.post("/api/sessions", body, status=201)
            async with within(seconds), _stranger(enter) if stranger else contextlib.nullcontext():
                await asyncio.gather(*(_talk(gateway, name, rounds, figures) for name in names))
            figures.gateway_deaths = int(gateway.process.returncode is not None)
            for name in names:
                figures.lost += not await _is_whole(gateway, name, rounds)
            found = await scrape(gateway)
            figures.parked = round(found.value("memory_parked_total"))
            figures.left_in_line = round(found.value("turns_waiting"))
            figures.killed = round(found.value("worker_ends_total", reason="limit_exceeded"))
    figures.seconds = round(time.monotonic() - began, 1)
    return figures


async def _talk(gateway: RunningGateway, name: str, rounds: int, figures: WallFigures) -> None:
    for number in range(rounds):
        state = await gateway.send(name, f"{name} {number}")
        figures.messages += 1
        figures.waited_for_memory += state.get("start_short_of") == "memory"
        while state["is_processing"]:
            await asyncio.sleep(0.05)
            state = await gateway.state(name)
        last = state["messages"][-1]
        is_answer = (last["sender"], last["content"]) == ("agent", f"{name} {number}")
        figures.answered += is_answer
        figures.failed += not is_answer
        await asyncio.sleep(random.random() * 0.2)


async def _is_whole(gateway: RunningGateway, name: str, rounds: int) -> bool:
    said = [m["content"] for m in (await gateway.state(name))["messages"] if m["sender"] == "user"]
    return said == [f"{name} {number}" for number in range(rounds)]


@contextlib.asynccontextmanager
async def _stranger(enter: tuple[str, ...]) -> AsyncIterator[None]:
    """Something else that takes memory and gives it back, again and again."""
    program = f"import time\nwhile True:\n x = b'x' * {STRANGER}; time.sleep(0.5); x = b''; time.sleep(0.5)"
    process = await asyncio.create_subprocess_exec(
        *enter, sys.executable, "-I", "-S", "-c", program, stdin=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def main() -> None:
    """Prints the figures; exit code 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.memory_wall", description=__doc__)
    parser.add_argument("--sessions", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--without", action="store_true", help="the same without admission by memory")
    asked = parser.parse_args()
    run = meet(
        sessions=asked.sessions, rounds=asked.rounds, seconds=asked.seconds, admission=not asked.without
    )
    figures = asyncio.run(run)
    for name in figures.__struct_fields__:
        sys.stdout.write(f"  {name:20s} {getattr(figures, name)}\n")
    is_bad = figures.lost or figures.gateway_deaths or figures.left_in_line
    is_bad = is_bad or figures.failed > figures.killed
    sys.exit(1 if is_bad else 0)


if __name__ == "__main__":
    main()
