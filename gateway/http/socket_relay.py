"""WebSockets of sessions that another gateway has: the handshake goes there before it is answered, then what
is said goes both ways, each side at the pace of the other.

Guarantees: the subprotocol, the codes of closing and the reasons are those of the gateway that has the
session; if that dies, or gives the session away, the socket is closed with 1012: then clients come back.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Callable
from typing import Any, Final

from starlette.types import Message, Receive, Send

from gateway.auth.permits import Permit
from gateway.egress.http_wire import AnswerCut
from gateway.egress.node_http import NodeSocket

RESTART: Final = 1012
POLICY: Final = 1008
LOST: Final = "the gateway of this session was lost"
MOVED: Final = "the session is at another gateway now"
ENDED: Final = "the credential does not stand any more"
REFUSAL_HEADER: Final = "x-agw-refusal"
"""Of a handshake that one gateway refuses the other: the body of the answer, which clients do not see."""
REFUSAL_BYTES: Final = 8 * 1024
_NORMAL: Final = 1000
_GONE: Final = 1001
_UNSENDABLE: Final = {1005: _NORMAL, 1006: _GONE, 1015: _GONE}
"""Codes that are never sent, and what is sent for them."""


class Handshake:
    """`receive` and `send` of a WebSocket before it is open."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._connect: Message | None = None
        self._is_taken = False
        self.is_open = False
        self.is_over = False
        """Whether it was refused or closed."""

    async def receive(self) -> Message:
        """As ASGI has it; each handler that is asked gets the beginning."""
        if self._connect is None:
            message = await self._receive()
            if message["type"] == "websocket.connect":
                self._connect, self._is_taken = message, True
            return message
        if not self._is_taken:
            self._is_taken = True
            return self._connect
        return await self._receive()

    async def send(self, message: Message) -> None:
        """As ASGI has it."""
        kind = message["type"]
        if kind == "websocket.accept":
            self.is_open = True
        elif kind in ("websocket.close", "websocket.http.response.start"):
            self.is_over = True
        await self._send(message)

    def rewind(self) -> None:
        """The next handler begins at the beginning."""
        self._is_taken = False

    async def close(self, code: int, reason: str) -> None:
        """Closes it, if that has not been done."""
        if not self.is_over:
            with contextlib.suppress(Exception):  # its client may have left
                await self.send({"type": "websocket.close", "code": code, "reason": reason})


class Refusing:
    """`send` of a handshake that another gateway has passed on: a refusal's body becomes a header."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.http.response.start":
            self._start = message
        elif kind == "websocket.http.response.body" and self._start is not None:
            self._body += message.get("body", b"")
            if message.get("more_body", False):
                return
            text = base64.b64encode(self._body[:REFUSAL_BYTES])
            headers = [*self._start["headers"], (REFUSAL_HEADER.encode(), text)]
            await self._send({**self._start, "headers": headers})
            await self._send({"type": "websocket.http.response.body", "body": b""})
            self._start = None
        else:
            await self._send(message)


def refusal(headers: list[tuple[bytes, bytes]]) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The headers of a refused handshake, and its body."""
    body, kept = b"", []
    for name, value in headers:
        if name == REFUSAL_HEADER.encode():
            with contextlib.suppress(ValueError):
                body = base64.b64decode(value)
        elif name != b"content-length":
            kept.append((name, value))
    return [*kept, (b"content-length", b"%d" % len(body))], body


async def relay(far: NodeSocket, shake: Handshake, permit: Permit | None) -> None:
    """Both directions until either side closes."""
    directions: list[asyncio.Task[Any]] = [
        asyncio.create_task(_there(far, shake.receive), name="socket there"),
        asyncio.create_task(_back(far, shake.send), name="socket back"),
    ]
    if permit is not None:
        directions.append(asyncio.create_task(_until_lost(permit), name="socket permit"))
    try:
        done, _ = await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in directions:
            task.cancel()
        await asyncio.gather(*directions, return_exceptions=True)
    if permit is not None and directions[-1] in done:
        await far.close(POLICY, ENDED)
        await shake.close(POLICY, ENDED)
        return
    if directions[0] in done and not directions[0].exception():
        code, reason = directions[0].result()
        await far.close(_UNSENDABLE.get(code, code), reason)
        return
    code = far.close_code or 1006
    is_lost = code == 1006
    await shake.close(RESTART if is_lost else _UNSENDABLE.get(code, code), LOST if is_lost else far.reason)


async def _there(far: NodeSocket, receive: Callable[[], Any]) -> tuple[int, str]:
    """What the client says; how it has closed the socket."""
    while True:
        message: Message = await receive()
        if message["type"] != "websocket.receive":
            return message.get("code", 1005), message.get("reason") or ""
        text = message.get("text")
        await far.send(text if text is not None else message.get("bytes") or b"")


async def _back(far: NodeSocket, send: Send) -> None:
    with contextlib.suppress(AnswerCut):
        async for message in far.messages():
            await send({"type": "websocket.send", "text" if isinstance(message, str) else "bytes": message})


async def _until_lost(permit: Permit) -> None:
    while permit():
        with contextlib.suppress(TimeoutError):
            async with permit.timeout(None):
                await asyncio.Event().wait()
