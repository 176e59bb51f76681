"""`GET …/files/watch`: which files of a session change, as server-sent events.

`changed` names what changed since the last frame, joined; `overflow` says that there is more than is named or
looked at, so a client reads again what it shows; `gone` ends the stream of an erased session. A look costs in
proportion to the tree, so the pauses do, too: at most a twentieth of a thread's time.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.files import AskedFile, FileAccess
from gateway.api.stream import while_good
from gateway.buckets import Gauge
from gateway.errors import GatewayError, SessionElsewhere, TooManyStreams
from gateway.files import watching
from gateway.files.watching import Look
from gateway.http.event_stream import HEARTBEAT, HEARTBEAT_SECONDS, FrameResponse
from gateway.http.gate import Gate
from gateway.http.operation import Operation
from gateway.sessions.manager import SessionManager
from gateway.sessions.services import FaceServices

WORKING_SECONDS: Final = 1.0
"""Between two looks while a worker runs."""
QUIET_SECONDS: Final = 5.0
"""The same without one: only people change files then."""
TICK_SECONDS: Final = 0.5
"""How late it hears that the gateway ends, or that a worker began."""
SHARE: Final = 20
"""A pause is so many times as long as the look before it."""

_READY: Final = b"event: ready\ndata: {}\n\n"
_OVERFLOW: Final = b"event: overflow\ndata: {}\n\n"
_GONE: Final = b"event: gone\ndata: {}\n\n"


class FileWatchFace:
    """The handler."""

    def __init__(
        self, files: FileAccess, manager: SessionManager, services: FaceServices, gate: Gate
    ) -> None:
        self._files = files
        self._manager = manager
        self._services = services
        self._gate = gate
        self._watches = Gauge(services.config.files.watches_per_owner)

    def operations(self) -> list[Operation]:
        """The watch as an operation."""
        return [
            Operation(
                method="GET", path="/api/sessions/{session_id}/files/watch", scope="read",
                handler=self.watch_files, summary="Which files of a session change",
                media_type="text/event-stream", errors=(404,),
            ),
        ]  # fmt: skip

    async def watch_files(self, request: Request) -> Response:
        asked = await self._files.asked(request, name="")
        owner = asked.record.owner
        if not self._watches.take(owner):
            raise TooManyStreams("Too many watches on files; close one.", retry_after_seconds=5)
        frames = while_good(self._frames(asked), self._gate.permit(request))
        return FrameResponse(frames, headers={}, on_end=self._release(owner))

    def _release(self, owner: str) -> Callable[[], Awaitable[None]]:
        async def release() -> None:
            self._watches.give(owner)

        return release

    async def _frames(self, asked: AskedFile) -> AsyncIterator[bytes]:
        before, seconds = await self._look(asked)
        yield _READY
        if before.is_partial:
            yield _OVERFLOW
        loop = asyncio.get_running_loop()
        beat_at = loop.time() + HEARTBEAT_SECONDS
        while await self._paused(asked, seconds):
            if not await self._is_there(asked):
                yield _GONE
                return
            after, seconds = await self._look(asked)
            change = watching.compared(before, after)
            is_news = after.is_partial and not before.is_partial
            before = after
            if change is None or is_news:
                yield _OVERFLOW
            elif change.paths:
                yield b"event: changed\ndata: " + msgspec.json.encode(change) + b"\n\n"
            elif loop.time() >= beat_at:
                yield HEARTBEAT
            else:
                continue
            beat_at = loop.time() + HEARTBEAT_SECONDS

    async def _look(self, asked: AskedFile) -> tuple[Look, float]:
        """How the tree is, and how long that took."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            seen = await self._files.run(asked, functools.partial(watching.look, asked.work))
        except GatewayError:
            seen = Look({}, False)  # the session has made its own directory unreadable
        return seen, loop.time() - began

    async def _paused(self, asked: AskedFile, seconds: float) -> bool:
        """Waits for the time of the next look; False if the gateway ends."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not self._manager.is_draining:
            session = self._manager.get(asked.record.owner, asked.record.session_id)
            pause = WORKING_SECONDS if session is not None and session.is_live else QUIET_SECONDS
            rest = began + max(pause, seconds * SHARE) - loop.time()
            if rest <= 0:
                return True
            await asyncio.sleep(min(rest, TICK_SECONDS))
        return False

    async def _is_there(self, asked: AskedFile) -> bool:
        try:
            record = await self._files.record(asked.record.owner, asked.record.session_id)
        except SessionElsewhere:
            raise
        except GatewayError:
            return False
        return record.key == asked.record.key
