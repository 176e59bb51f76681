"""Passes requests and WebSockets on to a server in a worker, and its answers back.

What a browser may not learn or do because of it: the worker gets no credential of the gateway's, the browser
no cookie, redirect or permission that would reach beyond the server's own place.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct
from starlette.types import Message, Receive, Scope, Send

from gateway.egress.worker_http import WorkerAnswer, WorkerHttp, WorkerSilent, WorkerSocket
from gateway.http.passing import HOPS
from gateway.workers.forks import ForkWorker

STANDING_SECONDS: Final = 4.0
"""How often a long answer looks whether its reader may still have it."""
SANDBOX: Final = b"sandbox allow-scripts allow-forms allow-modals allow-popups allow-downloads"
"""Without `allow-same-origin`: the page has no origin, and none of the gateway's cookies."""
_HOPS: Final = {name.decode() for name in HOPS} | {"content-length"}
_NOT_PASSED_ON: Final = _HOPS | {
    *("host", "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port"),
    *("x-real-ip", "x-session-id", "x-request-id", "x-visitor-token", "x-csrf-token", "idempotency-key"),
    *("origin", "referer", "expect"),
    *("sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions", "sec-websocket-protocol"),
}
_OF_PROXIES: Final = (
    *("x-forwarded-", "x-auth-request-", "x-amzn-oidc-", "x-goog-", "cf-access-", "x-ms-", "remote-"),
    *("x-on-behalf-of", "x-remote-"),
)
"""How the headers begin by which proxies in front say who calls, some with tokens that work elsewhere."""
_CREDENTIALS: Final = frozenset({"authorization", "cookie"})
_NEVER_BACK: Final = _HOPS | {
    *("strict-transport-security", "clear-site-data", "service-worker-allowed", "alt-svc", "nel"),
    *("x-accel-redirect", "x-sendfile", "x-lighttpd-send-file", "x-reproxy-url"),
    *("report-to", "reporting-endpoints", "public-key-pins", "x-request-id", "origin-agent-cluster"),
}
_OF_SHARED_ORIGINS: Final = frozenset({"set-cookie", "cross-origin-resource-policy"})
CLOSED: Final = 1011


class ShownPort(Struct, frozen=True, kw_only=True):
    """What is passed on, and how it is shown."""

    worker: ForkWorker
    port: int
    target: str
    """Path and query for the server."""
    prefix: str
    """What stands before the server's paths in the address; empty with an origin of its own."""
    own_cookie: str = ""
    """With an origin of its own: the name of the gateway's cookie there, which the server does not get."""
    withheld: frozenset[str] = frozenset()
    """Further headers, in small letters, that say who somebody is here."""
    is_public: bool = False
    """Whether any page may read the answers: its address is the secret, and its pages have no origin."""
    is_standing: Callable[[], bool] = lambda: True

    @property
    def has_own_origin(self) -> bool:
        return bool(self.own_cookie)


def passed_on(headers: Iterable[tuple[bytes, bytes]], place: ShownPort, scheme: str) -> list[tuple[str, str]]:
    """The request's headers as the server gets them."""
    kept: list[tuple[str, str]] = []
    host, given = "", list(headers)
    hops = {
        one.strip() for name, value in given if name.lower() == b"connection"
        for one in value.decode("latin-1").lower().split(",")
    }  # fmt: skip
    for raw_name, raw_value in given:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name == "host":
            host = value
        elif name == "origin" and value != "null":
            kept.append(("Origin", f"http://localhost:{place.port}"))
        elif name == "cookie" and place.has_own_origin:
            if others := _without(value, place.own_cookie):
                kept.append(("Cookie", others))
        elif name in hops or name in place.withheld or name.startswith(_OF_PROXIES):
            continue
        elif name not in _NOT_PASSED_ON and (place.has_own_origin or name not in _CREDENTIALS):
            kept.append((name, value))
    kept += [("Host", f"localhost:{place.port}"), ("X-Forwarded-Host", host), ("X-Forwarded-Proto", scheme)]
    if place.prefix:
        kept.append(("X-Forwarded-Prefix", place.prefix))
    return kept


def _without(cookies: str, name: str) -> str:
    others = (each.strip() for each in cookies.split(";"))
    return "; ".join(each for each in others if each.partition("=")[0] != name)


def brought_back(answer: WorkerAnswer, place: ShownPort) -> list[tuple[bytes, bytes]]:
    """The answer's headers as the browser gets them."""
    kept: list[tuple[bytes, bytes]] = []
    for raw_name, raw_value in answer.headers:
        name = raw_name.decode("latin-1").lower()
        if name == "content-length" and raw_value.isdigit():
            kept.append((b"content-length", raw_value))
        if any((byte < 32 and byte != 9) or byte == 127 for byte in raw_value):
            continue  # what cannot be sent on
        if name in _NEVER_BACK or (not place.has_own_origin and _is_of_origin(name)):
            continue
        value = _placed(raw_value, place) if name == "location" else raw_value
        kept.append((raw_name.lower(), value))
    if place.has_own_origin:
        kept += [(b"cross-origin-resource-policy", b"same-origin")]
        if all(name != b"content-security-policy" for name, _ in kept):
            kept.append((b"content-security-policy", b"frame-ancestors 'self'"))
        return kept
    kept += [(b"content-security-policy", SANDBOX), (b"referrer-policy", b"no-referrer")]
    if place.is_public:
        kept += [
            (b"access-control-allow-origin", b"*"),
            (b"cross-origin-resource-policy", b"cross-origin"),
        ]
    return kept


def _is_of_origin(name: str) -> bool:
    return name in _OF_SHARED_ORIGINS or name.startswith("access-control-")


def _placed(location: bytes, place: ShownPort) -> bytes:
    """A redirect within the server, as the browser reaches it; one that leads elsewhere stays what it is."""
    try:
        parts = urlsplit(location.decode("latin-1"))
    except ValueError:
        return location
    own = {f"localhost:{place.port}", f"127.0.0.1:{place.port}", f"[::1]:{place.port}"}
    if parts.netloc and parts.netloc not in own:
        return location
    if not parts.netloc and not parts.path.startswith("/"):
        return location
    query = f"?{parts.query}" if parts.query else ""
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    return f"{place.prefix}/{parts.path.lstrip('/')}{query}{fragment}".encode("latin-1")


# -- HTTP -----------------------------------------------------------------------------------------------


async def pass_request(
    http: WorkerHttp, place: ShownPort, scope: Scope, receive: Receive, send: Send
) -> None:
    """One request and its answer. Raises PortClosed, WorkerSilent."""
    names = {name for name, _ in scope["headers"]}
    has_body = b"content-length" in names or b"transfer-encoding" in names
    headers = passed_on(scope["headers"], place, scope.get("scheme", "http"))
    if b"content-length" in names:
        headers.append(("Content-Length", dict(scope["headers"])[b"content-length"].decode("latin-1")))
    body = _Body(receive, has_body=has_body)

    async def passed() -> None:
        asked = http.asked(
            place.worker,
            place.port,
            method=scope["method"],
            target=place.target,
            headers=headers,
            body=body.parts() if has_body else None,
        )
        async with asked as answer:
            await send({
                "type": "http.response.start", "status": answer.status, "headers": brought_back(answer, place)
            })  # fmt: skip
            await _send_body(answer, send)

    passing = asyncio.ensure_future(passed())
    leaving = asyncio.ensure_future(body.left(place.is_standing))
    try:
        await asyncio.wait([passing, leaving], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (passing, leaving):
            task.cancel()
        await asyncio.gather(passing, leaving, return_exceptions=True)
    if not passing.cancelled():
        passing.result()


async def _send_body(answer: WorkerAnswer, send: Send) -> None:
    """The whole body. If it ends early, so does the connection: an answer that looks whole would be a lie."""
    with contextlib.suppress(WorkerSilent):
        async for part in answer.parts():
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class _Body:
    """The request's body, and after it the news that the caller has left."""

    def __init__(self, receive: Receive, *, has_body: bool) -> None:
        self._receive = receive
        self._is_over = asyncio.Event()
        """Nothing of the body is to come."""
        if not has_body:
            self._is_over.set()

    async def parts(self) -> AsyncIterator[bytes]:
        """Its parts as they come. Raises ConnectionError if the caller leaves before its end."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._is_over.set()
                raise ConnectionResetError("the caller left")
            if part := message.get("body", b""):
                yield part
            if not message.get("more_body"):
                self._is_over.set()
                return

    async def left(self, is_standing: Callable[[], bool]) -> None:
        """Waits until the caller has left, or may no longer have the answer."""
        waiting = asyncio.ensure_future(self._disconnect())
        try:
            while is_standing() and not waiting.done():
                await asyncio.wait([waiting], timeout=STANDING_SECONDS)
        finally:
            waiting.cancel()

    async def _disconnect(self) -> None:
        await self._is_over.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


# -- WebSockets -----------------------------------------------------------------------------------------


async def pass_socket(http: WorkerHttp, place: ShownPort, scope: Scope, receive: Receive, send: Send) -> None:
    """One WebSocket until either side closes it. Raises PortClosed, WorkerSilent before it is accepted."""
    await receive()  # websocket.connect
    headers = {name: value for name, value in passed_on(scope["headers"], place, "http") if name != "Host"}
    headers["Host"] = f"localhost:{place.port}"
    protocols = list(scope.get("subprotocols", ()))
    opened = http.socket(place.worker, place.port, target=place.target, headers=headers, protocols=protocols)
    async with opened as far:
        await send({"type": "websocket.accept", "subprotocol": far.protocol})
        directions = [
            asyncio.ensure_future(_to_worker(far, receive)),
            asyncio.ensure_future(_from_worker(far, send)),
            asyncio.ensure_future(_while_standing(place.is_standing)),
        ]
        try:
            done, _ = await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in directions:
                task.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
        if directions[0] not in done:
            with contextlib.suppress(Exception):  # it may be closed already
                await send({"type": "websocket.close", "code": far.close_code or CLOSED})


async def _while_standing(is_standing: Callable[[], bool]) -> None:
    while is_standing():
        await asyncio.sleep(STANDING_SECONDS)


async def _to_worker(far: WorkerSocket, receive: Receive) -> None:
    while True:
        message: Message = await receive()
        if message["type"] != "websocket.receive":
            return
        text = message.get("text")
        await far.send(text if text is not None else message.get("bytes") or b"")


async def _from_worker(far: WorkerSocket, send: Send) -> None:
    async for message in far.messages():
        await send({"type": "websocket.send", "text" if isinstance(message, str) else "bytes": message})
