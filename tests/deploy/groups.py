"""Control groups that tests make for a machine or an engine of theirs, and that are gone afterwards."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import time
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from tests.patience import crowding

PLACE: Final = pathlib.Path("/sys/fs/cgroup")
REMOVE_SECONDS: Final = 15.0
_PAUSE_SECONDS: Final = 0.02
_LEFT_OUT: Final = {"cpuset"}
"""A new group of version 1's cpuset takes nobody in before it is told its processors."""


class Hierarchy(Struct, frozen=True):
    """One that this machine has: where below /sys/fs/cgroup, with which options (none: version 2), and the
    directory of the group that this process is in.
    """

    at: str
    options: str
    own: pathlib.Path


def hierarchies() -> list[Hierarchy]:
    """Those that a process may be put into, as they are mounted by convention."""
    found = []
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, names, own = line.split(":", 2)
        at = names.removeprefix("name=") if names else "unified" if (PLACE / "unified").is_dir() else ""
        if at not in _LEFT_OUT and (PLACE / at).is_dir():
            options = f"none,{names}" if names.startswith("name=") else names
            found.append(Hierarchy(at, options, PLACE / at / own.lstrip("/")))
    return found


@contextlib.contextmanager
def group(name: str) -> Iterator[list[pathlib.Path]]:
    """A group of this name below one's own in every hierarchy; what lives there at the end is killed."""
    places = [hierarchy.own / name for hierarchy in hierarchies()]
    try:
        for place in places:
            place.mkdir()
        yield places
    finally:
        remove(places)


def remove(places: list[pathlib.Path]) -> None:
    """Kills what lives in these groups and below, and removes them; bounded."""
    deadline = time.monotonic() + REMOVE_SECONDS * crowding()
    while left := [place for place in places if not _removed(place)]:
        assert time.monotonic() < deadline, f"something lives in {left}"
        time.sleep(_PAUSE_SECONDS)


def _removed(place: pathlib.Path) -> bool:
    for directory, _, _ in os.walk(place, topdown=False):
        with contextlib.suppress(OSError):
            for pid in pathlib.Path(directory, "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    return not place.exists()
