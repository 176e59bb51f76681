"""HTTP and WebSockets to the other gateways of a store. Connections are kept; nothing is decompressed, no
redirect is followed, no cookie is kept, and nothing is tried twice here: what comes is passed on.

The errors say what may have been done: NodeUnreachable: nothing; NodeSilent: everything may; AnswerCut: an
answer has begun. A peer that does not even confirm what it was sent is given up within seconds.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final

from gateway.egress.http_wire import (
    HEAD_BYTES,
    AnswerCut,
    AnswerMissing,
    Headers,
    HttpConnection,
    head_of,
)
from gateway.egress.node_wire import NodeConnections, NodeSilent, NodeUnreachable, notice
from gateway.telemetry.heavy import lazily, loaded

if TYPE_CHECKING:
    import aiohttp
    import yarl
else:
    aiohttp = lazily("aiohttp")
    yarl = lazily("yarl")

HEARTBEAT_SECONDS: Final = 20.0
"""How often the other side of an open WebSocket is asked if it is there."""
MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""The other gateway has looked at what comes in; this bounds what it says itself."""


class HandshakeRefused(Exception):
    """A WebSocket was not opened; the answer says why."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.headers = headers


class NodeAnswer:
    """The head of an answer, and its body as it comes."""

    __slots__ = ("_connection", "headers", "status")

    def __init__(self, connection: HttpConnection) -> None:
        self._connection = connection
        self.status = connection.status
        self.headers: Sequence[tuple[bytes, bytes]] = connection.headers

    @property
    def is_over(self) -> bool:
        """Whether nothing of the body is to come."""
        return self._connection.is_over

    def header(self, name: bytes) -> str:
        """The first of this name, in small letters, or nothing."""
        found = (value for given, value in self.headers if given.lower() == name)
        return next(found, b"").decode("latin-1")

    async def part(self) -> bytes:
        """What has come of the body; empty at its end. Raises AnswerCut."""
        return await self._connection.part()

    async def whole(self) -> bytes:
        """The body. Raises AnswerCut."""
        parts = []
        while part := await self.part():
            parts.append(part)
        return b"".join(parts)


class NodeSocket:
    """A WebSocket that is open."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self.protocol = socket.protocol
        self.reason = ""
        """Why it was closed, in the other side's words."""

    @property
    def close_code(self) -> int | None:
        """That of its end, once it has one."""
        return self._socket.close_code

    async def send(self, message: str | bytes) -> None:
        """Sends text or bytes. Raises AnswerCut if it has ended."""
        try:
            if isinstance(message, str):
                await self._socket.send_str(message)
            else:
                await self._socket.send_bytes(message)
        except (aiohttp.ClientError, OSError) as error:
            raise AnswerCut("the WebSocket has ended") from error

    async def close(self, code: int, reason: str) -> None:
        """Closes it."""
        with contextlib.suppress(aiohttp.ClientError, OSError):
            await self._socket.close(code=code, message=reason.encode())

    async def messages(self) -> AsyncIterator[str | bytes]:
        """What comes, until its end."""
        while True:
            message = await self._socket.receive()
            if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                yield message.data
                continue
            if message.type is aiohttp.WSMsgType.CLOSE:
                self.reason = message.extra or ""
            return


def _noticing(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket that notices that its peer, or the way to it, is gone."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    notice(made)
    return made


class NodeHttp:
    """See the module. `close` it."""

    def __init__(self, *, connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._connections = NodeConnections(connect_seconds=connect_seconds)
        self._session: aiohttp.ClientSession | None = None
        """For WebSockets."""

    async def close(self) -> None:
        """Ends all connections."""
        self._connections.close()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _opened(self) -> aiohttp.ClientSession:
        """The session, made when it is first used: on the loop."""
        if self._session is None:
            await loaded("aiohttp", "yarl")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=_noticing),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                max_line_size=HEAD_BYTES,
                max_field_size=HEAD_BYTES,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_seconds),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        return self._session

    @contextlib.asynccontextmanager
    async def asked(
        self,
        url: str,
        *,
        method: str,
        target: bytes,
        headers: Headers,
        body: bytes | AsyncIterator[bytes] | None,
    ) -> AsyncIterator[NodeAnswer]:
        """An answer whose body is still to be read. `target` is path and query as they came. A body that is
        still arriving leaves once it is wanted; if no header says how long it is, in chunks. Raises
        NodeUnreachable, NodeSilent.
        """
        length = len(body) if isinstance(body, bytes) else 0 if body is None else None
        is_chunked = length is None and not any(name == b"content-length" for name, _ in headers)
        if is_chunked:
            headers = [*headers, (b"transfer-encoding", b"chunked")]
        try:
            head = head_of(method, target, headers, length=length)
        except ValueError as error:
            raise NodeSilent(str(error)) from error
        connection = await self._connections.take(url)
        try:
            try:
                await connection.ask(method, head, body, is_chunked=is_chunked)
            except AnswerMissing as error:
                raise NodeSilent(str(error)) from error
            yield NodeAnswer(connection)
        finally:
            await self._connections.give_back(url, connection)

    @contextlib.asynccontextmanager
    async def socket(
        self, url: str, *, target: bytes, headers: Headers, protocols: Sequence[str]
    ) -> AsyncIterator[NodeSocket]:
        """A WebSocket. Raises HandshakeRefused, NodeUnreachable, NodeSilent."""
        session = await self._opened()
        try:
            socket = await session.ws_connect(
                yarl.URL(url + target.decode("latin-1"), encoded=True),
                headers=[(name.decode("latin-1"), _text(value)) for name, value in headers],
                protocols=protocols,
                max_msg_size=MESSAGE_BYTES,
                autoclose=True,
                autoping=True,
                heartbeat=HEARTBEAT_SECONDS,
                compress=0,
            )
        except aiohttp.WSServerHandshakeError as error:
            given = error.headers.items() if error.headers is not None else ()
            found = [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in given]
            raise HandshakeRefused(error.status, found) from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NodeUnreachable(str(error)) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NodeSilent(str(error) or type(error).__name__) from error
        try:
            yield NodeSocket(socket)
        finally:
            await socket.close()


def _text(value: bytes) -> str:
    """A header's value, which leaves as UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
