"""A process and all that it started, as /proc knows them (proc(5), /proc/PID/task/TID/children).

Guarantee: costs what the tree costs, whatever else runs on the machine. A process that ends meanwhile is left
out.
"""

from __future__ import annotations

import os
import signal


def children(pid: int) -> list[int]:
    """The children of every thread of a process, zombies too."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:
        pass
    return found


def descendants(pid: int) -> list[int]:
    """All that descend from a process and are still its or each other's children, nearest first."""
    found = children(pid)
    for child in found:
        found += children(child)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    return state(pid) not in (b"Z", b"X", b"")


def state(pid: int) -> bytes:
    """One letter, such as `S` for sleeping or `T` for stopped; empty if it is gone."""
    return next(iter(_stat(pid)), b"")


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot; with the pid it identifies it. 0 if it is gone."""
    words = _stat(pid)
    return int(words[19]) if words else 0


def _stat(pid: int) -> list[bytes]:
    """The words of /proc/PID/stat from the state on."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2].split()
    except OSError:
        return []


def kill_descendants(pid: int) -> int:
    """SIGKILL to all below a process; how many were alive."""
    count = 0
    for child in descendants(pid):
        if is_alive(child):
            count += 1
            try:
                os.kill(child, signal.SIGKILL)
            except OSError:
                continue
    return count
