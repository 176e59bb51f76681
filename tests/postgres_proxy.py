"""A way to PostgreSQL, or between gateways, that can be cut: before what a client sends arrives, or before it
hears the answer; or that swallows what goes one way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlsplit, urlunsplit

_READ_BYTES: Final = 64 * 1024


class Proxy:
    """Its clients reach the server at `url`."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self.url = ""
        self.cuts = 0
        """How many connections were cut as asked."""
        self._is_through = asyncio.Event()
        self._is_through.set()
        self._mark: bytes | None = None
        self._is_answered = False
        self.swallows_requests = False
        """What clients send does not arrive, and nobody is told."""
        self.swallows_answers = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.Task[None]] = set()

    def cut_at(self, mark: bytes, *, is_answered: bool) -> None:
        """Cuts the next connection on which a client sends this: if `is_answered`, once the server has done
        it, else before it arrives.
        """
        self._mark, self._is_answered = mark, is_answered

    def stop(self) -> None:
        """Nothing comes through any more, and nobody is told."""
        self._is_through.clear()

    def go_on(self) -> None:
        """All comes through again."""
        self._is_through.set()

    async def cut_all(self) -> None:
        """Cuts every connection."""
        for writer in list(self._writers):
            writer.transport.abort()
        if self._clients:
            await asyncio.wait(self._clients)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        if (task := asyncio.current_task()) is not None:
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)
        is_last = asyncio.Event()
        try:
            back, forth = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, forth}
        self._writers |= both
        ways = [
            asyncio.create_task(self._requests(reader, forth, is_last)),
            asyncio.create_task(self._answers(back, writer, is_last)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for each in both:
                each.transport.abort()
            self._writers -= both

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_last: asyncio.Event
    ) -> None:
        while data := await reader.read(_READ_BYTES):
            await self._is_through.wait()
            if self.swallows_requests:
                continue
            if self._mark is not None and self._mark in data:
                self._mark = None
                self.cuts += 1
                if not self._is_answered:
                    return
                is_last.set()
            writer.write(data)
            await writer.drain()

    async def _answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_last: asyncio.Event
    ) -> None:
        while data := await reader.read(_READ_BYTES):
            await self._is_through.wait()
            if self.swallows_answers:
                continue
            if is_last.is_set():
                return
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def proxy(url: str) -> AsyncIterator[Proxy]:
    """In front of the server of a URL, for as long as the block runs."""
    made = Proxy(url)
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    parts = urlsplit(url)
    user = f"{parts.username}@" if parts.username else ""
    made.url = urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{port}"))
    try:
        yield made
    finally:
        listening.close()
        made.go_on()
        await made.cut_all()
