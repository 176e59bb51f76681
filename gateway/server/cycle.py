"""A request and its response, on uvicorn's, with what the gateway does differently."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.http.scope import carried
from gateway.server.refusals import BROKEN, body_and_headers

SHARED_BYTES: Final = 4 * 1024
"""A longer piece of a response is handed on as it is; a shorter one is cheaper to copy into its chunk."""


class Cycle(RequestResponseCycle):
    """uvicorn's, with some habits more; the `Line` of its request."""

    _on_gone: Callable[[], object] | None = None

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

    def lost(self) -> None:
        """The connection is lost."""
        self.disconnected = True
        self.message_event.set()
        if self._on_gone is not None:
            self._on_gone()

    async def send(self, message: Any) -> None:
        """A response that begins before its request has ended closes the connection; one to HEAD is over with
        its headers.
        """
        is_head = self.scope["method"] == "HEAD"
        if is_head and self.response_complete:
            return
        if not self.response_started and self.more_body:
            self.keep_alive = False
        if self._is_piece(message):
            await self._send_piece(message["body"])
            return
        await super().send(message)
        if is_head and not self.disconnected and not self.response_complete:
            await super().send({"type": "http.response.body", "body": b"", "more_body": False})

    def _is_piece(self, message: Any) -> bool:
        """Whether it is a long piece, of which others follow, of a response that is sent in chunks."""
        is_body = message["type"] == "http.response.body" and message.get("more_body", False)
        is_chunked = bool(self.response_started and self.chunked_encoding and not self.response_complete)
        return is_body and is_chunked and len(message.get("body", b"")) >= SHARED_BYTES

    async def _send_piece(self, body: bytes) -> None:
        """As a chunk, without the copy that uvicorn makes: readers that do not read may hold one piece
        together.
        """
        if self.flow.write_paused and not self.disconnected:
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
