"""The port at which the other gateways of a store reach this one: the same application, for requests that one
of them passes on.

Guarantees: nothing is served without a ticket that a gateway with the same secret has written for this very
request; whoever has none, an agent on this machine above all, learns nothing here. Where a request came in,
it was checked: its Host and Origin, its rate, who asks; here, what may have changed since then and what the
operation needs.

The port speaks HTTP. For TLS, a proxy or a mesh in front of it does that, and `cluster.url` says https.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.answers import ErrorBody, ErrorDetail
from gateway.auth.node_tickets import HEADER, NodeTickets, ShownTicket, TicketUnfit, digest
from gateway.config.addresses import host_and_port
from gateway.config.cluster import ClusterConfig
from gateway.errors import StoreFailed
from gateway.http.forwarding import MARK_HEADER, MISDIRECTED, REFUSED_HEADER
from gateway.http.node_post import NOT_THERE, PING_PATH, TELL_PATH, TOLD, body_digest
from gateway.http.operation import json_response
from gateway.http.passing import host_of, target_of
from gateway.http.scope import Told, carried
from gateway.http.socket_relay import Refusing
from gateway.sessions.telling import BODY_BYTES

log = logging.getLogger(__name__)

NODE_PATH: Final = "/_node/"
"""Below it are messages of the gateways themselves."""
PING: Final = f"GET {PING_PATH}"
TELL: Final = f"POST {TELL_PATH}"
NodeHandler = Callable[[Request], Awaitable[Response]]
_NO_TICKET: Final = (
    "This port is for the other gateways of the same store. Everybody else uses the gateway's own address."
)


class NodesDoor:
    """ASGI: lets in what other gateways pass on; see the module."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        own: Callable[[], int],
        tickets: NodeTickets,
        is_standing: Callable[[ShownTicket], Callable[[], bool]],
        heard: Callable[[bytes], Awaitable[bool]],
    ) -> None:
        """`own`: the id of this gateway's row. `is_standing`: whether what let somebody in there is still
        good, as far as that can be known here. `heard` does what another gateway tells, if it can.
        """
        self._heard = heard
        self._app = app
        self._own = own
        self._tickets = tickets
        self._is_standing = is_standing
        self.messages: dict[str, NodeHandler] = {PING: self._ping, TELL: self._tell}
        """Of the gateways themselves: `METHOD /_node/NAME` → handler."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = carried(scope)
        if await found.origin.is_agent():
            await _answer(scope, receive, send, 403, "agent_connection", found.origin.refusal)
            return
        try:
            shown = self._shown(scope)
        except TicketUnfit as error:
            log.warning("a request of another gateway is refused: %s", error)
            await _answer(scope, receive, send, 401, "unauthorized", str(error), {REFUSED_HEADER: "1"})
            return
        said = shown.said
        if said.to != self._own():  # an earlier start of this gateway, or another one at this address
            headers = {MARK_HEADER: said.mark}
            await _answer(scope, receive, send, MISDIRECTED, "session_elsewhere", _NOT_MINE, headers)
            return
        if scope["path"].startswith(NODE_PATH):
            await self._message(scope, receive, send)
            return
        scope["client"] = (said.client, 0)
        scope["scheme"] = said.scheme
        found.peer, found.is_new_visitor = said.peer, said.is_new_visitor
        found.operator = "" if said.is_at_machine else None
        found.is_standing = self._is_standing(shown)
        found.stands_until_ms = said.stands_until_ms
        found.told = Told(
            principal=shown.principal,
            is_new_visitor=said.is_new_visitor,
            has_met=said.has_met,
            met=said.met,
            request_id=said.request_id,
            mark=said.mark,
        )
        is_socket = scope["type"] == "websocket"
        await self._app(scope, receive, Refusing(send) if is_socket else send)

    def _shown(self, scope: Scope) -> ShownTicket:
        """The request's ticket, which is taken from it. Raises TicketUnfit."""
        given = [value for name, value in scope["headers"] if name == HEADER]
        if len(given) != 1:
            raise TicketUnfit(_NO_TICKET)
        scope["headers"] = [header for header in scope["headers"] if header[0] != HEADER]
        method = scope.get("method", "GET")
        asked = digest(scope["type"], method, target_of(scope), host_of(scope))
        return self._tickets.read(given[0].decode("latin-1"), asked=asked)

    async def _message(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self.messages.get(f"{scope.get('method')} {scope['path']}")
        if scope["type"] != "http" or handler is None:
            await _answer(scope, receive, send, 404, "not_found", "This gateway knows no such message.")
            return
        response = await handler(Request(scope, receive, send))
        await response(scope, receive, send)

    async def _ping(self, _request: Request) -> Response:
        return json_response({"node": self._own()})

    async def _tell(self, request: Request) -> Response:
        body = await _whole(request)
        if body is None or request.query_params.get("sha256") != body_digest(body):
            log.warning("a message of another gateway is not the one that it has signed, or too long")
            return Response(status_code=400)
        try:
            is_done = await self._heard(body)
        except msgspec.DecodeError as error:
            log.warning("a message of another gateway cannot be read: %s", error)
            return Response(status_code=400)
        return Response(status_code=TOLD if is_done else NOT_THERE)


async def _whole(request: Request) -> bytes | None:
    """The body of a message; None if it is too long."""
    parts, size = list[bytes](), 0
    async for part in request.stream():
        size += len(part)
        if size > BODY_BYTES:
            return None
        parts.append(part)
    return b"".join(parts)


_NOT_MINE: Final = "This is another gateway than the one that was meant."


async def _answer(
    scope: Scope,
    receive: Receive,
    send: Send,
    status: int,
    code: str,
    words: str,
    headers: dict[str, str] | None = None,
) -> None:
    body = ErrorBody(ErrorDetail(code, words, None), "")
    await json_response(body, status=status, headers=headers)(scope, receive, send)


def address_of(config: ClusterConfig) -> tuple[str, int]:
    """Where the port is: host and number. Raises StoreFailed if that is not said."""
    text = config.listen or config.url.partition("://")[2].partition("/")[0]
    host, port = host_and_port(text)
    if not host or port is None:
        name = "listen" if config.listen else "url"
        raise StoreFailed(f"cluster.{name}: an address and a port, such as 10.0.0.5:8081.")
    return host, port


def listening(config: ClusterConfig, listen: Callable[[str, int], socket.socket]) -> socket.socket:
    """The port's socket. Raises StoreFailed, with what to do."""
    host, port = address_of(config)
    try:
        return listen(host, port)
    except OSError as error:
        raise StoreFailed(
            f"The other gateways cannot reach this one at {host}:{port}: {error.strerror or error}. "
            "Set cluster.listen to an address and port of this machine."
        ) from error
