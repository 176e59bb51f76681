"""Which process holds a socket, and whether that process descends from the fork server (proc(5)).

For machines on which neither a uid nor a control group tells an agent's process from its owner's. A socket
counts as somebody else's only when a process that does not descend from the fork server is found to hold it:
looking for it among the agents' own processes would prove nothing, since they can hide their descriptors
(PR_SET_DUMPABLE) and keep one on its way between two of them (SCM_RIGHTS), where no process has it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection
from typing import Final

KNOWN: Final = 8
"""Processes that connected before, and are looked at first: a browser, a script."""
RECENT: Final = 16
"""Of the newest processes so many are looked at: a `curl` has just been started."""
NEWEST_FILES: Final = 64
"""Descriptors of one process that a quick look goes through, from the highest on."""
TRIES: Final = 5
"""A parent may end while its line is read; then the line has changed."""


class Holders:
    """Finds holders of sockets outside the fork server's family."""

    def __init__(self) -> None:
        self._known: deque[int] = deque(maxlen=KNOWN)

    def find_quickly(self, inode: int, *, ancestor: int) -> bool:
        """Whether a process outside that is easily thought of has it; False says nothing."""
        newest = newest_pid()
        for pid in (*self._known, *range(newest, max(0, newest - RECENT), -1)):
            if holds(pid, {inode}, at_most=NEWEST_FILES) and self._is_outside(pid, ancestor):
                return True
        return False

    def find_all(self, inodes: Collection[int], *, ancestor: int) -> set[int]:
        """Those of the sockets that processes outside have, after looking at all of them. Takes a while."""
        left, found = set(inodes), set[int]()
        for name in os.listdir("/proc"):
            if not left:
                break
            if name.isdigit() and (here := holds(int(name), left)) and self._is_outside(int(name), ancestor):
                found |= here
                left -= here
        return found

    def _is_outside(self, pid: int, ancestor: int) -> bool:
        if descends(pid, ancestor, if_hidden=True):
            return False
        if pid not in self._known:
            self._known.appendleft(pid)
        return True


def holds(pid: int, inodes: Collection[int], *, at_most: int | None = None) -> set[int]:
    """Those of the sockets that a process has open; none where it cannot be read."""
    names = {f"socket:[{inode}]": inode for inode in inodes}
    try:
        files = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return set()
    if at_most is not None and len(files) > at_most:
        files = sorted(files, key=int)[-at_most:]
    found = set()
    for file in files:
        try:
            inode = names.get(os.readlink(f"/proc/{pid}/fd/{file}"))
        except OSError:
            continue
        if inode is not None:
            found.add(inode)
    return found


def descends(pid: int, ancestor: int, *, if_hidden: bool) -> bool:
    """Whether a process descends from another, or is gone. `if_hidden`: the answer where a line of parents
    ends at a process that this one is not shown.
    """
    for _ in range(TRIES):
        line = [pid]
        while line[-1] not in (0, ancestor):
            parent = parent_of(line[-1])
            if parent is None:
                break
            line.append(parent)
        else:
            return line[-1] == ancestor
        if len(line) == 1:
            return True
    return if_hidden


def parent_of(pid: int) -> int | None:
    """A process's parent, 0 for the first one; None where it is gone, or not shown."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b") ")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return None


def children_of(pid: int) -> list[int]:
    """The children of a process of one thread."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def newest_pid() -> int:
    """The id that was given out last."""
    try:
        with open("/proc/loadavg", "rb") as file:
            return int(file.read().split()[-1])
    except (OSError, IndexError, ValueError):
        return 0
