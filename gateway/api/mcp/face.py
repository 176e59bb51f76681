"""The MCP face: `POST /mcp`, streamable HTTP without state, the toolsets of the applications inside.

Who asks is settled before the SDK sees the request: Host and Origin by the guard, credentials by the gate,
size, depth and deadline here. A client that asks for nothing but JSON, or for nothing in particular, gets
JSON; one that takes nothing but events gets the same as an event. An `initialize` is answered with a session
id of the transport, which keeps no state here either: it is the conversation's name, for clients that send no
other.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from gateway.agents.toolsets import Toolset
from gateway.api.mcp.conversation import CallOrigin, is_minted, mint
from gateway.auth.passes import Granted, Passes, is_pass
from gateway.config.tables import LimitsConfig, ServerConfig
from gateway.errors import BadRequest, BrokenInvariant, Unauthorized
from gateway.events.facts import in_one_line
from gateway.http.gate import bearer, is_new_visitor, principal_of
from gateway.http.operation import Admit, json_response
from gateway.http.reading import checked_depth, read_bytes
from gateway.principal import Principal

log = logging.getLogger(__name__)

PATH: Final = "/mcp"
SCOPE: Final = "chat"
SESSION_HEADER: Final = "mcp-session-id"
_OUTER_META: Final = "agent_gateway.mcp_meta"
_SESSION: Final = "agent_gateway.mcp_session"
"""In the ASGI scope: what the pass of a session's agent opens."""
_JSON_TYPES: Final = {"application/json", "application/*", "*/*"}
_PARSE_ERROR: Final = -32700
_INVALID_REQUEST: Final = -32600
_INVALID_PARAMS: Final = -32602

App = Callable[[Scope, Receive, Send], Awaitable[None]]


class _Envelope(Struct):
    """What the face itself reads of a message; the rest is the SDK's."""

    method: msgspec.Raw = msgspec.Raw()
    meta: Any = msgspec.field(default=None, name="_meta")


class McpFace:
    """The route, and the SDK's server behind it from the first request to the end of the gateway."""

    def __init__(
        self,
        toolsets: Sequence[Toolset],
        *,
        admit: Admit,
        check: Callable[[str], None],
        passes: Passes,
        server: ServerConfig,
        limits: LimitsConfig,
    ) -> None:
        """`check` raises PersonDisabled if the owner of a session is disabled."""
        self._toolsets = toolsets
        self._check = check
        self._admit = admit
        self._passes = passes
        self._server = server
        self._limits = limits
        self._app: asyncio.Future[App] | None = None
        self._holding: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()

    def routes(self) -> list[Route]:
        """`/mcp` describes itself (`tools/list`), so no OpenAPI document has it. Without tools it is not
        there.
        """
        return [Route(PATH, self._answer, methods=["POST"], name="mcp")] if self._toolsets else []

    async def close(self) -> None:
        """Ends the SDK's server."""
        self._ending.set()
        if self._holding is not None:
            await asyncio.wait([self._holding])

    async def _answer(self, request: Request) -> Response:
        await self._let_in(request)
        body = await read_bytes(request, self._server)
        try:
            checked_depth(body, self._limits)
            envelope = msgspec.json.decode(body, type=_Envelope)
        except msgspec.ValidationError:
            return _refused(_INVALID_REQUEST, "Send one JSON-RPC message, an object")
        except (BadRequest, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _refused(_PARSE_ERROR, f"Parse error: {error}")
        if not isinstance(envelope.meta, dict | None):
            return _refused(_INVALID_PARAMS, "_meta is an object")
        request.scope[_OUTER_META] = envelope.meta or {}
        is_first = bytes(envelope.method) == b'"initialize"'
        return _Handed(await self._ready(), body, session_id=mint() if is_first else None)

    async def _let_in(self, request: Request) -> None:
        """By the pass of a session's agent, which opens that session alone, or as everybody else is.

        Raises Unauthorized for a pass that is not good any more, PersonDisabled, and what `admit` raises.
        """
        given = bearer(request) or ""
        if not is_pass(given):
            await self._admit(request, SCOPE)
            return
        granted = self._passes.find(given)
        if granted is None:
            raise Unauthorized("This pass is not good any more: the agent that it was made for has ended.")
        self._check(granted.key.owner)
        request.scope[_SESSION] = granted

    async def _ready(self) -> App:
        if self._app is None:
            self._app = asyncio.get_running_loop().create_future()
            self._holding = asyncio.create_task(self._hold(self._app), name="mcp")
        return await asyncio.shield(self._app)

    async def _hold(self, ready: asyncio.Future[App]) -> None:
        """One task enters and leaves the SDK's server, as its task group demands."""
        try:
            heavy: Any = await asyncio.to_thread(importlib.import_module, "gateway.api.mcp.server")
        except ImportError:
            log.exception("the MCP SDK cannot be imported: install the gateway with its dependencies")
            ready.set_exception(BrokenInvariant())
            return
        limit = self._server.body_limit_bytes
        try:
            async with heavy.serving(self._toolsets, said, body_limit_bytes=limit) as app:
                ready.set_result(app)
                await self._ending.wait()
        except Exception:
            log.exception("the MCP server failed; the next request starts it again")
            self._app = None
            if not ready.done():
                ready.set_exception(BrokenInvariant())


def said(request: HTTPConnection | None) -> CallOrigin:
    """What is known of an HTTP request besides its message (`mcp_server.Said`)."""
    assert request is not None  # noqa: S101 - over HTTP there always is one
    granted: Granted | None = request.scope.get(_SESSION)
    if granted is not None:
        key = granted.key
        owner = Principal(key.tenant, key.owner.partition("/")[2], scopes=frozenset({SCOPE}))
        return CallOrigin(principal=owner, granted=granted)
    session_id = request.headers.get(SESSION_HEADER, "")
    return CallOrigin(
        principal=principal_of(request),
        outer_meta=request.scope.get(_OUTER_META, {}),
        transport=session_id if is_minted(session_id) else None,
        is_private=request.headers.get("sec-gpc") == "1",
        is_nobody=is_new_visitor(request),
    )


class _Handed(Response):
    """The SDK's answer to a body that was read already."""

    def __init__(self, app: App, body: bytes, *, session_id: str | None) -> None:
        super().__init__()
        self._app = app
        self._request_body = body
        self._session_id = session_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        messages: list[Message] = [{"type": "http.request", "body": self._request_body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        async def told(message: Message) -> None:
            is_start = message["type"] == "http.response.start" and message["status"] == 200
            if is_start and self._session_id is not None:
                headers = MutableHeaders(raw=list(message.get("headers", ())))
                headers[SESSION_HEADER] = self._session_id
                message = {**message, "headers": headers.raw}
            await send(message)

        if _takes_events_alone(Headers(scope=scope)):
            await self._app(_accepting(scope), replay, _Event(told).send)
        else:
            await self._app(_accepting(scope), replay, told)


class _Event:
    """A JSON answer sent as the one event of a stream."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._parts: list[bytes] = []

    async def send(self, message: Message) -> None:
        """Takes a message of an answer."""
        if message["type"] == "http.response.start":
            raw = list(message.get("headers", ()))
            if message["status"] != 200:
                await self._send(message)
                return
            headers = MutableHeaders(raw=raw)
            headers["Content-Type"] = "text/event-stream"
            del headers["Content-Length"]
            self._start = {**message, "headers": headers.raw}
            return
        if self._start is None:
            await self._send(message)
            return
        self._parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            event = b"event: message\ndata: " + in_one_line(b"".join(self._parts)) + b"\n\n"
            await self._send(self._start)
            await self._send({"type": "http.response.body", "body": event, "more_body": False})


def _media_types(accept: str) -> set[str]:
    return {part.partition(";")[0].strip().lower() for part in accept.split(",")}


def _takes_events_alone(headers: Headers) -> bool:
    given = _media_types(headers.get("accept", ""))
    return bool(given & {"text/event-stream", "text/*"}) and not given & _JSON_TYPES


def _accepting(scope: Scope) -> Scope:
    """Without an Accept header everything is acceptable; events are made of JSON here."""
    headers = Headers(scope=scope)
    if "accept" in headers and not _takes_events_alone(headers):
        return scope
    others = [(name, value) for name, value in scope["headers"] if name != b"accept"]
    return {**scope, "headers": [*others, (b"accept", b"*/*")]}


def _refused(code: int, message: str) -> Response:
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    return json_response(error, status=400)
