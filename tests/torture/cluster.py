"""The campaign with several gateways on one PostgreSQL: one after the other is killed with -9, or stands
still for a while; meanwhile people send each request to any of them. Then every history is checked, and
that no worker is left.

`python -m tests.torture.cluster --kills 100 --pauses 300` is the long form. With `--fence alone` nothing but
the fence in the writes keeps gateways from the sessions of others, and with `--fence off` not even that: then
the checkers must find something. `--rolling` is the campaign of orderly restarts instead (rolling.py),
`--keys 1000` that of idempotency keys sent to all gateways at once (keys.py).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import pathlib
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, Final

import psutil
from msgspec import Struct, field

from tests.aims import Aim, none_of, row
from tests.gateways import is_running
from tests.history import History, table
from tests.nodes import LEASE_SECONDS, Nodes, running_nodes
from tests.shared import crowding
from tests.torture import unfenced
from tests.torture.campaign import CONFIG, SETTLE_SECONDS, check_all, descendants, middle, worst
from tests.torture.clients import Broken, Talker, World
from tests.torture.keys import send_keys
from tests.torture.rolling import roll

PAUSE_SECONDS: Final = (0.1, 10.0)
"""How long a gateway stands still: many fall near the lease, as the logarithm is drawn evenly."""
ARRIVED_SECONDS: Final = 0.5
"""What a gateway sent before it stood still has come by then, and no other one has its sessions yet."""
DOWN_SECONDS: Final = (0.0, 2.5)
"""How long a killed gateway is away: less than a lease, or more."""
QUIET_SECONDS: Final = (0.2, 1.5)
"""Between two faults."""
BACK_SECONDS: Final = 30.0
"""How long one that stood still may take until it serves again, or ends."""
KEYS_A_KILL: Final = 50
"""With `--keys`: so many are sent between two kills, at least."""
GONE_SECONDS: Final = LEASE_SECONDS + 1.0
"""How long workers may outlive a killed gateway, or live on beside their successor."""


class NodeFigures(Struct):
    """What was done to the gateways, and how they stood it."""

    kills: int = 0
    pauses: int = 0
    ended: int = 0
    """Gateways that ended after they had stood still, because their place was taken."""
    back: list[float] = field(default_factory=list)
    """Seconds from the end of a pause until it serves again."""
    gone: list[float] = field(default_factory=list)
    exit_codes: list[int] = field(default_factory=list)
    seconds: float = 0


class ClusterCampaign:
    """One run. `run` returns when every history is checked; `history` and `figures` say how it went."""

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        nodes: int = 3,
        kills: int,
        pauses: int,
        sessions: int,
        seconds: float,
        seed: int,
        fence: Callable[[], None] | None = None,
    ) -> None:
        self.figures = NodeFigures()
        self._directory = directory
        self._count = nodes
        self._kills = kills
        self._pauses = pauses
        self._talkers = sessions
        self._seconds = seconds
        self._fence = fence
        self._world = World(seed=seed)
        self._random = self._world.random
        self._watches: set[asyncio.Task[None]] = set()

    @property
    def history(self) -> History:
        return self._world.history

    async def run(self) -> None:
        """Hurts one gateway after the other until the faults or the seconds are used up, then checks."""
        began = time.monotonic()
        try:
            environ = unfenced.environment(self._directory, self._fence) if self._fence else {}
            nodes = running_nodes(self._directory, self._count, config=CONFIG, environ=environ)
            async with nodes as running, asyncio.TaskGroup() as tasks:
                if self._fence is unfenced.off:
                    async with running.connected() as database:
                        await database.execute(unfenced.TAKE_AWAY)
                self._up(running)
                talking = [
                    tasks.create_task(Talker(self._world, number).run(), name=f"talker {number}")
                    for number in range(self._talkers)
                ]
                while self._are_left and time.monotonic() - began < self._seconds:
                    await self._world.pause(*QUIET_SECONDS)
                    await self._one_fault(running)
                self._world.is_stopping = True
                await asyncio.wait(talking, timeout=SETTLE_SECONDS * crowding())
                self._up(running)
                await check_all(self._world)
                await self._end(running)
        finally:
            await asyncio.gather(*self._watches)
            await self._world.close()
            self.figures.seconds = time.monotonic() - began

    @property
    def _are_left(self) -> bool:
        return self.figures.kills < self._kills or self.figures.pauses < self._pauses

    def _up(self, nodes: Nodes, *, but: int = -1) -> None:
        self._world.came_up(*(nodes[index].url for index in nodes.indexes if index != but))

    # -- faults -------------------------------------------------------------------------------------------

    async def _one_fault(self, nodes: Nodes) -> None:
        for index in filter(nodes.has_ended, nodes.indexes):
            await self._again(nodes, index)
        index = self._random.choice(nodes.indexes)
        kills, pauses = self._kills - self.figures.kills, self._pauses - self.figures.pauses
        if self._random.random() * (kills + pauses) < kills:
            await self._kill(nodes, index)
        else:
            await self._pause(nodes, index)
        self._up(nodes)

    async def _kill(self, nodes: Nodes, index: int) -> None:
        self.figures.kills += 1
        family = descendants(nodes[index].pid)
        await nodes.kill(index)
        self._up(nodes)
        self._watch(family, f"after the kill of {nodes.name(index)}")
        await self._world.pause(*DOWN_SECONDS)
        await nodes.start(index)

    async def _pause(self, nodes: Nodes, index: int) -> None:
        """It stands still; if that was too long, it serves anew, or ends with words and is started again."""
        self.figures.pauses += 1
        low, high = map(math.log, PAUSE_SECONDS)
        seconds = math.exp(self._random.uniform(low, high))
        gateway = nodes[index]
        family = descendants(gateway.pid)
        self._up(nodes, but=index)
        async with nodes.paused(index):
            await asyncio.sleep(min(seconds, ARRIVED_SECONDS))
            self._up(nodes, but=index)  # what it showed last may not have reached the disk
            await asyncio.sleep(max(0.0, seconds - ARRIVED_SECONDS))
            if seconds > 2 * GONE_SECONDS:  # its sessions are elsewhere: no worker of it may run
                self._watch(
                    family, f"of {nodes.name(index)}, which stood still for {seconds:.1f} s", rests=True
                )
        began = time.monotonic()
        while time.monotonic() - began < BACK_SECONDS * crowding():
            if nodes.has_ended(index):
                await self._again(nodes, index)
                break
            if await self._is_ready(gateway.url):
                break
            await asyncio.sleep(0.05)
        else:
            self.history.hung(
                "", f"{nodes.name(index)} did not serve {BACK_SECONDS:g} s after it had stood still"
            )
        self.figures.back.append(time.monotonic() - began)

    async def _again(self, nodes: Nodes, index: int) -> None:
        """Starts one that ended by itself, as a supervisor does."""
        self.figures.ended += 1
        await nodes.stop(index)
        await nodes.start(index)

    async def _is_ready(self, url: str) -> bool:
        with contextlib.suppress(*Broken):
            return await self._world.status(f"{url}/readyz") == 200
        return False

    def _watch(self, family: list[psutil.Process], words: str, *, rests: bool = False) -> None:
        watch = asyncio.create_task(self._until_gone(family, words, rests=rests), name="watch")
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)

    async def _until_gone(self, family: list[psutil.Process], words: str, *, rests: bool) -> None:
        """Processes end in time; or rest, if they may be continued (`rests`)."""
        began = time.monotonic()
        while left := [each for each in family if _runs(each, rests=rests)]:
            if time.monotonic() - began > GONE_SECONDS * crowding():
                for each in left:
                    self.history.process("orphan", f"process {each.pid} {words}")
                return
            await asyncio.sleep(0.02)
        self.figures.gone.append(time.monotonic() - began)

    # -- the end ------------------------------------------------------------------------------------------

    async def _end(self, nodes: Nodes) -> None:
        """In order, one after the other: no worker is left."""
        self._world.went_down()
        for index in nodes.indexes:
            family = descendants(nodes[index].pid)
            self.figures.exit_codes.append(await nodes.stop(index, signal.SIGTERM))
            for process in family:
                if _runs(process):
                    self.history.process("orphan", f"process {process.pid} after SIGTERM")

    def table(self) -> str:
        """The figures, printed, with row 2 of the acceptance."""
        figures = self.figures
        rows: list[tuple[str, Any]] = [
            ("gateways", self._count),
            ("lease, s", LEASE_SECONDS),
            ("gateway kill -9", figures.kills),
            ("gateway SIGSTOP, 0.1 to 10 s", figures.pauses),
            ("of them ended by themselves", figures.ended),
            ("serves again after a pause, p50 s", middle(figures.back)),
            ("serves again after a pause, max s", worst(figures.back)),
            ("processes gone or at rest, max s", worst(figures.gone)),
            ("exit codes after SIGTERM", figures.exit_codes),
            ("sessions", len(self.history.sessions())),
            ("seconds", round(figures.seconds)),
            ("processors", os.cpu_count()),
        ]
        return f"{table(self.history, rows)}\n\n{row(2, self._aims())}"

    def _aims(self) -> list[Aim]:
        counts, figures = self.history.counts, self.figures
        if self._fence is unfenced.off:  # the control: whatever it is
            return [Aim(what="found without the fence", seen=sum(counts.values()), least=1)]
        others = {kind: count for kind, count in counts.items() if kind not in ("lost", "dup", "orphan")}
        return [
            Aim(what="gateway kill -9", seen=figures.kills, least=self._kills),
            Aim(what="gateway SIGSTOP", seen=figures.pauses, least=self._pauses),
            none_of("lost", counts["lost"]),
            none_of("doubled", counts["dup"]),
            none_of("workers of a gateway that died or stood still", counts["orphan"]),
            none_of("anything else that broke", sum(others.values())),
        ]


def _runs(process: psutil.Process, *, rests: bool = False) -> bool:
    """Whether it does anything; `rests`: one that is stopped does not."""
    with contextlib.suppress(psutil.Error):
        return is_running(process) and not (rests and process.status() == psutil.STATUS_STOPPED)
    return False


def main() -> int:
    """Runs a campaign; exit code 1 where anything broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.cluster")
    parser.add_argument("--nodes", type=int, default=3, help="gateways (3)")
    parser.add_argument("--kills", type=int, default=100, help="kill -9 of a gateway (100)")
    parser.add_argument("--pauses", type=int, default=300, help="SIGSTOP of a gateway (300)")
    parser.add_argument("--sessions", type=int, default=12, help="people who talk at once (12)")
    parser.add_argument("--seconds", type=float, default=3600, help="at most so long (3600)")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (1)")
    parser.add_argument("--fence", choices=("alone", "off"), help="see tests/torture/unfenced.py")
    parser.add_argument("--rolling", action="store_true", help="orderly restarts instead, behind a balancer")
    parser.add_argument("--rounds", type=int, default=5, help="of those, of each gateway (5)")
    parser.add_argument(
        "--without-heirs",
        action="store_true",
        help="with --rolling, the proof that the counting sees something",
    )
    parser.add_argument("--keys", type=int, default=0, help="so many keys instead, each at every gateway")
    parser.add_argument("--a-key-each", action="store_true", help="with --keys, the proof of its counting")
    options = parser.parse_args()
    if options.keys:
        return send_keys(
            nodes=options.nodes,
            keys=options.keys,
            kills=min(options.kills, options.keys // KEYS_A_KILL),
            seconds=options.seconds,
            seed=options.seed,
            is_key_each=options.a_key_each,
        )
    if options.rolling:
        return roll(
            nodes=options.nodes,
            rounds=options.rounds,
            talkers=options.sessions,
            is_without_heirs=options.without_heirs,
        )
    with tempfile.TemporaryDirectory(prefix="cluster-") as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)
        campaign = asyncio.run(_run(directory, options))
        lines = [line for path in directory.glob("*/gateway.log") for line in path.read_text().splitlines()]
    complaints = [line for line in lines if re.search(r"Traceback|CRITICAL", line)]
    text = f"{campaign.table()}\n\n{campaign.history.words()}\n\ncomplaints in the logs: {len(complaints)}"
    print("\n".join((text, *complaints[-20:])))  # noqa: T201 - the figures are for a person
    return 0 if campaign.history.is_clean else 1


async def _run(directory: pathlib.Path, options: argparse.Namespace) -> ClusterCampaign:
    campaign = ClusterCampaign(
        directory,
        nodes=options.nodes,
        kills=options.kills,
        pauses=options.pauses,
        sessions=options.sessions,
        seconds=options.seconds,
        seed=options.seed,
        fence=getattr(unfenced, options.fence) if options.fence else None,
    )
    await campaign.run()
    return campaign


if __name__ == "__main__":
    sys.exit(main())
