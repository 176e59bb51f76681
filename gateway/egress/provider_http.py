"""HTTP to the providers of models: requests whose bodies are at hand, over connections that are kept.

Guarantees: a request goes to the host of its URL, over TLS that names it if the URL says so, or through the
proxy that it is given; no redirect is followed, no cookie kept, nothing decompressed, nothing sent twice; a
connection is made within its time, and what is silent for too long is given up; cancelling a request ends its
connection; `close` ends all of them. A host with several addresses is asked at the next one soon after the
one before (RFC 8305).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import itertools
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

from msgspec import Struct

from gateway.egress.http_wire import HttpConnection, IdleConnections
from gateway.egress.lookup import LookupFailed, system_lookup
from gateway.egress.tunnel import connected_to

KEPT_SECONDS: Final = 15.0
"""A connection that nobody uses is ended before most servers would."""
NEXT_ADDRESS_SECONDS: Final = 0.25
"""What RFC 8305 calls the connection attempt delay."""
ADDRESS_SECONDS: Final = 10.0
"""How long a host stays where it was found."""
PROXY_HEAD_BYTES: Final = 16 * 1024
_HEAD_END: Final = b"\r\n\r\n"
_PORTS: Final = {"http": 80, "https": 443}
_BLANK: Final = re.compile(r"[\x00-\x20\x7f]")
_TARGET: Final = re.compile(r"[\x21-\x7e]+")
_ASCII_SIGNS: Final = "".join(map(chr, range(0x21, 0x7F)))


class Unsendable(Exception):
    """An address, a header or a proxy that cannot be sent."""


class ConnectFailed(Exception):
    """No connection: nothing of the request has left."""

    def __init__(self, words: str, *, is_late: bool = False) -> None:
        super().__init__(words)
        self.is_late = is_late
        """Whether there was no answer in time."""


class Destination(Struct, frozen=True):
    """Where a request goes."""

    scheme: str
    host: str
    port: int
    named: str
    """As the header Host has it."""
    target: str
    """Path and query."""

    @property
    def key(self) -> str:
        """What connections to one place have in common."""
        return f"{self.scheme}://{self.host}:{self.port}"


@functools.lru_cache(maxsize=256)
def destination_of(url: str) -> Destination:
    """Reads a URL; one of a provider, and for some dialects of a model. Raises Unsendable."""
    if _BLANK.search(url):
        raise Unsendable("the address has signs that none has")
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
        if not host.isascii():
            host = host.encode("idna").decode("ascii")
    except (ValueError, UnicodeError):
        raise Unsendable("the address cannot be read") from None
    target = quote(parts.path or "/", safe=_ASCII_SIGNS) + (f"?{parts.query}" if parts.query else "")
    if (
        parts.username is not None
        or scheme not in _PORTS
        or not host
        or not _TARGET.fullmatch(host)
        or not _TARGET.fullmatch(target)
    ):
        raise Unsendable("the address is none of HTTP")
    shown = f"[{host}]" if ":" in host else host
    named = shown if port == _PORTS[scheme] else f"{shown}:{port}"
    return Destination(scheme, host, port, named, target)


class ProviderAnswer:
    """The head of an answer, and its body as it comes. `close` it."""

    __slots__ = ("_connection", "_http", "_key", "headers", "status")

    def __init__(self, http: ProviderHttp, key: str, connection: HttpConnection) -> None:
        self._http = http
        self._key = key
        self._connection = connection
        self.status = connection.status
        self.headers = [
            (name.decode("latin-1").lower(), value.decode("utf-8", "surrogateescape"))
            for name, value in connection.headers
        ]

    def header(self, name: str) -> str | None:
        """The first of this name, which is in small letters."""
        return next((value for known, value in self.headers if known == name), None)

    @property
    def is_over(self) -> bool:
        """Whether all of the body was read."""
        return self._connection.is_over

    async def part(self) -> bytes:
        """What has come of the body; empty at its end. Raises AnswerCut."""
        return await self._connection.part()

    def close(self) -> None:
        """Keeps the connection if all was read, and ends it if not."""
        self._http.give_back(self._key, self._connection)


class ProviderHttp:
    """See the module. One for all providers; belongs to the loop's thread."""

    def __init__(self) -> None:
        self._idle = IdleConnections(seconds=KEPT_SECONDS)
        self._used: set[HttpConnection] = set()
        self._addresses = HostAddresses()
        self._tls: ssl.SSLContext | None = None
        self._is_closed = False
        self.made = 0
        """Connections so far."""

    def close(self) -> None:
        """Ends every connection."""
        self._is_closed = True
        self._idle.close()
        for connection in self._used:
            connection.close()

    async def ask(
        self,
        place: Destination,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        connect_seconds: float,
        silence_seconds: float,
        proxy: str | None = None,
    ) -> ProviderAnswer:
        """A GET, or with a body a POST. Raises Unsendable, ConnectFailed, AnswerMissing."""
        is_passed_on = proxy is not None and place.scheme == "http"  # else a proxy sees a tunnel only
        target = f"http://{place.named}{place.target}" if is_passed_on else place.target
        if proxy is not None and is_passed_on:
            headers = {**headers, **_proxy_credentials(_proxy_parts(proxy))}
        head = _head("GET" if body is None else "POST", target, place.named, headers, body)
        key = f"{proxy or ''} {place.key}"
        connection = self._idle.take(key)
        if connection is None:
            connection = await self._connected(place, proxy, connect_seconds)
        self._used.add(connection)
        try:
            if self._is_closed:
                connection.close()
            method = "GET" if body is None else "POST"
            await connection.ask(method, head, body, silence_seconds=silence_seconds)
            return ProviderAnswer(self, key, connection)
        except BaseException:
            self._used.discard(connection)
            connection.close()
            raise

    def give_back(self, key: str, connection: HttpConnection) -> None:
        """It is not needed now. Again: nothing."""
        if connection in self._used:
            self._used.discard(connection)
            if connection.release() and not self._is_closed:
                self._idle.keep(key, connection)

    # -- connections ------------------------------------------------------------------------------------

    async def _connected(self, place: Destination, proxy: str | None, seconds: float) -> HttpConnection:
        """A new one. Raises ConnectFailed, Unsendable."""
        self.made += 1
        try:
            async with asyncio.timeout(seconds):
                if proxy is None:
                    return await self._direct(place)
                return await self._by_proxy(place, _proxy_parts(proxy))
        except TimeoutError:
            raise ConnectFailed("it took too long", is_late=True) from None
        except (OSError, LookupFailed, ValueError) as error:  # an OSError is one of TLS, too
            raise ConnectFailed(type(error).__name__) from None

    async def _dialled(self, host: str, port: int) -> socket.socket:
        """A connection to a host. Raises OSError, LookupFailed."""
        addresses = await self._addresses.of(host, port)
        try:
            return await dialled(addresses, port)
        except BaseException:
            self._addresses.forget(host)  # it may have moved
            raise

    async def _direct(self, place: Destination) -> HttpConnection:
        made = await self._dialled(place.host, place.port)
        return await self._over(made, place.host if place.scheme == "https" else None)

    async def _by_proxy(self, place: Destination, proxy: SplitResult) -> HttpConnection:
        """A connection to a proxy, or through it to a host with TLS."""
        host = proxy.hostname or ""
        made = await self._dialled(host, proxy.port or _PORTS[proxy.scheme])
        if place.scheme == "http":
            return await self._over(made, host if proxy.scheme == "https" else None)
        try:
            if proxy.scheme == "https":
                return await self._inside_tls(made, place, proxy)
            await _tunnelled(made, place, proxy)
        except BaseException:
            made.close()
            raise
        return await self._over(made, place.host)

    async def _inside_tls(
        self, made: socket.socket, place: Destination, proxy: SplitResult
    ) -> HttpConnection:
        """TLS to a host within TLS to a proxy."""
        tls, loop = await self._authorities(), asyncio.get_running_loop()
        outer, asking = await loop.create_connection(
            _ProxyAnswer, sock=made, ssl=tls, server_hostname=proxy.hostname
        )
        try:
            outer.write(_connect_head(place, proxy))
            _check_tunnel(await asking.head)
            connection = HttpConnection(is_lenient=True)
            inner = await loop.start_tls(outer, connection, tls, server_hostname=place.host)
            if inner is None:
                raise OSError("the connection has ended")
            connection.connection_made(inner)
        except BaseException:
            outer.abort()
            raise
        return connection

    async def _authorities(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = await asyncio.to_thread(_tls)
        return self._tls

    async def _over(self, made: socket.socket, server_name: str | None) -> HttpConnection:
        """Speaks HTTP over a socket, behind TLS if a server is named."""
        try:
            tls = None if server_name is None else await self._authorities()
            _, connection = await asyncio.get_running_loop().create_connection(
                functools.partial(HttpConnection, is_lenient=True),
                sock=made,
                ssl=tls,
                server_hostname=server_name,
            )
        except BaseException:
            made.close()
            raise
        return connection


def _tls() -> ssl.SSLContext:
    """Reads the machine's authorities, which takes a while."""
    made = ssl.create_default_context()
    made.set_alpn_protocols(["http/1.1"])
    return made


def _head(method: str, target: str, named: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """A request's head. Raises Unsendable for what is no line of one."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {named}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    text = "\r\n".join((*lines, "", ""))
    if text.count("\r") != len(lines) + 1 or text.count("\n") != len(lines) + 1 or "\0" in text:
        raise Unsendable("a header is not one line")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Unsendable("a header is no text") from None


# -- sockets --------------------------------------------------------------------------------------------


class HostAddresses:
    """Where hosts are: those who ask for one at the same time, or soon after, wait for one look-up."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[float, list[str]]] = {}
        self._looking: dict[str, asyncio.Task[list[str]]] = {}

    async def of(self, host: str, port: int) -> list[str]:
        """The addresses of a host, the families in turn. Raises LookupFailed."""
        if _is_literal(host):
            return [host]
        at, known = self._found.get(host, (0.0, []))
        if known and asyncio.get_running_loop().time() - at < ADDRESS_SECONDS:
            return known
        looking = self._looking.get(host)
        if looking is None:
            look = self._look(host, port)
            looking = self._looking[host] = asyncio.create_task(look, name="addresses of a provider")
            looking.add_done_callback(lambda done: self._is_done(host, done))
        return await asyncio.shield(looking)

    def forget(self, host: str) -> None:
        """The next one looks again."""
        self._found.pop(host, None)

    async def _look(self, host: str, port: int) -> list[str]:
        found = _in_turn(await system_lookup.addresses(host, port))
        self._found[host] = asyncio.get_running_loop().time(), found
        return found

    def _is_done(self, host: str, done: asyncio.Task[list[str]]) -> None:
        del self._looking[host]
        if not done.cancelled():
            done.exception()  # it is heard of by those who wait, if anybody still does


def _is_literal(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host)
            return True
    return False


def _in_turn(found: list[str]) -> list[str]:
    """The families take turns, beginning with the one that the system prefers."""
    first = [each for each in found if (":" in each) == (":" in found[0])]
    second = [each for each in found if each not in first]
    pairs = itertools.zip_longest(first, second)
    return [each for pair in pairs for each in pair if each is not None]


async def dialled(addresses: Sequence[str], port: int) -> socket.socket:
    """A connection to a host: to its addresses in their order, each a little after the one before. Raises
    OSError.
    """
    if len(addresses) == 1:
        return await connected_to(addresses[0], port)
    attempts: set[asyncio.Task[socket.socket]] = set()
    failed: OSError = OSError("no address")
    try:
        for address in addresses:
            attempts.add(asyncio.create_task(connected_to(address, port), name="a connection to a provider"))
            is_last = address == addresses[-1]
            while attempts:
                done, attempts = await asyncio.wait(
                    attempts,
                    timeout=None if is_last else NEXT_ADDRESS_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                made = [each.result() for each in done if each.exception() is None]
                for spare in made[1:]:
                    spare.close()
                if made:
                    return made[0]
                failed = next((e for each in done if isinstance(e := each.exception(), OSError)), failed)
                if not is_last:
                    break  # it failed, or it is late
        raise failed
    finally:
        for each in attempts:
            each.cancel()
            each.add_done_callback(_drop)


def _drop(attempt: asyncio.Task[socket.socket]) -> None:
    """Nobody needs what an attempt has made."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


# -- proxies --------------------------------------------------------------------------------------------


def _proxy_parts(proxy: str) -> SplitResult:
    """Raises Unsendable."""
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        _ = parts.port
    except ValueError:
        raise Unsendable("the address of the proxy cannot be read") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise Unsendable("the proxy is none of HTTP")
    return parts


def _proxy_credentials(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


class _ProxyAnswer(asyncio.Protocol):
    """What a proxy says to CONNECT."""

    def __init__(self) -> None:
        self.head: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._said = b""

    def data_received(self, data: bytes) -> None:
        self._said += data
        if self.head.done():
            return
        if self._said.endswith(_HEAD_END):
            self.head.set_result(self._said)
        elif len(self._said) > PROXY_HEAD_BYTES or _HEAD_END in self._said:
            self.head.set_exception(OSError("the proxy gave no answer"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.head.done():
            self.head.set_exception(OSError("the proxy closed the connection"))


async def _tunnelled(made: socket.socket, place: Destination, proxy: SplitResult) -> None:
    """Has a proxy connect to a host. Raises OSError if it does not."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(made, _connect_head(place, proxy))
    head = b""
    while not head.endswith(_HEAD_END):  # byte for byte: what comes after it is the host's
        byte = await loop.sock_recv(made, 1)
        head += byte
        if not byte or len(head) > PROXY_HEAD_BYTES:
            raise OSError("the proxy gave no answer")
    _check_tunnel(head)


def _connect_head(place: Destination, proxy: SplitResult) -> bytes:
    shown = f"[{place.host}]" if ":" in place.host else place.host
    authority = f"{shown}:{place.port}"
    return _head("CONNECT", authority, authority, _proxy_credentials(proxy), None)


def _check_tunnel(head: bytes) -> None:
    """Raises OSError if the proxy does not connect."""
    if head.split(b" ", 2)[1:2] != [b"200"]:
        raise OSError("the proxy refused")
