"""One worker floods its doors; what its neighbours feel of that, and whether anything is lost or left.

There are three floods: connections (and a hoard of them that say nothing), names, and bytes. Windows take
turns, so that a busy machine is as busy in each of them: a neighbour alone; beside each flood through the
doors of another worker; and, with `controls`, beside a quarter of the same transfers and connections without
doors, in a quarter of the time, which shows what the machine itself does to it. The host and all clients are
processes of their own; the doors are in this one.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import pathlib
import resource
import shutil
import statistics
import time
from collections import Counter, defaultdict
from typing import Any, Final

from gateway.egress.bulk import Bulk
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
FLOODS: Final = ("connections", "names", "bytes")
CONTROL: Final = ", no doors"
"""Of a window: the same without doors."""
CONTROL_PART: Final = 4
"""A control takes a quarter of the time."""
ASKED_AGAIN: Final = 20
"""A thousand names are a moment; the flood asks for them so many times."""
AIM: Final = 0.2
"""How much longer a neighbour may wait."""
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

    def __init__(
        self,
        *,
        rounds: int,
        connections: int,
        names: int,
        megabytes: int,
        seconds: float,
        limit: float = math.inf,
        controls: bool = False,
    ) -> None:
        """`connections`, `names` and `megabytes` in all rounds together; a window alone takes so many
        `seconds`. No round begins that would end later than `limit` seconds after the first.
        """
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self.took: dict[tuple[str, str], list[float]] = defaultdict(list)
        """Seconds of a neighbour's requests, by window and kind."""
        self.highs: dict[str, list[float]] = defaultdict(list)
        """The p99 of all kinds together in each round, by window."""
        self.seconds: dict[str, float] = defaultdict(float)
        self.used: dict[str, float] = defaultdict(float)
        """CPU seconds of this process."""
        self._rounds, self._alone, self._limit, self._controls = rounds, seconds, limit, controls
        nothing = {"connections": 0, "names": 0, "times": 0, "downloads": 0, "size": 0, "hoard": 0}
        nothing["threads"] = THREADS
        in_each = {
            "connections": {
                "connections": -(-connections // rounds // THREADS) * THREADS,
                "hoard": HOARD,
            },
            "names": {"names": names // rounds, "times": ASKED_AGAIN},
            "bytes": {"downloads": DOWNLOADS, "size": megabytes * MIB // rounds // DOWNLOADS},
        }
        self._orders = {flood: nothing | order for flood, order in in_each.items()}
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
            crowd, bulk = Crowd(), Bulk()
            serve(near, rules, routes=says, crowd=crowd, bulk=bulk)
            door = serve(far, rules, routes=says, crowd=crowd, bulk=bulk)
            began, took = time.monotonic(), 0.0
            for _ in range(self._rounds):
                if (passed := time.monotonic() - began) + took > self._limit:
                    break
                await self._window("alone", near)
                for flood, order in self._orders.items():
                    doors = {**order, "doors": THROUGH_DOORS, "seconds": 0.0}
                    seconds = await self._window(flood, near, far, doors)
                    if self._controls and flood != "names":
                        await self._window(flood + CONTROL, near, beside, _part(order, direct, seconds))
                    await self._is_empty(door)
                took = time.monotonic() - began - passed
            if not self.counts["bytes"]:
                self.faults.append("nothing was downloaded")

    async def _window(
        self, window: str, near: Inmate, far: Inmate | None = None, order: dict[str, Any] | None = None
    ) -> float:
        """The neighbour asks for its time, or as long as the flood goes on; how long that was, in seconds."""
        began, cpu, flooding = time.monotonic(), _cpu(), None
        of_round: list[float] = []
        if far is not None and order is not None:
            flooding = asyncio.create_task(_answered(far, {**order, "first_name": self._names}))
            self._names += order["names"]
        while not flooding.done() if flooding is not None else time.monotonic() - began < self._alone:
            said = await _answered(near, {"seconds": min(LOOK_SECONDS, self._alone)})
            self.faults += [f"{window}: {one}" for one in said["failed"]]
            for kind, took in said["took"].items():
                self.took[window, kind] += took
                of_round += took
        self.highs[window].append(_percentile(of_round, 0.99))
        seconds = time.monotonic() - began
        self.seconds[window] += seconds
        self.used[window] += _cpu() - cpu
        if flooding is not None and order is not None:
            self._count(window, flooding.result(), order)
        return seconds

    def _count(self, window: str, counts: dict[str, int], order: dict[str, Any]) -> None:
        if window in FLOODS:
            self.counts += Counter(counts)
        wanted = {"bytes": order["downloads"] * order["size"], "names": order["names"] * order["times"]}
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
        """How much longer the neighbour waits in each flood, in all and by kind of its requests."""
        lines = []
        for flood in FLOODS:
            amount = f"{self._amount(flood)} in {self.seconds[flood]:.0f} s"
            lines.append(f"{amount} through one door: {self._compared(flood, 'alone')}")
            if self.highs[flood + CONTROL]:
                lines.append(f"    to the same without doors: {self._compared(flood, flood + CONTROL)}")
            lines += [f"    {kind:19s} {self._of_kind(flood, kind)}" for kind in NEIGHBOUR]
        for window, seconds in self.seconds.items():
            lines.append(
                f"    {window:22s} the gateway takes {self.used[window] / seconds:6.1%} of a processor"
            )
        return "\n".join(lines)

    def _amount(self, flood: str) -> str:
        counts = self.counts
        match flood:
            case "connections":
                return f"{counts['served'] + counts['cut']:,} connections ({counts['cut']:,} cut)"
            case "names":
                return f"{counts['names'] // ASKED_AGAIN:,} names, {ASKED_AGAIN} times"
            case _:
                return f"{counts['bytes'] / 1e9:.1f} GB"

    def _compared(self, flood: str, other: str) -> str:
        """All kinds of requests together."""
        here, there = (
            _percentile([one for kind in NEIGHBOUR for one in self.took[window, kind]], 0.99)
            for window in (flood, other)
        )
        of_rounds = statistics.median(
            one / beside for one, beside in zip(self.highs[flood], self.highs[other], strict=True)
        )
        more = f"{here / there - 1:+.0%} (median of {len(self.highs[flood])} rounds {of_rounds - 1:+.0%}"
        return (
            f"neighbours' p99 {there * 1e3:.2f} ms {other.partition(', ')[2] or other}, "
            f"{here * 1e3:.2f} ms in the flood, {more}; aim {AIM:+.0%})"
        )

    def _of_kind(self, flood: str, kind: str) -> str:
        alone, here = self.took["alone", kind], self.took[flood, kind]
        middle, high = ((_percentile(alone, part), _percentile(here, part)) for part in (0.5, 0.99))
        shown = "  ".join(
            f"{name} {one * 1e3:7.3f} → {other * 1e3:7.3f} ms {other / one - 1:+5.0%}"
            for name, (one, other) in (("p50", middle), ("p99", high))
            if one
        )
        return f"{shown}  n {len(here)}"


def _part(order: dict[str, Any], direct: dict[str, Any], seconds: float) -> dict[str, Any]:
    """A quarter of a flood without doors."""
    return {
        **order,
        "connections": order["connections"] // THREADS // CONTROL_PART * THREADS,
        "size": order["size"] // CONTROL_PART,
        "doors": direct,
        "seconds": seconds / CONTROL_PART,
    }


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
