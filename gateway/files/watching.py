"""Which files of a session have changed: two looks at its tree, compared.

The kernel could tell (inotify), but needs a watch for each folder, of which a machine has few, and loses
track without saying of what. A look costs a stat for each entry, is bounded, and sees what happened while
nobody looked. Folders are looked at level by level, so that what is left out of a large tree is deep in it.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from typing import Final

from msgspec import Struct

from gateway.files.names import USUAL_LENGTH, encoded, joined
from gateway.files.places import WorkFolder
from gateway.files.upload_names import is_unfinished

WATCHED_ENTRIES: Final = 10_000
"""Looked at in one look: some hundredths of a second in a thread, and 3 MB."""
WATCHED_CHARACTERS: Final = USUAL_LENGTH * WATCHED_ENTRIES
"""Of their names."""
CHANGES_AT_ONCE: Final = 200
"""More changes are not named one by one."""

_Mark = tuple[int, int, int]


class Look(Struct, frozen=True):
    """How a tree was."""

    marks: dict[str, _Mark]
    """Name → time of change (nobody can set that one back), size, inode."""
    is_partial: bool
    """There is more than was looked at."""


class TreeChange(Struct, frozen=True):
    """One frame of `…/files/watch`."""

    paths: list[str]
    """Changed, new and removed ones, percent-encoded as in a listing."""


def look(work: WorkFolder, *, most: int = WATCHED_ENTRIES) -> Look:
    """How the tree is now. A folder that cannot be read, or vanishes, is as empty."""
    marks: dict[str, _Mark] = {}
    is_partial = False
    room = WATCHED_CHARACTERS
    with work.opened() as folder:
        waiting = deque([""] if folder is not None else [])
        while folder is not None and waiting and not is_partial:
            at = waiting.popleft()
            try:
                descriptor = folder.open(at, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue
            try:
                with os.scandir(descriptor) as entries:
                    for entry in entries:
                        name = joined(at, entry.name)
                        room -= len(name)
                        if len(marks) >= most or room < 0:
                            is_partial = True
                            break
                        if not is_unfinished(entry.name):
                            _mark(marks, name, entry, waiting)
            except OSError:
                continue
            finally:
                os.close(descriptor)
    return Look(marks, is_partial)


def _mark(marks: dict[str, _Mark], name: str, entry: os.DirEntry[str], waiting: deque[str]) -> None:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return
    if stat.S_ISDIR(status.st_mode):
        marks[name] = (0, 0, status.st_ino)
        waiting.append(name)
    else:
        marks[name] = (status.st_ctime_ns, status.st_size, status.st_ino)


def compared(before: Look, after: Look) -> TreeChange | None:
    """What changed from one look to the next; None if it is too much to name."""
    old, new = before.marks, after.marks
    names = [name for name, mark in new.items() if old.get(name) != mark]
    if not (before.is_partial or after.is_partial):
        names += [name for name in old if name not in new]
    else:  # what is missing may only not have been looked at
        folders = {name.rpartition("/")[0] for name in new} | {""}
        names += [name for name in old if name not in new and name.rpartition("/")[0] in folders]
    if len(names) > CHANGES_AT_ONCE:
        return None
    return TreeChange([encoded(name) for name in sorted(names)])
