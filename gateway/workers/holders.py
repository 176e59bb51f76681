"""Which process holds a socket, and whether that process descends from the fork server (proc(5)).

For machines on which neither a uid nor a control group tells an agent's process from its owner's. A socket
counts as somebody else's only when a process that does not descend from the fork server is found to hold it:
looking for it among the agents' own processes would prove nothing, since they can hide their descriptors
(PR_SET_DUMPABLE) and keep one on its way between two of them (SCM_RIGHTS), where no process has it.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections import deque
from collections.abc import Collection
from typing import Final

KNOWN: Final = 8
"""Processes that connected before, and are looked at first: a browser, a script."""
RECENT: Final = 16
"""Of the newest processes so many are looked at: a `curl` has just been started."""
NEWEST_FILES: Final = 64
"""Descriptors of one process that a quick look goes through, from the highest on."""
MOST_KEPT: Final = 64
"""Processes that are known not to be agents', with their parents; a descriptor each."""
_READ_BYTES: Final = 65_536
TRIES: Final = 5
"""A parent may end while its line is read; then the line has changed."""


class Holders:
    """Finds holders of sockets outside the fork server's family. `close` it."""

    def __init__(self) -> None:
        self._known: deque[int] = deque(maxlen=KNOWN)
        self._outsiders = Outsiders()

    def close(self) -> None:
        """Forgets all processes."""
        self._outsiders.close()

    def find_quickly(self, inode: int, *, ancestor: int) -> bool:
        """Whether a process outside that is easily thought of has it; False says nothing."""
        for pid in list(self._known):
            if self._outsiders.has_ended(pid):
                self._known.remove(pid)
            elif holds(pid, {inode}, at_most=NEWEST_FILES) and self.remember(pid, ancestor=ancestor):
                return True
        newest = newest_pid()
        for pid in range(newest, max(0, newest - RECENT), -1):
            if holds(pid, {inode}, at_most=NEWEST_FILES) and self.remember(pid, ancestor=ancestor):
                return True
        return False

    def remember(self, pid: int, *, ancestor: int) -> bool:
        """Looks at this process first from now on, unless it descends from `ancestor` or is gone."""
        if not self._outsiders.has(pid, ancestor=ancestor):
            return False
        if pid not in self._known:
            self._known.appendleft(pid)
        return True


def find_all(inodes: Collection[int], *, ancestor: int) -> dict[int, int]:
    """Those of the sockets that processes outside have, and a process that has each, after looking at all
    processes. Takes a while.
    """
    left, found = set(inodes), dict[int, int]()
    for name in os.listdir("/proc"):
        if not left:
            break
        if not name.isdigit() or not (here := holds(int(name), left)):
            continue
        if not descends(int(name), ancestor, if_hidden=True):
            found |= dict.fromkeys(here, int(name))
            left -= here
    return found


class Outsiders:
    """Processes that do not descend from the fork server, and their parents, for as long as they live.

    Such a process never will: if its parent ends, it goes to another of its ancestors. A descriptor of the
    process (pidfd_open(2)) shows that the number is still its own. Without such descriptors, on kernels
    before 5.3, nothing is kept and each line of parents is read in full. For one thread alone. `close` it.
    """

    def __init__(self) -> None:
        self._ancestor = 0
        self._kept: dict[int, _Process] = {}
        """By pid, those that were of use last at the end."""

    def close(self) -> None:
        """Forgets all of them."""
        while self._kept:
            self._kept.popitem()[1].close()

    def has(self, pid: int, *, ancestor: int) -> bool:
        """Whether a process lives and does not descend from `ancestor`; False if that is not seen."""
        if ancestor != self._ancestor:
            self.close()
            self._ancestor = ancestor
        for _ in range(TRIES):
            line: dict[int, _Process] = {}
            is_outside = self._walk(pid, line)
            if is_outside:
                self._keep(line)
            else:
                for process in line.values():
                    process.close()
            if is_outside is not None:
                return is_outside
        return False

    def has_ended(self, pid: int) -> bool:
        """Whether a process that is kept has ended."""
        process = self._kept.get(pid)
        return process is not None and not process.is_alive()

    def _walk(self, pid: int, line: dict[int, _Process]) -> bool | None:
        """Whether a line of parents ends elsewhere than at the ancestor; None if it breaks off.

        A parent is looked up among those that are kept after its number was read, so that it was alive then;
        any other is opened before its own parent is read, so that what is kept is what was looked at.
        """
        while pid not in (0, self._ancestor):
            if self._is_kept(pid):
                return True
            with contextlib.suppress(OSError):
                line[pid] = _Process(pid)
            parent = parent_of(pid)
            if parent is None:
                return None
            pid = parent
        return pid != self._ancestor

    def _is_kept(self, pid: int) -> bool:
        process = self._kept.pop(pid, None)
        if process is None:
            return False
        if not process.is_alive():
            process.close()
            return False
        self._kept[pid] = process
        return True

    def _keep(self, line: dict[int, _Process]) -> None:
        """One that has ended meanwhile may be another's number: it is kept too, and not found alive."""
        self._kept |= line
        while len(self._kept) > MOST_KEPT:
            self._kept.pop(next(iter(self._kept))).close()


class _Process:
    """A process that cannot be taken for a later one of the same number."""

    __slots__ = ("_descriptor", "_poll")

    def __init__(self, pid: int) -> None:
        """Raises OSError."""
        self._descriptor = os.pidfd_open(pid)
        self._poll: select.poll | None = None

    def is_alive(self) -> bool:
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._descriptor, select.POLLIN)
        return not self._poll.poll(0)

    def close(self) -> None:
        os.close(self._descriptor)


def holds(pid: int, inodes: Collection[int], *, at_most: int | None = None) -> set[int]:
    """Those of the sockets that a process has open; none if it cannot be read."""
    names = {f"socket:[{inode}]": inode for inode in inodes}
    directory = f"/proc/{pid}/fd"
    try:
        files = os.listdir(directory)
    except OSError:
        return set()
    if at_most is not None and len(files) > at_most:
        files = sorted(files, key=int)[-at_most:]
    found = set[int]()
    for file in reversed(files):  # the newest is usually the highest
        try:
            inode = names.get(os.readlink(f"{directory}/{file}"))
        except OSError:
            continue
        if inode is not None:
            found.add(inode)
            if len(found) == len(names):
                break
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
    """A process's parent, 0 for the first one; None if it is gone, or not shown."""
    try:
        return int(_read(f"/proc/{pid}/stat").rpartition(b") ")[2].split(None, 2)[1])
    except (OSError, IndexError, ValueError):
        return None


def children_of(pid: int) -> list[int]:
    """The children of a process of one thread."""
    try:
        return [int(word) for word in _read(f"/proc/{pid}/task/{pid}/children").split()]
    except OSError:
        return []


def newest_pid() -> int:
    """The id that was given out last."""
    try:
        return int(_read("/proc/loadavg").split()[-1])
    except (OSError, IndexError, ValueError):
        return 0


def _read(path: str) -> bytes:
    """A file of /proc, without what `open` asks of a file besides. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(descriptor, _READ_BYTES):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)
