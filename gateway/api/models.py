"""The model routes at the gateway's own port, for workers that share the machine's network.

Guarantee: only processes of this machine are answered, and only with the token of a worker; what others send
is not even read.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping, Sequence
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from gateway.config.addresses import SENT_BY_PROXIES, is_loopback
from gateway.egress.routes import RouteRequest
from gateway.errors import BodyTooLarge, RequestTimeout, RouteNotFound, Unauthorized
from gateway.http.scope import carried
from gateway.models.routes import BODY_BYTES, ROOT, UNKNOWN_CALLER, ModelRoutes

BODY_SECONDS: Final = 60.0
_OPERATION: Final = "call_model"


class ModelPort:
    """An ASGI application; see the module."""

    def __init__(self, routes: ModelRoutes) -> None:
        self._routes = routes

    def routes(self) -> list[Route]:
        """The one route, for every method: what is allowed is the dialects' to say."""
        return [Route(ROOT + "{rest:path}", self, name=_OPERATION, include_in_schema=False)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        carried(scope).operation = _OPERATION
        if not await _is_local(scope):
            raise RouteNotFound
        target, raw = _target(scope), scope["headers"]
        carried(scope).render = lambda error, status: self._routes.spelled(
            target, status, error.code, error.message
        )
        headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in raw]
        if not self._routes.is_known(target, headers):
            raise Unauthorized(UNKNOWN_CALLER)
        body = await _body(Request(scope, receive))
        request = RouteRequest(method=scope["method"], target=target, headers=tuple(headers), body=body)
        answer = _Answer(send)
        calling = asyncio.create_task(self._routes.at_port(request, answer), name="model call")
        leaving = asyncio.create_task(_gone(receive), name="model caller")
        try:
            await asyncio.wait({calling, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            calling.cancel()
            leaving.cancel()
            await asyncio.wait({calling, leaving})
        if calling.cancelled():
            raise ClientDisconnect
        try:
            calling.result()
        except ConnectionError as error:
            if (
                answer.has_started
            ):  # an answer that is not finished is how its caller hears that it is not whole
                return
            answer.start(503, (("content-type", "application/json"), ("x-should-retry", "false")))
            await answer.write(self._routes.spelled(target, 503, "call_ended", str(error)))
        await answer.finish()


class _Answer:
    """`egress.routes.RouteAnswer` over ASGI."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self.has_started = False

    def start(self, status: int, headers: Sequence[tuple[str, str]] = ()) -> None:
        """Sent with the first bytes."""
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        self._start = {"type": "http.response.start", "status": status, "headers": raw}

    async def write(self, data: bytes) -> None:
        """Sends at once."""
        await self._begin()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self) -> None:
        """Nothing more comes."""
        await self._begin()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self) -> None:
        start, self._start = self._start, None
        if start is not None:
            self.has_started = True
            await self._send(start)


async def _gone(receive: Receive) -> None:
    """Returns when the caller is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _is_local(scope: MutableMapping[str, Any]) -> bool:
    """Whether a process of this machine asks, and no proxy for somebody else."""
    found = carried(scope)
    if await found.origin.is_agent():
        return True
    headers = Headers(scope=scope)
    own = (scope.get("server") or ("",))[0]
    is_near = is_loopback(found.peer) or (bool(found.peer) and found.peer == own)
    return is_near and not any(name in headers for name in SENT_BY_PROXIES)


def _target(scope: Scope) -> str:
    """Path and query as they were sent."""
    path = scope.get("raw_path") or scope["path"].encode()
    query = scope.get("query_string", b"")
    return str((path.partition(b"?")[0] + (b"?" + query if query else b"")).decode("latin-1"))


async def _body(request: Request) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > BODY_BYTES:
        raise BodyTooLarge(f"The body may be {BODY_BYTES} bytes long.")
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > BODY_BYTES:
                    raise BodyTooLarge(f"The body may be {BODY_BYTES} bytes long.")
                parts.append(chunk)
    except TimeoutError:
        raise RequestTimeout(f"The body did not arrive within {BODY_SECONDS:g} seconds.") from None
    return b"".join(parts)
