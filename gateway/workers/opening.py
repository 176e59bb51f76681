"""The worker processes of one gateway: what starts them, keeps their files and tells them from callers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from gateway.config.tables import Config
from gateway.telemetry.clocks import Clock
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tasks import BackgroundTasks
from gateway.workers import orphans
from gateway.workers.memory import Trimmer
from gateway.workers.peer_identity import AgentsAreOwners, PeerIdentity
from gateway.workers.pressure import MemoryMeter
from gateway.workers.usage import UsageSampler
from gateway.workers.walls import WalledSpawner
from gateway.workers.workspace import Workspaces


class Workers:
    """Built from the configuration; `clear` comes first, then `running`."""

    def __init__(self, config: Config, *, metrics: Metrics, tasks: BackgroundTasks, clock: Clock) -> None:
        self._config = config
        self._metrics = metrics
        self.spawner = WalledSpawner(
            config.workers,
            directory=config.data_path / "sessions",
            on_server=lambda pid, counting: orphans.note(
                config.data_path, pid, counting.directories + counting.freezers
            ),
            tasks=tasks,
            needs_broker=config.needs_broker,
        )
        self.workspaces = Workspaces(config.data_path, config.workers, has_own_uids=bool(config.cluster.url))
        self.peers = PeerIdentity(
            self.spawner,
            is_worker_uid=self.workspaces.is_worker_uid,
            is_allowed=config.server.allow_agent_connections,
        )
        self.usage = UsageSampler(clock.monotonic, lambda agent, s: metrics.worker_cpu.labels(agent).inc(s))
        self.trimmer = Trimmer()
        self.memory = MemoryMeter()

    async def clear(self, *, has_predecessor: bool = False) -> None:
        """Ends what a gateway before has left, unless it runs still and has work to do, and makes the
        directory of the sessions. Raises OSError.
        """
        if not has_predecessor:
            self._metrics.orphans.inc(await asyncio.to_thread(orphans.sweep, self._config.data_path))
        self.workspaces.open()

    @contextlib.asynccontextmanager
    async def running(
        self, config: Config, *, taken_uids: set[int], decide: Callable[[bool], Sequence[str]]
    ) -> AsyncIterator[None]:
        """Workers may be started from now on; leaving ends them. `taken_uids` are those of stored sessions.
        `decide` hears whether the network `broker` is held here, and names the agents that share the
        machine's network. Raises WallsMissing, AgentsAreOwners.
        """
        self.workspaces.claim_uids(taken_uids)
        async with contextlib.AsyncExitStack() as stack:
            await self.spawner.open()
            stack.push_async_callback(self.spawner.close)
            sharing = decide(self.spawner.holds_broker)
            self.peers.open()
            stack.push_async_callback(self.peers.close)
            if objection := self.peers.objection(config, sharing):
                raise AgentsAreOwners(objection)
            stack.callback(self.trimmer.close)
            yield
