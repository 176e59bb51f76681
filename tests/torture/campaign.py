"""The campaign: a real gateway under load is killed with -9 at random moments, over and over, on one data
directory; workers are killed and stopped beside that; then an orderly restart, and every history is checked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import psutil
from msgspec import Struct, field

from tests.gateways import RunningGateway, is_running, running_gateway
from tests.history import History, table
from tests.shared import crowding
from tests.torture.clients import Talker, World, read_log

LIFE_SECONDS: Final = (0.05, 2.5)
"""How long a gateway may live before it is killed."""
LONG_LIFE_SECONDS: Final = 8.0
"""One life in ten: long enough for stopped workers to meet the turn's deadline, for parking and reaping."""
WORKER_FAULT_SHARE: Final = 0.5
"""Of lives in which workers are killed and stopped too."""
GONE_SECONDS: Final = 1.0
"""How long workers may outlive their gateway."""
SETTLE_SECONDS: Final = 90.0
CHECKS_AT_ONCE: Final = 8
CONFIG: Final = """
[sessions]
park_after_seconds = 1
idle_timeout_seconds = 2
sweep_interval_seconds = 0.5
turn_timeout_seconds = 3
crash_limit = 1000
[workers]
spares = 1
[limits]
address_requests_per_second = 1000000
address_burst = 1000000
session_requests_per_second = 10000
session_burst = 10000
"""


class Figures(Struct):
    """What was done to the gateways, and how they stood it."""

    kills: int = 0
    workers_killed: int = 0
    workers_stopped: int = 0
    workers_alive_at_kill: int = 0
    stopped_left: int = 0
    """Stopped workers cannot see that their gateway is gone; counted apart, and ended here."""
    healthy: list[float] = field(default_factory=list)
    gone: list[float] = field(default_factory=list)
    seconds: float = 0
    exit_code: int | None = None


class Campaign:
    """One run. `run` returns when every history is checked; `history` and `figures` say how it went."""

    def __init__(
        self, directory: pathlib.Path, *, kills: int, sessions: int, seconds: float, seed: int
    ) -> None:
        self.figures = Figures()
        self._directory = directory
        self._kills = kills
        self._talkers = sessions
        self._seconds = seconds
        self._world = World(seed=seed)
        self._random = self._world.random
        self._stopped: set[psutil.Process] = set()
        self._watches: set[asyncio.Task[None]] = set()

    @property
    def history(self) -> History:
        return self._world.history

    async def run(self) -> None:
        """Kills and restarts until the kills or the seconds are used up, then checks."""
        began = time.monotonic()
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(self._talkers):
                    tasks.create_task(Talker(self._world, number).run(), name=f"talker {number}")
                while self.figures.kills < self._kills and time.monotonic() - began < self._seconds:
                    await self._one_life()
                self._world.is_stopping = True
                await self._last_lives(tasks)
        finally:
            await asyncio.gather(*self._watches)
            await self._world.close()
            self.figures.seconds = time.monotonic() - began

    # -- lives ------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _gateway(self) -> AsyncIterator[RunningGateway]:
        began = time.monotonic()
        async with running_gateway(self._directory, config=CONFIG) as gateway:
            self.figures.healthy.append(time.monotonic() - began)
            self._world.came_up(gateway.url)
            try:
                yield gateway
            finally:
                self._world.went_down()

    async def _one_life(self) -> None:
        async with self._gateway() as gateway:
            faults = asyncio.ensure_future(self._hurt_workers(gateway))
            await self._until_the_moment()
            faults.cancel()
            await asyncio.wait([faults])
            self._kill(gateway)
            await gateway.process.wait()

    async def _until_the_moment(self) -> None:
        """A random moment, or the one right after an acknowledgement: accepted, and no worker yet."""
        is_long = self.figures.kills % 10 == 5
        bounds = (LONG_LIFE_SECONDS,) * 2 if is_long else LIFE_SECONDS
        slow = crowding()  # or a life would see fewer messages
        await self._world.pause(*(slow * seconds for seconds in bounds))
        if self._random.random() < 0.5:
            self._world.acked.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._world.acked.wait(), 1)

    def _kill(self, gateway: RunningGateway) -> None:
        workers = descendants(gateway.pid)
        gateway.process.kill()
        self._world.went_down()
        self.figures.kills += 1
        self.figures.workers_alive_at_kill += len(workers)
        watch = asyncio.create_task(self._watch(workers), name="watch")
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)

    async def _watch(self, workers: list[psutil.Process]) -> None:
        """Workers end with their gateway; those that were stopped are ended here."""
        began = time.monotonic()
        stopped = [worker for worker in workers if worker in self._stopped]
        rest = [worker for worker in workers if worker not in self._stopped]
        while (left := [worker for worker in rest if is_running(worker)]) and (
            time.monotonic() - began < GONE_SECONDS * crowding()
        ):
            await asyncio.sleep(0.01)
        self.figures.gone.append(time.monotonic() - began)
        for worker in left:
            self.history.process("orphan", f"worker {worker.pid} after {GONE_SECONDS:g} s")
        for worker in (*left, *stopped):
            self.figures.stopped_left += worker in self._stopped and is_running(worker)
            with contextlib.suppress(psutil.Error):
                worker.kill()

    async def _hurt_workers(self, gateway: RunningGateway) -> None:
        if self._random.random() > WORKER_FAULT_SHARE:
            return
        while True:
            await self._world.pause(0.1, 0.7)
            workers = [worker for worker in gateway.workers() if worker not in self._stopped]
            if not workers:
                continue
            worker, is_stopping = self._random.choice(workers), self._random.random() < 0.3
            with contextlib.suppress(psutil.Error):
                worker.send_signal(signal.SIGSTOP if is_stopping else signal.SIGKILL)
                self.figures.workers_stopped += is_stopping
                self.figures.workers_killed += not is_stopping
                if is_stopping:
                    self._stopped.add(worker)

    # -- the end ----------------------------------------------------------------------------------------

    async def _last_lives(self, tasks: asyncio.TaskGroup) -> None:
        """One life to settle in and to end in order, one to be checked in."""
        talking = [task for task in asyncio.all_tasks() if task.get_name().startswith("talker ")]
        async with self._gateway() as gateway:
            if talking:
                await asyncio.wait(talking, timeout=SETTLE_SECONDS * crowding())
            self._count_zombies(gateway)
            workers = descendants(gateway.pid)
            self._world.went_down()
            self.figures.exit_code = await self._end(gateway)
            for worker in filter(is_running, workers):
                self.history.process("orphan", f"worker {worker.pid} after SIGTERM")
        async with self._gateway():
            await check_all(self._world)
        self._look_for_files_of_nobody()  # a spare has some as long as its gateway runs

    async def _end(self, gateway: RunningGateway) -> int | None:
        """SIGTERM; the exit code, None where it did not end by itself."""
        try:
            return await gateway.stop()
        except TimeoutError:
            self.history.hung("", "the gateway did not end after SIGTERM")
            gateway.process.kill()
            await gateway.process.wait()
            return None

    def _look_for_files_of_nobody(self) -> None:
        """A worker may have started for a session that was never stored: nothing of it is left."""
        data = self._directory / "data"
        with contextlib.closing(sqlite3.connect(f"file:{data / 'gateway.db'}?mode=ro", uri=True)) as database:
            stored = {key for (key,) in database.execute("SELECT key FROM sessions")}
        for path in (data / "sessions").iterdir():
            if path.name not in stored:
                self.history.process("orphan", f"files of {path.name}, which is no session")

    def _count_zombies(self, gateway: RunningGateway) -> None:
        for child in psutil.Process(gateway.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if child.status() == psutil.STATUS_ZOMBIE and time.time() - child.create_time() > 10:
                    self.history.process("zombie", f"process {child.pid}")

    def table(self) -> str:
        """The figures, printed."""
        figures = self.figures
        rows: list[tuple[str, Any]] = [
            ("gateway kill -9", figures.kills),
            ("processes alive at a kill, summed", figures.workers_alive_at_kill),
            ("processes gone after it, max s", worst(figures.gone)),
            ("start to healthy, p50 s", middle(figures.healthy)),
            ("start to healthy, max s", worst(figures.healthy)),
            ("workers kill -9", figures.workers_killed),
            ("workers SIGSTOP", figures.workers_stopped),
            ("of them left by a dead gateway", figures.stopped_left),
            ("exit code after SIGTERM", figures.exit_code),
            ("sessions", len(self.history.sessions())),
            ("seconds", round(figures.seconds)),
            ("processors", os.cpu_count()),
        ]
        return table(self.history, rows)


async def check_all(world: World) -> None:
    """Reads every session to its end once more, and closes its history."""
    queue = asyncio.Queue[str]()
    for session in world.history.sessions():
        queue.put_nowait(session)
    await asyncio.gather(*(_check(world, queue) for _ in range(CHECKS_AT_ONCE)))


async def _check(world: World, queue: asyncio.Queue[str]) -> None:
    while not queue.empty():
        session = queue.get_nowait()
        try:
            async with asyncio.timeout(SETTLE_SECONDS * crowding()):
                state = await Talker(world, 0).settle(session)
                reader = await read_log(world, session, upto=state["seq"])
        except TimeoutError:
            world.history.hung(session, "could not be read at the end")
            continue
        world.history.close(session, reader, state)


def descendants(pid: int) -> list[psutil.Process]:
    """What a process has started, and what that has."""
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


def middle(values: list[float]) -> str:
    """The median, for a table."""
    return f"{sorted(values)[len(values) // 2]:.2f}" if values else "-"


def worst(values: list[float]) -> str:
    """The largest, for a table."""
    return f"{max(values):.2f}" if values else "-"
