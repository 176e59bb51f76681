"""A request and its response, on uvicorn's, with what the gateway does differently."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

from gateway.http.scope import carried
from gateway.server.refusals import BROKEN, body_and_headers

SHARED_BYTES: Final = 4 * 1024
"""A longer piece of a response is handed on as it is; a shorter one is cheaper to copy into its chunk."""


class Cycle(RequestResponseCycle):
    """uvicorn's, with some habits more; the `Line` of its request."""

    _on_gone: Callable[[], object] | None = None
    _head: bytes = b""
    """What waits for the first part of its body."""

    async def run_asgi(self, app: Any) -> None:
        """As uvicorn's; while it runs, the request has this line."""
        found = carried(cast("dict[str, Any]", self.scope))
        found.line = self
        try:
            await super().run_asgi(app)
        finally:
            found.line = None  # they hold each other

    def write_now(self, piece: bytes) -> bool:
        """Writes a piece of the response's body at once; False if it cannot be."""
        if self.flow.write_paused or self.disconnected or not self.chunked_encoding or self.response_complete:
            return False
        self.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        return True

    @contextlib.contextmanager
    def ends_with_reader(self) -> Iterator[None]:
        """A block that is ended, without an error, when the reader has gone."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a response is one
        before = task.cancelling()
        self._on_gone = task.cancel
        if self.disconnected:
            task.cancel()
        try:
            yield
        except asyncio.CancelledError:
            if not self.disconnected or task.uncancel() > before:
                raise  # somebody else's
        finally:
            self._on_gone = None

    def cut(self) -> None:
        """Ends the connection without ending the response."""
        if not self.response_complete and not self.disconnected:
            self.disconnected = True
            self.message_event.set()
            self.transport.close()

    def lost(self) -> None:
        """The connection is lost."""
        self.disconnected = True
        self.message_event.set()
        if self._on_gone is not None:
            self._on_gone()

    async def send(self, message: Any) -> None:
        """A response that begins before its request has ended closes the connection; one to HEAD is over with
        its headers. The head of a short answer leaves with its body.
        """
        is_head = self.scope["method"] == "HEAD"
        if is_head and self.response_complete:
            return
        if not self.response_started:
            if self.more_body:
                self.keep_alive = False
            await self._begin(message)
            if is_head and not self.disconnected:
                await super().send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        if self._head:
            self._send_with_head(message)
        elif self._is_piece(message):
            await self._send_piece(message["body"])
        else:
            await super().send(message)

    async def _begin(self, message: Any) -> None:
        """Sends the status and the headers, or keeps them for the body; nothing to somebody who left."""
        if self.disconnected:
            return
        if message["type"] != "http.response.start":
            raise RuntimeError(f"A response begins with its headers, not with {message['type']!r}.")
        if self.flow.write_paused:
            await self.flow.drain()
        if self.disconnected:
            return
        self.response_started = True
        self.waiting_for_100_continue = False
        head = self._head_of(message["status"], [*self.default_headers, *message.get("headers", ())])
        if self.chunked_encoding or not self.expected_content_length or self.scope["method"] == "HEAD":
            self.transport.write(head)
        else:
            self._head = head

    def _head_of(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        """As uvicorn makes it. Raises RuntimeError for a header that HTTP does not allow."""
        if HEADER_RE.search(b"".join([name for name, _ in headers])):
            raise RuntimeError("A header has a name that HTTP does not allow.")
        if HEADER_VALUE_RE.search(b"".join([value for _, value in headers])):
            raise RuntimeError("A header has a value that HTTP does not allow.")
        lines = [STATUS_LINE[status]]
        is_close_said = False
        for name, value in headers:
            name = name.lower()
            lines += (name, b": ", value, b"\r\n")
            if name == b"content-length" and self.chunked_encoding is None:
                self.expected_content_length = int(value)
                self.chunked_encoding = False
            elif name == b"transfer-encoding" and value.lower() == b"chunked":
                self.expected_content_length = 0
                self.chunked_encoding = True
            elif name == b"connection" and b"close" in map(bytes.strip, value.lower().split(b",")):
                self.keep_alive = False
                is_close_said = True
        if not (self.keep_alive or is_close_said):
            lines.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in (204, 304):
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _send_with_head(self, message: Any) -> None:
        """The first part of a body of known length, and the head that waits for it."""
        head, self._head = self._head, b""
        body = message.get("body", b"")
        if self.disconnected:
            return
        if len(body) > self.expected_content_length:
            raise RuntimeError("The body is longer than its Content-Length says.")
        self.expected_content_length -= len(body)
        if len(body) < SHARED_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))
        if message.get("more_body", False):
            return
        if self.expected_content_length:
            raise RuntimeError("The body is shorter than its Content-Length says.")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _is_piece(self, message: Any) -> bool:
        """Whether it is a long piece, of which others follow, of a response that is sent in chunks."""
        is_body = message["type"] == "http.response.body" and message.get("more_body", False)
        is_chunked = bool(self.response_started and self.chunked_encoding and not self.response_complete)
        return is_body and is_chunked and len(message.get("body", b"")) >= SHARED_BYTES

    async def _send_piece(self, body: bytes) -> None:
        """As a chunk, without the copy that uvicorn makes: readers that do not read may hold one piece
        together.
        """
        if self.flow.write_paused:
            await self.flow.drain()
        if not self.disconnected:
            self.transport.writelines((b"%x\r\n" % len(body), body, b"\r\n"))

    async def send_500_response(self) -> None:
        """Words instead of an empty page."""
        body, headers = body_and_headers(BROKEN)
        await self.send({"type": "http.response.start", "status": BROKEN.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


class Signal(asyncio.Event):
    """An event for which one task waits: its list takes a tenth of the memory of asyncio's queue, and a
    stream has two for as long as it is open.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiters = []  # type: ignore[assignment]


class Outlet:
    """The transport as a cycle sees it: closing it lets the client finish its sentence."""

    __slots__ = ("close", "is_closing", "write", "writelines")

    def __init__(self, transport: asyncio.Transport, *, finish: Callable[[], None]) -> None:
        self.write = transport.write
        self.writelines = transport.writelines
        self.is_closing = transport.is_closing
        self.close = finish
