"""What a dead gateway may have left: its fork server, and below it every worker.

Known by pid and start time, never by name: a pid alone is soon somebody else's. Usually there is nothing,
because the fork server ends with its gateway; this is for the day on which it did not. Control groups of its
workers are known by their name, which no other gateway has; whatever still lives in them is ended too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import time
from collections.abc import Sequence
from typing import Final

import msgspec
import psutil
from msgspec import Struct

from gateway.workers import trees
from gateway.workers.freezing import below, thaw_all

log = logging.getLogger(__name__)

FILE_NAME: Final = "forkserver.json"
KILL_SECONDS: Final = 5.0
REMOVE_SECONDS: Final = 1.0
"""How long control groups are tried that something was killed in."""
REMOVE_PAUSE_SECONDS: Final = 0.01
SWEEP_SECONDS: Final = 2.0
"""How long the processes of a server that hung are waited for."""


class Known(Struct, frozen=True):
    """A process, in a way that outlives its pid: `created` is its start in seconds since 1970 (psutil)."""

    pid: int
    created: float
    groups: tuple[str, ...] = ()
    """Directories of its control groups."""


def note(data_path: pathlib.Path, pid: int, groups: tuple[str, ...] = ()) -> None:
    """Remembers the fork server of this gateway for the next one. Raises OSError."""
    with contextlib.suppress(psutil.NoSuchProcess):
        known = Known(pid, psutil.Process(pid).create_time(), groups)
        (data_path / FILE_NAME).write_bytes(msgspec.json.encode(known))


def sweep(data_path: pathlib.Path) -> int:
    """Ends what the last gateway of this data directory left; how many processes that were."""
    try:
        known = msgspec.json.decode((data_path / FILE_NAME).read_bytes(), type=Known)
    except (OSError, msgspec.DecodeError):
        return 0
    for group in known.groups:
        thaw_all(group)
    left = _family(known)
    members = [pid for group in known.groups for pid in _members(pathlib.Path(group))]
    for pid in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.append(psutil.Process(pid))
    for orphan in left:
        with contextlib.suppress(psutil.Error):
            orphan.kill()
    _, alive = psutil.wait_procs(left, timeout=KILL_SECONDS)
    if left:
        log.warning("swept %d processes that the last gateway left; %d survived", len(left), len(alive))
    if removed := sum(_remove(group) for group in known.groups):
        log.warning("removed %d control groups that the last gateway left", removed)
    return len(left)


def end_family(server: int, workers: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Kills a fork server of ours that hangs, and all below it; of each worker, how many processes it was and
    how many of them live still.

    The server is our child: its end is waited for by who started it, and nowhere else.
    """
    families = {pid: set(_tree(pid)) for pid in workers if pid}
    everybody = _tree(server)
    for process in everybody:
        with contextlib.suppress(psutil.Error):
            process.kill()
    _, alive = psutil.wait_procs([each for each in everybody if each.pid != server], timeout=SWEEP_SECONDS)
    left = {process for process in alive if _lives(process)}
    return {pid: (len(family), len(family & left)) for pid, family in families.items()}


def _tree(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _family(known: Known) -> list[psutil.Process]:
    """The fork server and its workers, if that process is still it."""
    try:
        process = psutil.Process(known.pid)
        if process.create_time() != known.created or known.pid == os.getpid():
            return []
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _members(group: pathlib.Path) -> set[int]:
    """The processes of a control group and of those in it, but for this one."""
    found: set[int] = set()
    for folder in below(group):
        with contextlib.suppress(OSError):
            found |= set(map(int, (folder / "cgroup.procs").read_text().split()))
    return found - {os.getpid()}


class _Removal(trees.Visitor):
    """Removes the control groups in one; their files go with them, and cannot be removed."""

    def __init__(self) -> None:
        self.count = 0

    def enter(self, directory: int, depth: int, name: str) -> list[str]:
        with contextlib.suppress(OSError), os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        return []  # it has gone meanwhile

    def leave(self, parent: int, name: str) -> None:
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=parent)
            self.count += 1


def _remove(group: str) -> int:
    """Removes a control group and those in it; how many went. What was killed a moment ago may be in them
    still, so it is tried for a while.
    """
    removal, deadline = _Removal(), time.monotonic() + REMOVE_SECONDS
    while os.path.isdir(group) and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            trees.walk(group, removal)
            os.rmdir(group)
            return removal.count + 1
        time.sleep(REMOVE_PAUSE_SECONDS)
    return removal.count
