"""Limits that the kernel does not enforce, or enforces without ending the worker: the memory of a worker's
whole tree, its processes, the disk that its files take, and the CPU time of one turn.

If a worker has a control group, the kernel refuses memory and processes and counts the refusals. The counts
are read here, so that a worker that lost a process, or retries without end, is ended with a reason. Without
a group, RLIMIT_DATA and RLIMIT_FSIZE limit each process and each file at once, and their sum is measured.
Only workers that run a command are measured: the built-in agent is one process and writes where a person
allowed it. For the CPU time of a turn, every worker that runs one is measured.

Guarantees: measuring happens in a thread, one worker after another, and costs nothing while there is nothing
to measure; a worker over a limit is killed with the cause in its `Exit`, which the user sees.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from gateway.workers.forks import ForkWorker
from gateway.workers.memory import cpu_seconds, resident_bytes, tree_bytes
from gateway.workers.pressure import named_numbers
from gateway.workers.trees import Measure, TooMany, walk
from worker.spec import EndCause, Limits

log = logging.getLogger(__name__)

MEMORY_SECONDS: Final = 0.5
"""A tree that allocates a gigabyte a second is half a gigabyte over when it is seen."""
CPU_EVERY: Final = 4
"""CPU time is counted every so many rounds: its limit is minutes."""
DISK_EVERY: Final = 4
"""Files are counted every so many rounds: walking them is dearer."""
PAUSES: Final = 20
"""After counting a worker's files, this many times as long passes before they are counted again, …"""
LONGEST_PAUSE_SECONDS: Final = 30.0
"""… but no longer than this."""
COUNTS: Final = 4
"""How often files are counted again because a directory was moved meanwhile; who moves them all the time
hides what lies below.
"""
REFUSALS: Final = 1000
"""Processes that a worker was refused, past which it is a bomb: a build that met its limit gives up long
before.
"""


class Spent(Struct):
    """CPU time of one turn, in seconds, as far as it was seen."""

    turn: int
    last: float
    """What the worker had used in all when it was seen last."""
    used: float = 0.0

    def note(self, turn: int, seconds: float) -> float:
        """The worker has used so much in all; how much of it in this turn.

        Of a process tree the sum falls when a process ends whose parent did not wait for it: what was seen
        of it before stays counted.
        """
        if turn != self.turn:
            self.turn, self.used = turn, 0.0
        else:
            self.used += max(0.0, seconds - self.last)
        self.last = seconds
        return self.used


class Watchdog:
    """Looks after the limits of the workers that `workers` names."""

    def __init__(self, workers: Callable[[], Sequence[ForkWorker]]) -> None:
        self._workers = workers
        self._spent: dict[ForkWorker, Spent] = {}
        self._not_before: dict[ForkWorker, float] = {}
        """When the files of a worker may be counted again, in seconds of `time.monotonic`."""

    async def run(self) -> None:
        """Watches for ever."""
        rounds = 0
        while True:
            await asyncio.sleep(MEMORY_SECONDS)
            rounds += 1
            if rounds % CPU_EVERY == 0:
                await self._look_at_turns()
            await self._look_at_all(does_count_disk=rounds % DISK_EVERY == 0)

    async def _look_at_all(self, *, does_count_disk: bool) -> None:
        """One turn of the thread for all: a turn for each would cost more than what is measured."""
        workers = [worker for worker in self._workers() if not worker.request.is_built_in and _lives(worker)]
        self._not_before = {w: self._not_before[w] for w in workers if w in self._not_before}
        if workers:
            loop = asyncio.get_running_loop()

            def end(worker: ForkWorker, passed: EndCause) -> None:
                loop.call_soon_threadsafe(_end, worker, passed)

            await asyncio.to_thread(self._measure, workers, end, does_count_disk=does_count_disk)

    def _measure(
        self, workers: Sequence[ForkWorker], end: Callable[[ForkWorker, EndCause], object], *,
        does_count_disk: bool,
    ) -> None:  # fmt: skip
        """In the thread. A worker that cannot be measured must not keep the others from it. One with very
        many files is counted less often: counting takes a twentieth of the time at most.
        """
        for worker in workers:
            began = time.monotonic()
            is_counted = does_count_disk and began >= self._not_before.get(worker, 0.0)
            try:
                if passed := _passed(worker, does_count_disk=is_counted):
                    end(worker, passed)
            except Exception:
                key = worker.request.session_key
                log.exception("worker %d of session %s could not be measured", worker.pid, key)
            if is_counted:
                ended = time.monotonic()
                self._not_before[worker] = ended + min(PAUSES * (ended - began), LONGEST_PAUSE_SECONDS)

    async def _look_at_turns(self) -> None:
        """Ends the workers whose turn, or the time since it, has used more CPU time than a turn may."""
        at_work = [
            worker for worker in self._workers() if worker.request.limits.turn_cpu_seconds and _lives(worker)
        ]
        turns = [worker.turn for worker in at_work]
        measured = await asyncio.to_thread(_cpu_seconds, at_work) if at_work else []
        known, self._spent = self._spent, {}
        for worker, turn, seconds in zip(at_work, turns, measured, strict=True):
            spent = self._spent[worker] = known.get(worker) or Spent(turn, seconds)
            used = spent.note(turn, seconds)
            if used > worker.request.limits.turn_cpu_seconds and worker.turn == turn:
                _end(worker, "turn_cpu")


def _lives(worker: ForkWorker) -> bool:
    return bool(worker.pid) and not worker.exited.done()


def _end(worker: ForkWorker, passed: EndCause) -> None:
    if _lives(worker):
        key = worker.request.session_key
        log.warning("worker %d of session %s passed its limit: %s", worker.pid, key, passed)
        worker.end(passed)


def _cpu_seconds(workers: Sequence[ForkWorker]) -> list[float]:
    return [cpu_seconds(worker.cpu_file, worker.pid) for worker in workers]


def _passed(worker: ForkWorker, *, does_count_disk: bool) -> EndCause:
    """The limit that a worker is past, or nothing."""
    limits, request = worker.request.limits, worker.request
    if worker.memory_events:
        if _count(worker.memory_events, b"oom_kill"):
            return "memory"
    # Resident memory counts shared pages in full, and is read in a tenth of the time: mostly it settles it.
    elif (
        limits.memory_bytes
        and resident_bytes(worker.pid) > limits.memory_bytes
        and tree_bytes(worker.pid) > limits.memory_bytes
    ):
        return "memory"
    if worker.processes_events and _count(worker.processes_events, b"max") > REFUSALS:
        return "processes"
    return _passed_by_files(limits, request.home, request.cwd) if does_count_disk else ""


def _count(path: str, name: bytes) -> int:
    """A number of a control group's `name number` lines; 0 if the group is gone."""
    with contextlib.suppress(OSError):
        return named_numbers(path).get(name, 0)
    return 0


def _passed_by_files(limits: Limits, *directories: str) -> EndCause:
    if not limits.disk_bytes and not limits.files:
        return ""
    try:
        measured = measure(*directories, files=limits.files)
    except TooMany:
        return "files"
    if not limits.disk_bytes:
        return ""
    if measured.allocated_bytes > limits.disk_bytes:
        return "disk"
    return "apparent" if measured.apparent_bytes > limits.apparent_bytes else ""


def measure(*directories: str, files: int) -> Measure:
    """What lies below these directories, `files` at most (0: any number). Raises TooMany, also if they cannot
    be counted because they move.
    """
    for _ in range(COUNTS):
        measured = Measure(files or sys.maxsize)
        for directory in directories:
            with contextlib.suppress(OSError):
                walk(directory, measured)
        if not measured.was_moved:
            return measured
    raise TooMany
