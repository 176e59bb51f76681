"""Composition: the one file that knows everything. Builds the parts, opens and closes them in order, and
gives every error its status.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pathlib
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway import errors
from gateway.agents.broker import Broker
from gateway.agents.catalogue import AgentCatalogue
from gateway.agents.spool import Intake
from gateway.answers import Reloaded
from gateway.api import page
from gateway.api.chat import ChatFace
from gateway.api.credentials import CredentialsFace
from gateway.api.health import OpsFace
from gateway.api.identity import IdentityFace
from gateway.api.mcp.face import McpFace
from gateway.api.operators import AdminFace
from gateway.api.readiness import Readiness
from gateway.api.sessions import SessionsFace
from gateway.api.shares import SharesFace
from gateway.apps.product_chat.catalogue import Products, products_of
from gateway.apps.product_chat.desk import Desk
from gateway.apps.product_chat.rest import ProductsFace
from gateway.apps.product_chat.sockets import ProductSockets
from gateway.apps.product_chat.staff import StaffFace
from gateway.apps.product_chat.stats import SocketStats
from gateway.apps.product_chat.store import ProductStore
from gateway.apps.product_chat.store_sqlite import SqliteProducts
from gateway.apps.product_chat.visitors import ChatKeys
from gateway.apps.shop.cart import Shop, bounds_of
from gateway.apps.shop.catalog import SHIPPED, Catalogue
from gateway.apps.shop.store_memory import MemoryShopStore
from gateway.apps.shop.store_sqlite import SqliteShopStore
from gateway.apps.shop.tools import ShopTools
from gateway.apps.shopping_assistant.face import ShoppingFace
from gateway.auth.keys import KeyRing
from gateway.auth.oidc import Http, Provider, verifier_of
from gateway.auth.passes import Passes
from gateway.auth.quotas import Quotas
from gateway.auth.tickets import Tickets, read_secret
from gateway.auth.tokens import TokenVerifier
from gateway.buckets import TokenBuckets
from gateway.config.file import NOT_RELOADED, ConfigError, changes, kept_tables
from gateway.config.tables import Config
from gateway.egress.caller import Caller
from gateway.egress.mcp_client import McpClient
from gateway.events.lifecycle import CloseReason
from gateway.http import slashes
from gateway.http.gate import Gate
from gateway.http.guard import Guard
from gateway.http.operation import json_response, openapi
from gateway.maintenance.backup import refuse_half_restored
from gateway.maintenance.disk import DiskAlarm, free_bytes
from gateway.maintenance.lock import DataLock
from gateway.principal import tenant_of
from gateway.sessions.census import Census, LoopLag
from gateway.sessions.manager import SessionManager
from gateway.sessions.reaper import Reaper
from gateway.sessions.services import Services
from gateway.sessions.slots import WorkerSlots
from gateway.sessions.starts import StartQueue
from gateway.stores.contract import Store
from gateway.stores.credentials import CredentialStore
from gateway.stores.memory.store import MemoryStore
from gateway.stores.sqlite.credentials import SqliteCredentials
from gateway.stores.sqlite.store import SqliteStore
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

STATUSES: Final[dict[type[errors.GatewayError], int]] = {
    errors.BadRequest: 400,
    errors.InvalidField: 422,
    errors.MalformedSessionId: 422,
    errors.WrongMediaType: 415,
    errors.BodyTooLarge: 413,
    errors.RequestTimeout: 408,
    errors.MessageTooLong: 413,
    errors.UnknownAgent: 422,
    errors.IdempotencyMismatch: 422,
    errors.RouteNotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.SessionNotFound: 404,
    errors.SessionExists: 409,
    errors.SessionEnded: 409,
    errors.SessionBusy: 409,
    errors.QueueFull: 429,
    errors.ConversationFull: 409,
    errors.PermissionNotPending: 409,
    errors.ProductNotFound: 404,
    errors.NotInCart: 404,
    errors.NotForSale: 409,
    errors.CartLimit: 409,
    errors.CartEmpty: 409,
    errors.CartFull: 409,
    errors.PreferencesTooLarge: 413,
    errors.AnswerFailed: 502,
    errors.AnswerDropped: 409,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.CsrfMissing: 403,
    errors.TenantDisabled: 403,
    errors.KeyNotFound: 404,
    errors.ShareNotFound: 404,
    errors.SignInFailed: 401,
    errors.InvalidInput: 400,
    errors.UnknownProduct: 404,
    errors.ChatNotFound: 404,
    errors.ChatClosed: 400,
    errors.ChatIdTaken: 409,
    errors.AdminNeeded: 403,
    errors.WrongPassword: 401,
    errors.AgentConnection: 403,
    errors.ForbiddenHost: 403,
    errors.ForbiddenOrigin: 403,
    errors.RateLimited: 429,
    errors.QuotaExceeded: 429,
    errors.TooManyStreams: 429,
    errors.SessionLimit: 503,
    errors.WorkerLimit: 503,
    errors.Draining: 503,
    errors.StoreFull: 507,
    errors.StoreFailed: 503,
    errors.StoreDamaged: 500,
    errors.BrokenInvariant: 500,
}
"""The status of every error; a test checks that every leaf has one."""


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
        store, credentials, self._products = _stores(
            config, on_commit=metrics.committed, on_trouble=metrics.store_troubled
        )
        self.failed = asyncio.Event()
        """Set when it cannot go on; whoever serves it ends it."""
        if isinstance(store, SqliteStore):
            store.on_end = self._on_store_end
        self._http = Http()
        self.keys = KeyRing(credentials, wall_ms=wall_ms)
        self.quotas = Quotas(
            lambda: self.config,
            credentials,
            monotonic=monotonic,
            wall_ms=wall_ms,
            on_exceeded=lambda limit: metrics.rejections.labels(limit).inc(),
        )
        self._credentials = credentials
        shop = open_shop(config, store, monotonic=monotonic, wall_ms=wall_ms)
        shop.base_path = lambda: self.config.server.base_path
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
            shop=shop,
            shop_tools=ShopTools(shop),
            passes=Passes(),
            intake=Intake(),
            trimmer=Trimmer(),
            mcp=McpClient(
                Caller(
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
        shop.on_change = self.manager.cart_changed
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
        self.desk = Desk(self.manager, self.services, self._products, self._chat_products(config))
        self._old_brokers: list[Broker] = []
        self.identity = IdentityFace(
            self.manager,
            self.services,
            gate=self.gate,
            credentials=credentials,
            provider=self._provider(config),
        )
        self.mcp = McpFace(
            self.services.shop_tools,
            admit=self.gate.admit,
            passes=self.services.passes,
            server=config.server,
            limits=limits,
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
        differing = [name for name in changes(self.config, new) if not name.startswith(NOT_RELOADED)]
        waiting = [name for name in changes(self.config, new) if name.startswith(NOT_RELOADED)]
        kept = kept_tables(self.config, new)
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
        self.desk.catalogue = self._chat_products(kept)
        self.gate.tokens = self._tokens(kept)
        self.identity.provider = self._provider(kept)
        for session in self.manager.sessions():
            tenant = kept.tenant(tenant_of(session.record.owner))
            if tenant is None or tenant.is_disabled:
                session.ask_to_close(CloseReason.TENANT_DISABLED)
        log.info("reloaded; changed: %s; after a restart: %s", differing or "nothing", waiting or "nothing")
        return Reloaded(differing, waiting)

    def _chat_products(self, config: Config) -> Products:
        services = self.services
        return products_of(config.products.catalogue, services.shop.catalogue, monotonic=services.monotonic)

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

        chat_keys = ChatKeys(self.desk, self.gate, monotonic=services.monotonic)
        product_sockets = ProductSockets(self.desk, self.manager, services, self.gate, chat_keys)
        self.sockets = product_sockets.sockets()
        readiness = Readiness(
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
        self.shopping = ShoppingFace(self.manager, services, health=ops.now, readiness=readiness)
        operations = [
            *chat.operations(),
            *SessionsFace(self.manager, services).operations(),
            *AdminFace(self.manager, services, census, drain=_terminate).operations(),
            *self.identity.operations(),
            *SharesFace(self.manager, services, self._credentials).operations(),
            *CredentialsFace(
                self.keys, self.gate, self._credentials, services, reload=self.reload
            ).operations(),
            *ProductsFace(self.desk, self.services, chat_keys).operations(),
            *StaffFace(self.desk, self.services, self.gate).operations(),
            *SocketStats(self.desk, product_sockets.floor, self.services).operations(),
            *self.shopping.operations(),
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
                *page.routes(),
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
            statuses=STATUSES,
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
            services.workspaces.claim_uids(await services.store.taken_uids())
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
            stack.callback(self.shopping.close)
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
        await self.desk.open()
        await self.quotas.open(await self.services.store.totals())

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


def open_store(config: Config) -> Store:
    """The store that the configuration names; it is not opened yet."""
    return _stores(config)[0]


def _stores(
    config: Config,
    *,
    on_commit: Callable[[float, bool], None] = lambda _seconds, _is_done: None,
    on_trouble: Callable[[bool], None] = lambda _is_lost: None,
) -> tuple[Store, CredentialStore, ProductStore]:
    limits = config.limits
    if config.store == "memory://":
        memory = MemoryStore(
            max_events=limits.events_per_session, max_bytes=2 * limits.event_bytes_per_session
        )
        return memory, memory.credentials, memory.products
    sqlite = SqliteStore(config.database_path, on_commit=on_commit, on_trouble=on_trouble)
    return sqlite, SqliteCredentials(sqlite), SqliteProducts(sqlite)


def open_shop(
    config: Config,
    store: Store,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    wall_ms: Callable[[], int] = _wall_ms,
) -> Shop:
    """The shop over a store: in the same file, or in memory like it."""
    directory = pathlib.Path(config.shop.stores_dir).expanduser() if config.shop.stores_dir else SHIPPED
    bounds = bounds_of(config.shop)
    carts = (
        SqliteShopStore(store, bounds=bounds)
        if isinstance(store, SqliteStore)
        else MemoryShopStore(bounds=bounds)
    )
    return Shop(
        Catalogue(directory, monotonic=monotonic),
        carts,
        config.shop,
        wall_ms=wall_ms,
    )


def _terminate() -> None:
    """Asks this process to end, as a service manager does."""
    signal.raise_signal(signal.SIGTERM)


def create_app(config: Config | None = None) -> Starlette:
    """The gateway as an ASGI application, for those who bring a server of their own."""
    return Gateway(config or Config()).app
