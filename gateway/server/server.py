"""The HTTP server: uvicorn, with the gateway owning the signals.

Stock uvicorn refuses connections as soon as SIGTERM arrives and exits 143. Here the listener stays open while
the gateway drains: new work is answered 503, running turns get their grace, and streams end with an event.
Then the process exits 0. A second signal ends the grace. During the drain every answer closes its connection,
and new connections are served first. With a listener that a service manager holds, none is cut or refused.

The number of connections is limited by the files that the process may open. Some files are reserved for
workers, so a flood of connections stops no session from starting.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import resource
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol, cast

from starlette.types import ASGIApp
from uvicorn.config import Config as UvicornConfig
from uvicorn.server import Server as UvicornServer

from gateway.config.file import ConfigError
from gateway.config.tables import Config, LimitsConfig, ServerConfig
from gateway.errors import StoreFailed
from gateway.http.connections import Connections
from gateway.maintenance.lock import DataLock
from gateway.server.collecting import Collector
from gateway.server.leaving import leave
from gateway.server.nodes_listener import NodesDoor, listening
from gateway.server.operators_door import Door
from gateway.server.operators_socket import SOCKET_NAME, make_token, open_door
from gateway.server.protocol import GatewayProtocol
from gateway.server.succession import Predecessor, SuccessionDoor
from gateway.server.systemd import notify
from gateway.sessions.manager import SessionManager
from gateway.sessions.membership import Membership
from gateway.sessions.opening import Sessions
from gateway.sessions.services import Services
from gateway.sessions.succession import Succession
from gateway.stores.directory import NodePlace
from gateway.telemetry.tasks import BackgroundTasks
from gateway.workers.peer_identity import PeerIdentity

log = logging.getLogger(__name__)

CONNECTION_GRACE_SECONDS: Final = 2
"""How long connections may take to end by themselves once every stream has."""
FIRST_REQUEST_SECONDS: Final = 0.5
"""A connection as young as that, whose first request is still on its way, is not closed over it."""
SEND_BUFFER_BYTES: Final = 64 * 1024
"""What the kernel keeps for a reader that does not read; Linux doubles it. With what the protocol keeps, less
than 256 kB a connection.
"""
BACKLOG: Final = 2_048
BLOCKING_THREADS: Final = 3
"""For erasing files, measuring disks, looking up names: the usual number grows with the load and stays."""
STARTED_POLL_SECONDS: Final = 0.005
_SHARING: Final = (
    "Agents of this gateway share the machine's network and have no uids of their own, so a successor could"
    " not tell their connections from people's. Stop it, and start the new one."
)
KEEP_ALIVE_PROBES: Final = 3
OWN_FILES: Final = 64
"""Store, log, listener, event loop, model calls."""
FILES_PER_WORKER: Final = 9 + 8
"""Three pipes, a pidfd, one more while it starts, and four doors of its network; four connections through
these, two files each.
"""
LAST_SECONDS: Final = 20.0
"""After the grace of running turns: for their workers to end, for the last commits."""
HUNG_STATUS: Final = 70
"""The exit code of a process that had to be ended while something hung (EX_SOFTWARE)."""
SWEEP_TICKS: Final = 10
"""Of uvicorn, a tenth of a second each, between two looks at readers that stand still."""


class Server(UvicornServer):
    """uvicorn without its own signal handlers, which looks after its connections."""

    def __init__(self, config: UvicornConfig, connections: Connections) -> None:
        super().__init__(config)
        self.connections = connections
        self.for_nodes: asyncio.Server | None = None
        self.of_nodes: Connections | None = None
        """Those of other gateways of the same store."""
        self.serving: asyncio.Task[None]
        self.following: asyncio.Task[None] | None = None
        """Hears what a predecessor lets go of, until it has ended."""

    async def on_tick(self, counter: int) -> bool:
        if counter % SWEEP_TICKS == 0:
            now = asyncio.get_running_loop().time()
            self.connections.sweep(now)
            if self.of_nodes is not None:
                self.of_nodes.sweep(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for serving in self.servers:
            serving.close()
        self.connections.is_closing = True
        loop = asyncio.get_running_loop()
        while self.connections.has_unheard(loop.time(), seconds=FIRST_REQUEST_SECONDS):
            await asyncio.sleep(STARTED_POLL_SECONDS)
        await super().shutdown(sockets)

    def rest(self) -> None:
        """Accepts no connection any more; those that are open end with their next answer."""
        for serving in self.servers:
            serving.close()
        self.servers = []
        self.connections.is_closing = True

    async def resume(self, listener: socket.socket) -> None:
        """Accepts connections again, from this listener."""
        self.servers = [await self.accept(self.config, listener)]
        self.connections.is_closing = False

    def protocols(self, config: UvicornConfig) -> Callable[[], asyncio.Protocol]:
        """Makes the protocol of each connection that is served as this says, beside those of people."""
        if not config.loaded:
            config.load()
        kind = cast("Any", config.http_protocol_class)
        return functools.partial(kind, config=config, server_state=self.server_state, app_state={})

    async def accept(self, config: UvicornConfig, listener: socket.socket) -> asyncio.Server:
        """Accepts connections from this listener from now on, which are served as this says."""
        loop = asyncio.get_running_loop()
        return await loop.create_server(self.protocols(config), sock=listener, backlog=BACKLOG)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The gateway has captured them."""
        yield


def listen(host: str, port: int, *, half_open_seconds: float = 60) -> socket.socket:
    """A listening socket, whose connections inherit its options. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    tune(listener, half_open_seconds=half_open_seconds)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def own_url(listener: socket.socket) -> str:
    """Where processes of this machine reach the listener: at its address, or over loopback."""
    host, port = listener.getsockname()[:2]
    wildcards = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
    host = wildcards.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def tune(listener: socket.socket, *, half_open_seconds: float) -> None:
    """Sets what the connections of a listener inherit."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _find_half_open(listener, seconds=half_open_seconds)


def _find_half_open(listener: socket.socket, *, seconds: float) -> None:
    """Probes for peers that are quiet, and a bound for those that do not acknowledge what they are sent."""
    interval = max(1, int(seconds / (2 * KEEP_ALIVE_PROBES)))
    quiet = max(1, int(seconds) - interval * KEEP_ALIVE_PROBES)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", quiet),
        ("TCP_KEEPINTVL", interval),
        ("TCP_KEEPCNT", KEEP_ALIVE_PROBES),
        ("TCP_USER_TIMEOUT", int(seconds * 1000)),
    ):
        if hasattr(socket, name):
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Servable(Protocol):
    """What is served: the composition of a gateway (`gateway.app.Gateway`)."""

    services: Services
    manager: SessionManager
    peers: PeerIdentity
    lock: DataLock
    tasks: BackgroundTasks
    failed: asyncio.Event
    """Set when it cannot go on."""
    asked_to_end: asyncio.Event
    """Set when an operator has asked for its end otherwise than by a signal."""
    membership: Membership | None
    predecessor: Predecessor | None
    """Whose place it takes."""
    sessions: Sessions

    @property
    def app(self) -> ASGIApp: ...

    @property
    def config(self) -> Config: ...

    def meet_others(self) -> NodesDoor: ...

    def reached_by_others(self) -> None: ...

    def lifespan(self) -> contextlib.AbstractAsyncContextManager[None]: ...

    def reload(self) -> object: ...


def connection_capacity(server: ServerConfig, limits: LimitsConfig) -> int:
    """How many connections there are files for when every worker has its own; asks the system for more first.

    Where it gives few, connections and workers share them equally.
    """
    kept = OWN_FILES + FILES_PER_WORKER * limits.max_live_workers
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = server.max_connections + kept
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if allowed > resource.getrlimit(resource.RLIMIT_NOFILE)[0]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    files = max(allowed, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return max(1, files - kept, (files - OWN_FILES) // 2)


@contextlib.asynccontextmanager
async def running(gateway: Servable, listener: socket.socket) -> AsyncIterator[Server]:
    """A gateway that takes requests; leaving ends its server, then its sessions.

    Raises StoreFailed if the data directory cannot be used.
    """
    blocking = ThreadPoolExecutor(BLOCKING_THREADS, thread_name_prefix="blocking")
    asyncio.get_running_loop().set_default_executor(blocking)
    async with gateway.lifespan():
        config = gateway.config
        capacity = connection_capacity(config.server, config.limits)
        connections = Connections(config.server, capacity=capacity, origin=gateway.peers.origin)
        server = Server(_uvicorn(gateway.app, config, connections), connections)
        gateway.services.workers.own_url = own_url(listener)
        server.following = await _take_over(gateway, server)
        serving = server.serving = asyncio.create_task(server.serve([listener]), name="server")
        try:
            while not server.started and not serving.done():
                await asyncio.sleep(STARTED_POLL_SECONDS)
            async with _operators_door(gateway, server, connections), _nodes_door(gateway, server):
                yield server
        finally:
            if server.following is not None:
                server.following.cancel()
            server.should_exit = True
            await serving


async def _take_over(gateway: Servable, server: Server) -> asyncio.Task[None] | None:
    """Takes the place of the predecessor, if there is one; the task that follows it to its end. Raises
    StoreFailed.
    """
    if (predecessor := gateway.predecessor) is None:
        return None
    url = await serve_nodes(gateway, server, gateway.meet_others(), listen("127.0.0.1", 0))
    succession = await predecessor.take(url, gateway.services.store.sessions)
    gateway.manager.succeed(succession)
    await gateway.sessions.begin(gateway.tasks)
    following = predecessor.follow(
        succession,
        on_left=lambda name: gateway.manager.wake_readers_of(name),
        on_end=lambda: gateway.sessions.inherited(gateway.tasks),
    )
    return asyncio.create_task(following, name="predecessor")


class _Giving:
    """What this gateway gives a successor."""

    def __init__(self, gateway: Servable, server: Server, listener: socket.socket) -> None:
        self.manager = gateway.manager
        self._gateway = gateway
        self._server = server
        self._listener = listener
        self._url = ""

    @property
    def lock_fd(self) -> int:
        return self._gateway.lock.fd

    @property
    def listener_fd(self) -> int:
        return self._listener.fileno()

    @property
    def objection(self) -> str:
        if self._gateway.peers.method != "uid" and self._gateway.services.agents.on_network("shared"):
            return _SHARING
        return ""

    def uids(self) -> list[int]:
        return sorted(self._gateway.services.workers.workspaces.taken_uids)

    async def listen_for_other(self) -> str:
        if not self._url:
            door = self._gateway.meet_others()
            self._url = await serve_nodes(self._gateway, self._server, door, listen("127.0.0.1", 0))
        return self._url

    async def rest(self) -> None:
        self._server.rest()
        await self._gateway.sessions.rest()

    def succeeded_by(self, successor: NodePlace) -> Succession:
        succession = Succession(successor, self._gateway.services.store.sessions, kept=None)
        self.manager.succeed(succession)
        return succession

    async def resume(self) -> None:
        self.manager.succession = None
        await self._gateway.sessions.begin(self._gateway.tasks)
        await self._gateway.sessions.index(self._gateway.tasks)
        await self._server.resume(self._listener.dup())


@contextlib.asynccontextmanager
async def _operators_door(gateway: Servable, server: Server, connections: Connections) -> AsyncIterator[None]:
    """The same application over the socket in the data directory, for the command line."""
    data_path = gateway.config.data_path
    config = _uvicorn(Door(gateway.app, make_token(data_path)), gateway.config, connections)
    loop = asyncio.get_running_loop()
    listening = await loop.create_unix_server(server.protocols(config), sock=open_door(data_path))
    inode = (data_path / SOCKET_NAME).stat().st_ino
    try:
        yield
    finally:
        listening.close()
        with contextlib.suppress(FileNotFoundError):
            if (data_path / SOCKET_NAME).stat().st_ino == inode:  # else it is a successor's
                (data_path / SOCKET_NAME).unlink()


@contextlib.asynccontextmanager
async def _nodes_door(gateway: Servable, server: Server) -> AsyncIterator[None]:
    """The port for the other gateways of the same store. Raises StoreFailed if there can be none."""
    cluster, settings = gateway.config.cluster, gateway.config.server
    if cluster.url:
        listener = listening(cluster, functools.partial(listen, half_open_seconds=settings.half_open_seconds))
        await serve_nodes(gateway, server, gateway.meet_others(), listener)
        gateway.reached_by_others()
    try:
        yield
    finally:
        if server.for_nodes is not None:
            server.for_nodes.close()


async def serve_nodes(gateway: Servable, server: Server, door: NodesDoor, listener: socket.socket) -> str:
    """Serves what other gateways pass on, as long as the server serves; the listener's URL."""
    settings = gateway.config.server
    capacity = connection_capacity(settings, gateway.config.limits)
    hub = Connections(settings, capacity=capacity, origin=gateway.peers.origin, counts_addresses=False)
    server.for_nodes = await server.accept(_uvicorn(door, gateway.config, hub), listener)
    server.of_nodes = hub
    return own_url(listener)


def _uvicorn(app: ASGIApp, config: Config, connections: Connections) -> UvicornConfig:
    return UvicornConfig(
        app,
        loop="none",
        http=cast("Any", functools.partial(GatewayProtocol, connections=connections)),
        ws="none",  # below /ws/ the protocol above brings its own
        ws_max_size=config.server.socket_message_bytes,
        ws_ping_interval=config.server.socket_ping_seconds,
        ws_ping_timeout=config.server.socket_ping_seconds,
        ws_per_message_deflate=False,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=cast("int", config.server.idle_connection_seconds),
        timeout_graceful_shutdown=CONNECTION_GRACE_SECONDS,
    )


async def serve(
    gateway: Servable, listener: socket.socket, *, url: str, on_ready: Callable[[], None]
) -> None:
    """Serves until a signal, then drains. Raises StoreFailed if the data directory cannot be used, or stops
    being usable. Once it drains, the process always ends in a bounded time; if others of its store take the
    work, when the last of its turns has ended.
    """
    stopping, hurrying = asyncio.Event(), asyncio.Event()
    spare = listener.dup()  # the server closes its own when it rests
    with (
        contextlib.closing(spare),
        _signals(lambda: hurrying.set() if stopping.is_set() else stopping.set(), lambda: _reload(gateway)),
    ):
        async with running(gateway, listener) as server:
            gateway.lock.inform(url)
            collector = Collector(lambda: any(each.is_busy for each in gateway.manager.sessions()))
            collector.begin()
            gateway.services.trimmer.before_last = collector.ask
            gateway.tasks.start("collector", collector.run)
            on_ready()
            notify("READY=1" if gateway.predecessor is None else f"MAINPID={os.getpid()}\nREADY=1")
            succeeded = _until_succeeded(gateway, server, spare)
            ends = stopping.wait(), gateway.asked_to_end.wait(), gateway.failed.wait(), succeeded
            await _first_of(server.serving, *ends)
            await gateway.tasks.stop("collector")
            if not server.serving.done():
                if gateway.manager.succession is None:  # else the service goes on
                    notify("STOPPING=1")
                if gateway.failed.is_set():
                    hurrying.set()
                stopping.set()  # also if it was asked otherwise: a signal that comes now hurries
                server.connections.is_closing = True
                await _drain(gateway, hurrying)
    if gateway.failed.is_set():
        raise StoreFailed("Nothing could be stored any more; the log says why.")


async def _until_succeeded(gateway: Servable, server: Server, listener: socket.socket) -> None:
    """Returns when a successor has everything; never, where there can be none."""
    if gateway.membership is None and not gateway.config.is_in_memory:
        if server.following is not None:
            await asyncio.wait([server.following])
        try:
            await SuccessionDoor(gateway.config.data_path, _Giving(gateway, server, listener)).run()
        except OSError as error:
            log.warning("no other gateway can take over from this one: %s", error)
        else:
            log.info("the successor has everything")
            return
    await asyncio.Event().wait()


async def _first_of(serving: asyncio.Task[None], *others: Coroutine[Any, Any, object]) -> None:
    """Returns when one of them is done; the others than the first are ended."""
    waiting = [asyncio.create_task(other, name="end") for other in others]
    await asyncio.wait([serving, *waiting], return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


def end_within(seconds: float) -> None:
    """Ends this process after so long, if it has not ended by then: something hangs that nobody can wait for,
    such as a disk that does not answer.
    """
    timer = threading.Timer(seconds, _end_at_once, [seconds])
    timer.daemon = True
    timer.start()


def _end_at_once(seconds: float) -> None:
    log.critical("the gateway has not ended within %g s, so it is ended now: something hangs", seconds)
    os._exit(HUNG_STATUS)


@contextlib.contextmanager
def _signals(stop: Callable[[], None], reload: Callable[[], None]) -> Iterator[None]:
    """Calls `stop` at SIGTERM and SIGINT, `reload` at SIGHUP."""
    loop = asyncio.get_running_loop()
    acts = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}
    for number, act in acts.items():
        loop.add_signal_handler(number, act)
    try:
        yield
    finally:
        for number in acts:
            loop.remove_signal_handler(number)


def _reload(gateway: Servable) -> None:
    try:
        gateway.reload()
    except ConfigError as error:
        for mistake in error.mistakes:
            log.error("not reloaded: %s", mistake)


async def _drain(gateway: Servable, hurrying: asyncio.Event) -> None:
    grace = 0.0 if await leave(gateway, hurrying) else gateway.config.server.grace_seconds
    end_within(grace + LAST_SECONDS)
    log.info("draining: no new work, running turns have %g s", grace)
    draining = asyncio.create_task(gateway.manager.drain(grace_seconds=grace), name="drain")
    hurry = asyncio.create_task(hurrying.wait(), name="hurry")
    await asyncio.wait([draining, hurry], return_when=asyncio.FIRST_COMPLETED)
    hurry.cancel()
    if not draining.done():
        draining.cancel()
        await gateway.manager.drain(grace_seconds=0)
    await asyncio.wait([draining])
