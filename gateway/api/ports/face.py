"""`/api/sessions/{id}/ports`: the servers that an agent has started, for its session's owner and nobody else.

Three ways lead to one relay (`relay.py`): the path of the API, with the caller's credential, for programs;
a host of its own, or a path that is a secret, for browsers (`openings.py`). A browser that opens the first is
led to one of the others, where the server's pages can do nothing in the gateway's name.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NoReturn
from urllib.parse import parse_qsl, urlencode

from msgspec import Struct
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.api.ports.openings import TICKET, Opening, Openings, is_of, suffix_of
from gateway.api.ports.relay import ShownPort, pass_request, pass_socket
from gateway.config.addresses import PORTS_PATH, port_label
from gateway.egress.worker_http import WorkerHttp, WorkerSilent
from gateway.errors import PortUnreachable, RouteNotFound, SessionElsewhere, SessionNotFound, TooManyStreams
from gateway.http.gate import VISITOR_PREFIX, bearer, principal_of
from gateway.http.operation import Admit, Operation, json_response
from gateway.http.reading import checked_session_id
from gateway.http.scope import carried
from gateway.sessions.manager import SessionManager
from gateway.sessions.services import FaceServices
from gateway.sessions.session import Session
from gateway.stores.directory import Node
from gateway.workers import ports
from gateway.workers.forks import ForkWorker
from gateway.workers.ports import PortClosed

AT_ONCE: Final = 256
"""Requests and WebSockets to the workers of one session at a time."""
_COOKIE: Final = "agw_port"
_API: Final = "/api/sessions/{session_id}/ports"
_PREFLIGHT: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "*",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Max-Age": "600",
}
"""For pages without an origin; what they ask carries no credential but its address."""
Handle = Callable[[HTTPConnection, Receive, Send], Awaitable[None]]


class OpenPort(Struct):
    """One port at which a session's worker listens."""

    port: int
    url: str
    """Where its owner opens it, relative to the gateway's address."""


class OpenPorts(Struct):
    """`GET /api/sessions/{id}/ports`. A parked session has none: its processes have ended."""

    ports: list[OpenPort]


class PortsFace:
    """The handlers, and the host names of openings. `close` it."""

    def __init__(
        self, manager: SessionManager, services: FaceServices, *, nodes: Callable[[], Sequence[Node]]
    ) -> None:
        """`nodes`: the gateways that share the store, as they were lately."""
        self._nodes = nodes
        self._manager = manager
        self._services = services
        self._http = WorkerHttp()
        self._openings = Openings(services.monotonic)
        self._passing: Counter[str] = Counter()

    async def close(self) -> None:
        """Ends the connections to workers."""
        await self._http.close()

    def operations(self) -> list[Operation]:
        """What the document describes; the relay itself takes any method and path."""
        return [
            Operation(
                method="GET", scope="read", path=_API, handler=self.list_ports,
                summary="The ports at which a session's agent has started servers", answer=OpenPorts,
                errors=(404,),
            ),
        ]  # fmt: skip

    def routes(self, admit: Admit) -> list[BaseRoute]:
        """The relay: with the caller's credential, and with a secret path."""
        found: list[BaseRoute] = [_Hosts(self._by_host)]
        ways = (
            (_API + "/{port:int}/{path:path}", self._by_credential(admit)),
            (PORTS_PATH + "{label}/{path:path}", self._by_path),
        )
        for path, handle in ways:
            app = _endpoint(handle)
            found += [Route(path, app, methods=None), WebSocketRoute(path, app)]
        return found

    async def list_ports(self, request: Request) -> Response:
        session_id, owner = checked_session_id(request.path_params["session_id"]), principal_of(request).owner
        if not await self._manager.exists(owner, session_id):
            raise SessionNotFound(session_id=session_id)
        session = await self._manager.here(owner, session_id)
        worker = session.process if session is not None else None
        found = await asyncio.to_thread(ports.listening, worker) if isinstance(worker, ForkWorker) else {}
        at = _API.format(session_id=session_id)
        return json_response(OpenPorts([OpenPort(port, f"{at}/{port}/") for port in found]))

    # -- the three ways -----------------------------------------------------------------------------------

    def _by_credential(self, admit: Admit) -> Handle:
        async def handle(connection: HTTPConnection, receive: Receive, send: Send) -> None:
            scope, parts = connection.scope, connection.path_params
            carried(scope).operation = "reach_port"
            principal = await admit(connection, "chat")
            if principal is None:
                raise RouteNotFound
            session_id, port = checked_session_id(parts["session_id"]), parts["port"]
            if not await self._manager.exists(principal.owner, session_id):
                raise SessionNotFound(session_id=session_id)
            session = await self._manager.here(principal.owner, session_id)
            is_standing = carried(scope).is_standing or (lambda: True)
            if session is not None and connection.headers.get("sec-fetch-mode") == "navigate":
                label = self._openings.open(
                    owner=principal.owner,
                    session_id=session_id,
                    key=session.record.key,
                    port=port,
                    is_standing=is_standing,
                    node=directory.node if (directory := self._services.store.directory) else 0,
                )
                detail = f"port {port}"
                self._services.audit.note(principal, "port.opened", target=session.record.key, detail=detail)
                await self._led_on(connection, label)(scope, receive, send)
                return
            prefix = f"{_API.format(session_id=session_id)}/{port}"
            place = ShownPort(
                worker=_worker(session, port),
                port=port,
                withheld=self._withheld,
                target=_without_credential(_target(scope, prefix), bearer(connection)),
                prefix=prefix,
                is_standing=is_standing,
            )
            await self._pass(session, place, scope, receive, send)

        return handle

    def _led_on(self, connection: HTTPConnection, label: str) -> Response:
        """To the place where a browser sees it."""
        path, query = connection.path_params["path"], connection.url.query
        own = suffix_of(self._services.config.server.ports_host, connection.headers.get("host", ""))
        if own is None:
            address = f"{PORTS_PATH}{label}/{path}" + (f"?{query}" if query else "")
        else:
            ticket = urlencode({TICKET: self._openings.ticket(label)})
            asked = f"{query}&{ticket}" if query else ticket
            address = f"{connection.url.scheme}://{label}.{own}/{path}?{asked}"
        return RedirectResponse(address, 303, headers={"Cache-Control": "no-store"})

    async def _by_path(self, connection: HTTPConnection, receive: Receive, send: Send) -> None:
        scope, label = connection.scope, connection.path_params["label"]
        carried(scope).operation = "reach_port"
        opening = self._openings.find(label) or self._elsewhere(label)
        if scope.get("method") == "OPTIONS" and "access-control-request-method" in connection.headers:
            await Response(status_code=204, headers=_PREFLIGHT)(scope, receive, send)
            return
        prefix = f"{PORTS_PATH}{label}"
        session = self._session(opening)
        place = ShownPort(
            worker=_worker(session, opening.port),
            port=opening.port,
            withheld=self._withheld,
            target=_target(scope, prefix),
            prefix=prefix,
            is_public=True,
            is_standing=lambda: self._openings.find(label) is opening,
        )
        await self._pass(session, place, scope, receive, send)

    async def _by_host(self, connection: HTTPConnection, receive: Receive, send: Send) -> None:
        scope, label = connection.scope, port_label(connection.headers.get("host", "")) or ""
        carried(scope).operation = "reach_port"
        opening = self._openings.find(label) or self._elsewhere(label)
        is_secure = scope.get("scheme") in ("https", "wss")
        cookie = f"__Host-{_COOKIE}" if is_secure else _COOKIE
        if scope["type"] == "http" and (given := connection.query_params.get(TICKET)) is not None:
            response = _without_ticket(connection)
            if self._openings.redeem(opening, given):
                response.set_cookie(
                    cookie, opening.secret, path="/", httponly=True, samesite="lax", secure=is_secure
                )
            await response(scope, receive, send)
            return
        if opening.secret not in _cookies(connection.headers.getlist("cookie"), cookie):
            raise RouteNotFound("Another browser opened this. Open the port in its session again.")
        session = self._session(opening)
        place = ShownPort(
            worker=_worker(session, opening.port),
            port=opening.port,
            withheld=self._withheld,
            target=_target(scope, ""),
            prefix="",
            own_cookie=cookie,
            is_standing=lambda: self._openings.find(label) is opening,
        )
        await self._pass(session, place, scope, receive, send)

    @property
    def _withheld(self) -> frozenset[str]:
        """The headers by which a proxy in front says who calls."""
        proxy = self._services.config.proxy
        return frozenset(
            name.lower() for name in (proxy.user_header, proxy.tenant_header, proxy.groups_header) if name
        )

    def _elsewhere(self, label: str) -> NoReturn:
        """Raises SessionElsewhere if the gateway that made an opening lives, else RouteNotFound."""
        if (directory := self._services.store.directory) is not None and not is_of(label, directory.node):
            for node in self._nodes():
                if node.url and is_of(label, node.id):
                    raise SessionElsewhere(node=node.id, url=node.url)
        raise RouteNotFound("This preview has ended. Open the port in its session again.")

    def _session(self, opening: Opening) -> Session | None:
        """The session that was opened; None if it was deleted, or another one has its name."""
        session = self._manager.get(opening.owner, opening.session_id)
        return session if session is not None and session.record.key == opening.key else None

    async def _pass(
        self, session: Session | None, place: ShownPort, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if session is None:
            raise PortUnreachable
        session.touch()
        with self._counted(session.record.key):
            try:
                act = pass_request if scope["type"] == "http" else pass_socket
                await act(self._http, place, scope, receive, send)
            except PortClosed:
                raise PortUnreachable(f"Nothing in this session listens at port {place.port}.") from None
            except WorkerSilent as error:
                raise PortUnreachable(str(error)) from None

    @contextmanager
    def _counted(self, key: str) -> Iterator[None]:
        if self._passing[key] >= AT_ONCE:
            raise TooManyStreams(f"{AT_ONCE} requests to this session's ports are open already.")
        self._passing[key] += 1
        try:
            yield
        finally:
            self._passing[key] -= 1
            if not self._passing[key]:
                del self._passing[key]


def _endpoint(handle: Handle) -> ASGIApp:
    """An ASGI application, which a route takes as it is: for any method."""

    class Endpoint:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await handle(HTTPConnection(scope), receive, send)

    return Endpoint()


class _Hosts(BaseRoute):
    """Takes every request to a host of an opening, so that nothing else is served there."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        host = b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
                break
        return (Match.FULL if port_label(host.decode("latin-1")) is not None else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._handle(HTTPConnection(scope), receive, send)


def _worker(session: Session | None, port: int) -> ForkWorker:
    worker = session.process if session is not None else None
    if not isinstance(worker, ForkWorker):
        raise PortUnreachable(
            f"Nothing listens at port {port}: the session's agent is not running. A message starts it."
        )
    return worker


def _target(scope: Scope, prefix: str) -> str:
    """Path and query as they came, without what stands before the server's own; which may be spelled in more
    than one way, so its parts are counted.
    """
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    parts = raw.partition(b"?")[0].decode("latin-1").split("/", prefix.count("/") + 1)
    query = scope["query_string"].decode("latin-1")
    return f"/{parts[-1]}" + (f"?{query}" if query else "")


def _without_credential(target: str, token: str | None) -> str:
    """What admitted the caller in the query (`?token=`, `?visitor=`) is none of the server's business."""
    path, _, query = target.partition("?")
    left = [
        part
        for part in query.split("&")
        for name, value in [(parse_qsl(part, keep_blank_values=True) or [("", "")])[0]]
        if not (name == "token" and value == token)
        and not (name == "visitor" and value.startswith(VISITOR_PREFIX))
    ]
    return path + ("?" + "&".join(left) if query and left else "")


def _without_ticket(connection: HTTPConnection) -> Response:
    asked = parse_qsl(connection.url.query, keep_blank_values=True)
    left = [(name, value) for name, value in asked if name != TICKET]
    address = connection.url.path + (f"?{urlencode(left)}" if left else "")
    headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return RedirectResponse(f"/{address.lstrip('/')}", 303, headers=headers)


def _cookies(headers: list[str], name: str) -> list[str]:
    """All values of a cookie: another host of the domain may have set one of the same name."""
    found = []
    for part in ";".join(headers).split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            found.append(value)
    return found
