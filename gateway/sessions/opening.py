"""The sessions of one gateway: what they share, who keeps them, and what looks after them beside requests."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator

from gateway.agents.broker import Broker
from gateway.agents.catalogue import AgentCatalogue
from gateway.agents.spool import Intake
from gateway.auth.opening import Authentication
from gateway.auth.passes import Passes
from gateway.config.applications import enabled
from gateway.config.tables import Config
from gateway.egress.caller import HttpCaller
from gateway.egress.mcp_client import McpClient
from gateway.models.counting import CountingMeter
from gateway.models.opening import Models
from gateway.principal import Account
from gateway.sessions.census import LoopLag
from gateway.sessions.manager import SessionManager
from gateway.sessions.reaper import Reaper
from gateway.sessions.services import Current, FaceServices, Services, WorkerServices
from gateway.sessions.slots import WorkerSlots
from gateway.sessions.starts import StartQueue
from gateway.stores.contract import Store
from gateway.telemetry.audit import Audit
from gateway.telemetry.clocks import Clock
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tasks import BackgroundTasks
from gateway.telemetry.tracing import tracer
from gateway.version import VERSION
from gateway.workers.opening import Workers
from worker.foreign import clamped

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
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        models = Models(
            config,
            meter=CountingMeter(self._count_tokens),
            metrics=metrics,
            monotonic=clock.monotonic,
        )
        current = Current(
            config=config,
            agents=AgentCatalogue(config),
            broker=Broker(config.model, providers=models.providers, on_odd=metrics.odd("model")),
        )
        self.services = Services(
            current=current,
            metrics=metrics,
            monotonic=clock.monotonic,
            wall_ms=clock.wall_ms,
            store=store,
            quotas=auth.quotas,
            slots=WorkerSlots(config.limits.max_live_workers, lambda: self.manager.sessions()),
            tracer=tracer(config.telemetry.otlp_endpoint, version=VERSION),
            trimmer=workers.trimmer,
            folds=tuple(one.fold for one in enabled(config) if one.fold is not None),
            workers=WorkerServices(
                current=current,
                metrics=metrics,
                monotonic=clock.monotonic,
                wall_ms=clock.wall_ms,
                spawner=workers.spawner,
                workspaces=workers.workspaces,
                starts=StartQueue(),
                usage=workers.usage,
                passes=Passes(),
                intake=Intake(),
                models=models,
            ),
        )
        self.for_faces = FaceServices(
            current=current,
            metrics=metrics,
            monotonic=clock.monotonic,
            wall_ms=clock.wall_ms,
            store=store,
            quotas=auth.quotas,
            audit=Audit(config.data_path, wall_ms=clock.wall_ms, monotonic=clock.monotonic),
            mcp=self._mcp(metrics),
        )
        self.manager = SessionManager(self.services)
        self.reaper = Reaper(self.manager, self.services)

    def _count_tokens(self, account: Account, tokens: int) -> None:
        """Those of the built-in agent are counted by its events (`Turns`)."""
        if not self.services.agents.is_built_in(account.agent):
            self.services.quotas.meter(account, tokens=clamped(tokens))

    def _mcp(self, metrics: Metrics) -> McpClient:
        return McpClient(
            HttpCaller(
                private_hosts=lambda: self.services.config.egress.private_hosts,
                own_url=lambda: self.services.workers.own_url,
            ),
            on_outcome=lambda outcome: metrics.mcp_calls.labels(outcome).inc(),
            on_odd=metrics.odd("mcp"),
        )

    @contextlib.asynccontextmanager
    async def running(self, tasks: BackgroundTasks) -> AsyncIterator[None]:
        """Recovers those that the end of the last gateway cut; leaving ends every session's worker."""
        async with self.manager:
            if recovered := await self.manager.recover():
                log.warning("%d turns were cut by the end of the last gateway", recovered)
            async with tasks.running(
                {
                    "reaper": self.reaper.reap_for_ever,
                    "parker": self.reaper.park_for_ever,
                    "loop lag": LoopLag(self.services).run,
                }
            ):
                yield
