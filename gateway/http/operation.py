"""An operation: one method at one path, with the types that parse its request and shape its answer.

The routes and the OpenAPI document are both made from these, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from gateway.answers import ErrorBody
from gateway.errors import Forbidden, GatewayError
from gateway.http.routing import Endpoint
from gateway.http.scope import carried
from gateway.principal import Principal, Scope, reach
from gateway.telemetry import logs

Handler = Callable[[Request], Awaitable[Response]]
SocketHandler = Callable[[WebSocket], Awaitable[None]]
Admit = Callable[[HTTPConnection, str], Awaitable[Principal | None]]
"""Lets a request with this scope in, or raises Unauthorized or Forbidden (`gateway.http.gate.Gate.admit`)."""


class Parameter(Struct, frozen=True, kw_only=True):
    """A parameter in the query or a header; `schema` is JSON Schema."""

    name: str
    schema: dict[str, Any]
    description: str
    place: str = "query"


class Dialect(Struct, frozen=True, kw_only=True):
    """How a face formats errors, if its clients expect another format than the gateway's."""

    body: Any
    """The Struct of it, for the description."""
    render: Callable[[GatewayError, int], Any]
    """The body of an error that is answered with this status."""


class Operation(Struct, frozen=True, kw_only=True):
    """See the module. `answer` None: no JSON (`media_type` says what); `body` None: no body is read."""

    method: str
    path: str
    handler: Handler
    summary: str
    scope: Scope
    """What the caller must be allowed to; every operation says it."""
    is_gateway_wide: bool = False
    """Whether only those of the gateway's own tenant may, because it shows or changes what all share."""
    body: Any = None
    raw_body: str = ""
    """The media type of a body that is read as it arrives, and is no JSON."""
    answer: Any = None
    minimal: Any = None
    """What it answers with instead if the caller prefers `return=minimal` (`http/preferences.py`)."""
    status: int = 200
    parameters: tuple[Parameter, ...] = ()
    media_type: str = "application/json"
    other_media_types: tuple[str, ...] = ()
    """Text that it answers with instead where the caller asks for it."""
    errors: tuple[int, ...] = ()
    dialect: Dialect | None = None
    """None: errors are said as everywhere (`answers.ErrorBody`)."""
    path_schemas: Mapping[str, Any] = {}
    """JSON Schema of parts of the path that are not a session id, by name."""

    def route(self, admit: Admit) -> Route:
        """The operation as a Starlette route."""

        async def handle(request: Request) -> Response:
            principal = await _admitted(request, self, admit)
            if principal is not None and self.is_gateway_wide and reach(principal) is not None:
                raise Forbidden("Only those of the gateway's own tenant may do this.")
            return await self.handler(request)

        return Route(self.path, Endpoint(handle), methods=[self.method], name=self.handler.__name__)


class Socket(Struct, frozen=True, kw_only=True):
    """A WebSocket: a path below `/ws/`, who may open it, and who serves it once it was let in."""

    path: str
    handler: SocketHandler
    summary: str
    scope: Scope
    dialect: Dialect | None = None

    def route(self, admit: Admit) -> WebSocketRoute:
        """The socket as a Starlette route. The caller is admitted before the handshake is answered."""

        async def handle(socket: WebSocket) -> None:
            await _admitted(socket, self, admit)
            await self.handler(socket)

        return WebSocketRoute(self.path, handle, name=self.handler.__name__)


async def _admitted(connection: HTTPConnection, what: Operation | Socket, admit: Admit) -> Principal | None:
    """The caller, once it may do this; from here on the connection carries what it is for."""
    found = carried(connection.scope)
    found.operation = what.handler.__name__
    found.render = what.dialect.render if what.dialect is not None else None
    principal = await admit(connection, what.scope)
    if principal is not None:
        logs.bind(tenant=principal.tenant)
    return principal


def json_response(content: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Any Struct or plain value as a JSON response that is not cached; JSON in parts is sent as it comes."""
    if isinstance(content, Iterator):
        return StreamingResponse(
            one_by_one(content),
            status_code=status,
            media_type="application/json",
            headers={"Cache-Control": "no-store", **(headers or {})},
        )
    body = content if isinstance(content, bytes) else msgspec.json.encode(content)
    if headers:
        named = {"Cache-Control": "no-store", **headers}
        return Response(body, status_code=status, media_type="application/json", headers=named)
    return _Json(body, status)


class _Json(Response):
    """JSON with the usual headers."""

    def __init__(self, body: bytes, status: int) -> None:
        self.status_code, self.body, self.background = status, body, None
        length = (b"content-length", b"%d" % len(body))
        self.raw_headers = [length] if status >= 200 and status not in (204, 304) else []
        self.raw_headers += ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))


TextOrBytes = TypeVar("TextOrBytes", str, bytes)


async def one_by_one(parts: Iterator[TextOrBytes]) -> AsyncIterator[TextOrBytes]:
    """The parts of an answer on the loop, each when it is wanted: Starlette would make them in threads."""
    for part in parts:
        yield part


SESSION_ID_SCHEMA: dict[str, Any] = {"type": "string", "pattern": "^[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}$"}
ANY_SESSION_ID_SCHEMA: dict[str, Any] = {
    "type": "string", "pattern": "^([A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127})?$"
}  # fmt: skip
"""If an empty one counts as none."""
Spoken = Annotated[str, Meta(extra_json_schema={"minLength": 1, "pattern": r"\S"})]
"""Text with something in it. Handlers refuse what does not fit, in better words than a decoder has."""
SessionId = Annotated[str, Meta(extra_json_schema=SESSION_ID_SCHEMA)]
AnySessionId = Annotated[str, Meta(extra_json_schema=ANY_SESSION_ID_SCHEMA)]
SESSION_ID_QUERY = Parameter(
    name="session_id",
    schema=ANY_SESSION_ID_SCHEMA,
    description="The session; the cookie's where it is absent.",
)
SESSION_ID_HEADER = Parameter(
    name="X-Session-Id", schema=ANY_SESSION_ID_SCHEMA, description="The session, as a header.", place="header"
)


IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    schema={"type": "string", "minLength": 1, "maxLength": 255},
    description="The same key and body within 24 h is the same request: it never acts a second time.",
    place="header",
)


def openapi(operations: Sequence[Operation], *, version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these operations."""
    types = [kind for op in operations for kind in (op.body, op.answer, op.minimal) if kind is not None]
    types += [op.dialect.body for op in operations if op.dialect is not None]
    types.append(ErrorBody)
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    _open_tuples(components)
    known = dict(zip(map(id, types), schemas, strict=True))
    paths: dict[str, Any] = {}
    for op in operations:
        paths.setdefault(op.path, {})[op.method.lower()] = _described(op, known)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Agent Gateway",
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": components},
    }


def _open_tuples(schema: Any) -> None:
    """Takes `items: false` from arrays of a fixed length, which says no more than `maxItems`: some generators
    of clients read no document that has it.
    """
    parts = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for part in parts:
        _open_tuples(part)
    if isinstance(schema, dict) and "prefixItems" in schema and schema.get("items") is False:
        del schema["items"]


def _described(op: Operation, known: dict[int, Any]) -> dict[str, Any]:
    said = op.dialect.body if op.dialect is not None else ErrorBody
    error = {"content": {"application/json": {"schema": known[id(said)]}}}
    schema = known[id(op.answer)] if op.answer is not None else _schema_of(op.media_type)
    if op.minimal is not None:
        schema = {"anyOf": [schema, known[id(op.minimal)]]}
    content = {op.media_type: {"schema": schema}} if op.status != 204 else {}
    content |= {kind: {"schema": _schema_of(kind)} for kind in op.other_media_types}
    described: dict[str, Any] = {
        "operationId": op.handler.__name__,
        "summary": op.summary,
        "x-scope": op.scope,
        "parameters": [_parameter(parameter) for parameter in _parameters(op)] + _path_parameters(op),
        "responses": {str(op.status): {"description": op.summary, "content": content}}
        | {
            str(status): {"description": _REASONS[status], **error}
            for status in (*op.errors, *_denials(op), *_EVERYWHERE)
        },
    }
    if op.raw_body:
        is_form = op.raw_body.startswith("multipart/")
        files = {"type": "array", "items": {"type": "string", "format": "binary"}}
        form = {"type": "object", "properties": {"file": files}}
        raw = form if is_form else {"type": "string", "format": "binary"}
        described["requestBody"] = {"content": {op.raw_body: {"schema": raw}}}
    if op.body is not None:
        described["requestBody"] = {"content": {"application/json": {"schema": known[id(op.body)]}}}
        for status in _WITH_BODY:
            described["responses"][str(status)] = {"description": _REASONS[status], **error}
    return described


def _schema_of(media_type: str) -> dict[str, Any]:
    """What is no JSON: text, or bytes."""
    is_bytes = media_type in ("application/octet-stream", "application/zip")
    return {"type": "string", "format": "binary"} if is_bytes else {"type": "string"}


def _denials(op: Operation) -> tuple[int, ...]:
    return (401,) if op.scope else ()


_EVERYWHERE = (403, 422, 429, 503)
_WITH_BODY = (400, 408, 413, 415, 507)
_REASONS = {
    204: "The session has ended",
    400: "The body is not JSON",
    401: "Credentials are missing or not valid",
    402: "A budget for models is used up",
    403: "Host or Origin is not accepted, or the credentials do not allow this",
    404: "There is no such thing",
    408: "The body did not arrive in time",
    409: "Not in this state",
    412: "Not the file that the request is about",
    413: "Too large",
    415: "Not application/json",
    416: "There are no such bytes",
    502: "The agent did not answer",
    422: "A field is missing or of the wrong type",
    429: "Too many requests",
    503: "Shutting down, or full",
    507: "The disk is full",
}


PREFER: Parameter = Parameter(
    name="Prefer",
    schema={"type": "string"},
    description="`return=minimal`: no State, only where the session is now; the answer says "
    "`Preference-Applied: return=minimal`.",
    place="header",
)


def _parameters(op: Operation) -> tuple[Parameter, ...]:
    return op.parameters if op.minimal is None else (*op.parameters, PREFER)


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": False,
        "description": parameter.description,
        "schema": parameter.schema,
    }


def _path_parameters(op: Operation) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in op.path.split("/") if part.startswith("{")]
    schemas = [(name, op.path_schemas.get(name, SESSION_ID_SCHEMA)) for name in names]
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name, schema in schemas]
