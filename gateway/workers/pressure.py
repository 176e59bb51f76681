"""How much memory there is still room for: on the machine, and in each control group around this process.

A group's own limit (cgroups(7), versions 1 and 2) counts as much as the machine's: a container is full when
its group is. Of what a group uses, pages of files that the kernel can drop are room. If the kernel counts
stalls (pressure stall information, Linux 4.20), the share of the last ten seconds in which everything waited
for memory is read, too.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

PROC: Final = pathlib.Path("/proc")
_KIB: Final = 1024
_NO_LIMIT: Final = 1 << 60
"""Version 1 says a number near 2 ** 63 if there is no limit."""

_NAMES: Final = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", b"total_inactive_file", b"total_active_file"),
    2: ("memory.max", "memory.current", b"inactive_file", b"active_file"),
}
"""Of each version the files with the limit and the use, and the lines with the pages of files."""


class MemoryRoom(Struct, frozen=True):
    """Of the place that is nearest to its limit."""

    limit_bytes: int
    available_bytes: int
    stalled_percent: float = 0.0
    """Time in which nothing could run for want of memory, of the last ten seconds."""


class GroupFiles(Struct, frozen=True):
    """The files of one control group that say how much memory it may use, and does."""

    limit: str
    used: str
    statistics: str
    inactive: bytes
    """The names of the lines with the pages of files, those not used lately first."""
    active: bytes
    pressure: str = ""


class MemoryMeter:
    """`read` takes some ten microseconds for each group."""

    def __init__(self, proc: pathlib.Path = PROC) -> None:
        """Finds the groups that this process is in now; it may be moved to one below them."""
        self._meminfo = str(proc / "meminfo")
        self._pressure = str(proc / "pressure" / "memory")
        self._groups = [files for place in _groups(proc / "self") for files in _files(*place)]

    def read(self) -> MemoryRoom:
        """How it is now."""
        total, available = _machine(self._meminfo)
        tightest, pressure = MemoryRoom(total, available), self._pressure
        for group in self._groups:
            room = _room(group)
            if room is not None and room.available_bytes < tightest.available_bytes:
                tightest, pressure = room, group.pressure or self._pressure
        return MemoryRoom(tightest.limit_bytes, tightest.available_bytes, _stalled(pressure))


def _groups(process: pathlib.Path) -> Iterator[tuple[int, str, str]]:
    """(version, mount point, path) of the hierarchies that count memory."""
    mounts = [line.partition(" - ") for line in _text(process / "mountinfo").splitlines()]
    for line in _text(process / "cgroup").splitlines():
        _, listed, path = line.split(":", 2)
        if listed and "memory" not in listed.split(","):
            continue
        for before, _, after in mounts:
            kind, _, options = after.split(" ", 2)
            root, point = before.split()[3:5]
            is_it = kind == "cgroup" and "memory" in options.split(",") if listed else kind == "cgroup2"
            if is_it and (path + "/").startswith(root.rstrip("/") + "/"):
                yield 1 if listed else 2, point, point + path.removeprefix(root.rstrip("/")).rstrip("/")
                break


def _files(version: int, point: str, path: str) -> Iterator[GroupFiles]:
    """The groups from this one up to the mount point; those without such files are left out."""
    limit, used, inactive, active = _NAMES[version]
    while path.startswith(point):
        if os.path.exists(f"{path}/{limit}"):
            pressure = f"{path}/memory.pressure" if version == 2 else ""
            statistics = f"{path}/memory.stat"
            yield GroupFiles(f"{path}/{limit}", f"{path}/{used}", statistics, inactive, active, pressure)
        path = os.path.dirname(path)


def _room(group: GroupFiles) -> MemoryRoom | None:
    """Of one group; None if it has no limit, or is gone."""
    with contextlib.suppress(OSError, ValueError):
        limit = int(_bytes(group.limit))
        if limit < _NO_LIMIT:
            used = int(_bytes(group.used))
            files = named_numbers(group.statistics)
            # as the kernel itself estimates MemAvailable: half of what is in use is not worth dropping
            droppable = files.get(group.inactive, 0) + files.get(group.active, 0) // 2
            return MemoryRoom(limit, max(0, limit - used + droppable))
    return None


def _machine(meminfo: str) -> tuple[int, int]:
    """Bytes in all, and available (proc_meminfo(5))."""
    numbers = {}
    with contextlib.suppress(OSError):
        numbers = named_numbers(meminfo)
    total = numbers.get(b"MemTotal:", 0) * _KIB
    return total, numbers.get(b"MemAvailable:", numbers.get(b"MemFree:", 0)) * _KIB


def _stalled(pressure: str) -> float:
    """`full avg10=0.03 …`; 0 if the kernel does not count it."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in _bytes(pressure).splitlines():
            if line.startswith(b"full "):
                return float(line.split()[1].partition(b"=")[2])
    return 0.0


def named_numbers(path: str) -> dict[bytes, int]:
    """`name number …` lines. Raises OSError."""
    pairs = (line.split(None, 2) for line in _bytes(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1}


def _bytes(path: str) -> bytes:
    with open(path, "rb", 0) as file:
        return file.read(16 * _KIB)


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
