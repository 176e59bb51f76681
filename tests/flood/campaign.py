"""One worker floods its doors; what its neighbours feel of that, and whether anything is lost or left.

There are three floods: connections (and a hoard of them that say nothing), names, and bytes. Windows take
turns, so that a busy machine is as busy in each of them: a neighbour alone; beside each flood through the
doors of another worker; and beside a part of the same flood, as fast, from a worker that shares the machine's
network, which shows what the same load does to a neighbour without any door.

The doors are in this process. The hosts and the workers are processes of their own. The host of the flood
stands for another machine: in the long form it has only the time that nobody else wants (SCHED_IDLE, and a
control group that is idle if one can be made), because what it needs of this machine is no harm of the
product's. The neighbour has a host of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import pathlib
import resource
import shutil
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from typing import Any, Final

from msgspec import Struct

from gateway.egress.bulk import Bulk
from gateway.egress.door import WorkerDoor
from gateway.egress.pace import Crowd
from gateway.egress.routes import RouteAnswer, RouteRequest
from tests.doors import LISTED, Rules, serve, spawn
from tests.walls import PYTHON, Inmate, Yard, yard
from worker.forkserver import hierarchies, tree
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
CONTROL_PART: Final = 2
"""A control takes half of the time."""
NAME_SERVER: Final = ("8.8.8.8", 53)
"""Any address: at a door, every one is the door's."""
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
        is_far: bool = True,
    ) -> None:
        """`connections`, `names` and `megabytes` in all rounds together; a window alone takes so many
        `seconds`. No round begins that would end later than `limit` seconds after the first.
        `is_far`: the host of the flood gets only the time that nobody else wants.
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
        self.waited: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)
        """Seconds that a process was ready and did not run, and how often it ran, by window and name."""
        self._rounds, self._alone, self._limit, self._is_far = rounds, seconds, limit, is_far
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
        self._watched: dict[str, list[int]] = {}
        """Processes whose waiting is noted, by name."""

    async def run(self) -> None:
        """All rounds."""
        async with yard("strict") as here, contextlib.AsyncExitStack() as hosts:
            program = str(shutil.copy(PROGRAM, here.root))
            near = await hosts.enter_async_context(_host(program, is_elsewhere=False))
            far = await hosts.enter_async_context(_host(program, is_elsewhere=self._is_far))
            files = len(os.listdir("/proc/self/fd"))
            await self._rounds_of(here, program, near, far)
            self._note_left(files)

    def _note_left(self, before: int) -> None:
        if left := len(os.listdir("/proc/self/fd")) - before:
            self.faults.append(f"{left} descriptors are left")

    async def _rounds_of(self, here: Yard, program: str, near_host: Host, far_host: Host) -> None:
        words = (PYTHON, "-S", program)
        direct = dict.fromkeys(THROUGH_DOORS, ("127.0.0.1", far_host.port))
        direct.pop("tls")
        async with (
            await spawn(
                here, *words, "neighbour", json.dumps(NEIGHBOUR), readable=(program,), ports=(PORT,)
            ) as near,
            await spawn(here, *words, "flood", readable=(program,), ports=(PORT,)) as far,
            await here.spawn(*words, "flood", network="shared") as beside,
        ):
            crowd, bulk = Crowd(), Bulk()
            serve(near, _rules(near_host), routes=says, crowd=crowd, bulk=bulk)
            door = serve(far, _rules(far_host), routes=says, crowd=crowd, bulk=bulk)
            self._watched = {
                "the gateway": [os.getpid()],
                "the neighbour": tree.descendants(near.worker.pid),
                "its host": [near_host.pid],
                "the flood": tree.descendants(far.worker.pid),
            }
            began, took = time.monotonic(), 0.0
            for _ in range(self._rounds):
                if (passed := time.monotonic() - began) + took > self._limit:
                    break
                await self._window("alone", near)
                for flood, order in self._orders.items():
                    doors = {**order, "doors": THROUGH_DOORS, "name_server": NAME_SERVER, "seconds": 0.0}
                    seconds = await self._window(flood, near, far, doors)
                    control = {**order, "doors": direct, "name_server": ("127.0.0.1", far_host.name_port)}
                    await self._window(flood + CONTROL, near, beside, _part(control, seconds))
                    await self._is_empty(door)
                took = time.monotonic() - began - passed
            if not self.counts["bytes"]:
                self.faults.append("nothing was downloaded")

    async def _window(
        self, window: str, near: Inmate, far: Inmate | None = None, order: dict[str, Any] | None = None
    ) -> float:
        """The neighbour asks for its time, or as long as the flood goes on; how long that was, in seconds."""
        began, cpu, flooding = time.monotonic(), _cpu(), None
        waits = {name: _waits(pid) for name, pid in self._watched.items()}
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
        for name, (waited, times) in waits.items():
            later, more = _waits(self._watched[name])
            self.waited[window, name].append((later - waited, more - times))
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
        host = "whose host has only the time that nobody else wants" if self._is_far else "with its host"
        lines = [f"p99 of a neighbour's requests, in ms, beside a flood {host}"]
        for flood in FLOODS:
            lines.append(f"{self._amount(flood)} in {self.seconds[flood]:.0f} s through one door")
            lines += [f"    {line}" for line in self._compared(flood)]
            lines += [f"    {kind:19s} {self._of_kind(flood, kind)}" for kind in NEIGHBOUR]
        for window, seconds in self.seconds.items():
            takes = f"the gateway takes {self.used[window] / seconds:6.1%} of a processor"
            waits = ", ".join(f"{name} {self._mean_wait(window, name)}" for name in self._watched)
            lines.append(f"    {window:22s} {takes}; waits for one: {waits}")
        return "\n".join(lines)

    def _mean_wait(self, window: str, name: str) -> str:
        """How long a process that is ready waits for a processor, each time."""
        seconds, times = map(sum, zip(*self.waited[window, name], strict=True))
        return f"{seconds / max(1, times) * 1e6:.0f} us"

    def _amount(self, flood: str) -> str:
        counts = self.counts
        match flood:
            case "connections":
                return f"{counts['served'] + counts['cut']:,} connections ({counts['cut']:,} cut)"
            case "names":
                return f"{counts['names'] // ASKED_AGAIN:,} names, {ASKED_AGAIN} times"
            case _:
                return f"{counts['bytes'] / 1e9:.1f} GB"

    def _compared(self, flood: str) -> list[str]:
        """All kinds of requests together: what the flood adds, what the same load adds without doors, and
        what is left of the one beside the other.
        """
        alone, control, here = (self._high(window) for window in ("alone", flood + CONTROL, flood))
        load = f"same load without doors {control * 1e3:.2f} ({control / alone - 1:+.0%})"
        return [
            f"alone {alone * 1e3:.2f}, {load}, flood {here * 1e3:.2f}",
            f"the flood beside alone {self._judged(flood, 'alone')}",
            f"the doors: the flood beside the same load without doors {self._judged(flood, flood + CONTROL)}",
        ]

    def _judged(self, flood: str, other: str) -> str:
        """Over all rounds together, and in the middle one."""
        more = self._high(flood) / self._high(other) - 1
        pairs = zip(self.highs[flood], self.highs[other], strict=True)
        middle = statistics.median(here / there for here, there in pairs) - 1
        rounds, verdict = len(self.highs[flood]), "met" if more <= AIM else "not met"
        return f"{more:+.0%} (median of {rounds} rounds {middle:+.0%}; aim {AIM:+.0%}: {verdict})"

    def _high(self, window: str) -> float:
        return _percentile([one for kind in NEIGHBOUR for one in self.took[window, kind]], 0.99)

    def _of_kind(self, flood: str, kind: str) -> str:
        alone, here = self.took["alone", kind], self.took[flood, kind]
        middle, high = ((_percentile(alone, part), _percentile(here, part)) for part in (0.5, 0.99))
        shown = "  ".join(
            f"{name} {one * 1e3:7.3f} → {other * 1e3:7.3f} ms {other / one - 1:+5.0%}"
            for name, (one, other) in (("p50", middle), ("p99", high))
            if one
        )
        return f"{shown}  n {len(here)}"


class Host(Struct, frozen=True):
    """Where a listed host is in this test."""

    pid: int
    port: int
    name_port: int


@contextlib.asynccontextmanager
async def _host(program: str, *, is_elsewhere: bool) -> AsyncIterator[Host]:
    """Runs one until the block is left; `is_elsewhere`: as if on another machine."""
    words = (PYTHON, program, "upstream", *(("idle",) if is_elsewhere else ()))
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    group = _idle_group(process.pid) if is_elsewhere else None
    try:
        yield Host(process.pid, *json.loads(await process.stdout.readline()))
    finally:
        process.kill()
        await process.wait()
        if group is not None:
            group.rmdir()


def _idle_group(pid: int) -> pathlib.Path | None:
    """A control group for a process that runs only when nothing else wants to; None where none can be made:
    there SCHED_IDLE holds only among the processes of its own group, or session (sched(7), autogroups).
    """
    own, mounts = hierarchies.read("/proc/self/cgroup"), hierarchies.read("/proc/self/mountinfo")
    for found in hierarchies.find(own, mounts, wanted=("cpu",)):
        group = pathlib.Path(found.own, f"flood-host-{pid}")
        with contextlib.suppress(OSError):
            group.mkdir()
            try:
                (group / "cpu.idle").write_text("1")
                (group / hierarchies.PROCS).write_text(str(pid))
            except OSError:
                group.rmdir()
            else:
                return group
    return None


def _rules(host: Host) -> Rules:
    rules = Rules()
    for port in (80, PORT):
        rules.allow(LISTED, port, at=host.port)
    return rules


def _part(order: dict[str, Any], seconds: float) -> dict[str, Any]:
    """A part of a flood, as fast."""
    return {
        **order,
        "connections": order["connections"] // THREADS // CONTROL_PART * THREADS,
        "names": order["names"] // CONTROL_PART,
        "size": order["size"] // CONTROL_PART,
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


def _waits(pids: list[int]) -> tuple[float, int]:
    """Seconds that the threads of processes were ready and did not run, and how often they ran: schedstat in
    proc(5).
    """
    seconds, times = 0.0, 0
    for file in (file for pid in pids for file in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat")):
        with contextlib.suppress(OSError):
            _, waited, ran = map(int, file.read_text().split())
            seconds, times = seconds + waited / 1e9, times + ran
    return seconds, times
