"""How much memory, and CPU time, a process and its descendants use.

Shared pages are counted by share (PSS) where the kernel lets us read it: as root, and of one's own dumpable
processes (ptrace(2), "access mode checking"). Elsewhere it is the anonymous memory, which counts what a
worker still shares with the fork server as if it were its own: an upper bound.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

import psutil

from worker.spec import counted_cpu_seconds

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
    """Bytes of one process."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        with contextlib.suppress(psutil.AccessDenied):
            return int(process.memory_full_info().pss)
        usage = process.memory_info()
        return int(usage.rss - usage.shared)
    return 0


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
        with contextlib.suppress(psutil.Error):
            total += int(psutil.Process(member).memory_info().rss)
    return total


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
