"""Spares: workers that have started before there is a session for them.

A spare is a whole worker: forked, behind its walls, with a HOME, a working directory and a uid that nobody
had. It was greeted (ACP's `initialize` and `authenticate`) and has heard nothing else: no session, no token,
no message. A new session is made with the key and the uid of a spare, and its first worker is that spare, if
it is what the session would have started; else it is ended.

Guarantees: a spare serves one session or none, and is never used again; what one is born with holds nothing
of any session; spares do not keep places or memory that sessions need for longer than it takes to look; none
outlives the gateway, a change of its agent's configuration, or its own death, and its files go with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from gateway.agents.catalogue import Agent
from gateway.agents.connection import AcpConnection, AgentError, AgentGone, Unheard, WireError
from gateway.agents.greeting import Greeted, greet, offer
from gateway.agents.spool import Intake
from gateway.sessions.current import Current
from gateway.sessions.slots import WorkerSlots
from gateway.sessions.starts import StartQueue
from gateway.telemetry.metrics import Metrics
from gateway.workers.home_files import write_files
from gateway.workers.spawner import Spawner, StartFailed, Worker, base_environment
from gateway.workers.workspace import Workspaces
from worker.spec import SpawnRequest

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.5
WHOLE_LOOK_SECONDS: Final = 10.0
"""How often it is looked whether spares are still what would be started now; after a reload at once."""
REFILL_SECONDS: Final = 0.05
"""So long after one was taken the next is started: the session that took it has the processor first."""
GREETING_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 10.0
"""After a spare that did not start, or died, none is started for so long."""


class Spare(Struct, frozen=True):
    """A worker that waits for a session, which is made with this key and this uid."""

    key: str
    uid: int | None
    agent: str
    request: SpawnRequest
    files: dict[str, str]
    """What it found in its HOME when it started."""
    offered: dict[str, Any]
    """What it heard of this gateway."""
    worker: Worker
    greeted: Greeted

    @property
    def is_there(self) -> bool:
        """Whether it can still be spoken to."""
        return not self.worker.exited.done() and self.greeted.connection.end is None


class Spares:
    """Keeps as many as each agent's `spares` says; `aclose` it."""

    def __init__(
        self,
        *,
        spawner: Spawner,
        workspaces: Workspaces,
        starts: StartQueue,
        slots: WorkerSlots,
        current: Current,
        intake: Intake,
        has_tools: Callable[[Agent], bool],
        metrics: Metrics,
    ) -> None:
        """`has_tools`: whether the sessions of an agent get tools of the gateway's own."""
        self._spawner = spawner
        self._workspaces = workspaces
        self._starts = starts
        self._slots = slots
        self._current = current
        self._intake = intake
        self._has_tools = has_tools
        self._metrics = metrics
        self._compared_with: tuple[object, ...] = ()
        self._compare_at = 0.0
        self._free: dict[str, Spare] = {}
        self._promised: dict[str, Spare] = {}
        """To sessions that have not started their worker yet."""
        self._wanted = asyncio.Event()
        self._making: dict[asyncio.Task[None], str] = {}
        """Those that are being started, with the names of their agents."""
        self._retry_at: dict[str, float] = {}
        self._is_closed = False

    def counts(self) -> Counter[str]:
        """How many are free, of each agent."""
        return Counter(spare.agent for spare in self._free.values())

    # -- for sessions -----------------------------------------------------------------------------------

    def promise(self, agent: Agent, tenant: str) -> Spare | None:
        """One for a new session of a tenant, which is to be made with its key and uid, if there is one."""
        own = self._current.config.tenant(tenant)
        is_stricter = own is not None and agent.limits.within(own.limits) != agent.limits
        if is_stricter or not self._slots.room:
            return None
        for spare in self._free.values():
            is_fit = (spare.agent, spare.files) == (agent.name, agent.home_files)
            if is_fit and spare.is_there:
                self._promised[spare.key] = self._free.pop(spare.key)
                asyncio.get_running_loop().call_later(REFILL_SECONDS, self._wanted.set)
                return spare
        return None

    def take_back(self, spare: Spare) -> None:
        """The session was not made."""
        if self._promised.pop(spare.key, None) is not None:
            self._free[spare.key] = spare

    def take(self, request: SpawnRequest) -> Spare | None:
        """The spare that the session was made with, if it is what is asked for and lives."""
        spare = self._promised.get(request.session_key)
        if spare is None:
            return None
        is_fit = spare.request == request and spare.is_there
        self._metrics.spares.labels("adopted" if is_fit else "unfit").inc()
        if not is_fit:
            return None
        del self._promised[spare.key]
        return spare

    async def forget(self, key: str) -> None:
        """Ends the spare that a session was made with and did not take; the files are the session's."""
        if (spare := self._promised.pop(key, None)) is not None:
            await _end_worker(spare)

    # -- keeping them -----------------------------------------------------------------------------------

    async def keep_for_ever(self) -> None:
        """Starts what is missing and ends what is dead, too many or not what it would be now."""
        while True:
            await self._look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wanted.wait()
            self._wanted.clear()

    async def aclose(self) -> None:
        """Ends them all."""
        self._is_closed = True
        if making := list(self._making):
            for task in making:
                task.cancel()
            await asyncio.wait(making)
        for key in list(self._promised):
            await self.forget(key)
        await asyncio.gather(*(self._end(spare) for spare in list(self._free.values())))

    async def _look(self) -> None:
        known = {agent.name: agent for agent in self._current.agents.all()}
        is_whole = self._is_due()
        kept: Counter[str] = Counter()
        room = self._slots.room
        for spare in list(self._free.values()):
            agent = known.get(spare.agent)
            kept[spare.agent] += 1
            if not spare.is_there:
                exited = spare.worker.exited
                log.warning("a spare of %s has died: %s", spare.agent, exited.done() and exited.result())
                self._metrics.spares.labels("died").inc()
                self._retry_at[spare.agent] = time.monotonic() + RETRY_SECONDS
            elif agent is not None and kept[agent.name] <= agent.spares and kept.total() <= room:
                if not is_whole or self._is_as_now(agent, spare):
                    continue
            kept[spare.agent] -= 1
            await self._end(spare)
        kept.update(self._making.values())
        for agent in known.values():
            while kept[agent.name] < agent.spares and kept.total() < room and self._may_start(agent.name):
                kept[agent.name] += 1
                making = asyncio.create_task(self._make(agent), name=f"spare of {agent.name}")
                self._making[making] = agent.name
                making.add_done_callback(self._made)

    def _is_due(self) -> bool:
        """Whether spares are to be compared with what would be started now."""
        now, current = time.monotonic(), self._current
        seen = (current.config, current.agents, current.broker)
        is_same = all(one is other for one, other in zip(seen, self._compared_with, strict=False))
        if is_same and now < self._compare_at:
            return False
        self._compared_with, self._compare_at = seen, now + WHOLE_LOOK_SECONDS
        return True

    def _is_as_now(self, agent: Agent, spare: Spare) -> bool:
        due = self._request(agent, spare.key, spare.uid), agent.home_files, self._offer(agent)
        return due == (spare.request, spare.files, spare.offered)

    def _offer(self, agent: Agent) -> dict[str, Any]:
        model = self._current.config.model
        return offer(agent, self._current.broker, model, has_tools=self._has_tools(agent))

    def _may_start(self, agent: str) -> bool:
        return not self._is_closed and time.monotonic() >= self._retry_at.get(agent, 0.0)

    def _made(self, making: asyncio.Task[None]) -> None:
        del self._making[making]
        self._wanted.set()

    async def _make(self, agent: Agent) -> None:
        key, uid = secrets.token_hex(12), self._workspaces.take_uid()
        try:
            self._workspaces.settle_uid(key, uid)
            self._workspaces.expect(key)
            self._workspaces.make(key, uid)
            request = self._request(agent, key, uid)
            write_files(request.home, agent.home_files, uid=uid)
            async with self._starts.turn(""):
                worker = await self._spawner.spawn(request)
            offered = self._offer(agent)
            greeted = await self._greet(worker, agent, offered)
            worker.exited.add_done_callback(lambda _: self._wanted.set())
            self._free[key] = Spare(key, uid, agent.name, request, agent.home_files, offered, worker, greeted)
        except (OSError, StartFailed, AgentGone, AgentError, WireError) as error:
            log.warning("no spare of %s could be started: %s", agent.name, error)
            self._retry_at[agent.name] = time.monotonic() + RETRY_SECONDS
        finally:
            if key not in self._free:
                await self._erase(key, uid)

    async def _greet(self, worker: Worker, agent: Agent, offered: dict[str, Any]) -> Greeted:
        """Raises AgentError, AgentGone, WireError, TimeoutError; the worker has ended then."""
        config = self._current.config
        connection = AcpConnection(
            worker,
            Unheard(),
            line_bytes=config.limits.line_bytes,
            spool_dir=str(config.data_path),
            intake=self._intake,
            on_odd=self._metrics.odd("agent"),
        )
        try:
            async with asyncio.timeout(GREETING_SECONDS):
                await connection.__aenter__()
                return Greeted(connection, await greet(connection, agent, offered))
        except BaseException:
            await _end(worker, connection)
            raise

    def _request(self, agent: Agent, key: str, uid: int | None) -> SpawnRequest:
        """What a session of this key and uid asks for that has nothing of its own."""
        home = self._workspaces.home(key)
        return SpawnRequest(
            argv=agent.argv,
            env=agent.environment(base_environment(home)),
            cwd=self._workspaces.work(key),
            home=home,
            session_key=key,
            uid=self._workspaces.worker_uid(key, uid),
            is_built_in=agent.is_built_in,
            sandbox=agent.walls(),
            limits=agent.limits,
            is_freezable=agent.warm_seconds > 0,
            nice=self._current.config.workers.nice,
        )

    async def _end(self, spare: Spare) -> None:
        if self._free.pop(spare.key, None) is not None:
            await _end_worker(spare)
            await self._erase(spare.key, spare.uid)

    async def _erase(self, key: str, uid: int | None) -> None:
        await self._workspaces.remove(key)
        self._workspaces.stored(key)
        self._workspaces.session_gone(key, uid)


async def _end_worker(spare: Spare) -> None:
    await _end(spare.worker, spare.greeted.connection)


async def _end(worker: Worker, connection: AcpConnection) -> None:
    """It has no session, and is given no time."""
    await connection.__aexit__()
    receipt = await worker.stop(grace_seconds=0)
    if receipt.survivors:
        log.error("%d processes of a spare survived", receipt.survivors)
