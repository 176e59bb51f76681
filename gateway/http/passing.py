"""A request that may have to be passed on, as it passes the layer that does so: what was read of its body,
and what was answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractContextManager
from typing import Final
from urllib.parse import quote_from_bytes

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from gateway.http.event_stream import HEARTBEAT
from gateway.http.frames import FrameSplitter, id_in
from gateway.http.scope import Line

KEPT_BYTES: Final = 1024 * 1024
"""Of a body that a handler reads: with so much of it the request can be sent on, and sent again."""
EVENT_STREAM: Final = b"text/event-stream"
_END: Final = b"\n\n"
HOPS: Final = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    }
)
"""Headers of one connection, not of a request."""
_NOT_SENT_ON: Final = HOPS | {b"host", b"content-length", b"expect", b"x-request-id"}
_OF_SOCKETS: Final = b"sec-websocket-"
_OWN: Final = b"x-agw-"
"""How headers between gateways begin; a caller's mean nothing."""
_PLAIN: Final = "".join(map(chr, range(33, 127)))
_NOT_BROUGHT_BACK: Final = HOPS | {b"x-request-id"}


class KeptBody:
    """`receive`, which keeps what was read of the body while that is little."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept: list[bytes] = []
        self._size = 0
        self._next = 0
        """Of what is kept: what a further reader gets next."""
        self.is_complete = False
        """Whether the body has been read to its end."""
        self.is_lost = False
        """Whether more was read than is kept."""

    async def __call__(self) -> Message:
        if self._next < len(self._kept):
            body = self._kept[self._next]
            self._next += 1
            more = self._next < len(self._kept) or not self.is_complete
            return {"type": "http.request", "body": body, "more_body": more}
        message = await self._receive()
        if message["type"] == "http.request" and not self.is_complete:
            self._keep(message.get("body", b""))
            self.is_complete = not message.get("more_body", False)
        return message

    def _keep(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > KEPT_BYTES:
            self.is_lost = True
            self._kept, self._next = [], 0
        if not self.is_lost:
            self._kept.append(body)
            self._next = len(self._kept)

    def rewind(self) -> None:
        """The next reader begins at the beginning."""
        self._next = 0

    @property
    def whole(self) -> bytes | None:
        """The body, if all of it is here."""
        return b"".join(self._kept) if self.is_complete and not self.is_lost else None

    async def parts(self) -> AsyncIterator[bytes]:
        """From the beginning, as it comes. Raises ClientDisconnect."""
        self.rewind()
        while True:
            message = await self()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            if body := message.get("body", b""):
                yield body
            if not message.get("more_body", False):
                return


class Answering:
    """`send` and the `Line` of a request: knows whether an answer has begun, and what a stream has shown."""

    def __init__(self, scope: Scope, send: Send, line: Line | None) -> None:
        self._send = send
        self._line = line
        self._is_head = scope.get("method") == "HEAD"
        self.has_started = False
        self.is_stream = False
        """Whether the answer is server-sent events."""
        self.is_over = False
        self.is_silent = False
        """A further answer of the handler is not shown: it is no stream to go on with."""
        self._last: bytes = b""
        """The last piece that began with an id."""
        self._seen_id = b""
        """The id of the last frame before that."""
        self._is_whole = True
        self.frames: FrameSplitter | None = None
        """Of what another gateway sends."""
        self.is_given_away: Callable[[], bool] | None = None
        """Whether a stream that ends now goes on at another gateway: then its end is not a proper one."""
        self._beat_at = 0.0

    async def __call__(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            await self._start(message)
        elif kind == "http.response.body":
            if self.is_silent:
                return
            if self.is_stream:
                self._note(message.get("body", b""))
            if not message.get("more_body", False):
                if self.is_stream and self.is_given_away is not None and self.is_given_away():
                    self.cut()
                    return
                self.is_over = True
            await self._send(message)
        else:
            await self._send(message)

    async def _start(self, message: Message) -> None:
        is_stream = message["status"] == 200 and not self._is_head and is_event_stream(message["headers"])
        if self.has_started:
            self.is_silent = not is_stream
            return
        self.has_started, self.is_stream = True, is_stream
        await self._send(message)

    def _note(self, piece: bytes) -> None:
        if not piece:
            return
        if self.frames is not None:
            self._seen_id, self._is_whole = self.frames.last_id, True
            self.frames = None
        if self._is_whole and piece.startswith(b"id:"):
            self._last = piece
        self._is_whole = piece.endswith(_END)

    @property
    def has_line(self) -> bool:
        """Whether it is known when the reader leaves."""
        return self._line is not None

    # -- as a line --------------------------------------------------------------------------------------

    def write_now(self, piece: bytes) -> bool:
        """As `Line` has it."""
        if self._line is None or not self._line.write_now(piece):
            return False
        self._note(piece)
        return True

    def ends_with_reader(self) -> AbstractContextManager[None]:
        """As `Line` has it."""
        assert self._line is not None  # noqa: S101 - handlers see a line only if there is one
        return self._line.ends_with_reader()

    def cut(self) -> None:
        """As `Line` has it."""
        if self._line is not None:
            self._line.cut()

    # -- what another gateway sends ---------------------------------------------------------------------

    def relayed(self) -> FrameSplitter:
        """What comes from another gateway from now on passes through this."""
        frames = FrameSplitter()
        frames.last_id, self._last = self.last_id, b""
        self.frames = frames
        return frames

    async def show(self, frames: bytes) -> None:
        """Sends what has passed it."""
        if self._line is None or not self._line.write_now(frames):
            await self._send({"type": "http.response.body", "body": frames, "more_body": True})

    def beat(self, *, every: float = 0.0) -> None:
        """Says that the stream is alive, unless that was said so lately."""
        now = asyncio.get_running_loop().time()
        if now - self._beat_at >= every and self._line is not None and self.is_whole and not self.is_over:
            self._beat_at = now
            self._line.write_now(HEARTBEAT)

    async def end(self) -> None:
        """Ends the answer properly."""
        if not self.is_over:
            self.is_over = True
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    @property
    def last_id(self) -> bytes:
        """The id of the last frame that the reader has whole, if that had one."""
        if self.frames is not None:
            return self.frames.last_id
        return id_in(self._last) or self._seen_id

    @property
    def is_whole(self) -> bool:
        """Whether the reader is between two frames."""
        return self._is_whole if self.frames is None else self.frames.is_whole


def is_event_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether these headers of an answer say so."""
    return any(name.lower() == b"content-type" and value.startswith(EVENT_STREAM) for name, value in headers)


def sent_on(scope: Scope, *, is_at_machine: bool) -> list[tuple[bytes, bytes]]:
    """The request's headers as another gateway gets them."""
    given = scope["headers"]
    hops = {
        one.strip().lower() for name, value in given if name == b"connection" for one in value.split(b",")
    }
    kept = []
    for name, value in given:
        if name in hops or name in _NOT_SENT_ON or name.startswith((_OWN, _OF_SOCKETS)):
            continue
        if is_at_machine and name == b"authorization":
            continue  # a secret of this machine
        kept.append((name, value))
    return kept


def brought_back(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The answer's headers as the caller gets them: without the first Date, which each server adds."""
    kept: list[tuple[bytes, bytes]] = []
    has_date = False
    for given, value in headers:
        name = given.lower()
        if name == b"date" and not has_date:
            has_date = True
        elif name not in _NOT_BROUGHT_BACK and not name.startswith(_OWN):
            kept.append((name, value))
    return kept


def target_of(scope: Scope) -> bytes:
    """Path and query as they came; what is not ASCII, which HTTP does not allow, is escaped."""
    path: bytes = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0]
    query: bytes = scope["query_string"]
    target = path + b"?" + query if query else path
    return target if target.isascii() else quote_from_bytes(target, safe=_PLAIN).encode()


def host_of(scope: Scope) -> bytes:
    """The Host that was asked."""
    return next((value for name, value in scope["headers"] if name == b"host"), b"")
