"""What a worker may ask the gateway itself through its door: routes by the beginning of their path.

A worker whose network is brokered cannot reach the gateway's own port. What it may ask for there, its MCP
server, is answered here by the same ASGI application, to which the request is an agent's: without a good pass
it is refused as on the port.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

from starlette.types import ASGIApp, Message

from gateway.egress.routes import RouteAnswer, RouteHandler, RouteRequest
from gateway.http.scope import Carried, carried
from gateway.workers.peer_identity import AGENT

_HOP_BY_HOP: Final = frozenset((b"connection", b"content-length", b"keep-alive", b"transfer-encoding"))
"""Headers of a connection, which are the door's (RFC 9110, section 7.6.1)."""
_ADDRESS: Final = ("127.0.0.1", 0)


def by_path(routes: Mapping[str, RouteHandler]) -> RouteHandler:
    """The handler whose path the request's is, or is below; 404 in words if there is none."""

    async def handle(request: RouteRequest, answer: RouteAnswer) -> None:
        path = request.target.partition("?")[0]
        for prefix, handler in routes.items():
            if path == prefix or path.startswith(prefix + "/"):
                await handler(request, answer)
                return
        answer.start(HTTPStatus.NOT_FOUND, [("content-type", "text/plain; charset=utf-8")])
        await answer.write(b"The gateway answers nothing at this address.\n")

    return handle


def through(app: ASGIApp) -> RouteHandler:
    """Hands requests to an ASGI application, as an agent's."""

    async def handle(request: RouteRequest, answer: RouteAnswer) -> None:
        inside = _Inside(request, answer)
        await app(inside.scope, inside.receive, inside.send)

    return handle


class _Inside:
    """One request as ASGI sees it."""

    def __init__(self, request: RouteRequest, answer: RouteAnswer) -> None:
        self._request = request
        self._answer = answer
        self._is_read = False
        path, _, query = request.target.partition("?")
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode("ascii", "replace"),
            "query_string": query.encode("ascii", "replace"),
            "root_path": "",
            "headers": [(b"host", b"127.0.0.1"), *_sent(request)],
            "client": _ADDRESS,
            "server": _ADDRESS,
            "state": {},
        }
        found: Carried = carried(self.scope)
        found.origin = AGENT

    async def receive(self) -> Message:
        """The body, once; afterwards nothing comes until the handler is cancelled with its caller."""
        if self._is_read:
            await asyncio.Event().wait()
        self._is_read = True
        return {"type": "http.request", "body": self._request.body, "more_body": False}

    async def send(self, message: Message) -> None:
        """Status and headers, then pieces of the body."""
        if message["type"] == "http.response.start":
            raw = message.get("headers", ())
            self._answer.start(
                message["status"],
                [(n.decode("latin-1"), v.decode("latin-1")) for n, v in raw if n not in _HOP_BY_HOP],
            )
        elif message["type"] == "http.response.body" and message.get("body"):
            await self._answer.write(message["body"])


def _sent(request: RouteRequest) -> list[tuple[bytes, bytes]]:
    """The headers of the request, but for its Host: the door's address is not the gateway's."""
    return [
        (name.encode("latin-1", "replace"), value.encode("latin-1", "replace"))
        for name, value in request.headers
        if name != "host"
    ]
