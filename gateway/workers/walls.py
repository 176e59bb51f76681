"""WalledSpawner: workers from the fork server, behind the strictest walls that this machine can build.

At start it finds these walls by building them once for a real worker. The log and each session's record say
which they are. If a required profile cannot be built, the gateway does not start.

Guarantees: a worker that `spawn` returns is behind its walls; a fork server that dies is started again, but
not in a loop; limits that the kernel does not enforce are watched (`gateway.workers.watchdog`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import pathlib
import secrets
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.config.tables import WorkersConfig
from gateway.telemetry.tasks import BackgroundTasks
from gateway.workers import doors
from gateway.workers.forks import ForkServerLink, ForkWorker, close_all, make_pipes
from gateway.workers.spawner import StartFailed, base_environment
from gateway.workers.watchdog import Watchdog
from worker import spec
from worker.spec import Counting, GoOn, Network, Profile, Sandbox, Spawn, SpawnRequest, Stop

log = logging.getLogger(__name__)

READY_SECONDS: Final = 30
"""Loading and warming up takes a tenth of a second; a machine that starts everything at once takes longer."""
PROBE_SECONDS: Final = 20
RESTART_SECONDS: Final = 10.0
"""How long an order waits for a fork server that is being started again."""
RESTARTS: Final = 5
RESTART_WINDOW_SECONDS: Final = 60.0
"""A fork server that dies so often in so short a time is not started again before the window has passed."""


class WallsMissing(OSError):
    """The walls that the configuration requires cannot be built here; the text says what failed."""


class WalledSpawner:
    """Starts workers behind walls; see the module. `directory` is where a probe may make its files."""

    def __init__(
        self,
        workers: WorkersConfig,
        *,
        directory: pathlib.Path,
        on_server: Callable[[int, Counting], None] = lambda _pid, _counting: None,
        tasks: BackgroundTasks | None = None,
        needs_broker: bool = False,
    ) -> None:
        """`on_server` hears of every fork server that is ready: its pid, and which limits its groups hold.
        `tasks` run what looks after it and after the workers' limits. `needs_broker`: whether an agent may
        get the network `broker`, so that it is tried at the start.
        """
        self._needs_broker = needs_broker or workers.network == "broker"
        self.broker_lacks = ""
        """Why no worker can have the network `broker` here; empty if nobody asked, or if it can."""
        self._config = workers
        self._on_server = on_server
        self._directory = directory
        self._link: ForkServerLink | None = None
        self._tasks = tasks or BackgroundTasks()
        self._watchdog = Watchdog(lambda: self.workers)
        self._deaths: deque[float] = deque(maxlen=RESTARTS)
        self._next_start = 0.0
        self._started = asyncio.Event()
        """Set when the next server is ready, and then replaced."""
        self._ids = itertools.count(1)
        self._word: GoOn | None = None
        is_off = workers.cgroups == "off"
        self._groups_name = "" if is_off else f"agent-gateway-{os.getpid()}-{secrets.token_hex(4)}"
        self.profile: Profile = "none"
        self.counting = Counting()
        """Which limits control groups hold here."""
        self.missing: dict[Profile, str] = {}
        """Why a stricter profile is not used: profile → words."""

    # -- its life ---------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Starts the fork server and finds the walls. Raises WallsMissing."""
        try:
            await self._start()
        except (StartFailed, TimeoutError) as error:
            raise WallsMissing(f"The fork server could not be started: {error}") from error
        self._tasks.start("fork server", self._keep_alive)
        try:
            self.profile = await self._find_profile()
            await self._find_broker()
        except BaseException:
            await self.close()
            raise
        self._tasks.start("watchdog", self._watchdog.run)

    async def close(self) -> None:
        """Ends the fork server and whatever worker is left."""
        await self._tasks.stop("watchdog")
        await self._tasks.stop("fork server")
        if self._link is not None:
            await self._link.close()

    async def _start(self) -> None:
        link = ForkServerLink(self._groups_name)
        await link.start()
        self._link = link
        if self._word is not None:
            link.send(self._word)
        ready = await asyncio.wait_for(asyncio.shield(link.ready), READY_SECONDS)
        log.info("fork server %d is ready: %d objects shared", ready.pid, ready.frozen_objects)
        self.counting = ready.counting
        self._started.set()
        self._started = asyncio.Event()
        self._on_server(link.pid, ready.counting)
        if ready.counting.swept:
            log.warning("removed %d empty control groups that killed gateways left", ready.counting.swept)
        log.info("limits of a whole worker: %s", counting_words(ready.counting))

    async def _keep_alive(self) -> None:
        """Starts a new server whenever one is lost."""
        while True:
            if self._link is not None:
                await self._link.watch()
                await self._link.close()
                self._link = None
            log.error("the fork server was lost, and its workers with it; it is started again")
            self._deaths.append(time.monotonic())
            pause = self._pause()
            self._next_start = time.monotonic() + pause
            await asyncio.sleep(pause)
            try:
                await self._start()
            except (StartFailed, OSError, TimeoutError) as error:
                log.error("the fork server could not be started again: %s", error)

    def _pause(self) -> float:
        """Seconds to wait before the next start: none, until they are too many."""
        if len(self._deaths) < RESTARTS:
            return 0.0
        return max(0.0, RESTART_WINDOW_SECONDS - (time.monotonic() - self._deaths[0]))

    def hold_to(self, word: GoOn) -> None:
        """From now on workers rest past a moment, and end past another, unless this is called again."""
        self._word = word
        if self._link is not None:
            self._link.send(word)

    # -- workers ----------------------------------------------------------------------------------------

    @property
    def server_pid(self) -> int:
        """The fork server's process id; 0 while there is none."""
        return self._link.pid if self._link is not None else 0

    @property
    def is_ready(self) -> bool:
        """Whether there is a fork server that takes requests."""
        link = self._link
        return link is not None and link.ready.done() and not link.lost.done()

    @property
    def workers(self) -> list[ForkWorker]:
        """Every worker there is."""
        return self._link.workers if self._link is not None else []

    @property
    def holds_broker(self) -> bool:
        """Whether workers can have the network `broker` here; found out at the start, if any may get it."""
        return self._needs_broker and not self.broker_lacks

    @property
    def shares_network(self) -> bool:
        """Whether any worker shares the machine's network."""
        return self._link is not None and self._link.shares_network

    @property
    def group_ids(self) -> set[int]:
        """The control groups of version 2 of all workers of which something may live."""
        return self._link.group_ids if self._link is not None else set()

    async def spawn(self, request: SpawnRequest) -> ForkWorker:
        """A worker whose walls stand, the strictest that there are. Raises StartFailed."""
        sandbox = msgspec.structs.replace(request.sandbox, profile=self.profile)
        if sandbox.network == "broker" and self.profile != "strict":
            raise StartFailed(self._no_broker())
        return await self._spawn(msgspec.structs.replace(request, sandbox=sandbox))

    async def _spawn(self, request: SpawnRequest) -> ForkWorker:
        """A worker; tried again, once, if the server was lost before it said that the worker has started."""
        if len(spec.encode(request)) > spec.REQUEST_BYTES:
            raise StartFailed("The agent's environment is too large.")
        link = await self._ready_link()
        try:
            return await self._spawn_from(link, request)
        except StartFailed:
            if not link.lost.done():
                raise
        return await self._spawn_from(await self._ready_link(), request)

    async def _ready_link(self) -> ForkServerLink:
        """The link to a server that takes orders; one that is being started is waited for, some seconds.
        Raises StartFailed.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RESTART_SECONDS):
                while not self.is_ready and self._next_start - time.monotonic() < RESTART_SECONDS:
                    await self._started.wait()
        if self._link is None or not self.is_ready:
            raise StartFailed("The fork server is down and could not be started again yet; try again later.")
        return self._link

    async def _spawn_from(self, link: ForkServerLink, request: SpawnRequest) -> ForkWorker:
        order = Spawn(
            id=next(self._ids),
            profile=request.sandbox.profile,
            network=request.sandbox.network,
            has_init=not request.is_built_in,
            is_freezable=request.is_freezable,
            memory_bytes=request.limits.memory_bytes,
            processes=request.limits.processes,
        )
        if request.sandbox.network != "broker":
            return await _started(link, order, request)
        try:
            channel, far = doors.channel()
        except OSError as error:
            raise StartFailed(f"No socket could be made: {error.strerror}.") from error
        with channel:
            worker = await _started(link, order, request, far)
            try:
                worker.take_doors(doors.receive(channel, request.sandbox.ports))
            except (OSError, ValueError) as error:
                await worker.stop(grace_seconds=0)
                close_all((worker.stdin, worker.stdout))
                words = f"The doors of the agent's network did not come: {error}."
                raise StartFailed(words) from error
        return worker

    # -- finding the walls ------------------------------------------------------------------------------

    async def _find_profile(self) -> Profile:
        """The strictest profile whose walls can be built round a real worker here."""
        wanted, required = self._config.sandbox, self._config.require
        for profile in candidates(wanted):
            words = await self._try(profile)
            if words is None:
                log.info("workers run behind %s walls", profile)
                if profile == "none":
                    log.warning("workers run WITHOUT walls: each can read what the gateway can")
                return profile
            self.missing[profile] = words
            log.warning("%s walls cannot be built here: %s", profile, words)
            if required == profile or (required == "basic" and profile == "basic"):
                break
        lacking = "; ".join(f"{profile}: {words}" for profile, words in self.missing.items())
        raise WallsMissing(f"The walls that workers.require asks for cannot be built here. {lacking}")

    async def _find_broker(self) -> None:
        """Whether workers can have a network of their own that leads to the gateway, if any wants it. Raises
        WallsMissing if all want it.
        """
        if not self._needs_broker:
            return
        if self.profile == "strict":
            self.broker_lacks = await self._try("strict", network="broker") or ""
        else:
            self.broker_lacks = self._no_broker()
        if not self.broker_lacks:
            log.info("the network `broker` is held here: nothing leaves a worker but through the gateway")
        elif self._config.network == "broker":
            raise WallsMissing(f"workers.network is `broker`, which cannot be held here. {self.broker_lacks}")
        else:
            log.warning("the network `broker` cannot be held here: %s", self.broker_lacks)

    def _no_broker(self) -> str:
        """Why these walls do not hold the network `broker`, and what to do."""
        why = self.missing.get("strict") or f"workers.sandbox is {self._config.sandbox!r}."
        return (
            f"The network `broker` needs strict walls, and workers run behind {self.profile} ones here: {why}"
            ' Make strict walls possible (docs/isolation.md), or give the agent network = "none" or "shared".'
        )

    async def _try(self, profile: Profile, *, network: Network | None = None) -> str | None:
        """Builds the walls of a profile round a worker, with the network that workers have here or, for a
        command alone, the one that is named; why it failed, or None.
        """
        place = self._directory / f".probe-{os.getpid()}"
        uid = self._config.first_uid + self._config.uid_count if os.geteuid() == 0 else None
        try:
            for path in (place, place / "home", place / "work"):
                path.mkdir(mode=0o700)
                if uid is not None:
                    os.chown(path, uid, uid)
            home = str(place / "home")
            request = SpawnRequest(
                argv=_probe(),
                env=base_environment(home),
                cwd=str(place / "work"),
                home=home,
                session_key=place.name,
                uid=uid,
            )
            async with asyncio.timeout(PROBE_SECONDS):
                for is_built_in in (True, False) if network is None else (False,):
                    usual = network or self._config.network or ("none" if is_built_in else "shared")
                    if usual == "broker" and profile != "strict":
                        usual = "shared"
                    sandbox = Sandbox(profile=profile, network=usual)
                    probe = msgspec.structs.replace(request, is_built_in=is_built_in, sandbox=sandbox)
                    worker = await self._spawn(probe)
                    os.close(worker.stdin)
                    os.close(worker.stdout)
                    await worker.stop(grace_seconds=0)
        except (StartFailed, OSError) as error:
            return str(error)
        except TimeoutError:
            return f"nothing happened within {PROBE_SECONDS} seconds"
        finally:
            shutil.rmtree(place, ignore_errors=True)
        return None


def _probe() -> tuple[str, ...]:
    """A command that does nothing, whatever the gateway's PATH."""
    program = shutil.which("true", path=os.pathsep.join((os.environ.get("PATH", ""), "/bin", "/usr/bin")))
    return (program,) if program is not None else (sys.executable, "-I", "-S", "-c", "")


async def _started(link: ForkServerLink, order: Spawn, request: SpawnRequest, *further: int) -> ForkWorker:
    """A worker that runs. `further` are descriptors that come after its pipes, and are closed in any case.
    Raises StartFailed.
    """
    try:
        ours, theirs = make_pipes()
    except StartFailed:
        close_all(further)
        raise
    worker = ForkWorker(link, order.id, request, ours)
    link.spawn(order, worker, (*theirs, *further))
    try:
        await worker.started
    except BaseException as error:
        if not isinstance(error, StartFailed):
            link.send(Stop(id=order.id))
        worker.let_go()
        link.forget(order.id)
        raise
    return worker


def counting_words(counting: Counting) -> str:
    """What holds the limits that are on all of a worker's processes together."""
    memory = counting.memory or "no control group (each process by RLIMIT_DATA, the tree by measuring)"
    processes = counting.processes or "no control group (by RLIMIT_NPROC where a worker has a uid of its own)"
    why = f"; {counting.missing}" if counting.missing else ""
    weight = counting.cpu or "nice alone"
    return f"memory by {memory}, processes by {processes}, CPU time shared out by {weight}{why}"


def candidates(wanted: str) -> list[Profile]:
    """The profiles to try, strictest first; one that is named is the only one."""
    return [profile for profile in reversed(spec.PROFILES) if wanted in ("auto", profile)]
