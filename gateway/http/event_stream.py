"""A response of server-sent events: one task, which ends when its reader has gone.

The gateway's own server gives a request its `Line`. While a reader keeps up, frames may be written there in
the moment in which they are known, between the beginning and the end of a response that passes every
middleware as any other. Under other servers everything is sent by the task, and a second one listens for the
reader's leaving.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gateway.auth.permits import Permit
from gateway.http.scope import Line, carried

HEARTBEAT: Final = b": \n\n"
"""Says that a stream is alive: a comment."""
HEARTBEAT_SECONDS: Final = 10.0
"""A proxy in the way was seen to cut streams that were quiet for 16 s."""
STALLED_SECONDS: Final = 60.0
"""For servers that do not look after readers who take nothing."""
HEADERS: Final = {"Cache-Control": "no-store", "Connection": "keep-alive", "X-Accel-Buffering": "no"}


class Direct:
    """A reader's connection, for what is written to it at once."""

    __slots__ = ("_line", "_permit")

    def __init__(self, line: Line, permit: Permit) -> None:
        self._line = line
        self._permit = permit

    def write(self, frame: bytes) -> bool:
        """Writes a frame if the reader may have it, and keeps up; whether it did."""
        return self._permit() and self._line.write_now(frame)


def direct(request: Request, permit: Permit) -> Direct | None:
    """The connection of a request, which may be read while the permit is good; None if its server has none to
    write to.
    """
    found = carried(request.scope)
    found.permit, line = permit, found.line
    return None if line is None else Direct(line, permit)


class FrameResponse(Response):
    """Frames as they come; `on_end` runs however it ends."""

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        *,
        headers: dict[str, str],
        on_end: Callable[[], Awaitable[None]],
    ) -> None:
        self.status_code = 200
        self.background = None
        self._frames = frames
        self._on_end = on_end
        self.init_headers({**HEADERS, **headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            self.raw_headers = []  # they are sent; a stream is open for long
            line = carried(scope).line
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            elif line is not None:
                with line.ends_with_reader():
                    await self._write(send)
            else:
                await self._write_beside(receive, send)
        finally:
            await self._on_end()

    async def _write(self, send: Send) -> None:
        async with contextlib.aclosing(self._frames) as frames:
            async for frame in frames:
                await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write_beside(self, receive: Receive, send: Send) -> None:
        """Writes while a second task listens for the reader's leaving; one that takes nothing is left."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(STALLED_SECONDS):
                await send(message)

        both = [asyncio.create_task(self._write(send_in_time)), asyncio.create_task(_until_gone(receive))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.wait(both)
        if not both[0].cancelled():
            with contextlib.suppress(TimeoutError):
                both[0].result()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
