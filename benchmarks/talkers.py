"""What agents that say too much cost the gateway in memory: `python -m benchmarks.talkers [KIND …]`.

For each kind of talker (tests/hostile/talker.py), in a gateway of its own: resident memory of the gateway
before, how far above that it was at its highest while one of them talked and while twenty did, and what was
left five seconds after their sessions were deleted; MiB. The table ends with the highest of each column, and
names what missed its bound. `--again`: twenty talk twice, as what only the first time leaves is no leak.
`--parts`: what was left is split into memory of its own (RssAnon), files such as libraries (RssFile), and
shared memory (RssShmem). `--turns N`: so many turns a session (3). `--json FILE` keeps the figures of each
kind as soon as it has them; the table has those, too, that the file had before, and with `--show` nothing is
measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pathlib
import sys
import tempfile
from typing import Final

import msgspec
from msgspec import Struct

from tests.gateways import RunningGateway, running_gateway

TALKER: Final = pathlib.Path(__file__).parent.parent / "tests" / "hostile" / "talker.py"
KINDS: Final = {
    "text": "text 80 15",
    "emoji": "emoji 4 15",
    "escapes": "escapes 4 15",
    "halves": "halves 4 15",
    "words": "words 300000 0",
    "image": "image 12 15",
    "tool": "tool 12 15",
    "tools": "tools 100000 0",
    "title": "title 8 15",
    "id": "id 8 15",
    "unknown": "unknown 8 15",
    "odd": "odd 30 15",
    "numbers": "numbers 8 15",
    "members": "members 4 15",
    "plan": "plan 8 15",
    "request": "request 40 0.9",
    "error": "error 8 15",
    "meta": "meta 8 15",
    "permission": "permission 8 15",
    "thought": "thought 16 15",
    "diff": "diff 8 15",
    "commands": "commands 8 15",
    "options": "options 8 15",
    "mode": "mode 8 15",
    "usage": "usage 8 15",
    "form": "form 8 15",
    "question": "question 8 15",
    "stop": "stop 1 15",
    "stderr": "stderr 16 15",
}
NO_LOOP: Final = "[sessions]\ncrash_limit = 100\n"
MANY: Final = 20
AFTER_SECONDS: Final = 5
BOUNDS_MIB: Final = {1: 32.0, MANY: 128.0}
"""How far above the start memory may be while so many talk."""
LEFT_PERCENT: Final = 10.0
"""How much more than at the start may be left."""
PARTS: Final = ("RssAnon", "RssFile", "RssShmem")


class Round(Struct, frozen=True):
    """What so many sessions at once cost; MiB."""

    sessions: int
    start: float
    most: float
    """Above the start."""
    left: float
    parts: dict[str, float]
    """What was left, by kind of memory."""
    turns: int = 3
    """Of each session."""

    @property
    def left_percent(self) -> float:
        """Of the start."""
        return 100 * self.left / self.start

    @property
    def misses(self) -> list[str]:
        """Which of its bounds it did not keep."""
        missed = []
        if self.most > BOUNDS_MIB[self.sessions]:
            missed.append(f"{self.sessions} at once")
        if self.left_percent > LEFT_PERCENT:
            missed.append(f"left by {self.sessions}")
        return missed


def resident(pid: int, name: str = "VmRSS") -> float:
    """MiB of a process: `VmRSS` now, or one of its `PARTS`, `VmHWM` at most since `forget_peak`."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) / 1024


def forget_peak(pid: int) -> None:
    """The highest resident memory is counted from now on."""
    with open(f"/proc/{pid}/clear_refs", "w") as file:
        file.write("5")


async def talk(gateway: RunningGateway, name: str, prompt: str, *, turns: int) -> None:
    """A session whose agent talks for some turns, whatever comes of it; its person's connection is closed
    then, as an open one holds some memory of its own.
    """
    async with gateway.caller() as person:
        new = {"session_id": name, "agent": "talker"}
        async with person.post("/api/sessions", json=new) as response:
            assert response.status == 201, await response.text()
        for _ in range(turns):
            body = {"message": prompt, "session_id": name}
            async with person.post("/api/chat?wait=60", json=body) as response:
                if response.status != 200:
                    return


async def measure(gateway: RunningGateway, prompt: str, count: int, *, turns: int) -> Round:
    """How far above the start the highest was, and what was left."""
    start, parts = resident(gateway.pid), {part: resident(gateway.pid, part) for part in PARTS}
    forget_peak(gateway.pid)
    names = [f"talker-{number}" for number in range(count)]
    await asyncio.gather(*(talk(gateway, name, prompt, turns=turns) for name in names))
    peak = resident(gateway.pid, "VmHWM")
    for name in names:
        await gateway.delete(name)
    await asyncio.sleep(AFTER_SECONDS)
    left = resident(gateway.pid) - start
    grown = {part: resident(gateway.pid, part) - before for part, before in parts.items()}
    return Round(count, start, peak - start, left, grown, turns)


async def measured(prompt: str, counts: list[int], *, turns: int) -> list[Round]:
    """The rounds of a kind, in a gateway of their own that has had a short session."""
    command = json.dumps([sys.executable, "-I", str(TALKER)])
    agent = f'[agents.talker]\ncommand = {command}\nreadable = ["{TALKER.parent}"]\n'
    with tempfile.TemporaryDirectory() as folder:
        async with running_gateway(pathlib.Path(folder), config=agent + NO_LOOP) as gateway:
            await talk(gateway, "warm", "text 1 1", turns=1)
            await gateway.delete("warm")
            return [await measure(gateway, prompt, count, turns=turns) for count in counts]


def misses(rounds: list[Round]) -> list[str]:
    """What a kind missed."""
    return list(dict.fromkeys(missed for one in rounds for missed in one.misses))


def row(kind: str, rounds: list[Round], *, with_parts: bool) -> str:
    """A line of the table."""
    cells = "".join(f"  {one.most:10.1f} {one.left:+6.1f} ({one.left_percent:+3.0f} %)" for one in rounds)
    line = (
        f"{kind:10} {rounds[0].turns:5} {rounds[0].start:6.1f}{cells}   {'; '.join(misses(rounds)) or 'met'}"
    )
    if with_parts:
        line += "   " + " | ".join(" ".join(f"{one.parts[part]:+.1f}" for part in PARTS) for one in rounds)
    return line


def table(found: dict[str, list[Round]], *, with_parts: bool) -> str:
    """A line for each kind, the highest of each column, and what missed its bound."""
    columns = list(zip(*found.values(), strict=False))
    titles = "".join(f"  {f'most in {column[0].sessions}':>10} {'left':>14}" for column in columns)
    lines = [
        f"{'':10} {'turns':>5} {'start':>6}{titles}" + (f"   left: {' '.join(PARTS)}" if with_parts else "")
    ]
    lines += (row(kind, rounds, with_parts=with_parts) for kind, rounds in found.items())
    worst = "".join(
        f"  {max(one.most for one in column):10.1f} {max(one.left for one in column):+6.1f}"
        f" ({max(one.left_percent for one in column):+3.0f} %)"
        for column in columns
    )
    lines.append(f"{'highest':16} {max(rounds[0].start for rounds in found.values()):6.1f}{worst}")
    missed = [f"{kind}: {miss}" for kind, rounds in found.items() for miss in misses(rounds)]
    bounds = ", ".join(f"{bound:g} in {count}" for count, bound in BOUNDS_MIB.items())
    lines.append(f"bounds: {bounds}; left {LEFT_PERCENT:g} %. Missed: {', '.join(missed) or 'none'}")
    return "\n".join(lines)


def figures(kept: pathlib.Path | None) -> dict[str, list[Round]]:
    """What a file has of earlier runs."""
    if kept is None or not kept.exists():
        return {}
    return msgspec.json.decode(kept.read_bytes(), type=dict[str, list[Round]])


def keep(kept: pathlib.Path | None, found: dict[str, list[Round]]) -> None:
    """Writes it into the file, if there is one."""
    if kept is not None:
        kept.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))


async def main(options: argparse.Namespace) -> bool:
    """Measures, prints the table; whether every bound was kept."""
    counts = [1, MANY, MANY] if options.again else [1, MANY]
    kept: pathlib.Path | None = options.json
    found = figures(kept)
    for kind in () if options.show else options.kinds or KINDS:
        found[kind] = await measured(KINDS[kind], counts, turns=options.turns)
        print(
            row(kind, found[kind], with_parts=options.parts), f"  load {os.getloadavg()[0]:.0f}", flush=True
        )
        keep(kept, found)
    found = {kind: found[kind] for kind in KINDS if kind in found}
    print(table(found, with_parts=options.parts))
    return not any(misses(rounds) for rounds in found.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.talkers")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--again", action="store_true", help="twenty talk twice")
    parser.add_argument("--parts", action="store_true", help="say which kind of memory was left")
    parser.add_argument("--turns", type=int, default=3, help="of each session (3)")
    parser.add_argument("--json", type=pathlib.Path, help="where to keep the figures")
    parser.add_argument("--show", action="store_true", help="only the table of the figures of --json")
    sys.exit(0 if asyncio.run(main(parser.parse_args())) else 1)
