"""How much memory and CPU time the workers use: measured in a thread, no oftener than every few seconds.

Reading the memory of a thousand process trees takes most of a second. So a round has a time limit; workers
that it did not reach keep the figures of the last round and come first in the next.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from gateway.workers.memory import cpu_seconds, tree_bytes

FRESH_SECONDS: Final = 3.0
"""Figures this young are given again."""
ROUND_SECONDS: Final = 0.25
"""How long one round may measure."""


class Running(Struct, frozen=True):
    """A worker: its session's internal key, its agent, its first process."""

    key: str
    agent: str
    pid: int
    cpu_file: str = ""
    """In which its control group counts CPU time; empty without one."""


class WorkerUsage(Struct, frozen=True):
    """Of one worker and everything below it."""

    memory_bytes: int
    cpu_seconds: float
    at: float


class UsageSampler:
    """`sample` measures the running workers and reports CPU time to `on_cpu` (agent, seconds) as it grows."""

    def __init__(self, monotonic: Callable[[], float], on_cpu: Callable[[str, float], None]) -> None:
        self._monotonic = monotonic
        self._on_cpu = on_cpu
        self._known: dict[Running, WorkerUsage] = {}
        self._due: set[Running] = set()
        """Those that are being measured and have not ended meanwhile."""
        self._at: float | None = None
        self._lock = asyncio.Lock()

    async def sample(self, workers: Sequence[Running]) -> dict[str, WorkerUsage]:
        """Session key → usage, for those workers that were measured at least once."""
        async with self._lock:
            if self._at is None or self._monotonic() - self._at >= FRESH_SECONDS:
                await self._measure(workers)
                self._at = self._monotonic()
            elif new := [worker for worker in workers if worker not in self._known]:
                await self._measure(new)
        return {worker.key: self._known[worker] for worker in workers if worker in self._known}

    async def _measure(self, workers: Sequence[Running]) -> None:
        known = self._known
        order = sorted(workers, key=lambda worker: known[worker].at if worker in known else -1.0)
        self._due = set(order)
        measured = await asyncio.to_thread(_measured, order, self._monotonic)
        for worker in self._due.intersection(measured):
            self._grown(worker, measured[worker].cpu_seconds)
            self._known[worker] = measured[worker]

    def ended(self, worker: Running, cpu_seconds: float) -> None:
        """A worker has ended, with this CPU time in all."""
        self._grown(worker, cpu_seconds)
        self._known.pop(worker, None)
        self._due.discard(worker)

    def _grown(self, worker: Running, cpu_seconds: float) -> None:
        known = self._known.get(worker)
        grown = cpu_seconds - (known.cpu_seconds if known else 0.0)
        if grown > 0:
            self._on_cpu(worker.agent, grown)


def _measured(workers: Sequence[Running], monotonic: Callable[[], float]) -> dict[Running, WorkerUsage]:
    until = time.monotonic() + ROUND_SECONDS
    found = {}
    for worker in workers:
        if size := tree_bytes(worker.pid):
            found[worker] = WorkerUsage(size, cpu_seconds(worker.cpu_file, worker.pid), monotonic())
        if time.monotonic() > until:
            break
    return found
