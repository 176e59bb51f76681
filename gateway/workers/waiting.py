"""Waiting on the event loop until a pipe or a socket that does not block can be used again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until_readable(fd: int) -> None:
    """There is something to read, or its end."""
    loop = asyncio.get_running_loop()
    await _until(fd, loop.add_reader, loop.remove_reader)


async def until_writable(fd: int) -> None:
    """It takes something, or nobody reads it any more; a socket that connects has connected, or failed."""
    loop = asyncio.get_running_loop()
    await _until(fd, loop.add_writer, loop.remove_writer)


async def _until(fd: int, add: Callable[..., object], remove: Callable[[int], object]) -> None:
    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    add(fd, _settle, waiting)
    try:
        await waiting
    finally:
        remove(fd)


def _settle(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
