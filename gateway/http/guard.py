"""What every request passes before its handler: agents, Host, Origin, rate, request id; the words of errors.

A coding agent behind an open port is a remote shell, so a foreign page must reach nothing: Host is checked
against DNS rebinding, Origin against cross-site requests, and bodies are JSON only (no form can send that).
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.answers import ErrorBody, ErrorDetail
from gateway.auth.passes import Passes, is_pass
from gateway.buckets import TokenBuckets
from gateway.config.addresses import (
    PORTS_PATH,
    SENT_BY_PROXIES,
    host_name,
    is_agents_server,
    is_listed,
    is_loopback,
    is_within,
    origin_of,
    plain_address,
    port_label,
    route,
)
from gateway.config.tables import Config, ServerConfig
from gateway.errors import (
    AgentConnection,
    BadRequest,
    BrokenInvariant,
    BudgetReached,
    ForbiddenHost,
    ForbiddenOrigin,
    GatewayError,
    MethodNotAllowed,
    QueueFull,
    QuotaExceeded,
    RouteNotFound,
    SessionElsewhere,
    SessionLimit,
    StoreInDoubt,
    TooManyDownloads,
    TooManyStreams,
    WorkerLimit,
)
from gateway.http.connections import AGENTS
from gateway.http.gate import bearer
from gateway.http.operation import json_response
from gateway.http.scope import carried
from gateway.models.routes import ROOT, shown_token
from gateway.models.tokens import ModelTokens
from gateway.sessions.host import MCP_PATH
from gateway.telemetry import logs, tracing
from gateway.telemetry.audit import Audit
from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

ALLOWED_METHODS: Final = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
ALLOWED_HEADERS: Final = (
    "Content-Type, X-Session-Id, Idempotency-Key, Last-Event-ID, Authorization, Cache-Control, X-CSRF-Token, "
    "Mcp-Session-Id, MCP-Protocol-Version, Mcp-Method, Mcp-Name, Content-Range, If-Match, If-None-Match, "
    "Prefer"
)
EXPOSED_HEADERS: Final = (
    "X-Session-Id, X-Request-Id, X-Visitor-Token, Retry-After, Mcp-Session-Id, Preference-Applied"
)
PREFLIGHT_SECONDS: Final = 600
PLAIN_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
"""On every answer that says nothing else: not to be kept, run as a page, or embedded by another site."""
SWITCHED: Final = 101
INTERNAL_ERROR: Final = 1011
"""How a WebSocket is closed after a mistake of ours."""
_NO_WEBSOCKET: Final = (
    "WebSocket is not spoken here; follow a session with GET /api/chat/stream (server-sent events)."
)
LIMITS: Final[Mapping[type[GatewayError], str]] = {
    SessionLimit: "max_sessions",
    WorkerLimit: "max_live_workers",
    QueueFull: "queued_messages",
    TooManyStreams: "streams_per_owner",
    TooManyDownloads: "downloads_per_owner",
}
"""Errors that mean one limit, by its name in the configuration; others are counted where they are kept."""
_REFUSALS: Final = (401, 403)
_NO_OPERATION: Final = "none"
"""The page, the OpenAPI document, and addresses where there is nothing."""
SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
STRANGERS: Final = ("cross-site", "same-site")
"""`Sec-Fetch-Site` of a request that a page of another origin makes."""
UNTRUSTED_TOLD: Final = 8
"""Senders of forwarded headers that are not trusted, each of which the log names once."""
DOUBT_SECONDS: Final = 4.0
"""So long a request waits at least for a store that was lost while it wrote."""
DOUBT_RETRY_SECONDS: Final = 5
UNCOUNTED: Final = ("/livez",)
"""Paths that probes ask, which no address's rate counts."""
OWN_HOSTS: Final = 64
"""So many spellings of the gateway's own Host are remembered."""
_SENT_BY_PROXIES: Final = frozenset(SENT_BY_PROXIES)
Given = Mapping[str, str]
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Guard:
    """ASGI middleware; see the module."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        config: Callable[[], Config],
        rates: TokenBuckets,
        metrics: Metrics,
        audit: Audit,
        tracer: tracing.Tracer,
        passes: Passes,
        tokens: ModelTokens,
        check_place: Callable[[], None],
        may_doubt: bool,
    ) -> None:
        """`check_place` raises if nothing may be changed now. `may_doubt`: of a store over a network it may
        be unknown for long whether it has stored something.
        """
        self._app = app
        self._may_doubt = may_doubt
        self._check_place = check_place
        self._passes = passes
        self._tokens = tokens
        self._metrics = metrics
        self._audit = audit
        self._tracer = tracer
        self._config = config
        self._rates = rates
        self._untrusted: set[str] = set()
        self._hosts_of: Config | None = None
        self._own_hosts: set[str] = set()
        """Hosts that were found to be the gateway's, by this configuration."""
        self._asked: dict[_Sender, tuple[Scope, Receive, float]] = {}
        """Requests that may change something and have no answer yet, and when they came."""
        self._giving_up: set[asyncio.Task[None]] = set()

    def put_inside(self, layer: Callable[[ASGIApp], ASGIApp]) -> None:
        """Has one more layer between this one and the routes, for requests that come from now on."""
        self._app = layer(self._app)

    def give_up_waiting(self) -> None:
        """It is not known whether something was stored, and will not be soon: answers those who have waited
        for it. What they asked for goes on by itself, and its own answer is dropped.
        """
        until = time.monotonic() - DOUBT_SECONDS
        for sender, (scope, receive, began) in list(self._asked.items()):
            if began <= until and not sender.has_started:
                error = StoreInDoubt(retry_after_seconds=DOUBT_RETRY_SECONDS)
                answer = self._refuse(error, sender.give_up(error.status), scope, receive)
                task = asyncio.create_task(answer, name="answer of a request in doubt")
                self._giving_up.add(task)
                task.add_done_callback(self._giving_up.discard)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers, given = Headers(scope=scope), _given(scope)
        found = carried(scope)
        is_forwarded = found.told is not None
        if found.told is not None:
            request_id, is_agent = found.told.request_id or _request_id({}), False
        else:
            is_agent = await found.origin.is_agent()
            self._place(scope, headers, given, is_agent=is_agent)
            request_id = _request_id(given)
        logs.begin(request_id=request_id)
        began = time.monotonic()
        span = self._tracer.start("request", headers=headers)
        tracing.enter(span)
        origin = given.get("origin")
        sender = _Sender(send, scope, request_id=request_id, origin=origin)
        is_change = scope.get("method", "GET") not in SAFE_METHODS
        if self._may_doubt and is_change and not scope["path"].startswith(ROOT):
            self._asked[sender] = scope, receive, began
        try:
            if is_agent and not _is_for_agents(scope):
                raise AgentConnection(found.origin.refusal)
            if not is_forwarded:
                host = self._check(scope, given, origin)
                is_of_a_port = is_agents_server(scope["path"], host)
                sender.is_origin_allowed = origin is not None and not is_of_a_port
                if scope.get("method") == "OPTIONS" and not is_of_a_port:
                    await _preflight(given)(scope, receive, sender)
                    return
            if found.operator is None and is_change:
                self._check_place()
            await self._app(scope, receive, sender)
        except GatewayError as error:
            await self._refuse(error, sender, scope, receive)
        except HTTPException as error:
            await self._refuse(_named(error), sender, scope, receive, headers=error.headers)
        except ClientDisconnect:
            return  # nobody is left to be told
        except Exception:
            log.exception("request %s failed", request_id)
            await self._refuse(BrokenInvariant(), sender, scope, receive)
        finally:
            self._asked.pop(sender, None)
            if sender.has_started:
                operation, method = found.operation or _NO_OPERATION, scope.get("method", "GET")
                if not is_forwarded:
                    self._metrics.answered(operation, sender.status, sender.started_at - began)
                span.end(
                    name=f"{method} {operation}",
                    error=str(sender.status) if sender.status >= 500 else "",
                    attributes={
                        "http.request.method": method,
                        "http.response.status_code": sender.status,
                        "agent_gateway.request_id": request_id,
                    },
                )

    def _place(self, scope: Scope, headers: Headers, given: Given, *, is_agent: bool) -> None:
        """Takes the caller's address and scheme from a trusted proxy's headers. An agent is never a proxy,
        and does not share a rate with the people at its address.
        """
        client, trusted = scope.get("client"), self._config().server.trusted_proxies
        if is_agent:
            scope["client"] = (self._agent(scope), 0)
        if is_agent or client is None:
            return
        peer = carried(scope).peer = plain_address(client[0])
        if not is_within(peer, trusted):
            scope["client"] = (peer, client[1])
            self._name_untrusted(peer, given)
            return
        way = route(peer, headers, trusted)
        scope["client"] = (way.caller, 0)
        if way.scheme == "https":
            scope["scheme"] = "https"
        if way.host:
            carried(scope).forwarded_host = way.host

    def _agent(self, scope: Scope) -> str:
        """Whose rate an agent counts against: its own if it shows a good pass, else that of all agents."""
        connection = HTTPConnection(scope)
        given = bearer(connection) or ""
        is_good = is_pass(given) and self._passes.find(given) is not None
        if scope["path"].startswith(ROOT):
            given = shown_token(connection.headers, connection.query_params)
            is_good = self._tokens.find(given) is not None
        return f"{AGENTS} {hashlib.sha256(given.encode()).hexdigest()[:16]}" if is_good else AGENTS

    def _name_untrusted(self, peer: str, given: Given) -> None:
        """Logs once that a proxy is not trusted, which explains why all its callers count as one."""
        if _SENT_BY_PROXIES.isdisjoint(given):
            return
        if peer in self._untrusted or len(self._untrusted) >= UNTRUSTED_TOLD:
            return
        sent = next(name for name in SENT_BY_PROXIES if name in given)
        self._untrusted.add(peer)
        log.warning(
            "%s sends %s, which is ignored: if it is your proxy, name it in server.trusted_proxies",
            peer,
            sent,
        )

    def _check(self, scope: Scope, given: Given, origin: str | None) -> str:
        """Raises if it must not pass. The Host that was asked for."""
        host = given.get("host", "")
        if not self._is_own_host(host):
            raise ForbiddenHost
        if (forwarded := carried(scope).forwarded_host) is not None:
            if not self._is_own_host(forwarded):
                raise ForbiddenHost
            host = forwarded
            raw = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope["headers"] = [*raw, (b"host", host.encode("latin-1", "replace"))]
        if not self._is_from_own_page(scope, given, origin, host):
            raise ForbiddenOrigin
        is_model = scope["path"].startswith(ROOT)  # whose clients need a refusal of its own
        if scope["type"] == "http" and not is_model and "websocket" in given.get("upgrade", "").lower():
            raise BadRequest(_NO_WEBSOCKET)
        if scope["path"] not in UNCOUNTED:
            client = scope.get("client")
            self._rates.take(client[0] if client else "")
        return host

    def _is_own_host(self, host: str) -> bool:
        """Of the hosts at which servers of agents are shown, any: nothing but these is served there."""
        config = self._config()
        if self._hosts_of is not config:
            self._hosts_of, self._own_hosts = config, set()
        if host in self._own_hosts:
            return True
        is_own = port_label(host) is not None or _is_own(host_name(host), config.server)
        if is_own and len(self._own_hosts) < OWN_HOSTS:
            self._own_hosts.add(host)
        return is_own

    def _is_from_own_page(self, scope: Scope, given: Given, origin: str | None, host: str) -> bool:
        """False if a page of another site asks: browsers say so by Origin, or by Sec-Fetch-Site alone."""
        if scope["path"].startswith(PORTS_PATH):
            return True  # pages without an origin; the path is the secret, and no cookie is looked at
        if origin is not None:
            count = sum(name == b"origin" for name, _ in scope["headers"])
            return count == 1 and self._is_allowed_origin(origin, host)
        is_reading = scope.get("method", "") in SAFE_METHODS
        return is_reading or given.get("sec-fetch-site", "") not in STRANGERS

    def _is_allowed_origin(self, origin: str, host: str) -> bool:
        config = self._config()
        known = origin_of(origin)
        if known is not None and port_label(known.host) is not None:
            return known.is_at(host)  # an agent's page: it may ask its own host, and nothing of ours
        listed = (*config.cors.origins, *config.visitors.origins, config.server.public_url)
        if is_listed(origin, listed):
            return True
        if known is None:
            return False
        return known.is_at(host) or (is_loopback(known.host) and is_loopback(host_name(host)))

    async def _refuse(
        self,
        error: GatewayError,
        sender: _Sender,
        scope: Scope,
        receive: Receive,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if sender.has_started:
            if scope["type"] == "websocket":
                await sender({"type": "websocket.close", "code": INTERNAL_ERROR})
            elif isinstance(error, SessionElsewhere) and (line := carried(scope).line) is not None:
                line.cut()  # a stream of a session that has moved: its reader asks again
            return
        status = error.status
        self._note(error, status, scope)
        headers = dict(headers or {})
        if error.retry_after_seconds is not None:
            headers["Retry-After"] = str(max(1, round(error.retry_after_seconds + 0.5)))
        if status in (408, 413):
            headers["Connection"] = "close"
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        detail = ErrorDetail(error.code, error.message, error.session_id)
        if isinstance(error, QuotaExceeded | BudgetReached):
            detail = ErrorDetail(
                error.code, error.message, None, error.limit, round(error.used, 3), error.allowed
            )
        render = carried(scope).render
        body = ErrorBody(detail, sender.request_id) if render is None else render(error, status)
        response = json_response(body, status=status, headers=headers)
        await response(scope, receive, sender)

    def _note(self, error: GatewayError, status: int, scope: Scope) -> None:
        """For those who watch."""
        self._metrics.errors.labels(error.code).inc()
        if (limit := LIMITS.get(type(error))) is not None:
            self._metrics.rejections.labels(limit).inc()
        if status in _REFUSALS:
            found = carried(scope)
            self._audit.refused(found.principal, found.operation or _NO_OPERATION, code=error.code)


_STARTS: Final = ("http.response.start", "websocket.http.response.start", "websocket.accept")


class _Sender:
    """`send`, with the headers that every answer carries."""

    def __init__(self, send: Send, scope: Scope, *, request_id: str, origin: str | None) -> None:
        self._send = send
        self._is_given_up = False
        self._scope = scope
        self._origin = origin
        self.request_id = request_id
        self.is_origin_allowed = False
        self.has_started = False
        self.status = 0
        self.started_at = 0.0

    def give_up(self, status: int) -> _Sender:
        """Another one, which answers instead, with this status; what this one is given is dropped."""
        other = _Sender(self._send, self._scope, request_id=self.request_id, origin=self._origin)
        other.is_origin_allowed = self.is_origin_allowed
        self._is_given_up = self.has_started = True
        self.status, self.started_at = status, time.monotonic()
        return other

    async def __call__(self, message: Message) -> None:
        if self._is_given_up:
            return
        if message["type"] in _STARTS:
            self.has_started = True
            self.status = message.get("status", SWITCHED)
            self.started_at = time.monotonic()
            raw = [header for header in message.get("headers", ()) if header[0] != b"x-request-id"]
            raw += _unsaid(frozenset([name for name, _ in raw]))
            raw.append((b"x-request-id", self.request_id.encode()))
            if answer_headers := carried(self._scope).answer_headers:
                raw += [
                    (name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in answer_headers
                ]
            if self._origin is not None and self.is_origin_allowed:
                headers = MutableHeaders(raw=raw)
                headers["Access-Control-Allow-Origin"] = self._origin
                headers["Access-Control-Allow-Credentials"] = "true"
                headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
                headers.add_vary_header("Origin")
            message = {**message, "headers": raw}
        await self._send(message)


@functools.lru_cache(maxsize=256)
def _unsaid(said: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """Those of the plain headers that an answer does not say itself."""
    names = {name.lower() for name in said}
    return [header for header in PLAIN_HEADERS if header[0] not in names]


def _given(scope: Scope) -> Given:
    """The headers of a request by name, the first of each."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}


def _is_own(name: str, server: ServerConfig) -> bool:
    """Whether a Host names this machine, or the gateway as the configuration does."""
    public = urlsplit(server.public_url).hostname
    known = (*server.hosts, server.host, public or "localhost")
    return is_loopback(name) or (name != "" and name in {host_name(own) or own.lower() for own in known})


def _preflight(headers: Given) -> Response:
    answer = {
        "Access-Control-Allow-Methods": ALLOWED_METHODS,
        "Access-Control-Allow-Headers": ALLOWED_HEADERS,
        "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
    }
    if headers.get("access-control-request-private-network") == "true":
        answer["Access-Control-Allow-Private-Network"] = "true"
    return Response(status_code=204, headers=answer)


def _is_for_agents(scope: Scope) -> bool:
    """Whether this is what an agent may ask for: the gateway's MCP server, with a pass, or a model, whose
    route asks for a token itself.
    """
    if scope["type"] == "http" and scope["path"].startswith(ROOT):
        return True
    connection = HTTPConnection(scope)
    return scope["type"] == "http" and scope["path"] == MCP_PATH and is_pass(bearer(connection) or "")


def _request_id(headers: Given) -> str:
    """The caller's request id if it is safe to log; otherwise a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def _named(error: HTTPException) -> GatewayError:
    """Starlette's own refusals in our words."""
    return {404: RouteNotFound(), 405: MethodNotAllowed()}.get(error.status_code) or BadRequest(
        str(error.detail)
    )
