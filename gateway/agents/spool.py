"""Where a long line of an agent's waits for its end: an unlinked file, read where it lies.

`FileOverflow` is the same for long texts of a conversation.

Guarantees: a line takes no memory before it is decoded, and its file is gone when nothing looks at it any
more; `Intake` lets only so many bytes of long lines be in memory at once, over all agents, first come first
served, until their events are on disk, and an agent that must wait is not read meanwhile.
"""

from __future__ import annotations

import asyncio
import functools
import mmap
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable
from typing import IO, Any, Final

from gateway.agents.pace import Pace
from worker import acp

INTAKE_BYTES: Final = 32 * 1024 * 1024
"""Of long lines whose events are not on disk yet, over all agents."""


class FileSpool:
    """`worker.acp.Spool` as a file without a name in a directory."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=directory, buffering=0)
        self._buffer: mmap.mmap | None = None

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def lines(self) -> Any:
        self._buffer = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_COPY)
        self._file.close()
        return self._buffer

    def used(self, count: int) -> None:
        whole = count - count % mmap.PAGESIZE
        if self._buffer is not None and whole:
            self._buffer.madvise(mmap.MADV_DONTNEED, 0, whole)

    def drop(self) -> None:
        self._file.close()


class FileOverflow:
    """`gateway.events.fold.Overflow` as a file without a name, made with the first text that goes there."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = directory
        self._file: IO[bytes] | None = None
        self._size = 0

    def put(self, data: bytes) -> int:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)
        start = self._size
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._file.fileno(), rest, start + len(data) - len(rest))
            rest = rest[written:]
        self._size += len(data)
        return start

    def get(self, start: int, size: int) -> bytes:
        return b"" if self._file is None else os.pread(self._file.fileno(), size, start)

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()


class Intake:
    """See the module."""

    def __init__(self, total_bytes: int = INTAKE_BYTES) -> None:
        self.pace = Pace()
        """When their pipes are read."""
        self._left = total_bytes
        self._total = total_bytes
        self._decoding = asyncio.Lock()
        self._decodings: set[asyncio.Task[Any]] = set()
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def place(self, size: int) -> Callable[[], None]:
        """Waits until a line of this size may be in memory; what gives its place back, to be called once."""
        size = min(size, self._total)
        await self._take(size)
        return functools.partial(self._give, size)

    def _give(self, size: int) -> None:
        self._left += size
        self._admit()

    async def decode(self, line: acp.Spooled) -> tuple[acp.AcpMessage, float]:
        """The message, and how many seconds it took: one line at a time, to its end although nobody waits for
        it any more.
        """
        decoding = asyncio.create_task(self._decode(line), name="a long line of an agent's")
        self._decodings.add(decoding)
        decoding.add_done_callback(self._decodings.discard)
        return await asyncio.shield(decoding)

    async def _decode(self, line: acp.Spooled) -> tuple[acp.AcpMessage, float]:
        async with self._decoding:
            began = time.perf_counter()
            message = await asyncio.to_thread(line.decode)
            return message, time.perf_counter() - began

    async def _take(self, size: int) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, future))
        self._admit()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._left += size
            self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting:
            size, future = self._waiting[0]
            if future.done():  # its agent has gone
                self._waiting.popleft()
                continue
            if size > self._left:
                return
            self._left -= size
            self._waiting.popleft()
            future.set_result(None)
