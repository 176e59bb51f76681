"""The sessions of one gateway: what they share, who keeps them, and what looks after them beside requests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from gateway.agents.broker import Broker
from gateway.agents.catalogue import AgentCatalogue
from gateway.agents.greeting import has_tools
from gateway.agents.spool import Intake
from gateway.auth.opening import Authentication
from gateway.auth.passes import Passes
from gateway.config.applications import enabled
from gateway.config.tables import Config
from gateway.egress.addresses import AddressRules
from gateway.egress.authority import DIRECTORY, Authority
from gateway.egress.caller import HttpCaller
from gateway.egress.control import EgressControl
from gateway.egress.credential_values import CredentialValues
from gateway.egress.door import DoorKeeper
from gateway.egress.intercept import Interception
from gateway.egress.mcp_client import McpClient
from gateway.egress.tunnel import dial
from gateway.files.blobs import FOLDER, FolderBlobs
from gateway.files.place import blobs_of, within_place
from gateway.files.snapshots import Snapshots
from gateway.files.uploads import Uploads
from gateway.files.workspaces import WorkspaceKeeper
from gateway.files.workspaces_out import Outbox
from gateway.models.ledger import Ledger
from gateway.models.opening import Models
from gateway.sessions.budget_waits import BudgetReleaser
from gateway.sessions.census import LoopLag
from gateway.sessions.current import Current
from gateway.sessions.forks import Forks
from gateway.sessions.indexing import Indexer
from gateway.sessions.manager import SessionManager
from gateway.sessions.membership import Membership
from gateway.sessions.memory import MemoryAdmission
from gateway.sessions.reaper import Reaper
from gateway.sessions.services import FaceServices, Services, WorkerServices
from gateway.sessions.slots import WorkerSlots
from gateway.sessions.spares import Spares
from gateway.sessions.spending import SpendingNews
from gateway.sessions.starts import StartQueue
from gateway.sessions.takeover import Takeover
from gateway.sessions.workspace import WorkspaceTools
from gateway.stores.contract import Store
from gateway.telemetry.audit import Audit
from gateway.telemetry.clocks import Clock
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tasks import BackgroundTasks, TaskRun
from gateway.telemetry.tracing import tracer
from gateway.version import VERSION
from gateway.workers.opening import Workers

log = logging.getLogger(__name__)


class Sessions:
    """Built from the configuration and from the packages below, which are opened before it."""

    def __init__(
        self,
        config: Config,
        *,
        store: Store,
        workers: Workers,
        auth: Authentication,
        ledger: Ledger,
        metrics: Metrics,
        clock: Clock,
        membership: Membership | None,
    ) -> None:
        models = Models(
            config, meter=ledger, own_keys=auth.own_keys, metrics=metrics, monotonic=clock.monotonic
        )
        spending = ledger.listener = SpendingNews()
        current = Current(
            config=config,
            agents=AgentCatalogue(config),
            broker=Broker(config.model, providers=models.providers, on_odd=metrics.odd("model")),
        )
        egress = EgressControl(
            config=lambda: current.config,
            addresses=AddressRules(
                private_hosts=lambda: current.config.egress.private_hosts,
                own_url=lambda: self.services.workers.own_url,
            ),
            metrics=metrics,
            wall_ms=clock.wall_ms,
            directory=None if config.is_in_memory else config.data_path,
            behind=lambda: current.agents.on_network("broker"),
        )
        values = CredentialValues(auth.vault, monotonic=clock.monotonic)
        interception = Interception(
            lambda: current.config,
            authority=Authority(config.data_path / DIRECTORY),
            values=values,
            dial=dial,
            on_outcome=lambda name, outcome: metrics.credential_requests.labels(name, outcome).inc(),
        )
        self._folder = FolderBlobs(config.data_path / FOLDER)
        blobs = blobs_of(config, store=store.files, folder=self._folder)
        self._is_in_memory = config.is_in_memory
        doors = DoorKeeper(
            connections=lambda: current.config.egress.connections,
            interceptors=interception.of,
            on_connection=lambda door: metrics.egress_connections.labels(door).inc(),
        )
        snapshots = Snapshots(
            lambda: within_place(current.config.files, config),
            blobs=blobs,
            workspaces=workers.workspaces,
            metrics=metrics,
            wall_ms=clock.wall_ms,
        )
        tools = WorkspaceTools(
            spawner=workers.spawner,
            uids=workers.workspaces,
            snapshots=snapshots,
            wall_ms=clock.wall_ms,
            config=lambda: current.config,
            agents=lambda: current.agents,
            values=values,
            egress=egress,
            doors=doors,
        )
        repositories = self.repositories = WorkspaceKeeper(
            tools, config=lambda: current.config, root=config.data_path / "workspaces"
        )
        starts, intake = StartQueue(), Intake()
        memory = MemoryAdmission(
            workers.memory.read,
            config=lambda: current.config.memory,
            monotonic=clock.monotonic,
            metrics=metrics,
        )
        slots = WorkerSlots(config.limits.max_live_workers, config.limits.waiting_turns, memory)
        self.spares = Spares(
            spawner=workers.spawner,
            workspaces=workers.workspaces,
            starts=starts,
            slots=slots,
            current=current,
            intake=intake,
            has_tools=lambda agent: has_tools(agent, self.services.workers.toolsets),
            metrics=metrics,
        )
        self.services = Services(
            current=current,
            metrics=metrics,
            egress=egress,
            monotonic=clock.monotonic,
            wall_ms=clock.wall_ms,
            store=store,
            people=auth.people,
            quotas=auth.quotas,
            ledger=ledger,
            spending=spending,
            slots=slots,
            memory=memory,
            tracer=tracer(config.telemetry.otlp_endpoint, version=VERSION),
            trimmer=workers.trimmer,
            uploads=Uploads(workers.workspaces, lambda: current.config.files),
            snapshots=snapshots,
            membership=membership,
            folds=tuple(one.fold for one in enabled(config) if one.fold is not None),
            workers=WorkerServices(
                current=current,
                metrics=metrics,
                egress=egress,
                monotonic=clock.monotonic,
                wall_ms=clock.wall_ms,
                spawner=workers.spawner,
                workspaces=workers.workspaces,
                starts=starts,
                spares=self.spares,
                usage=workers.usage,
                passes=Passes(),
                intake=intake,
                doors=doors,
                repositories=repositories,
                interception=interception,
                models=models,
            ),
        )
        self.for_faces = FaceServices(
            current=current,
            metrics=metrics,
            egress=egress,
            monotonic=clock.monotonic,
            wall_ms=clock.wall_ms,
            store=store,
            quotas=auth.quotas,
            ledger=ledger,
            rooms=self.services.rooms,
            audit=Audit(config.data_path, wall_ms=clock.wall_ms, monotonic=clock.monotonic),
            repositories=repositories,
            outbox=Outbox(repositories, tools),
            mcp=self._mcp(metrics),
        )
        self.manager = SessionManager(self.services)
        self.services.rooms.on_changed = self.manager.wake_readers_of
        self.forks = Forks(self.manager, self.services)
        self.reaper = Reaper(self.manager, self.services)
        self.releaser = BudgetReleaser(self.manager, self.services)

    def decide_networks(self, holds_broker: bool) -> list[str]:
        """Gives each agent its network, now that the walls are known; the names of those that share the
        machine's.
        """
        current = self.services.current
        current.holds_broker = holds_broker
        current.agents = AgentCatalogue(current.config, holds_broker=holds_broker)
        current.agents.log_networks()
        return current.agents.on_network("shared")

    def _mcp(self, metrics: Metrics) -> McpClient:
        return McpClient(
            HttpCaller(self.services.egress.addresses),
            on_outcome=lambda outcome: metrics.mcp_calls.labels(outcome).inc(),
            on_odd=metrics.odd("mcp"),
        )

    def _of_several(self) -> dict[str, TaskRun]:
        """What several gateways on one store need."""
        snapshots, found = self.services.snapshots, dict[str, TaskRun]()
        if snapshots.travelling is not None:
            found["files elsewhere"] = snapshots.clear_stale_for_ever
        membership, directory = self.services.membership, self.services.store.directory
        if membership is not None and directory is not None:
            found["takeover"] = Takeover(self.manager, membership, directory).run
        return found

    @contextlib.asynccontextmanager
    async def running(self, tasks: BackgroundTasks, *, has_predecessor: bool = False) -> AsyncIterator[None]:
        """Recovers those that the end of the last gateway cut; leaving ends every session's worker.
        `has_predecessor`: it has not ended; `begin` and `inherited` come later.
        """
        await self.services.egress.open()
        await asyncio.to_thread(self._folder.open, is_empty=self._is_in_memory)
        await self.services.snapshots.open()
        self.repositories.open()
        async with (
            contextlib.aclosing(self.services.egress),
            contextlib.aclosing(self.services.snapshots),
            contextlib.aclosing(self.spares),
            self.manager,
            contextlib.aclosing(self.repositories),
        ):
            if not has_predecessor:
                await self.forks.recover()
                if recovered := await self.manager.recover():
                    log.warning("%d turns were cut by the end of the last gateway", recovered)
            runs = {
                **self._of_several(),
                "parker": self.reaper.park_for_ever,
                "loop lag": LoopLag(self.services).run,
                "memory": self.services.slots.watch_memory,
            }
            async with tasks.running(runs), contextlib.AsyncExitStack() as self._beside:
                if not has_predecessor:
                    await self.begin(tasks)
                    await self.index(tasks)
                yield

    async def begin(self, tasks: BackgroundTasks) -> None:
        """Does from now on what only one gateway of a directory does. Raises StoreFailed."""
        await self.releaser.open()
        runs = {
            "reaper": self.reaper.reap_for_ever,
            "budgets": self.releaser.run,
            "workspaces": self.repositories.keep_for_ever,
            "spares": self.spares.keep_for_ever,
        }
        await self._beside.enter_async_context(tasks.running(runs))

    async def rest(self) -> None:
        """Does none of that any more, and builds no index: a successor does."""
        await self._beside.aclose()

    async def index(self, tasks: BackgroundTasks) -> None:
        """Builds the index of searches from now on. As long as another gateway writes, too, a search reads
        what has none.
        """
        indexer = Indexer(self.services.store.search, self.services.monotonic)
        await self._beside.enter_async_context(tasks.running({"search": indexer.run}))

    async def inherited(self, tasks: BackgroundTasks) -> None:
        """The predecessor has ended: everything is this gateway's. Raises StoreFailed."""
        self.manager.succession = None
        await self.releaser.open()
        if cut := await self.manager.end_cut_turns():
            log.warning("%d turns were cut by the end of the predecessor", cut)
        await self.index(tasks)
