"""Composition: the one file that knows everything. Builds the parts, opens and closes them in order."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway import errors
from gateway.agents.broker import Broker
from gateway.agents.catalogue import AgentCatalogue
from gateway.agents.spool import Intake
from gateway.agents.toolsets import Toolset
from gateway.answers import Reloaded
from gateway.api import page
from gateway.api.chat import ChatFace
from gateway.api.credentials import CredentialsFace
from gateway.api.health import OpsFace
from gateway.api.identity import ApplicationPage, IdentityFace
from gateway.api.mcp.face import McpFace
from gateway.api.operators import AdminFace
from gateway.api.readiness import ReadinessChecks
from gateway.api.sessions import SessionsFace
from gateway.api.shares import SharesFace
from gateway.auth.keys import KeyRing
from gateway.auth.oidc import Http, Provider, verifier_of
from gateway.auth.passes import Passes
from gateway.auth.quotas import Quotas
from gateway.auth.tickets import Tickets, read_secret
from gateway.auth.tokens import TokenVerifier
from gateway.buckets import TokenBuckets
from gateway.config.applications import Application, enabled, installed, resolved
from gateway.config.file import ConfigError
from gateway.config.reloading import compared
from gateway.config.tables import Config
from gateway.egress.caller import HttpCaller
from gateway.egress.mcp_client import McpClient
from gateway.events.facts import ApplicationFact
from gateway.events.lifecycle import CloseReason
from gateway.extension import Context, Faces
from gateway.http import slashes
from gateway.http.gate import Gate
from gateway.http.guard import Guard
from gateway.http.operation import json_response, openapi
from gateway.maintenance.backup import refuse_half_restored
from gateway.maintenance.disk import DiskAlarm, free_bytes
from gateway.maintenance.lock import DataLock
from gateway.principal import ConversationKey, tenant_of
from gateway.sessions.census import Census, LoopLag
from gateway.sessions.manager import SessionManager
from gateway.sessions.reaper import Reaper
from gateway.sessions.services import Services
from gateway.sessions.slots import WorkerSlots
from gateway.sessions.starts import StartQueue
from gateway.stores import opening
from gateway.stores.contract import Store
from gateway.stores.database import Database
from gateway.stores.migrations import Migrations
from gateway.stores.sqlite import schema
from gateway.telemetry.audit import Audit
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tasks import BackgroundTasks
from gateway.telemetry.tracing import tracer
from gateway.version import VERSION
from gateway.workers import orphans
from gateway.workers.memory import Trimmer
from gateway.workers.peer_identity import AgentsAreOwners, PeerIdentity
from gateway.workers.usage import UsageSampler
from gateway.workers.walls import WalledSpawner
from gateway.workers.workspace import Workspaces

log = logging.getLogger(__name__)

USE_SECONDS: Final = 5.0
"""How often what was used is written down, and the disk is looked at."""


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class Gateway:
    """The parts of one gateway, built from its configuration."""

    def __init__(
        self,
        config: Config,
        *,
        reread: Callable[[], Config] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall_ms: Callable[[], int] = _wall_ms,
    ) -> None:
        """`reread` reads the configuration anew for a reload; `monotonic` and `wall_ms` are the clock."""
        limits = config.limits
        self._config_source = reread
        self.slots = WorkerSlots(limits.max_live_workers, lambda: self.manager.sessions())
        metrics = Metrics(version=VERSION, monotonic=monotonic)
        self.tasks = BackgroundTasks(on_change=metrics.task_changed)
        self.spawner = WalledSpawner(
            config.workers,
            directory=config.data_path / "sessions",
            on_server=lambda pid, counting: orphans.note(config.data_path, pid, counting.directories),
            tasks=self.tasks,
        )
        self.failed = asyncio.Event()
        """Set when it cannot continue; the server then ends it."""
        store = open_store(
            config,
            on_commit=metrics.committed,
            on_trouble=metrics.store_troubled,
            on_end=self._on_store_end,
        )
        credentials = store.credentials
        self._http = Http()
        self.keys = KeyRing(credentials, wall_ms=wall_ms)
        self.quotas = Quotas(
            lambda: self.config,
            store.usage,
            monotonic=monotonic,
            wall_ms=wall_ms,
            on_exceeded=lambda limit: metrics.rejections.labels(limit).inc(),
        )
        self._credentials = credentials
        self.services = Services(
            config=config,
            store=store,
            spawner=self.spawner,
            broker=Broker(config.model, on_odd=metrics.odd("model")),
            agents=AgentCatalogue(config),
            workspaces=Workspaces(config.data_path, config.workers),
            slots=self.slots,
            starts=StartQueue(),
            quotas=self.quotas,
            folds=tuple(one.fold for one in enabled(config) if one.fold is not None),
            passes=Passes(),
            intake=Intake(),
            trimmer=Trimmer(),
            mcp=McpClient(
                HttpCaller(
                    private_hosts=lambda: self.config.egress.private_hosts,
                    own_url=lambda: self.services.own_url,
                ),
                on_outcome=lambda outcome: metrics.mcp_calls.labels(outcome).inc(),
                on_odd=metrics.odd("mcp"),
            ),
            metrics=metrics,
            usage=UsageSampler(monotonic, lambda agent, s: metrics.worker_cpu.labels(agent).inc(s)),
            tracer=tracer(config.telemetry.otlp_endpoint, version=VERSION),
            audit=Audit(config.data_path, wall_ms=wall_ms, monotonic=monotonic),
            monotonic=monotonic,
            wall_ms=wall_ms,
        )
        self.peers = PeerIdentity(
            self.spawner,
            is_worker_uid=self.services.workspaces.is_worker_uid,
            is_allowed=config.server.allow_agent_connections,
        )
        self.lock = DataLock(config.data_path)
        self.disk = DiskAlarm(
            config.data_path,
            low_bytes=lambda: self.config.server.low_disk_bytes,
            monotonic=monotonic,
            free=lambda path: min(free_bytes(path), free_bytes(config.database_path.parent)),
            seen=metrics.disk_seen,
        )
        self.manager = SessionManager(self.services)
        self.reaper = Reaper(self.manager, self.services)
        self.tickets = Tickets(wall_ms=wall_ms)
        self.gate = Gate(
            lambda: self.config,
            keys=self.keys,
            tickets=self.tickets,
            tokens=self._tokens(config),
            monotonic=monotonic,
            wall_ms=wall_ms,
        )
        self._old_brokers: list[Broker] = []
        self.identity = IdentityFace(
            self.manager,
            self.services,
            gate=self.gate,
            credentials=credentials,
            provider=self._provider(config),
        )
        self.app = self._asgi()

    def _on_store_end(self, words: str) -> None:
        log.critical("the gateway ends, because nothing can be stored any more: %s", words)
        self.failed.set()

    @property
    def config(self) -> Config:
        """The configuration as it is now."""
        return self.services.config

    def _tokens(self, config: Config) -> TokenVerifier | None:
        if "jwt" not in config.auth.modes:
            return None
        services = self.services
        return verifier_of(
            config.jwt,
            self._http,
            monotonic=services.monotonic,
            wall_ms=services.wall_ms,
            on_odd=services.metrics.odd("issuer"),
        )

    def reload(self) -> Reloaded:
        """Reads the configuration again and takes over what can change while it runs; no stream ends.

        Raises ConfigError, and then nothing has changed.
        """
        if self._config_source is None:
            return Reloaded([], [])
        new = self._config_source()
        differing, waiting, kept = compared(self.config, new)
        agents = AgentCatalogue(kept, before=self.services.agents)
        if objection := self.peers.objection(kept, agents.sharing_network()):
            raise ConfigError([objection])
        services = self.services
        if any(name.startswith("model.") for name in differing):
            self._old_brokers.append(services.broker)
            services.broker = Broker(kept.model, on_odd=services.metrics.odd("model"))
        services.agents = agents
        services.config = kept
        self.slots.limit = kept.limits.max_live_workers
        self.gate.tokens = self._tokens(kept)
        self.identity.provider = self._provider(kept)
        for session in self.manager.sessions():
            tenant = kept.tenant(tenant_of(session.record.owner))
            if tenant is None or tenant.is_disabled:
                session.ask_to_close(CloseReason.TENANT_DISABLED)
        log.info("reloaded; changed: %s; after a restart: %s", differing or "nothing", waiting or "nothing")
        return Reloaded(differing, waiting)

    def _provider(self, config: Config) -> Provider | None:
        if "oidc" not in config.auth.modes:
            return None
        services = self.services
        return Provider(
            config.oidc,
            self._http,
            monotonic=services.monotonic,
            wall_ms=services.wall_ms,
            on_odd=services.metrics.odd("issuer"),
        )

    def _asgi(self) -> Starlette:
        services, metrics = self.services, self.services.metrics
        chat = ChatFace(self.manager, services, self.gate)
        census = Census(self.manager, services, readers=chat.readers)

        async def scrape() -> bytes:
            return await asyncio.to_thread(metrics.exposition, await census.standing())

        readiness = ReadinessChecks(
            services,
            is_draining=lambda: self.manager.is_draining,
            has_forkserver=lambda: self.spawner.is_ready,
            tasks_down=lambda: self.tasks.down,
        )
        ops = OpsFace(
            version=VERSION,
            is_draining=lambda: self.manager.is_draining,
            monotonic=services.monotonic,
            wall_ms=services.wall_ms,
            readiness=readiness,
            scrape=scrape,
        )
        context = Context(
            config=lambda: self.config,
            sessions=self.manager,
            tables=self.services.store.tables,
            gate=self.gate,
            metrics=metrics,
            audit=services.audit,
            monotonic=services.monotonic,
            wall_ms=services.wall_ms,
            health=ops.now,
            readiness=readiness.check,
            others={},
        )
        self._faces = open_applications(self.config, context)
        faces = list(self._faces.values())
        services.observers.add(*(observer for one in faces for observer in one.observers))
        services.toolsets = toolsets_of(faces)
        self.identity.applications = [
            ApplicationPage(name, one.page_part) if one.page_part else name
            for name, one in self._faces.items()
        ]
        self.mcp = McpFace(
            list(services.toolsets.values()),
            admit=self.gate.admit,
            passes=services.passes,
            server=self.config.server,
            limits=self.config.limits,
        )
        self.sockets = [socket for one in faces for socket in one.sockets]
        operations = [
            *chat.operations(),
            *SessionsFace(self.manager, services).operations(),
            *AdminFace(self.manager, services, census, drain=_terminate).operations(),
            *self.identity.operations(),
            *SharesFace(self.manager, services, self._credentials).operations(),
            *CredentialsFace(
                self.keys, self.gate, self._credentials, services, reload=self.reload
            ).operations(),
            *(operation for one in faces for operation in one.operations),
            *ops.operations(),
        ]
        document = msgspec.json.encode(openapi(operations, version=VERSION))

        async def describe(_request: Request) -> Response:
            return json_response(document)

        self.operations = operations
        routes = [operation.route(self.gate.admit) for operation in operations]
        app = Starlette(
            routes=[
                *routes,
                *self.mcp.routes(),
                *(socket.route(self.gate.admit) for socket in self.sockets),
                Route("/openapi.json", describe, methods=["GET"]),
                *(route for one in faces for route in one.routes),
                *page.routes(
                    {path: name for one in faces for path, name in one.pages.items()},
                    {name: headers for one in faces for name, headers in one.files.items()},
                ),
            ],
            lifespan=lambda _app: self.lifespan(),
        )
        slashes.redirect(app.router)
        limits = self.config.limits
        rates = TokenBuckets(
            rate=limits.address_requests_per_second,
            burst=limits.address_burst,
            monotonic=services.monotonic,
        )
        app.add_middleware(
            Guard,
            config=lambda: self.config,
            rates=rates,
            metrics=metrics,
            audit=services.audit,
            tracer=services.tracer,
            passes=services.passes,
        )
        return app

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Opens the parts in order and closes them in reverse."""
        services = self.services
        async with contextlib.AsyncExitStack() as stack:
            self.lock.take()
            stack.callback(self.lock.release)
            refuse_half_restored(self.config.data_path)
            services.audit.open()
            stack.callback(services.audit.close)
            stack.push_async_callback(asyncio.to_thread, services.tracer.close)
            services.metrics.orphans.inc(await asyncio.to_thread(orphans.sweep, self.config.data_path))
            services.workspaces.open()
            await services.store.open()
            stack.push_async_callback(services.store.close)
            services.workspaces.claim_uids(await services.store.sessions.taken_uids())
            await self._open_credentials()
            stack.push_async_callback(self._http.close)
            await services.spawner.open()
            stack.push_async_callback(services.spawner.close)
            self.peers.open()
            stack.push_async_callback(self.peers.close)
            if objection := self.peers.objection(self.config, services.agents.sharing_network()):
                raise AgentsAreOwners(objection)
            stack.push_async_callback(self._close_brokers)
            stack.push_async_callback(self.mcp.close)
            await self._enter_applications(stack)
            stack.callback(services.trimmer.close)
            await stack.enter_async_context(self.manager)
            if recovered := await self.manager.recover():
                log.warning("%d turns were cut by the end of the last gateway", recovered)
            stack.push_async_callback(self._keep_use)
            for name, run in (
                ("reaper", self.reaper.reap_for_ever),
                ("parker", self.reaper.park_for_ever),
                ("loop lag", LoopLag(services).run),
                ("disk alarm", self._look_at_the_disk),
                ("use", self._note_use),
            ):
                self.tasks.start(name, run)
                stack.push_async_callback(self.tasks.stop, name)
            yield

    async def _open_credentials(self) -> None:
        """Keys, revocations, what was used; the secret that cookies are signed with."""
        config = self.config
        self.tickets.open(read_secret(config.auth.secret_file, config.data_path))
        self.tickets.revoked = await self._credentials.revocations()
        await self.keys.open()
        await self.quotas.open(await self.services.store.sessions.totals())

    async def _enter_applications(self, stack: contextlib.AsyncExitStack) -> None:
        """Those that run begin; of those that are switched off, what they have stored is looked after."""
        off = [one for one in installed().values() if one.name not in self._faces and one.keep is not None]
        for one in off:
            if await self._has_rows(one):
                self.services.observers.add(resolved(one.keep or "")(self.services.store.tables))
        for faces in self._faces.values():
            await stack.enter_async_context(faces.lifespan())

    async def _has_rows(self, application: Application) -> bool:
        """True if the tables of an application that is switched off are in the store."""
        if not isinstance(self.services.store.tables, Database) or not application.outliving:
            return False
        table = application.outliving[0].table
        return await self.services.store.tables.read(functools.partial(schema.has_table, table=table))

    async def _close_brokers(self) -> None:
        for broker in (*self._old_brokers, self.services.broker):
            await broker.close()

    async def _look_at_the_disk(self) -> None:
        while True:
            await asyncio.to_thread(self.disk.look)
            await asyncio.sleep(USE_SECONDS)

    async def _note_use(self) -> None:
        while True:
            await asyncio.sleep(USE_SECONDS)
            await self._keep_use()

    async def _keep_use(self) -> None:
        await self.quotas.keep()
        with contextlib.suppress(errors.GatewayError):  # the next time
            await self.keys.note_use()


def open_applications(config: Config, context: Context) -> dict[str, Faces]:
    """What the applications that run add, by their names."""
    opened: dict[str, Faces] = {}
    for application in enabled(config):
        others = {name: faces.public for name, faces in opened.items()}
        opened[application.name] = resolved(application.open)(msgspec.structs.replace(context, others=others))
    return opened


def toolsets_of(faces: Iterable[Faces]) -> dict[str, Toolset]:
    """The toolsets by name. Raises ConfigError if two have a tool of one name, by which a model calls it."""
    found: dict[str, Toolset] = {}
    tools: set[str] = set()
    for toolset in (toolset for one in faces for toolset in one.toolsets):
        names = {tool.name for tool in toolset.describe()}
        if toolset.name in found or names & tools:
            taken = ", ".join(sorted(names & tools)) or toolset.name
            raise ConfigError(
                [f"applications.enabled: two applications have tools of the same name: {taken}"]
            )
        found[toolset.name] = toolset
        tools |= names
    return found


class _Nowhere:
    """The sessions of a program that has none in memory."""

    def note_aside(self, key: ConversationKey, fact: ApplicationFact) -> None:
        """There is no log to append it to."""


def open_alone(config: Config) -> tuple[Store, list[Toolset]]:
    """The store, which is not opened yet, and the toolsets over it: for a program without sessions."""
    store = open_store(config)
    nothing: Any = None
    nowhere: Any = _Nowhere()
    context = Context(
        config=lambda: config, sessions=nowhere, tables=store.tables, gate=nothing, metrics=nothing,
        audit=nothing, monotonic=time.monotonic, wall_ms=_wall_ms, health=nothing, readiness=nothing,
        others={},
    )  # fmt: skip
    with_tools = [one for one in enabled(config) if one.tools and not one.needs]
    faces = [resolved(one.open)(context) for one in with_tools]
    return store, list(toolsets_of(faces).values())


def migrations_of(config: Config) -> list[Migrations]:
    """Those of the applications that run, in the order in which they are applied."""
    return [Migrations(one.name, one.migrations) for one in enabled(config) if one.migrations is not None]


def open_store(
    config: Config,
    *,
    on_commit: Callable[[float, bool], None] = lambda _seconds, _is_done: None,
    on_trouble: Callable[[bool], None] = lambda _is_lost: None,
    on_end: Callable[[str], None] = lambda _words: None,
) -> Store:
    """The store that the configuration names; it is not opened yet."""
    options = opening.Options(
        migrations=migrations_of(config),
        max_events=config.limits.events_per_session,
        max_bytes=2 * config.limits.event_bytes_per_session,
        on_commit=on_commit,
        on_trouble=on_trouble,
        on_end=on_end,
    )
    return opening.open_store(config.store or config.database_path, options)


def _terminate() -> None:
    """Asks this process to end, as a service manager does."""
    signal.raise_signal(signal.SIGTERM)


def create_app(config: Config | None = None) -> Starlette:
    """The gateway as an ASGI application, for those who bring a server of their own."""
    return Gateway(config or Config()).app
