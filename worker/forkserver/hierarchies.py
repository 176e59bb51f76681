"""Where control groups can be made: the mounts of this machine, and a version 2 group that is to be divided.

Guarantee: only below the group that this process was started in. A version 2 group that is divided may hold
no process itself (cgroups(7), "no internal processes"), so the gateway moves into a leaf of it; where
somebody else's processes are in the group, it is left as it is.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Final

from msgspec import Struct

CONTROLLERS: Final = ("memory", "pids", "cpu", "cpuacct", "freezer")
PROCS: Final = "cgroup.procs"
_SUBTREE: Final = "cgroup.subtree_control"
_LEAF: Final = ".self"


class Hierarchy(Struct, frozen=True):
    """One mount of control groups: its version, this process's own group in it, and what is counted."""

    version: int
    own: str
    controllers: tuple[str, ...]


class Divided(Struct, frozen=True):
    """A version 2 group whose processes went into a leaf of it."""

    own: str
    leaf: str
    controllers: tuple[str, ...]

    def restore(self) -> None:
        """Puts back what is in the leaf, and removes it; as far as it goes."""
        with contextlib.suppress(OSError):
            write(f"{self.own}/{_SUBTREE}", " ".join(f"-{name}" for name in self.controllers))
            for pid in members(self.leaf):
                write(f"{self.own}/{PROCS}", str(pid))
        with contextlib.suppress(OSError):
            os.rmdir(self.leaf)


def find(
    groups: str, mounts: str, *, wanted: tuple[str, ...] = CONTROLLERS, name: str = ""
) -> list[Hierarchy]:
    """The hierarchies that have what is wanted, from /proc/self/cgroup and /proc/self/mountinfo (proc(5))."""
    found: list[Hierarchy] = []
    for line in groups.splitlines():
        _, listed, path = line.split(":", 2)
        version = 1 if listed else 2
        mount = _mount(mounts, listed)
        if mount is None:
            continue
        own = _below(*mount, path.removesuffix(f"/{name}{_LEAF}") if name else path)
        if own is None:
            continue
        has = listed.split(",") if listed else read(f"{own}/cgroup.controllers").split()
        controllers = tuple(controller for controller in wanted if controller in has)
        if controllers:
            found.append(Hierarchy(version, own, controllers))
    return found


def _mount(mounts: str, listed: str) -> tuple[str, str] | None:
    """(root, mount point) of a version 1 hierarchy with these controllers, or of version 2."""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        words = before.split()
        if not listed and kind == "cgroup2":
            return words[3], words[4]
        if listed and kind == "cgroup" and set(listed.split(",")) <= set(options.split(",")):
            return words[3], words[4]
    return None


def _below(root: str, point: str, path: str) -> str | None:
    """A group's path in the file system; None if the mount does not show it."""
    if path != root and not path.startswith(root.rstrip("/") + "/"):
        return None
    return (point + "/" + path[len(root.rstrip("/")) :].strip("/")).rstrip("/")


def divide(hierarchy: Hierarchy, name: str, family: set[int]) -> Divided | None:
    """Lets the groups below a version 2 group have the controllers; what was moved for it. Raises OSError.

    `family` are the processes that may be moved: the gateway and what it started.
    """
    own = hierarchy.own
    if set(hierarchy.controllers) <= set(read(f"{own}/{_SUBTREE}").split()):
        return None
    divided = None
    is_root = not os.path.exists(f"{own}/cgroup.type")
    if not is_root:
        strangers = members(own) - family
        if strangers:
            raise OSError(errno.EBUSY, f"{len(strangers)} other processes are in the gateway's own group")
        divided = Divided(own, f"{own}/{name}{_LEAF}", hierarchy.controllers)
        with contextlib.suppress(FileExistsError):
            os.mkdir(divided.leaf, 0o755)
    try:
        if divided is not None:
            for pid in members(own):
                write(f"{divided.leaf}/{PROCS}", str(pid))
        enable(own, hierarchy.controllers)
    except OSError:
        if divided is not None:
            divided.restore()
        raise
    return divided


def enable(path: str, controllers: tuple[str, ...]) -> None:
    """Lets the groups below a version 2 group have these controllers. Raises OSError."""
    write(f"{path}/{_SUBTREE}", " ".join(f"+{name}" for name in controllers))


def members(path: str) -> set[int]:
    """The processes in a group; none if it is gone."""
    return set(map(int, read(f"{path}/{PROCS}").split()))


def read(path: str) -> str:
    """A file's text; empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read().decode()
    except OSError:
        return ""


def write(path: str, text: str) -> None:
    """Writes into a file that the kernel made. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
