"""HTTP calls to addresses that somebody else named: checked, pinned, bounded.

Guarantees:
- an address is called only if the rules of `egress.addresses` and the configuration allow it, and never the
  gateway's own; a name is looked up once, and what was checked is what is connected to, so that an answer
  that changes between the two leads nowhere; if one address of several is forbidden, none is called;
- TLS is verified, against the name in the URL and the system's certificates (`SSL_CERT_FILE` names others);
- 307 and 308 are followed, under the same rules, at most `REDIRECTS` times and never from https to http;
- an answer has at most `ANSWER_BYTES`, a call at most `CALL_SECONDS`; no proxy, no cookie, no credential of
  the gateway's goes along, nothing is decompressed; so many calls of a session, of its owner and of all run
  at a time, and the next one hears so at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec import Struct
from yarl import URL

from gateway.config.hosts import is_address, is_host, plain_host
from gateway.egress.addresses import AddressRefused, AddressRules
from gateway.egress.interim import bounded
from gateway.egress.lookup import LookupFailed

ANSWER_BYTES: Final = 1024 * 1024
CALL_SECONDS: Final = 15.0
CALLS_OF_SESSION: Final = 4
CALLS_OF_OWNER: Final = 16
CALLS_OF_ALL: Final = 64
REDIRECTS: Final = 3
HEADERS: Final = 64
"""Lines of an answer's head, each of at most `HEADER_BYTES`."""
HEADER_BYTES: Final = 8 * 1024
READ_BYTES: Final = 64 * 1024
URL_CHARACTERS: Final = 2_048
_REDIRECTIONS: Final = (307, 308)


class CallFailed(Exception):
    """The call brought no answer; the text says why, for who asked for it."""


class CallRefused(CallFailed):
    """The call is not made: the rules forbid the address, or too many run; the text says what to do."""


class HttpAnswer(Struct, frozen=True):
    """An answer whose body is still to be read."""

    status: int
    headers: Mapping[str, str]
    url: URL
    """Where it came from, after redirects."""
    content: aiohttp.StreamReader

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises CallFailed if it is too long."""
        size = 0
        async for chunk in self.content.iter_any():
            size += len(chunk)
            if size > ANSWER_BYTES:
                raise CallFailed(f"The answer of {_host(self.url)} is longer than {ANSWER_BYTES} bytes.")
            yield chunk


class HttpCaller:
    """The one way out for addresses that people name; see the module."""

    def __init__(self, addresses: AddressRules, *, seconds: float = CALL_SECONDS) -> None:
        self._addresses = addresses
        self._seconds = seconds
        self._running: Counter[tuple[str, str]] = Counter()
        self._trust: ssl.SSLContext | None = None

    def check(self, text: str) -> URL:
        """The URL that a person wrote, as it would be called. Raises CallRefused.

        What a name leads to is seen when it is called.
        """
        url = _parsed(text)
        host, port, rules = _host(url), url.port or 0, self._addresses
        is_literal = is_address(host)
        objection = rules.objection(host, port, host) if is_literal else rules.objection_to_name(host, port)
        if objection is not None:
            raise CallRefused(objection.words)
        return url

    @contextlib.asynccontextmanager
    async def calls(self, *, session: str, owner: str) -> AsyncIterator[Calls]:
        """A conversation with one server, on behalf of a session. Raises CallFailed."""
        with self._place(session, owner):
            try:
                async with asyncio.timeout(self._seconds), Calls(self._checked, self._trusted) as calls:
                    yield calls
            except TimeoutError:
                raise CallFailed(f"The server did not answer within {self._seconds:g} seconds.") from None

    @contextlib.contextmanager
    def _place(self, session: str, owner: str) -> Iterator[None]:
        """One call more, for as long as it runs. Raises CallRefused."""
        bounds = {
            ("session", session): CALLS_OF_SESSION,
            ("owner", owner): CALLS_OF_OWNER,
            ("all", ""): CALLS_OF_ALL,
        }
        if any(self._running[who] >= most for who, most in bounds.items()):
            raise CallRefused("Too many calls to servers are running. Wait for one to end, then try again.")
        self._running.update(bounds.keys())
        try:
            yield
        finally:
            self._running.subtract(bounds.keys())
            self._running = +self._running  # without those at nought

    async def _checked(self, url: URL) -> list[str]:
        """The addresses that a URL may be called at. Raises CallFailed."""
        try:
            return await self._addresses.resolve(_host(url), url.port or 0)
        except AddressRefused as refused:
            raise CallRefused(str(refused)) from None
        except LookupFailed as error:
            raise CallFailed(str(error)) from None

    async def _trusted(self) -> ssl.SSLContext:
        """Whom TLS trusts, read once: hundreds of certificates take a moment."""
        if self._trust is None:
            self._trust = await asyncio.to_thread(_context)
        return self._trust


class Calls:
    """The connections of one conversation."""

    def __init__(
        self,
        check: Callable[[URL], Awaitable[list[str]]],
        trusted: Callable[[], Awaitable[ssl.SSLContext]],
    ) -> None:
        self._check = check
        self._trusted = trusted
        self._pinned = _Pinned()
        self._client: aiohttp.ClientSession

    async def __aenter__(self) -> Calls:
        self._client = aiohttp.ClientSession(
            connector=bounded(aiohttp.TCPConnector(resolver=self._pinned, use_dns_cache=False, limit=2)),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=READ_BYTES,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
            max_headers=HEADERS,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    @contextlib.asynccontextmanager
    async def send(
        self,
        method: str,
        url: URL,
        body: bytes,
        headers: Mapping[str, str],
        *,
        secrets: Mapping[str, str],
    ) -> AsyncIterator[HttpAnswer]:
        """One request; leaving the block lets go of what is not read. `secrets` are headers that only the
        origin of `url` gets. Raises CallFailed.
        """
        try:
            response = await self._follow(method, url, body, headers, secrets)
            try:
                yield HttpAnswer(response.status, response.headers, response.url, response.content)
            finally:
                if response.content.at_eof():
                    response.release()
                else:
                    response.close()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise CallFailed(_broken(error, _host(url))) from None

    async def _follow(
        self, method: str, url: URL, body: bytes, headers: Mapping[str, str], secrets: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        target = url
        for _ in range(REDIRECTS + 1):
            own = secrets if target.origin() == url.origin() else {}
            response = await self._once(method, target, body, {**headers, **own})
            location = response.headers.get("Location")
            if response.status not in _REDIRECTIONS or not location:
                return response
            response.close()
            onward = _parsed(str(target.join(URL(location))))
            if target.scheme == "https" and onward.scheme != "https":
                raise CallRefused(f"{_host(target)} leads from https to http, which is not followed.")
            target = onward
        raise CallFailed(f"{_host(url)} leads from one address to the next without an end.")

    async def _once(
        self, method: str, url: URL, body: bytes, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        key = (_host(url), url.port or 0)
        if key not in self._pinned.known:
            self._pinned.known[key] = await self._check(url)
        trust = await self._trusted() if url.scheme == "https" else False
        return await self._client.request(
            method, url, data=body, headers=headers, allow_redirects=False, ssl=trust
        )


class _Pinned(AbstractResolver):
    """Knows the addresses that were checked, and no other."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, int], list[str]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = self.known.get((plain_host(host), port), [])
        if not found:
            raise OSError(0, f"{host} was not checked")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in found
        ]

    async def close(self) -> None:
        self.known.clear()


def _host(url: URL) -> str:
    """The host in ASCII, as it is looked up and compared."""
    return url.raw_host or ""


def _parsed(text: str) -> URL:
    """A URL that can be called: its host in ASCII and as addresses are usually spelled, its path encoded.

    Raises CallRefused.
    """
    if len(text) > URL_CHARACTERS or not text.isprintable() or " " in text:
        raise CallRefused("This is no URL.")
    try:
        url = URL(text)
        host = plain_host(url.raw_host or "")
        is_usable = url.scheme in ("http", "https") and is_host(host) and 0 < (url.port or 0)
    except (ValueError, UnicodeError):
        raise CallRefused("This is no URL.") from None
    if not is_usable:
        if url.scheme not in ("http", "https"):
            raise CallRefused("A server's URL begins with http:// or https://.")
        raise CallRefused("The URL names no host that can be called, or no port.")
    if url.raw_user is not None or url.raw_password is not None:
        raise CallRefused("A URL must not hold credentials.")
    try:
        return url.with_host(host).with_fragment(None)
    except (ValueError, UnicodeError):
        raise CallRefused("This is no URL.") from None


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _broken(error: Exception, host: str) -> str:
    """What an error of the connection means, in words."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            why = getattr(error.certificate_error, "verify_message", "") or "it does not prove the name"
            return f"The certificate of {host} is not accepted: {why}."
        case aiohttp.ClientSSLError():
            return f"{host} does not speak TLS as it should."
        case aiohttp.ClientConnectorError():
            why = error.os_error.strerror or "no connection"
            return f"{host} could not be reached: {why}."
        case aiohttp.ClientResponseError() | ValueError():
            return f"{host} does not answer as HTTP is spoken."
    return f"The connection to {host} broke."
