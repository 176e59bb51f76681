"""How much memory a process and its descendants use.

Shared pages are counted by share (PSS) where the kernel lets us read it: as root, and of one's own dumpable
processes (ptrace(2), "access mode checking"). Elsewhere it is the anonymous memory, which counts what a
worker still shares with the fork server as if it were its own: an upper bound.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

KIB: Final = 1024
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


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
    with contextlib.suppress(OSError):
        return _sum_of(f"/proc/{pid}/smaps_rollup", (b"Pss:", b"SwapPss:"))
    with contextlib.suppress(OSError):
        return _sum_of(f"/proc/{pid}/status", (b"RssAnon:", b"RssShmem:", b"VmSwap:"))
    return 0


def _sum_of(path: str, names: tuple[bytes, ...]) -> int:
    with open(path, "rb") as file:
        return sum(int(line.split()[1]) * KIB for line in file if line.startswith(names))


def resident_bytes(pid: int) -> int:
    """Resident bytes of a process and everything below it, shared pages counted in full by each: quick, and
    too much.
    """
    total = 0
    for member in tree(pid):
        with contextlib.suppress(OSError), open(f"/proc/{member}/statm", "rb") as file:
            total += int(file.read().split()[1]) * PAGE_BYTES
    return total
