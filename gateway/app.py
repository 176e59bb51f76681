"""Composition: the one file that knows everything. Builds the parts, opens and closes them in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from gateway.api import page
from gateway.api.branding import logo_route
from gateway.api.identity import ApplicationPage
from gateway.api.mcp.face import McpFace
from gateway.api.models import ModelPort
from gateway.api.opening import OwnFaces
from gateway.auth.node_tickets import NodeTickets, ShownTicket
from gateway.auth.opening import Authentication
from gateway.config.tables import Config
from gateway.egress.node_http import NodeHttp
from gateway.extension import Context, joined, opened, refuse_taken
from gateway.http.application import application, document
from gateway.http.door_routes import through
from gateway.http.forwarding import Forwarding, Watches
from gateway.http.gate import Gate
from gateway.http.node_post import NodePost
from gateway.maintenance.disk import alarm_of
from gateway.maintenance.lock import DataLock, mark_of, refuse_half_restored
from gateway.models.ledger import ledger_of
from gateway.server.nodes_listener import NodesDoor
from gateway.server.succession import Predecessor
from gateway.sessions.host import MCP_PATH
from gateway.sessions.membership import Membership
from gateway.sessions.observers import keepers
from gateway.sessions.opening import Sessions
from gateway.sessions.reloading import Reloading
from gateway.sessions.telling import Telling
from gateway.stores.directory import NodeLoad, NodePlace, NodesSeen
from gateway.stores.opening import Options, configured_store
from gateway.telemetry import clocks
from gateway.telemetry.clocks import Clock
from gateway.telemetry.heavy import loaded
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tasks import BackgroundTasks
from gateway.version import VERSION
from gateway.webhooks.delivery import Webhooks
from gateway.webhooks.watching import Watching
from gateway.workers.opening import Workers

log = logging.getLogger(__name__)


class Gateway:
    """The parts of one gateway, built from its configuration, the lower packages first."""

    def __init__(
        self,
        config: Config,
        *,
        reread: Callable[[], Config] | None = None,
        predecessor: Predecessor | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall_ms: Callable[[], int] = clocks.wall_ms,
    ) -> None:
        """`reread` reads the configuration anew for a reload; `predecessor` is the gateway whose place it
        takes; `monotonic` and `wall_ms` are the clock.
        """
        self.failed = asyncio.Event()
        """Set when it cannot go on; the server then ends it."""
        self.asked_to_end = asyncio.Event()
        """Set when an operator has asked for its end in the database of several gateways."""
        self.is_reachable = False
        """Whether the other gateways of its store reach it."""
        self.predecessor = predecessor
        clock = Clock(monotonic, wall_ms)
        metrics = Metrics(version=VERSION, monotonic=monotonic)
        self.tasks = BackgroundTasks(on_change=metrics.task_changed)
        listeners = Options(
            on_commit=metrics.committed,
            on_trouble=metrics.store_troubled,
            on_end=self._on_store_end,
            on_healed=metrics.store_was_healed,
            on_doubt=lambda: self.app.give_up_waiting(),
            on_beat=self._on_store_beat,
            on_seen=self._on_store_seen,
            load=self._load,
            version=VERSION,
            mark=lambda: mark_of(config.data_path),
        )
        store = configured_store(config, listeners)
        self.workers = Workers(config, metrics=metrics, tasks=self.tasks, clock=clock)
        self.spawner, self.peers = self.workers.spawner, self.workers.peers
        self.membership = (
            Membership(config.cluster, hold_to=self.spawner.hold_to, on_fenced=metrics.fenced.inc)
            if store.is_shared
            else None
        )
        self.ledger = ledger_of(
            lambda: self.config, store.ledger, metrics=metrics, clock=clock, held=store.held
        )
        self.auth = Authentication(
            lambda: self.config, store, budgets=self.ledger.budgets, metrics=metrics, clock=clock
        )
        self.quotas = self.auth.quotas
        self.sessions = Sessions(
            config,
            store=store,
            workers=self.workers,
            auth=self.auth,
            ledger=self.ledger,
            metrics=metrics,
            clock=clock,
            membership=self.membership,
        )
        self.services, self.manager = self.sessions.services, self.sessions.manager
        self.reaper, self.audit = self.sessions.reaper, self.sessions.for_faces.audit
        self.reloading = Reloading(
            self.manager,
            self.services,
            self.peers,
            reread=None if reread is None else lambda: self.auth.kept_tenants.over(reread()),
            taken_over=self._take_over,
        )
        self.reload = self.reloading.reload
        self.webhooks = Webhooks(
            lambda: self.config,
            metrics=metrics,
            wall_ms=wall_ms,
            own_url=lambda: self.services.workers.own_url,
        )
        self.watching = Watching(self.webhooks, lambda: self.config, self.services.rooms, wall_ms=wall_ms)
        self.services.observers.add(self.watching)
        self.lock = DataLock(config.data_path)
        self.disk = alarm_of(lambda: self.config, monotonic=monotonic, seen=metrics.disk_seen)
        self.gate = Gate(
            lambda: self.config,
            keys=self.auth.keys,
            tickets=self.auth.tickets,
            tokens=self.auth.tokens(config),
            people=self.auth.people,
            permits=self.auth.permits,
            sign_ins=self.auth.sign_ins,
            monotonic=monotonic,
            wall_ms=wall_ms,
        )
        self.own = OwnFaces(
            self.sessions,
            self.gate,
            self.auth,
            self.workers,
            tasks=self.tasks,
            reload=self.reload,
            tenants_changed=self._tenants_changed,
        )
        if self.membership is not None:
            self.membership.on_changes = self.own.following.heard
        self.applications = opened(
            config, self._context(), tell=lambda name, said: self.telling.say(name, said)
        )
        self.added = joined(self.applications)
        self._add()
        self.mcp = McpFace(
            self.added.toolsets,
            admit=self.gate.admit,
            check=self.auth.people.check,
            passes=self.services.workers.passes,
            server=config.server,
            limits=config.limits,
        )
        self.model_port = ModelPort(self.services.workers.models.routes)
        self.operations = self.own.operations(self.added.operations)
        refuse_taken(self.operations)
        self.sockets = self.added.sockets
        self._nodes_door: NodesDoor | None = None
        self.watches, self.node_http = Watches(), NodeHttp(connect_seconds=config.cluster.lease_seconds)
        self.manager.on_draining = self.watches.end_streams
        self.node_tickets = NodeTickets(self.auth.tickets, shared_ms=self._shared_ms(wall_ms))
        self._post = NodePost(own=lambda: self.own_node(), tickets=self.node_tickets, http=self.node_http)
        self.telling = self.manager.telling = Telling(
            self.manager, tell=self._post.tell, others=self._other_nodes, metrics=metrics
        )
        self.telling.words = {
            name: faces.hear for name, faces in self.applications.items() if faces.hear is not None
        }
        self.app = application(
            self._routes(),
            lifespan=self.lifespan,
            config=lambda: self.config,
            metrics=metrics,
            audit=self.audit,
            tracer=self.services.tracer,
            passes=self.services.workers.passes,
            tokens=self.services.workers.models.tokens,
            monotonic=monotonic,
            check_place=_nothing if self.membership is None else self.membership.check,
            may_doubt=store.is_shared,
        )
        if config.cluster.url:
            self.meet_others()
        self.services.workers.door_routes[MCP_PATH] = through(self.app)

    @property
    def config(self) -> Config:
        """The configuration as it is now."""
        return self.services.config

    def meet_others(self) -> NodesDoor:
        """Passes requests on, from now on, to the gateways of the same store, or to the one of this data
        directory whose place it takes or that takes its own; the door for what they pass on.
        """
        if self._nodes_door is None:
            self.app.put_inside(self._forwarding)
            self._nodes_door = NodesDoor(
                self.app,
                own=lambda: self.own_node(),
                tickets=self.node_tickets,
                is_standing=self._standing_elsewhere,
                heard=self.telling.heard,
            )
        return self._nodes_door

    def _shared_ms(self, wall_ms: Callable[[], int]) -> Callable[[], int]:
        """The clock of the store, or that of this machine until the store has said what time it is."""
        membership = self.membership
        if membership is None:
            return wall_ms
        return lambda: found if (found := membership.shared_ms()) is not None else wall_ms()

    def own_node(self) -> int:
        """What other gateways call this one: the id of its row where several share a store, else its
        process.
        """
        directory = self.services.store.directory
        return os.getpid() if directory is None else directory.node

    def _other_nodes(self) -> list[NodePlace]:
        """The living gateways that share the store, as the last beat told."""
        nodes = () if self.membership is None else self.membership.nodes
        return [node.reached for node in nodes if node.id != self.own_node()]

    def _forwarding(self, app: ASGIApp) -> Forwarding:
        return Forwarding(
            app,
            own=lambda: self.own_node(),
            tickets=self.node_tickets,
            http=self.node_http,
            watches=self.watches,
            permit=self.gate.permit,
            config=lambda: self.config,
            metrics=self.services.metrics,
            is_draining=lambda: self.manager.is_draining,
            forget=lambda node: self.manager.places.forget(node),
            ping=self._post.ping,
        )

    def _standing_elsewhere(self, shown: ShownTicket) -> Callable[[], bool]:
        return self.gate.standing_elsewhere(
            shown.principal, issued_at=shown.issued_at, until_ms=shown.said.stands_until_ms
        )

    def _take_over(self, config: Config) -> None:
        self.gate.tokens = self.auth.tokens(config)
        self.own.identity.provider = self.auth.provider(config)
        self.auth.own_keys.read_files(config)
        self.gate.look_again()

    def _tenants_changed(self) -> None:
        self.services.current.config = self.auth.kept_tenants.applied(self.config)
        self.gate.look_again()
        self.reloading.close_those_of_disabled_tenants()

    def _on_store_beat(self, sent: float, is_mine: bool) -> None:
        if self.membership is not None:
            self.membership.beaten(sent, is_mine)

    def _on_store_seen(self, seen: NodesSeen) -> None:
        if self.membership is None:
            return
        before = {node.id for node in self.membership.nodes}
        self.membership.seen(seen)
        for node in before - {node.id for node in seen.nodes}:
            self.watches.gone(node)
            self.manager.places.forget(node)
        is_to_end = any(node.id == seen.mine and node.load.state == "draining" for node in seen.nodes)
        if is_to_end and not self.manager.is_going:
            self.asked_to_end.set()

    def reached_by_others(self) -> None:
        """The other gateways of the store reach this one from now on, and may pass requests on to it."""
        self.is_reachable = True
        if (directory := self.services.store.directory) is not None:
            directory.announce()

    def _load(self) -> NodeLoad:
        return NodeLoad(
            state="draining" if self.manager.is_going else "up" if self.is_reachable else "starting",
            sessions=self.manager.get_active_session_count(),
            workers=self.services.slots.taken,
            worker_limit=self.config.limits.max_live_workers,
        )

    def _on_store_end(self, words: str) -> None:
        log.critical("the gateway ends, because nothing can be stored any more: %s", words)
        if self.membership is not None:
            self.membership.fence()
        if self.services.store.directory is not None:
            self.manager.fence()
        self.failed.set()

    def _context(self) -> Context:
        """What applications are given."""
        services = self.services
        return Context(
            config=lambda: self.config,
            sessions=self.manager,
            tables=services.store.tables,
            gate=self.gate,
            metrics=services.metrics,
            audit=self.audit,
            monotonic=services.monotonic,
            wall_ms=services.wall_ms,
            health=self.own.health.now,
            readiness=self.own.readiness.check,
            notify=self.watching.notify,
            watching=self.watching.attended,
            others={},
        )

    def _add(self) -> None:
        """What applications add to the sessions and to the page."""
        self.services.observers.add(*self.added.observers)
        self.services.workers.toolsets = {toolset.name: toolset for toolset in self.added.toolsets}
        self.own.identity.applications = [
            ApplicationPage(name, one.page_part) if one.page_part else name
            for name, one in self.applications.items()
        ]

    def _routes(self) -> list[BaseRoute]:
        admit = self.gate.admit
        return [
            *self.own.ports.routes(admit),
            *(operation.route(admit) for operation in self.operations),
            *self.mcp.routes(),
            *self.model_port.routes(),
            *(socket.route(admit) for socket in self.sockets),
            document(self.operations, version=VERSION),
            *self.added.routes,
            logo_route(lambda: self.config.page),
            *page.routes(self.added.pages, self.added.files),
        ]

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Opens the parts in order and closes them in reverse."""
        services, store = self.services, self.services.store
        async with contextlib.AsyncExitStack() as stack:
            if self.predecessor is not None:
                self.lock.share(self.predecessor.lock_fd)
            self.lock.take()
            stack.callback(self.lock.release)
            refuse_half_restored(self.config.data_path)
            stack.enter_context(self.own.log.listening())
            self.audit.open()
            stack.callback(self.audit.close)
            stack.push_async_callback(asyncio.to_thread, services.tracer.close)
            await self.workers.clear(has_predecessor=self.predecessor is not None)
            if self.membership is not None:
                stack.callback(self.membership.leave)
            await store.open()
            stack.push_async_callback(store.close)
            await self.ledger.open()
            stack.push_async_callback(self.ledger.close)
            if self.config.cluster.url:
                await self.own.following.open()
            await self.auth.open()
            self.services.current.config = self.auth.kept_tenants.over(self.config)
            stack.push_async_callback(self.auth.close)
            taken, decide = await store.sessions.taken_uids(), self.sessions.decide_networks
            taken |= self.predecessor.uids if self.predecessor is not None else set()
            await stack.enter_async_context(
                self.workers.running(self.config, taken_uids=taken, decide=decide)
            )
            stack.push_async_callback(self.reloading.close)
            stack.push_async_callback(self.mcp.close)
            stack.push_async_callback(self.own.ports.close)
            stack.push_async_callback(self.node_http.close)
            stack.push_async_callback(self.telling.close)
            services.observers.add(*await keepers(store.tables, running=self.applications))
            await stack.enter_async_context(self.added.lifespan())
            await stack.enter_async_context(
                self.sessions.running(self.tasks, has_predecessor=self.predecessor is not None)
            )
            stack.push_async_callback(self.auth.keep)
            runs = {
                "disk alarm": self.disk.look_for_ever,
                "use": self.auth.keep_for_ever,
                "ledger": self.ledger.keep_for_ever,
                "sign-ins": self.auth.sign_ins.confirm_for_ever,
                "webhook": self.webhooks.run,
                "waits": self.watching.run,
                "history": self.own.pulse.beat_for_ever,
            }
            if self.config.cluster.url:
                runs["other gateways"] = self.own.following.run
            await stack.enter_async_context(self.tasks.running(runs))
            if self.membership is not None:
                stack.callback(self.membership.lease.drain)
            loading = asyncio.create_task(loaded(*_needed_soon(self.config)), name="libraries")
            stack.push_async_callback(asyncio.wait, [loading])
            yield


def _nothing() -> None:
    """Nothing keeps this gateway from changing what it stores."""


def _needed_soon(config: Config) -> list[str]:
    """Libraries that the first who come will need: nobody shall wait for them."""
    signs_in = bool(config.oidc.issuer) or "jwt" in config.auth.modes
    names = ["aiohttp"] if config.every_provider or signs_in or config.cluster.url else []
    names += ["jwt"] if signs_in else []
    return names + (["cryptography.x509"] if config.credentials else [])


def create_app(config: Config | None = None) -> Starlette:
    """The gateway as an ASGI application, for those who bring a server of their own."""
    return Gateway(config or Config()).app
