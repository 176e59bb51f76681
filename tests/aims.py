"""A row of the acceptance of several gateways, printed by a campaign: what was seen, the aim, met or not; and
how long the loop of this process was held up.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import time
from collections.abc import AsyncIterator, Sequence
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


def table(figures: Sequence[tuple[str, object]], number: int, aims: list[Aim]) -> str:
    """Named figures, the load, and a row below them."""
    every = [*figures, ("load", f"{os.getloadavg()[0]:.1f}")]
    width = max(len(name) for name, _ in every)
    return "\n".join((*(f"{name:{width}}  {value}" for name, value in every), row(number, aims)))


class LoopWatch:
    """The longest time for which something held up the loop."""

    def __init__(self) -> None:
        self.longest_seconds = 0.0

    async def run(self) -> None:
        """For ever, on the loop."""
        while True:
            look = HeldUp()
            await asyncio.sleep(_TICK_SECONDS)
            self.longest_seconds = max(self.longest_seconds, look.seconds(_TICK_SECONDS))


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


class HeldUp:
    """How long this thread was held up since now by its own process, whatever else the machine does."""

    def __init__(self) -> None:
        self._began, self._waited, self._used = time.perf_counter(), _waited_for_core(), time.process_time()

    def seconds(self, wanted: float) -> float:
        """More than it wanted to wait; without the time for which others had the cores, and no more than this
        process used them: another thread of it may have to wait for a core, too, and keep this one from going
        on meanwhile.
        """
        late = time.perf_counter() - self._began - wanted - (_waited_for_core() - self._waited)
        return max(0.0, min(late, time.process_time() - self._used))


def _waited_for_core() -> float:
    return int(pathlib.Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
