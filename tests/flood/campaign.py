"""One worker floods its doors; what its neighbours feel of that, and whether anything is lost or left.

Windows take turns, so that a busy machine is as busy in each of them: a neighbour alone; beside a flood
through the doors of another worker; and beside the same transfers and connections without doors, spread over
the same time, which shows what the machine itself does to it. The host and all clients are processes of their
own; the doors are in this one.
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import resource
import shutil
import time
from collections import Counter, defaultdict
from typing import Any, Final

from gateway.egress.door import WorkerDoor
from gateway.egress.pace import Crowd
from gateway.egress.routes import RouteAnswer, RouteRequest
from tests.doors import LISTED, Rules, serve, spawn
from tests.walls import PYTHON, Inmate, Yard, yard
from worker.spec import DOOR_PORT, MIB

PROGRAM: Final = pathlib.Path(__file__).with_name("inside.py")
PORT: Final = 5432
"""Listed besides 80 and 443."""
OWN: Final = ("127.0.0.1", DOOR_PORT)
DOWNLOADS: Final = 8
HOARD: Final = 300
"""Connections without a word: more than a worker may have."""
THREADS: Final = 24
WINDOWS: Final = ("alone", "flood", "no doors")
NEIGHBOUR: Final = {
    "kept route": OWN,
    "kept, its own port": (LISTED, PORT),
    "new, its own port": (LISTED, PORT),
    "new, port 80": (LISTED, 80),
}
THROUGH_DOORS: Final = {
    "own": OWN,
    "http": (LISTED, 80),
    "tls": (LISTED, 443),
    "further": (LISTED, PORT),
    "download": (LISTED, PORT),
}
LOOK_SECONDS: Final = 0.5


async def says(request: RouteRequest, answer: RouteAnswer) -> None:
    """A route of the gateway."""
    answer.start(200, [("content-length", "512")])
    await answer.write(bytes(512))


class Flood:
    """See the module: `run`, then `table` and `faults`."""

    def __init__(self, *, rounds: int, connections: int, names: int, megabytes: int, seconds: float) -> None:
        """`connections`, `names` and `megabytes` in all rounds together; a window alone takes so many
        `seconds`.
        """
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self.took: dict[tuple[str, str], list[float]] = defaultdict(list)
        """Seconds of a neighbour's requests, by window and kind."""
        self.seconds: dict[str, float] = defaultdict(float)
        self.used: dict[str, float] = defaultdict(float)
        """CPU seconds of this process."""
        self._rounds, self._alone = rounds, seconds
        self._order = {
            "connections": -(-connections // rounds // THREADS) * THREADS,
            "names": names // rounds,
            "downloads": DOWNLOADS,
            "size": megabytes * MIB // rounds // DOWNLOADS,
            "hoard": HOARD,
            "threads": THREADS,
        }
        self._names = 0

    async def run(self) -> None:
        """All rounds."""
        async with yard("strict") as here:
            program = str(shutil.copy(PROGRAM, here.root))
            upstream = await asyncio.create_subprocess_exec(
                PYTHON, program, "upstream", stdout=asyncio.subprocess.PIPE
            )
            assert upstream.stdout is not None
            at, files = int(await upstream.stdout.readline()), len(os.listdir("/proc/self/fd"))
            try:
                await self._rounds_of(here, program, at)
                self._note_left(files)
            finally:
                upstream.kill()
                await upstream.wait()

    def _note_left(self, before: int) -> None:
        if left := len(os.listdir("/proc/self/fd")) - before:
            self.faults.append(f"{left} descriptors are left")

    async def _rounds_of(self, here: Yard, program: str, at: int) -> None:
        rules = Rules()
        for port in (80, PORT):
            rules.allow(LISTED, port, at=at)
        direct = dict.fromkeys(THROUGH_DOORS, ("127.0.0.1", at))
        direct.pop("tls")
        words = (PYTHON, "-S", program)
        async with (
            await spawn(
                here, *words, "neighbour", json.dumps(NEIGHBOUR), readable=(program,), ports=(PORT,)
            ) as near,
            await spawn(here, *words, "flood", readable=(program,), ports=(PORT,)) as far,
            await here.spawn(*words, "flood", network="shared") as beside,
        ):
            crowd = Crowd()
            serve(near, rules, routes=says, crowd=crowd)
            door = serve(far, rules, routes=says, crowd=crowd)
            for _ in range(self._rounds):
                await self._window("alone", near)
                order = {**self._order, "doors": THROUGH_DOORS, "seconds": 0.0}
                took = await self._window("flood", near, far, order)
                order = {**self._order, "doors": direct, "names": 0, "seconds": took}
                await self._window("no doors", near, beside, order)
                await self._is_empty(door)
            if not self.counts["bytes"]:
                self.faults.append("nothing was downloaded")

    async def _window(
        self, window: str, near: Inmate, far: Inmate | None = None, order: dict[str, Any] | None = None
    ) -> float:
        """The neighbour asks for its time, or as long as the flood goes on; how long that was, in seconds."""
        began, cpu, flooding = time.monotonic(), _cpu(), None
        if far is not None and order is not None:
            flooding = asyncio.create_task(_answered(far, {**order, "first_name": self._names}))
            self._names += order["names"]
        while not flooding.done() if flooding is not None else time.monotonic() - began < self._alone:
            said = await _answered(near, {"seconds": min(LOOK_SECONDS, self._alone)})
            self.faults += [f"{window}: {one}" for one in said["failed"]]
            for kind, took in said["took"].items():
                self.took[window, kind] += took
        seconds = time.monotonic() - began
        self.seconds[window] += seconds
        self.used[window] += _cpu() - cpu
        if flooding is not None and order is not None:
            self._count(window, flooding.result(), order)
        return seconds

    def _count(self, window: str, counts: dict[str, int], order: dict[str, Any]) -> None:
        if window == "flood":
            self.counts += Counter(counts)
        wanted = {"bytes": order["downloads"] * order["size"], "names": order["names"]}
        ended = sum(counts.get(how, 0) for how in ("served", "cut"))
        if ended != order["connections"] or any(counts.get(what, 0) != much for what, much in wanted.items()):
            self.faults.append(f"{window}: of {order['connections']} connections and {wanted} came {counts}")

    async def _is_empty(self, door: WorkerDoor) -> None:
        end = time.monotonic() + 20
        while door.connections and time.monotonic() < end:
            await asyncio.sleep(0.02)
        if door.connections:
            self.faults.append(f"{door.connections} connections are left after the flood")

    # -- its figures ------------------------------------------------------------------------------------

    def table(self) -> str:
        """What was seen, and how many times as long the neighbour waits."""
        counts, size = self.counts, self.counts["bytes"] / 1e9
        connections = f"{counts['served']} connections served, {counts['cut']} cut"
        through = f"{connections}, {counts['names']} names, {size:.1f} GB in {self.seconds['flood']:.0f} s"
        lines = [f"  through one door: {through}"]
        for window in WINDOWS:
            share = self.used[window] / self.seconds[window]
            lines.append(f"  {window:9s} the gateway takes {share:6.1%} of a processor")
        for kind in NEIGHBOUR:
            highs = {window: _percentile(self.took[window, kind], 0.99) for window in WINDOWS}
            for window, high in highs.items():
                took = self.took[window, kind]
                figures = (
                    f"p50 {_percentile(took, 0.5) * 1e3:7.3f} ms  p99 {high * 1e3:7.3f} ms  n {len(took):6}"
                )
                lines.append(f"  {kind:19s} {window:9s} {figures}")
            more = [
                f"{highs['flood'] / highs[window] - 1:+.0%} to {window}" for window in ("alone", "no doors")
            ]
            lines.append(f"  {kind:19s} p99 of the flood: {', '.join(more)}")
        return "\n".join(lines)


async def _answered(inmate: Inmate, order: dict[str, Any]) -> dict[str, Any]:
    inmate.send(json.dumps(order).encode() + b"\n")
    line = await inmate.read_line(seconds=600)
    if not line.startswith("{"):
        raise AssertionError(line + inmate.worker.stderr_tail())
    said: dict[str, Any] = json.loads(line)
    return said


def _percentile(values: list[float], part: float) -> float:
    return sorted(values)[int(len(values) * part)] if values else 0.0


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
