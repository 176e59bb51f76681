"""Reading SSE in tests: frames as they come, and waiting for one that fits."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
from msgspec import Struct

from tests.patience import crowding, within

WAIT_SECONDS = 15


class Frame(Struct):
    """One SSE frame; `data` is decoded JSON. A comment is a frame whose event is `:`."""

    event: str
    id: str | None
    data: Any


class StreamReader:
    """One open stream and everything that it brought."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.frames: list[Frame] = []
        self._buffer = b""

    async def next(self) -> Frame | None:
        """The next frame; None at the stream's end."""
        while b"\n\n" not in self._buffer:
            chunk = await self.response.content.readany()
            if not chunk:
                return None
            self._buffer += chunk
        raw, _, self._buffer = self._buffer.partition(b"\n\n")
        frame = _frame(raw.decode())
        self.frames.append(frame)
        return frame

    async def until(self, fits: Callable[[Frame], bool], *, seconds: float = WAIT_SECONDS) -> Frame:
        """The first frame from here on that fits."""
        async with within(seconds):
            while (frame := await self.next()) is not None:
                if fits(frame):
                    return frame
        raise AssertionError(f"the stream ended first: {[frame.event for frame in self.frames]}")

    async def until_event(self, event: str, *, seconds: float = WAIT_SECONDS) -> Frame:
        """The first frame of this type from here on."""
        return await self.until(lambda frame: frame.event == event, seconds=seconds)

    async def to_end(self, *, seconds: float = WAIT_SECONDS) -> list[Frame]:
        """Every frame up to the stream's end."""
        async with within(seconds):
            while await self.next() is not None:
                pass
        return self.frames

    @property
    def text(self) -> str:
        """All text deltas, joined."""
        return "".join(frame.data["text"] for frame in self.frames if frame.event == "text_delta")


def _frame(raw: str) -> Frame:
    event, frame_id, data = "message", None, []
    for line in raw.split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            event = ":"
        elif name == "event":
            event = value
        elif name == "id":
            frame_id = value
        elif name == "data":
            data.append(value)
        elif name == "retry":
            event = "retry"
    return Frame(event, frame_id, json.loads("\n".join(data)) if data else None)


@contextlib.asynccontextmanager
async def open_stream(
    http: aiohttp.ClientSession, session_id: str | None, *, view: str = "events", **kwargs: Any
) -> AsyncIterator[StreamReader]:
    """A stream of a session; `after=` is the cursor, `last=` how many messages it begins with."""
    params: dict[str, Any] = {"view": view}
    if session_id is not None:
        params["session_id"] = session_id
    params |= {name: kwargs.pop(name) for name in ("after", "last") if name in kwargs}
    timeout = aiohttp.ClientTimeout(total=None, sock_read=60 * crowding())
    path = kwargs.pop("path", "/api/chat/stream")
    async with http.get(path, params=params, timeout=timeout, **kwargs) as response:
        assert response.status == 200, await response.text()
        yield StreamReader(response)


async def state_when(
    http: aiohttp.ClientSession,
    session_id: str,
    fits: Callable[[Any], bool],
    *,
    seconds: float = WAIT_SECONDS,
) -> Any:
    """The first State that fits, followed on the stream."""
    async with open_stream(http, session_id, view="state") as stream:
        frame = await stream.until(lambda f: f.data is not None and fits(f.data), seconds=seconds)
        return frame.data
