"""Bounds on real time which a busy machine does not break: `async with within(5)`, `await soon(answer, 5)`.

A bound says how long something may take where nothing else runs. While other processes want the cores, too,
it is extended as long as that lasts, so that a load which begins in the middle counts as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
from collections.abc import AsyncIterator, Awaitable
from typing import Final, TypeVar

_Found = TypeVar("_Found")
_LOOK_SECONDS: Final = 1.0
_LONGEST_SECONDS: Final = 20.0


def crowding() -> float:
    """How many processes want each core, at least 1: a fair scheduler makes everything that much slower."""
    now = pathlib.Path("/proc/loadavg").read_text().split()[3].partition("/")[0]
    return max(1.0, max(os.getloadavg()[0], float(now)) / len(os.sched_getaffinity(0)))


@contextlib.asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Raises TimeoutError if the block takes longer than so many seconds of a machine that is not busy."""
    async with asyncio.timeout(None) as bound:
        loop = asyncio.get_running_loop()
        left, looked_at = seconds, loop.time()
        timer = None

        def look() -> None:
            nonlocal left, looked_at, timer
            left -= (loop.time() - looked_at) / crowding()
            looked_at = loop.time()
            if left > 0:
                timer = loop.call_later(min(left, _LOOK_SECONDS), look)
            else:
                bound.reschedule(looked_at)

        look()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()


def counting(upto: int, seconds: float) -> str:
    """A message to the built-in agent, whose answer takes so long that something can be done meanwhile, on a
    busy machine, too; at most as long as a turn may take while its gateway is drained.
    """
    return f"/count {upto} {round(1000 * min(seconds * crowding(), _LONGEST_SECONDS) / upto)}"


async def soon(awaitable: Awaitable[_Found], seconds: float) -> _Found:
    """What comes of it. Raises TimeoutError as `within` does, and cancels it."""
    async with within(seconds):
        return await awaitable
