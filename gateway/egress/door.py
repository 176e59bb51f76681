"""The doors of one worker, served: every connection and every name look-up of a worker whose network is
`broker` ends here.

At the gateway's own door: its model routes and a proxy (`egress.front`). At port 443: TLS, passed on to the
host that it names, unread. At port 80: HTTP, passed on to its Host. At further ports: whatever it is, passed
on to the host whose address was asked for. At port 53: names (`egress.names`).

Guarantees: nothing is connected to but what the rules of the session admitted, at the addresses that they
gave; so many connections at a time, of which those without a request make room for new ones; when the worker
ends, every connection ends and every handler is cancelled, before anything else is done about its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any, Final, Literal, cast

from gateway.config.hosts import plain_host
from gateway.egress.admission import Admission, Admitted, NotAdmitted
from gateway.egress.bulk import Bulk, Lane
from gateway.egress.front import OWN_HOSTS, DoorTimes, Front, TunnelRequest
from gateway.egress.hello import NotTls, is_tls
from gateway.egress.names import Names, NameServer
from gateway.egress.pace import CONNECTION_SECONDS, Crowd, LoopShare, Stalled
from gateway.egress.routes import RouteHandler
from gateway.egress.spoken import last_answer
from gateway.egress.tunnel import (
    ACCESS_DENIED,
    CANNOT,
    Interceptor,
    Splice,
    Unreachable,
    dial,
    peeked_server_name,
    readable,
    say_last,
)
from gateway.principal import Account
from gateway.workers.doors import DoorSockets
from worker.spec import DOOR_PORT, MIB

log = logging.getLogger(__name__)

CONNECTIONS: Final = 256
"""Of one worker at a time."""
BODIES_BYTES: Final = 64 * MIB
"""Of requests to the gateway itself that one worker has it hold at a time."""
OWN_URL: Final = f"http://127.0.0.1:{DOOR_PORT}"
"""Where a worker finds the gateway itself."""
BASE_URL: Final = OWN_URL + "/llm"
"""Where a worker finds the gateway's model routes."""
_ACCEPTED: Final = 4
"""In one go, before others have their turn."""
_SHORT_SECONDS: Final = 0.05
"""Without a file for a connection, it is tried again after so long."""
_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
_RESET: Final = struct.pack("ii", 1, 0)
_TLS_PORT: Final = 443

DoorName = Literal["gateway", "https", "http", "further"]
Serve = Callable[[socket.socket], Coroutine[Any, Any, None]]


class WorkerDoor:
    """See the module. Opened at once; closed with the worker's sockets."""

    def __init__(
        self,
        sockets: DoorSockets,
        *,
        account: Account,
        admission: Admission,
        routes: RouteHandler | None = None,
        interceptor: Interceptor | None = None,
        connections: int = CONNECTIONS,
        times: DoorTimes | None = None,
        on_connection: Callable[[DoorName], None] = lambda _door: None,
        crowd: Crowd | None = None,
        bulk: Bulk | None = None,
    ) -> None:
        """`crowd` and `bulk` are those of all doors of a gateway."""
        self._on_connection = on_connection
        self.account = account
        self._sockets = sockets
        self._admission = admission
        self._routes = routes
        self._interceptor = interceptor
        self._limit = connections
        self._times = times or DoorTimes()
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._resting: dict[Front, None] = {}
        """Without a request, the longest first."""
        self._bytes = 0
        self._share = LoopShare(crowd=crowd)
        self._lane = Lane(bulk or Bulk(), self._share)
        self._stalled = Stalled()
        self._names = Names()
        self._name_server = NameServer(
            sockets.names, self._names, share=self._share, on_full=self._names_are_full
        )
        self._is_open = len(sockets) > 0  # else the worker has ended already
        self._forwarding: dict[Front, Admitted] = {}
        self._passing: dict[asyncio.Task[Any], Admitted] = {}
        """Connections to hosts: they end when the rules no longer allow them."""
        self._unwatch: Callable[[], None] = lambda: None
        self._listeners: list[tuple[socket.socket, DoorName, Serve]] = [
            (sockets.own, "gateway", self._serve_own),
            (sockets.tls, "https", self._serve_tls),
            (sockets.http, "http", self._serve_http),
        ]
        for port, further in sockets.further.items():
            self._listeners.append((further, "further", partial(self._serve_further, port)))
        if self._is_open:
            self._unwatch = admission.on_changed(self._end_disallowed)
            for one in self._listeners:
                self._listen(*one)
            self._name_server.open()
            sockets.when_closed(self.close)

    def close(self) -> None:
        """Ends everything; the sockets are closed by their owner. Again: nothing."""
        if not self._is_open:
            return
        self._is_open = False
        self._unwatch()
        for listener, *_ in self._listeners:
            self._loop.remove_reader(listener.fileno())
        self._listeners = []  # they hold it, and it them
        self._name_server.close()
        self._share.close()
        for front in list(self._resting):
            front.abort()
        for task in self._tasks:
            task.cancel()

    def _end_disallowed(self) -> None:
        """The rules are other ones."""
        for task, found in self._passing.items():
            if not self._admission.may_go_on(found.host, found.port):
                task.cancel()
        for front, found in list(self._forwarding.items()):
            if not self._admission.may_go_on(found.host, found.port):
                front.abort()

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._tasks)

    # -- what connections need --------------------------------------------------------------------------

    @property
    def admission(self) -> Admission:
        """The rules of its session."""
        return self._admission

    @property
    def routes(self) -> RouteHandler | None:
        """Who answers requests to the gateway itself."""
        return self._routes

    @property
    def share(self) -> LoopShare:
        """What is left to it of the loop's time."""
        return self._share

    @property
    def stalled(self) -> Stalled:
        """What is kept for slow readers."""
        return self._stalled

    @property
    def times(self) -> DoorTimes:
        """How long it waits."""
        return self._times

    def rests(self, front: Front) -> None:
        """See House."""
        self._resting[front] = None

    def works(self, front: Front) -> None:
        """See House."""
        self._resting.pop(front, None)

    def passes(self, front: Front, found: Admitted | None) -> None:
        """See House."""
        self._forwarding.pop(front, None)
        if found is not None:
            self._forwarding[front] = found

    def take_bytes(self, size: int) -> bool:
        """See House."""
        if self._bytes + size > BODIES_BYTES:
            return False
        self._bytes += size
        return True

    def give_bytes(self, size: int) -> None:
        """See House."""
        self._bytes -= size

    # -- connections ------------------------------------------------------------------------------------

    def _listen(self, listener: socket.socket, name: DoorName, serve: Serve) -> None:
        if self._is_open:
            self._loop.add_reader(listener.fileno(), self._accept, listener, name, serve)

    def _accept(self, listener: socket.socket, name: DoorName, serve: Serve) -> None:
        """Takes those that wait. Past its share of time, or without a file for them, they wait on."""
        is_short = False
        for _ in range(_ACCEPTED):
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                break
            except OSError:
                is_short = True
                break
            self._on_connection(name)
            if self._take(client, serve):
                break
        if is_short:
            self._loop.remove_reader(listener.fileno())
            self._loop.call_later(_SHORT_SECONDS, self._listen, listener, name, serve)
        elif self._share.spend(0):
            self._loop.remove_reader(listener.fileno())
            self._share.take_turn(partial(self._listen, listener, name, serve))

    def _take(self, client: socket.socket, serve: Serve) -> bool:
        """Serves it; whether the next is to wait."""
        must_wait = self._share.spend(CONNECTION_SECONDS)
        client.setblocking(False)
        if len(self._tasks) >= self._limit and not self._make_room():
            self._turn_away(client)
            return must_wait
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._serve(client, serve), name="door connection")
        self._tasks.add(task)
        task.add_done_callback(partial(self._let_go, client))
        return must_wait

    def _let_go(self, client: socket.socket, task: asyncio.Task[None]) -> None:
        """A connection has ended, or was to end before its task began."""
        client.close()
        self._tasks.discard(task)

    def _make_room(self) -> bool:
        """Ends the connection that waits longest for a request."""
        oldest = next(iter(self._resting), None)
        if oldest is None:
            return False
        self.works(oldest)
        oldest.abort()
        return True

    def _turn_away(self, client: socket.socket) -> None:
        address, port = client.getsockname()
        self._admission.refuse(self._names.name_of(address) or address, port, "limit")
        _reset(client)

    async def _serve(self, client: socket.socket, serve: Serve) -> None:
        try:
            await serve(client)
        except OSError:  # one of both is gone, or too slow
            pass
        except Exception:
            log.exception("a connection at a worker's door failed")

    async def _serve_own(self, client: socket.socket) -> None:
        asked = await self._front(client, Front(self, is_own=True))
        while asked is not None:
            with asked.client as tunnel:
                if asked.host.lower() not in OWN_HOSTS or asked.port != DOOR_PORT:
                    await self._serve_tunnel(tunnel, asked.host, asked.port)
                    return
                await self._loop.sock_sendall(tunnel, _ESTABLISHED)
                asked = await self._front(tunnel, Front(self, is_own=True))

    async def _serve_http(self, client: socket.socket) -> None:
        name = self._names.name_of(client.getsockname()[0])
        await self._front(client, Front(self, is_own=False, name=name))

    async def _front(self, client: socket.socket, front: Front) -> TunnelRequest | None:
        """Serves HTTP on a connection until its end, or until it asks for a tunnel."""
        try:
            await self._loop.connect_accepted_socket(lambda: front, client)
            return await front.ended
        except asyncio.CancelledError:
            front.forget()
            raise
        finally:
            front.abort()

    async def _serve_tls(self, client: socket.socket) -> None:
        address = client.getsockname()[0]
        expected = self._names.name_of(address)
        name = await self._server_name(client, expected or address, _TLS_PORT, expected=expected)
        if name is None:
            return
        found = await self._admission.admit(name, _TLS_PORT)
        if isinstance(found, NotAdmitted):
            say_last(client, ACCESS_DENIED)
        else:
            await self._pass(client, found)

    async def _server_name(self, client: socket.socket, host: str, port: int, *, expected: str) -> str | None:
        """The host that a TLS client names, if it is the one that is expected (empty: any); None if it was
        refused.
        """
        try:
            async with asyncio.timeout(self._times.head):
                name = await peeked_server_name(client)
        except NotTls:
            name = ""
        if not name or (expected and plain_host(name) != plain_host(expected)):
            self._admission.refuse(host, port, "server_name")
            say_last(client, ACCESS_DENIED)
            return None
        return name

    async def _serve_further(self, port: int, client: socket.socket) -> None:
        address = client.getsockname()[0]
        name = self._names.name_of(address)
        found = (
            await self._admission.admit(name, port)
            if name
            else self._admission.refuse(address, port, "address")
        )
        if isinstance(found, NotAdmitted):
            _reset(client)
        else:
            await self._pass(client, found)

    async def _serve_tunnel(self, client: socket.socket, host: str, port: int) -> None:
        """What CONNECT asked for."""
        found = await self._admission.admit(host, port)
        if isinstance(found, NotAdmitted):
            say_last(client, last_answer(403, found.words))
            return
        with self._watched(found):
            if found.credential or port == _TLS_PORT:
                await self._loop.sock_sendall(client, _ESTABLISHED)
                if await self._server_name(client, found.host, port, expected=found.host) is not None:
                    await self._pass_watched(client, found)
            else:
                await self._serve_any_tunnel(client, found)

    async def _serve_any_tunnel(self, client: socket.socket, found: Admitted) -> None:
        """A tunnel to a host that may speak first, so that it is connected to before the client hears."""
        try:
            upstream = await dial(found)
        except Unreachable:
            words = self._admission.refuse(found.host, found.port, "unreachable").words
            say_last(client, last_answer(502, words))
            return
        with upstream:
            await self._loop.sock_sendall(client, _ESTABLISHED)
            if await self._is_as_it_said(client, upstream, found):
                await self._join(client, upstream, found)

    async def _is_as_it_said(self, client: socket.socket, upstream: socket.socket, found: Admitted) -> bool:
        """Whether a tunnel to any port leads to the host that was asked for: TLS names it. In other protocols
        nobody names a host, and in some it is the other side that speaks first.
        """
        first = await readable(client, upstream)
        if first is upstream or not is_tls(_first_byte(client)):
            return True
        name = await self._server_name(client, found.host, found.port, expected=found.host)
        return name is not None

    async def _pass(self, client: socket.socket, found: Admitted) -> None:
        """Serves a connection that was admitted: through the credential's interceptor, or unread."""
        with self._watched(found):
            await self._pass_watched(client, found)

    @contextlib.contextmanager
    def _watched(self, found: Admitted) -> Iterator[None]:
        """Meanwhile this task is one that a change of the rules ends."""
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._passing[task] = found
        try:
            yield
        finally:
            del self._passing[task]

    async def _pass_watched(self, client: socket.socket, found: Admitted) -> None:
        if found.credential:
            if self._interceptor is None:
                self._admission.refuse(found.host, found.port, "credential")
                say_last(client, ACCESS_DENIED)
            else:
                await self._interceptor.serve(client, found, admission=self._admission, share=self._share)
            return
        try:
            upstream = await dial(found)
        except Unreachable:
            self._admission.refuse(found.host, found.port, "unreachable")
            if is_tls(_first_byte(client)):
                say_last(client, CANNOT)
            else:
                _reset(client)
            return
        with upstream:
            await self._join(client, upstream, found)

    async def _join(self, client: socket.socket, upstream: socket.socket, found: Admitted) -> None:
        splice = Splice(self._admission, share=self._share, stalled=self._stalled, lane=self._lane)
        await splice.run(client, upstream)
        if splice.is_spent:
            self._admission.refuse(found.host, found.port, "limit")

    def _names_are_full(self) -> None:
        self._admission.refuse(self._names.refused, 53, "limit")


def _first_byte(client: socket.socket) -> bytes:
    """What a client begins with; empty if it has said nothing yet."""
    try:
        return client.recv(1, socket.MSG_PEEK)
    except OSError:
        return b""


def _reset(client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    client.close()


class DoorKeeper:
    """Opens the doors of workers: the one place where routes and credentials meet them."""

    def __init__(
        self,
        *,
        routes: Callable[[Account], RouteHandler | None] = lambda _account: None,
        connections: Callable[[], int] = lambda: CONNECTIONS,
        interceptors: Callable[[Account], Interceptor | None] = lambda _account: None,
        on_connection: Callable[[DoorName], None] = lambda _door: None,
    ) -> None:
        """`connections` is how many a worker may have at a time; `interceptors` add credentials for hosts;
        `on_connection` hears of each connection.
        """
        self._on_connection = on_connection
        self._crowd, self._bulk = Crowd(), Bulk()
        self._routes = routes
        self._connections = connections
        self._interceptors = interceptors

    def open(
        self,
        sockets: DoorSockets,
        account: Account,
        admission: Admission,
        *,
        routes: RouteHandler | None = None,
    ) -> WorkerDoor:
        """Serves a worker's doors until they are closed, by the rules of its session; `routes` are those of
        this worker, in place of everybody's.
        """
        return WorkerDoor(
            sockets,
            account=account,
            admission=admission,
            routes=routes or self._routes(account),
            interceptor=self._interceptors(account),
            connections=self._connections(),
            on_connection=self._on_connection,
            crowd=self._crowd,
            bulk=self._bulk,
        )
