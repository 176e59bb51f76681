"""Connections of workers to hosts that a credential is added for: TLS ends here and begins again to the host.

Guarantees: a request is sent on only if its method and path are on the credential's list and its Host is the
host that was admitted; the worker's own header of that name never goes out, and the credential never comes
in, also if the host quotes it; the host is dialled at the addresses that were admitted, its certificate is
verified, no redirect is followed; a request behind a refused one is never sent; what passes is held in memory
a few hundred kilobytes at a time; when one end is lost, so is the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, Literal

import httptools
from msgspec import Struct

from gateway.config.credentials import CredentialConfig, credential_for, hosts_with_credentials
from gateway.config.tables import Config
from gateway.egress import pace, request_rules
from gateway.egress.admission import Admission, Admitted
from gateway.egress.authority import Authority
from gateway.egress.credential_values import CredentialValues, HeaderValue, ValueMissing
from gateway.egress.pace import LoopShare
from gateway.egress.request_rules import Header, Mask
from gateway.egress.spoken import FIELDS, HEAD_BYTES, chunk, last_answer
from gateway.principal import Account, tenant_of

log = logging.getLogger(__name__)

READ_BYTES: Final = 64 * 1024
HANDSHAKE_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 60.0
"""Without a request, a connection is closed after so long."""
HEAD_SECONDS: Final = 30.0
BODY_SECONDS: Final = 60.0
"""Without a byte of a body that was begun."""
ANSWER_SECONDS: Final = 600.0
"""Without a byte of the answer: a git server may count objects for minutes."""
CLOSE_SECONDS: Final = 2.0
EARLY_ANSWERS: Final = 16
"""1xx, before the one that counts."""
SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
"""They may be sent twice (RFC 9110, 9.2.1)."""
LINGER_BYTES: Final = 16 * 1024 * 1024
"""Read, and dropped, of a request that was refused or answered early."""
Dial = Callable[[Admitted], Awaitable[socket.socket]]
"""A connection to what was admitted; raises an exception if there is none."""
Outcome = Literal["sent", "refused", "failed"]


class _Refused(Exception):
    """The request is not sent on; the words go to the worker."""

    def __init__(self, status: int, words: str, *, is_noted: bool = False) -> None:
        """`is_noted`: the person and the operator hear of it."""
        self.status = status
        self.words = words
        self.is_noted = is_noted
        super().__init__(words)


class _Stale(Exception):
    """The host had closed a connection that was used before; the request may be sent on a new one."""


class _Cut(Exception):
    """The connection cannot go on, and nothing can be said any more."""


class Interception:
    """Serves connections to hosts with credentials; one for the gateway."""

    def __init__(
        self,
        config: Callable[[], Config],
        *,
        authority: Authority,
        values: CredentialValues,
        dial: Dial,
        on_outcome: Callable[[str, Outcome], None] = lambda _credential, _outcome: None,
    ) -> None:
        """`dial` connects to what was admitted; `on_outcome` hears what became of each request."""
        self._config = config
        self.authority = authority
        self.values = values
        self.dial = dial
        self.on_outcome = on_outcome
        self._clients: dict[tuple[str, int], ssl.SSLContext] = {}
        """By the file of authorities, and when that was changed."""

    def of(self, account: Account) -> AccountInterceptor:
        """For the worker of one account."""
        return AccountInterceptor(self, account)

    def hosts(self, *, agent: str, tenant: str) -> tuple[str, ...]:
        """The hosts whose TLS ends here, for an agent's worker that starts now."""
        return hosts_with_credentials(self._config(), agent=agent, tenant=tenant)

    def credential(self, admitted: Admitted, account: Account) -> CredentialConfig | None:
        """As the configuration is now; None if the account's worker has this credential no longer."""
        config, tenant = self._config(), tenant_of(account.owner)
        name = credential_for(
            config, agent=account.agent, tenant=tenant, host=admitted.host, port=admitted.port
        )
        return config.credentials[name] if name and name == admitted.credential else None

    def trust(self, ca_file: str) -> ssl.SSLContext:
        """What hosts are verified by. Raises OSError: ssl.SSLError is one."""
        changed_at = os.stat(ca_file).st_mtime_ns if ca_file else 0
        context = self._clients.get((ca_file, changed_at))
        if context is None:
            self._clients = {key: known for key, known in self._clients.items() if key[0] != ca_file}
            context = ssl.create_default_context()
            context.set_alpn_protocols(["http/1.1"])
            if ca_file:
                context.load_verify_locations(ca_file)
            self._clients[ca_file, changed_at] = context
        return context


class AccountInterceptor:
    """What a worker's door hands connections to that a credential is added for."""

    def __init__(self, shared: Interception, account: Account) -> None:
        self._shared = shared
        self._account = account

    async def serve(
        self, client: socket.socket, admitted: Admitted, *, admission: Admission, share: LoopShare
    ) -> None:
        """Until its end. The client's ClientHello is still unread. Cancelled when the worker ends."""
        await share.wait(pace.HANDSHAKE_SECONDS)
        loop = asyncio.get_running_loop()
        client.setblocking(False)
        reader = asyncio.StreamReader(limit=READ_BYTES)
        protocol = _Watched(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                client,
                ssl=self._shared.authority.server(admitted.host),
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=CLOSE_SECONDS,
            )
        except (OSError, TimeoutError):  # ssl.SSLError is one; a program that does not trust the authority
            self._shared.on_outcome(admitted.credential, "failed")
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        conversation = _Conversation(
            self._shared, self._account, admitted, admission, reader, writer, share=share
        )
        serving = asyncio.ensure_future(conversation.run())
        protocol.on_lost = serving.cancel
        try:
            await asyncio.wait([serving])
            if not serving.cancelled() and (error := serving.exception()) is not None:
                log.error("a connection to %s was cut", admitted.host, exc_info=error)
        finally:
            serving.cancel()
            await _closed(writer, protocol)


class _Watched(asyncio.StreamReaderProtocol):
    """Tells when the connection is lost."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self.lost = asyncio.Event()
        self.on_lost: Callable[[], object] = lambda: None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost.set()
        self.on_lost()


async def _closed(writer: asyncio.StreamWriter, protocol: _Watched) -> None:
    """Closes a connection: what was written is sent first, for a moment."""
    protocol.on_lost = lambda: None
    writer.close()
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await protocol.lost.wait()
    except TimeoutError:
        pass
    finally:
        writer.transport.abort()


# -- messages as they come --------------------------------------------------------------------------------


class _Head(Struct, frozen=True):
    """Of a request or an answer; `first` is its method, or its reason."""

    first: str
    target: str
    status: int
    version: str
    headers: tuple[Header, ...]
    is_kept_alive: bool
    size: int

    @property
    def is_too_long(self) -> bool:
        """Whether it has too many bytes or fields."""
        return self.size > HEAD_BYTES or len(self.headers) > FIELDS

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a header."""
        return [value for key, value in self.headers if key.lower() == name]


class _End(Struct, frozen=True):
    """A message is complete."""


_Part = _Head | bytes | _End


class _Parts:
    """Callbacks of the parser → parts of messages. What comes behind one message waits for its turn."""

    def __init__(self, kind: type[httptools.HttpRequestParser] | type[httptools.HttpResponseParser]) -> None:
        self._parser = kind(self)
        self.ready: deque[_Part] = deque()
        self.error = ""
        self._unfinished = 0
        """Bytes since the last part: the parser keeps a line that has no end."""
        self._begin()

    def _begin(self) -> None:
        self._target = b""
        self._reason = b""
        self._headers: list[Header] = []
        self._head_bytes = 0

    def feed(self, data: bytes) -> None:
        """Parses; what is malformed is in `error`, behind what was ready before it."""
        self._unfinished += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.error = self.error or "Changing the protocol is not possible here."
        except httptools.HttpParserError:
            self.error = self.error or "This is not HTTP as it should be."
        if self.ready:
            self._unfinished = 0

    @property
    def is_too_long(self) -> bool:
        """Whether a head that is still to be completed has too many bytes or fields."""
        return self._unfinished > HEAD_BYTES + READ_BYTES or len(self._headers) > 2 * FIELDS

    @property
    def is_complete(self) -> bool:
        """Whether the message that is read now is there to its end."""
        return not self.error and any(isinstance(part, _End) for part in self.ready)

    def on_message_begin(self) -> None:
        self._begin()

    def on_url(self, data: bytes) -> None:
        self._target += data
        self._head_bytes += len(data)

    def on_status(self, data: bytes) -> None:
        self._reason += data
        self._head_bytes += len(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))
        self._head_bytes += len(name) + len(value)

    def on_headers_complete(self) -> None:
        parser = self._parser
        if isinstance(parser, httptools.HttpRequestParser):
            first, status = parser.get_method().decode("latin-1"), 0
        else:
            first, status = self._reason.decode("latin-1"), parser.get_status_code()
        head = _Head(
            first=first,
            target=self._target.decode("latin-1"),
            status=status,
            version=parser.get_http_version(),
            headers=tuple(self._headers),
            is_kept_alive=parser.should_keep_alive(),
            size=self._head_bytes,
        )
        self.ready.append(head)

    def on_body(self, data: bytes) -> None:
        self.ready.append(data)

    def on_message_complete(self) -> None:
        self.ready.append(_End())


class _Source:
    """Reads parts of messages from a connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        kind: type[httptools.HttpRequestParser] | type[httptools.HttpResponseParser],
        count: Callable[[int], None],
        share: LoopShare,
    ) -> None:
        self._reader = reader
        self._count = count
        self._share = share
        self.has_begun = False
        """Whether a byte has come."""
        self.parts = _Parts(kind)

    async def next(self) -> _Part | None:
        """The next part; None if the connection has ended. Raises _Refused if it is malformed."""
        while not self.parts.ready:
            if self.parts.error:
                raise _Refused(400, self.parts.error)
            if self.parts.is_too_long:
                raise _Refused(431, "The head of the request is too long.")
            data = await self._reader.read(READ_BYTES)
            if not data:
                return None
            self.has_begun = True
            await self._take(data)
        return self.parts.ready.popleft()

    async def has_more(self) -> bool:
        """Waits until there is something, or nothing will come."""
        if not self.parts.ready and not self.parts.error:
            data = await self._reader.read(READ_BYTES)
            if not data:
                return False
            await self._take(data)
        return True

    async def _take(self, data: bytes) -> None:
        """Past the worker's share the next read waits, and what comes meanwhile waits in the kernel. What was
        read is kept first: whoever waits here may be cancelled.
        """
        self._count(len(data))
        self.parts.feed(data)
        await self._share.wait(pace.READ_SECONDS + len(data) * pace.TLS_BYTE_SECONDS)


# -- one connection ---------------------------------------------------------------------------------------


class _Upstream:
    """A connection to the host."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        count: Callable[[int], None],
        share: LoopShare,
    ) -> None:
        self._reader = reader
        self.writer = writer
        self._count = count
        self._share = share
        self._is_free = False
        self.was_used = False
        """Whether it has carried a request before this one."""

    def answer(self) -> _Source:
        """The source of the next answer."""
        return _Source(self._reader, httptools.HttpResponseParser, self._count, self._share)

    @property
    def is_good(self) -> bool:
        """Whether another request may be sent on it."""
        return self._is_free and not self._reader.at_eof() and not self.writer.is_closing()

    @is_good.setter
    def is_good(self, value: bool) -> None:
        self._is_free = value

    def abort(self) -> None:
        """Ends it at once."""
        self.writer.transport.abort()


class _Conversation:
    """The requests of one connection, one after the other."""

    def __init__(
        self,
        shared: Interception,
        account: Account,
        admitted: Admitted,
        admission: Admission,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        share: LoopShare,
    ) -> None:
        self._shared = shared
        self._share = share
        self._account = account
        self._admitted = admitted
        self._admission = admission
        self._reader = reader
        self._writer = writer
        self._requests = _Source(reader, httptools.HttpRequestParser, lambda _size: None, share)
        self._upstream: _Upstream | None = None
        self._is_answered = False
        """Whether the head of the answer went to the worker."""
        self._is_unread = False
        """Whether a request was answered before all of it was there."""
        self._moved = 0.0
        """When a piece of the request went out last."""

    async def run(self) -> None:
        """Until the end of the connection."""
        try:
            while await self._one():
                pass
            if self._is_unread:
                await self._linger()
        except (OSError, _Cut):
            self._writer.transport.abort()
        finally:
            self._drop_upstream()

    async def _one(self) -> bool:
        """One request; whether another may follow."""
        self._is_answered = False
        try:
            head = await self._head()
            if head is None:
                return False
            await self._share.wait(pace.REQUEST_SECONDS)
            may_go_on = await self._exchanged(head)
        except _Refused as refused:
            self._note(refused)
            await self._say(refused)
            return False
        self._shared.on_outcome(self._admitted.credential, "sent")
        return may_go_on

    def _note(self, refused: _Refused) -> None:
        is_failure = refused.status >= 500
        self._shared.on_outcome(self._admitted.credential, "failed" if is_failure else "refused")
        if refused.is_noted:
            self._admission.refuse(self._admitted.host, self._admitted.port, "credential")

    async def _head(self) -> _Head | None:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                if not await self._requests.has_more():
                    return None
        except TimeoutError:
            return None
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                head = await self._requests.next()
        except TimeoutError:
            raise _Refused(408, "The head of the request did not arrive in time.") from None
        if head is None or isinstance(head, bytes | _End):
            return None
        return head

    def _check(self, head: _Head, credential: CredentialConfig) -> None:
        """Raises _Refused."""
        host, port = self._admitted.host, self._admitted.port
        if head.version != "1.1":
            raise _Refused(505, "Only HTTP/1.1 is supported here.")
        if head.is_too_long:
            raise _Refused(431, "The head of the request is too long.")
        if head.all(b"upgrade"):
            raise _Refused(400, f"WebSockets are not supported to {host}: a credential is added to requests.")
        if not request_rules.is_for(head.all(b"host"), host, port):
            raise _Refused(421, f"This connection is to {host}; the Host of the request is another.")
        if [value.strip().lower() for value in head.all(b"transfer-encoding")] not in ([], [b"chunked"]):
            raise _Refused(400, "Only chunked transfer encoding is supported.")
        words = request_rules.refusal(
            head.first, head.target, methods=credential.methods, paths=credential.paths
        )
        if words is not None:
            raise _Refused(403, f"The gateway did not send this request to {host}. {words}", is_noted=True)

    # -- there --------------------------------------------------------------------------------------------

    async def _exchanged(self, head: _Head) -> bool:
        """Sends a request on and the answer back; whether another request may follow."""
        name = self._admitted.credential
        credential = self._shared.credential(self._admitted, self._account)
        if credential is None:
            raise _Refused(403, f"The credential {name} is not for this session any more.", is_noted=True)
        self._check(head, credential)
        try:
            value = await self._shared.values.header(name, credential, self._account)
        except ValueMissing as missing:
            raise _Refused(403, str(missing), is_noted=True) from None
        try:
            return await self._once(head, credential, value)
        except _Stale:
            return await self._once(head, credential, value)

    async def _once(self, head: _Head, credential: CredentialConfig, value: HeaderValue) -> bool:
        """Raises _Stale if the connection of before was closed meanwhile, and it may be tried again."""
        has_body = bool(head.all(b"transfer-encoding") or head.all(b"content-length"))
        is_safe = head.first in SAFE_METHODS and not has_body
        upstream = await self._connected(credential, is_safe=is_safe)
        self._is_unread = False
        upstream.is_good = False
        self._moved = asyncio.get_running_loop().time()
        sending = asyncio.ensure_future(self._send(upstream, head, credential, value))
        try:
            return await self._answered(upstream, head, sending, value)
        finally:
            is_sent = sending.done()
            sending.cancel()
            await asyncio.wait([sending])
            if sending.cancelled() or sending.exception() is not None or not is_sent:
                self._is_unread = True
                self._drop_upstream()

    async def _connected(self, credential: CredentialConfig, *, is_safe: bool) -> _Upstream:
        """A connection to the host. What may not be done twice gets a new one: one that was used before may
        be closed just now.
        """
        if self._upstream is not None and self._upstream.is_good and is_safe:
            self._upstream.was_used = True
            return self._upstream
        self._drop_upstream()
        host = self._admitted.host
        try:
            trust = self._shared.trust(credential.ca_file)
        except OSError:
            log.error("credentials.%s.ca_file: cannot be read", self._admitted.credential)
            raise _Refused(502, f"The gateway cannot verify {host} now; its log says why.") from None
        try:
            made = await self._shared.dial(self._admitted)
        except Exception:  # whatever it is, there is no connection
            raise _Refused(502, f"{host} cannot be reached.") from None
        try:
            reader, writer = await asyncio.open_connection(
                sock=made,
                ssl=trust,
                server_hostname=host,
                limit=READ_BYTES,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=CLOSE_SECONDS,
            )
        except ssl.SSLCertVerificationError as error:
            raise _Refused(
                502, f"The certificate of {host} is not trusted: {error.verify_message}."
            ) from None
        except (OSError, TimeoutError):
            raise _Refused(502, f"{host} does not speak TLS as it should.") from None
        except BaseException:
            made.close()
            raise
        self._upstream = _Upstream(reader, writer, self._received, self._share)
        return self._upstream

    def _drop_upstream(self) -> None:
        if self._upstream is not None:
            self._upstream.abort()
            self._upstream = None

    async def _send(
        self, upstream: _Upstream, head: _Head, credential: CredentialConfig, value: HeaderValue
    ) -> None:
        """Sends the request, its body as it comes. Raises OSError, _Refused."""
        is_chunked = bool(head.all(b"transfer-encoding"))
        lengths = head.all(b"content-length")
        lines = [(b"Host", head.all(b"host")[0]), (credential.header.encode(), value.text)]
        lines += request_rules.passed_on(head.headers, credential.header)
        lines += [(b"Accept-Encoding", b"identity")]
        lines += (
            [(b"Transfer-Encoding", b"chunked")]
            if is_chunked
            else [(b"Content-Length", one) for one in lengths]
        )
        await self._out(upstream, _joined(f"{head.first} {head.target} HTTP/1.1".encode("latin-1"), lines))
        is_waiting = any(word.strip().lower() == b"100-continue" for word in head.all(b"expect"))
        if is_waiting and not self._is_answered:
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        async for piece in self._body():
            await self._out(upstream, chunk(piece) if is_chunked else piece)
        if is_chunked:
            await self._out(upstream, b"0\r\n\r\n")

    async def _body(self) -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    part = await self._requests.next()
            except TimeoutError:
                raise _Refused(408, "The body of the request did not arrive in time.") from None
            if isinstance(part, _End):
                return
            if not isinstance(part, bytes):
                raise _Cut
            yield part

    async def _out(self, upstream: _Upstream, data: bytes) -> None:
        upstream.writer.write(data)
        self._transferred(sent=len(data))
        await upstream.writer.drain()
        self._moved = asyncio.get_running_loop().time()

    def _received(self, size: int) -> None:
        self._transferred(received=size)

    def _transferred(self, *, sent: int = 0, received: int = 0) -> None:
        """Raises _Cut if the session has used up what it may transfer."""
        if (sent or received) and not self._admission.transferred(sent=sent, received=received):
            raise _Cut

    # -- and back -----------------------------------------------------------------------------------------

    async def _answered(
        self, upstream: _Upstream, head: _Head, sending: asyncio.Future[None], value: HeaderValue
    ) -> bool:
        source, mask = upstream.answer(), Mask(value.masked)
        answer = await self._answer_head(source, sending, may_retry=upstream.was_used)
        if answer.status == 401:
            self._shared.values.refused(self._admitted.credential)
        is_last = not head.is_kept_alive or not sending.done()
        has_body = head.first != "HEAD" and answer.status not in (204, 304)
        lengths = answer.all(b"content-length")[:1]
        is_chunked = has_body and not lengths
        lines = [(name, mask.whole(text)) for name, text in request_rules.answered(answer.headers)]
        lines += (
            [(b"Transfer-Encoding", b"chunked")]
            if is_chunked
            else [(b"Content-Length", one) for one in lengths]
        )
        lines += [(b"Connection", b"close")] if is_last else []
        reason = mask.whole(answer.first.encode("latin-1"))
        self._is_answered = True
        await self._back(_joined(f"HTTP/1.1 {answer.status} ".encode() + reason, lines))
        if has_body:
            is_ended = await self._pass_body(
                source, sending, mask, is_chunked=is_chunked, length=bool(lengths)
            )
        else:
            is_ended = True
        upstream.is_good = is_ended and answer.is_kept_alive and not (source.parts.error or _rest(source))
        return not is_last and sending.done()

    async def _answer_head(self, source: _Source, sending: asyncio.Future[None], *, may_retry: bool) -> _Head:
        """The head of the final answer. Raises _Refused, _Stale."""
        host = self._admitted.host
        for _ in range(2 * EARLY_ANSWERS):
            part = await self._next(source, sending)
            if part is None and may_retry and not source.has_begun:
                raise _Stale
            if part is None:
                raise self._lost(sending)
            if not isinstance(part, _Head) or (part.status < 200 and part.status != 101):
                continue
            if part.is_too_long:
                raise _Refused(502, f"The answer of {host} is not HTTP as it should be.")
            if part.status == 101 or part.all(b"transfer-encoding") not in ([], [b"chunked"]):
                raise _Refused(502, f"{host} answered in a way that is not supported here.")
            return part
        raise _Refused(502, f"{host} sent early answers without end.")

    def _lost(self, sending: asyncio.Future[None]) -> _Refused:
        """Why there is no answer: what the worker did wrong goes before what the host did."""
        error = sending.exception() if sending.done() and not sending.cancelled() else None
        if isinstance(error, _Refused):
            return error
        return _Refused(502, f"{self._admitted.host} closed the connection without an answer.")

    async def _next(self, source: _Source, sending: asyncio.Future[None]) -> _Part | None:
        """The next part of an answer; None if the host has closed the connection. Raises _Refused, _Cut."""
        if source.parts.ready:
            return source.parts.ready.popleft()
        if not sending.done():
            return await self._next_meanwhile(source, sending)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._read(source)
        except TimeoutError:
            raise self._too_late() from None

    async def _next_meanwhile(self, source: _Source, sending: asyncio.Future[None]) -> _Part | None:
        """The same while the request is still being sent; a fault of the request ends it."""
        loop = asyncio.get_running_loop()
        reading = asyncio.ensure_future(self._read(source))
        waited: set[asyncio.Future[Any]] = {reading, sending}
        try:
            while True:
                await asyncio.wait(waited, timeout=ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    return reading.result()
                if sending.done():
                    waited.discard(sending)
                    if isinstance(error := sending.exception(), _Refused | _Cut):
                        raise error
                if loop.time() - self._moved >= ANSWER_SECONDS:
                    raise self._too_late()
        finally:
            reading.cancel()

    async def _read(self, source: _Source) -> _Part | None:
        try:
            return await source.next()
        except _Refused:
            raise _Refused(502, f"The answer of {self._admitted.host} is not HTTP as it should be.") from None
        except OSError:
            return None

    def _too_late(self) -> _Refused:
        return _Refused(504, f"{self._admitted.host} did not answer in time.")

    async def _pass_body(
        self, source: _Source, sending: asyncio.Future[None], mask: Mask, *, is_chunked: bool, length: bool
    ) -> bool:
        """Sends the body back; whether the host has ended it by more than closing the connection."""
        while True:
            part = await self._next(source, sending)
            if part is None and length:
                raise _Cut  # short: the worker must not take it for whole
            if isinstance(part, bytes):
                piece = mask.feed(part)
                await self._back(chunk(piece) if is_chunked else piece)
                continue
            rest = mask.end()
            await self._back((chunk(rest) + b"0\r\n\r\n") if is_chunked else rest)
            return part is not None

    async def _back(self, data: bytes) -> None:
        if data:
            self._writer.write(data)
            await self._writer.drain()

    async def _say(self, refused: _Refused) -> None:
        """Tells the worker, in words, and ends the connection."""
        if self._is_answered:
            self._writer.transport.abort()
            return
        self._writer.write(last_answer(refused.status, refused.words))
        self._is_unread = not self._requests.parts.is_complete

    async def _linger(self) -> None:
        """Reads what is still coming, and drops it: closing over it would reset the connection, and what was
        said last with it.
        """
        left = LINGER_BYTES
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._writer.drain()
                while left > 0 and (data := await self._reader.read(READ_BYTES)):
                    left -= len(data)


def _joined(first: bytes, headers: Sequence[Header]) -> bytes:
    return b"".join((first, b"\r\n", *(b"%b: %b\r\n" % header for header in headers), b"\r\n"))


def _rest(source: _Source) -> bool:
    """Whether a host has sent more than its answer."""
    return any(not isinstance(part, _End) for part in source.parts.ready)
