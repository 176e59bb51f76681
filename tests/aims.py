"""A row of the acceptance of several gateways, printed by a campaign: what was seen, the aim, met or not; and
how long the loop of this process was held up.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import time
from collections.abc import AsyncIterator
from typing import Final

from msgspec import Struct

_TICK_SECONDS: Final = 0.005


class Aim(Struct, frozen=True, kw_only=True):
    """A figure, and what it shall be."""

    what: str
    seen: float
    least: float | None = None
    most: float | None = None

    @property
    def is_met(self) -> bool:
        return (self.least is None or self.seen >= self.least) and (
            self.most is None or self.seen <= self.most
        )

    def words(self) -> str:
        """A line of the row."""
        bounds = [f"at least {self.least:g}"] if self.least is not None else []
        bounds += [f"at most {self.most:g}"] if self.most is not None else []
        verdict = "met" if self.is_met else "NOT MET"
        return f"  {self.what:<60} {self.seen:>10.4g}   {' and '.join(bounds):<14} {verdict}"


def none_of(what: str, seen: int) -> Aim:
    """Of something that must not happen."""
    return Aim(what=what, seen=seen, most=0)


def row(number: int, aims: list[Aim]) -> str:
    """All lines of a row; its first one says if all are met."""
    verdict = "met" if all(aim.is_met for aim in aims) else "NOT MET"
    return "\n".join((f"row {number}: {verdict}", *(aim.words() for aim in aims)))


class LoopWatch:
    """The longest time for which the loop ran nothing else, but for waiting for a core."""

    def __init__(self) -> None:
        self.longest_seconds = 0.0

    async def run(self) -> None:
        """For ever, on the loop."""
        while True:
            began, waited = time.perf_counter(), waited_for_core()
            await asyncio.sleep(_TICK_SECONDS)
            late = time.perf_counter() - began - _TICK_SECONDS
            self.longest_seconds = max(self.longest_seconds, late + waited - waited_for_core())


@contextlib.asynccontextmanager
async def watched_loop() -> AsyncIterator[LoopWatch]:
    """While the block runs."""
    watch = LoopWatch()
    running = asyncio.create_task(watch.run(), name="watch of the loop")
    try:
        yield watch
    finally:
        running.cancel()
        await asyncio.wait([running])


def waited_for_core() -> float:
    """Seconds for which this thread was ready and others had the cores."""
    return int(pathlib.Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
