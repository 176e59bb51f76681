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

from gateway.telemetry.heavy import lazily, loaded

if TYPE_CHECKING:
    import aiohttp
    import yarl
else:
    aiohttp = lazily("aiohttp")
    yarl = lazily("yarl")

HEAD_BYTES: Final = 64 * 1024
KEPT_SECONDS: Final = 10.0
"""A connection that nobody uses is ended by who asks, before the other side would: so no request meets one
that is just being closed.
"""
SILENT_SECONDS: Final = 5
"""A peer that confirms nothing, neither what it was sent nor that it is there, is gone after so long."""
HEARTBEAT_SECONDS: Final = 20.0
"""How often the other side of an open WebSocket is asked if it is there."""
READ_AHEAD_BYTES: Final = 64 * 1024
MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""The other gateway has looked at what comes in; this bounds what it says itself."""


class NodeUnreachable(Exception):
    """No connection: nothing of the request has left."""


class NodeSilent(Exception):
    """The request has left, at least in part, and there was no answer."""


class AnswerCut(Exception):
    """The answer ended early."""


class HandshakeRefused(Exception):
    """A WebSocket was not opened; the answer says why."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.headers = headers


class NodeAnswer:
    """The head of an answer, and its body as it comes."""

    __slots__ = ("_answer", "headers", "status")

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.status = answer.status
        self.headers: Sequence[tuple[bytes, bytes]] = answer.raw_headers

    @property
    def is_over(self) -> bool:
        """Whether nothing of the body is to come."""
        return self._answer.content.at_eof()

    def header(self, name: str) -> str:
        """The first of this name, or nothing."""
        return self._answer.headers.get(name, "")

    async def part(self) -> bytes:
        """What has come of the body; empty at its end. Raises AnswerCut."""
        try:
            return await self._answer.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise AnswerCut(str(error)) from error

    async def whole(self) -> bytes:
        """The body. Raises AnswerCut."""
        try:
            return await self._answer.read()
        except (aiohttp.ClientError, OSError) as error:
            raise AnswerCut(str(error)) from error


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
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {"TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": SILENT_SECONDS - 2}
    options["TCP_USER_TIMEOUT"] = 1000 * SILENT_SECONDS
    for name, value in options.items():
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made


class NodeHttp:
    """See the module. `close` it."""

    def __init__(self, *, connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Ends all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _opened(self) -> aiohttp.ClientSession:
        """The session, made when it is first used: on the loop."""
        if self._session is None:
            await loaded("aiohttp", "yarl")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, keepalive_timeout=KEPT_SECONDS, socket_factory=_noticing
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                max_line_size=HEAD_BYTES,
                max_field_size=HEAD_BYTES,
                read_bufsize=READ_AHEAD_BYTES,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_seconds),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
            self._session._retry_connection = False  # what may be tried again is known above
        return self._session

    @contextlib.asynccontextmanager
    async def asked(
        self,
        url: str,
        *,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes | AsyncIterator[bytes] | None,
    ) -> AsyncIterator[NodeAnswer]:
        """An answer whose body is still to be read. `target` is path and query as they came. A body that is
        still arriving leaves once it is wanted. Raises NodeUnreachable, NodeSilent.
        """
        session = await self._opened()
        is_arriving = body is not None and not isinstance(body, bytes)
        try:
            answer = await session.request(
                method,
                yarl.URL(url + target, encoded=True),
                headers=headers,
                data=body,
                allow_redirects=False,
                expect100=is_arriving,
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NodeUnreachable(str(error)) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NodeSilent(str(error) or type(error).__name__) from error
        try:
            yield NodeAnswer(answer)
        finally:
            answer.close()

    @contextlib.asynccontextmanager
    async def socket(
        self, url: str, *, target: str, headers: Sequence[tuple[str, str]], protocols: Sequence[str]
    ) -> AsyncIterator[NodeSocket]:
        """A WebSocket. Raises HandshakeRefused, NodeUnreachable, NodeSilent."""
        session = await self._opened()
        try:
            socket = await session.ws_connect(
                yarl.URL(url + target, encoded=True),
                headers=headers,
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
