"""How much memory, and CPU time, a process and its descendants use.

Shared pages are counted by share (PSS) where the kernel lets us read it: as root, and of one's own dumpable
processes (ptrace(2), "access mode checking"). Elsewhere it is the anonymous memory, which counts what a
worker still shares with the fork server as if it were its own: an upper bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Callable
from typing import Final

import psutil

from worker.spec import counted_cpu_seconds

_libc: Final = ctypes.CDLL(None)
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


def tree_bytes(pid: int) -> int:
    """Bytes of a process and everything below it. What ends meanwhile counts as nothing."""
    return sum(process_bytes(member) for member in tree(pid))


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for member in found:
        with contextlib.suppress(OSError), open(f"/proc/{member}/task/{member}/children", "rb") as file:
            found += map(int, file.read().split())
    return found


def process_bytes(pid: int) -> int:
    """Bytes of one process. One that has ended, or cannot be looked at (no file is left), counts as 0."""
    with contextlib.suppress(psutil.NoSuchProcess, OSError):
        process = psutil.Process(pid)
        with contextlib.suppress(psutil.AccessDenied):
            return int(process.memory_full_info().pss)
        usage = process.memory_info()
        return int(usage.rss - usage.shared)
    return 0


def is_at_work(pid: int) -> bool:
    """Whether a process runs, waits for its turn to, or waits for a disk; a stopped one does none of it. One
    that cannot be looked at (no file is left) has the benefit of the doubt.
    """
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP)
    except psutil.Error:
        return False
    except OSError:
        return True


def machine_bytes() -> int:
    """What this process may use at most: of the machine, or of the container it runs in."""
    bounds = [int(psutil.virtual_memory().total)]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError), open(f"/sys/fs/cgroup/{name}") as file:
            bounds.append(int(file.read()))
    return min(bounds)


def resident_bytes(pid: int) -> int:
    """Resident bytes of a process and everything below it, shared pages counted in full by each: quick, and
    too much.
    """
    total = 0
    for member in tree(pid):
        with contextlib.suppress(OSError), open(f"/proc/{member}/statm", "rb", 0) as file:
            total += int(file.read().split()[1]) * _PAGE_BYTES
    return total


def group_bytes(events: str) -> int:
    """What a control group counts that has this file of events; 0 if there is none."""
    for name in ("memory.current", "memory.usage_in_bytes"):
        with contextlib.suppress(OSError), open(f"{os.path.dirname(events)}/{name}", "rb", 0) as file:
            return int(file.read())
    return 0


def cpu_seconds(file: str, pid: int) -> float:
    """CPU time of a worker: as its control group counts it in a file, else of the process tree."""
    if file:
        with contextlib.suppress(OSError), open(file, encoding="ascii") as counted:
            return counted_cpu_seconds(counted.read())
    return tree_cpu_seconds(pid)


def tree_cpu_seconds(pid: int) -> float:
    """CPU time of a process, of everything below it, and of what those have outlived."""
    return sum(map(_process_ticks, tree(pid))) / _TICKS_PER_SECOND


def _process_ticks(pid: int) -> int:
    """utime, stime, cutime and cstime (proc_pid_stat(5)); a process that has ended counts as nothing."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
        return sum(map(int, fields[11:15]))
    return 0


LARGE_BYTES: Final = 128 * 1024
"""Allocations from here on are mapped, and given back to the machine when they are freed. glibc raises this
bound by itself up to 32 MiB with the first large block that is freed; then one long answer stays for good.
"""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_ARENAS: Final = 2
"""Heaps that threads share: each keeps what was once used of it."""


def return_large_blocks() -> None:
    """Makes glibc's allocator, if it is used, return memory; called once, before the work begins."""
    with contextlib.suppress(AttributeError):
        _libc.mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
        _libc.mallopt(_M_TRIM_THRESHOLD, LARGE_BYTES)
        _libc.mallopt(_M_ARENA_MAX, _ARENAS)


class Trimmer:
    """Gives back what was freed in small pieces: soon after it is asked, once however often that is, and
    some seconds later again, since what a session held is freed bit by bit.
    """

    def __init__(self, *, seconds: float = 1.0, again: int = 3) -> None:
        self._seconds = seconds
        self._again = again
        self._left = 0
        """How often it is done still."""
        self.before_last: Callable[[], None] = lambda: None
        """Called on the loop before it is done for the last time: whatever else may free memory."""
        self._timer: asyncio.TimerHandle | None = None

    def soon(self) -> None:
        """Something large was freed, or will be in a moment."""
        self._left = 1 + self._again
        if self._timer is None:
            self._arm()

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._left -= 1
        if not self._left:
            self.before_last()
        asyncio.get_running_loop().run_in_executor(None, _trim)
        if self._left:
            self._arm()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _trim() -> None:
    with contextlib.suppress(AttributeError):
        _libc.malloc_trim(0)
