"""Control groups: one for each worker, so that the kernel counts and limits the memory and the processes of
everything that the worker starts, counts its CPU time and distributes the available CPU time (cgroups(7)).

At start the fork server finds out which groups it can create by creating one, moving a process into it and
reading it back, for each controller in version 2 or 1 (`worker.forkserver.hierarchies`).

Guarantees: groups of killed gateways are removed at the next start; a worker is in its group, under
its limits, before it does anything; a group is removed when nothing lives in it, and what still lives in it
can be named and ended; nothing is left when `close` returns.

A worker enters a version 1 group by writing to `tasks`, not to `cgroup.procs`: the latter waits for a grace
period of the whole kernel (6 ms after any pause, against 0.1), which a process of one thread has no need of.
Into a version 2 group it is cloned (clone3(2), CLONE_INTO_CGROUP, Linux 5.7).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import time
from collections.abc import Iterator
from typing import Final, NoReturn

import msgspec

from worker.forkserver import hierarchies
from worker.forkserver.hierarchies import Divided, Hierarchy, members, read, write
from worker.sandbox import kernel
from worker.spec import MIB, Counting, EndCause, Mechanism, counted_cpu_seconds

_TRIAL_BYTES: Final = 64 * MIB
_TRIAL_PROCESSES: Final = 16
_LIMIT_FILES: Final = {
    ("memory", 1): "memory.limit_in_bytes",
    ("memory", 2): "memory.max",
    ("pids", 1): "pids.max",
    ("pids", 2): "pids.max",
}
_CPUS: Final = os.cpu_count() or 1
_WEIGHTS: Final = {1: ("cpu.shares", 512 * _CPUS), 2: ("cpu.weight", min(50 * _CPUS, 10_000))}
"""Of all workers together: on each CPU half of what one process of the gateway weighs there, so that it has
two thirds of one however many agents burn. It counts only while CPU time is short; among each other workers
weigh the same, however many processes each has.
"""
_SWAP_FILES: Final = {1: ("memory.memsw.limit_in_bytes",), 2: ("memory.swap.max", "memory.oom.group")}
"""No swap besides the memory; in version 2, all of the group dies at its end. Not every kernel has them."""
REMOVE_SECONDS: Final = 1.0
"""How long groups that hold dying processes are tried again."""
_PAUSE_SECONDS: Final = 0.005
_PEAK_FILES: Final = ("memory.max_usage_in_bytes", "memory.limit_in_bytes")
"""Version 1's: memory.failcnt stays 0 on newer kernels."""
_FREEZERS: Final = {1: ("freezer.state", "THAWED", "FROZEN"), 2: ("cgroup.freeze", "0", "1")}
"""The file that freezes a group, what thaws it and what freezes it. Version 2 has it in every group (Linux
5.2).
"""
_FREEZER: Final = ("freezer",)
_NAME: Final = re.compile(r"agent-gateway-(\d+)-[0-9a-f]{8}(?:\.self)?")
"""Of a gateway's groups: its pid is in it (`gateway.workers.walls`)."""
_EVENT_FILES: Final = {("memory", 1): "memory.oom_control", ("memory", 2): "memory.events"}


class Group:
    """One worker's groups, one in each hierarchy: (version, controllers, path)."""

    def __init__(self, places: list[tuple[int, tuple[str, ...], str]]) -> None:
        self._places = places
        self.directory_fd = -1
        """Of the version 2 group, for the clone; -1 where there is none."""

    @property
    def controllers(self) -> set[str]:
        """What is counted and held."""
        return {controller for _, controllers, _ in self._places for controller in controllers}

    def make(self, memory_bytes: int, processes: int) -> None:
        """Makes them, with their limits (0: none). Raises OSError, leaving nothing."""
        limits = {"memory": memory_bytes, "pids": processes}
        try:
            for version, controllers, path in self._places:
                os.mkdir(path, 0o755)
                for controller in controllers:
                    if limit := limits.get(controller):
                        _limit(version, path, controller, limit)
                if version == 2:
                    self.directory_fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            self.remove()
            raise

    def enter(self) -> None:
        """In the child, first of all. Raises OSError."""
        for version, _, path in self._places:
            if version == 1:
                write(f"{path}/tasks", "0")

    def let_go(self) -> None:
        """In the parent, after the clone."""
        if self.directory_fd >= 0:
            os.close(self.directory_fd)
            self.directory_fd = -1

    def has_limits(self, memory_bytes: int, processes: int) -> bool:
        """Whether these are the limits that the kernel holds."""
        limits = {"memory": memory_bytes, "pids": processes}
        return all(
            read(f"{path}/{_LIMIT_FILES[controller, version]}").strip() == str(limits[controller])
            for version, controllers, path in self._places
            for controller in controllers
            if controller in limits
        )

    def cpu_file(self) -> str:
        """The file with its CPU time; empty if the kernel counts none. Version 2 does in every group."""
        for version, controllers, path in self._places:
            if version == 2 or "cpuacct" in controllers:
                return f"{path}/{'cpu.stat' if version == 2 else 'cpuacct.usage'}"
        return ""

    def cpu_seconds(self) -> float:
        """CPU time of all that ever ran in here."""
        path = self.cpu_file()
        return counted_cpu_seconds(read(path)) if path else 0.0

    def freezer_file(self) -> str:
        """The file that freezes everything in here; empty if this machine freezes no groups."""
        return next((file for file, _, _ in self._freezers() if os.path.exists(file)), "")

    def is_frozen(self) -> bool:
        """True if what is in here stands still, or is about to."""
        return any(read(file).strip() not in ("", thawed) for file, thawed, _ in self._freezers())

    def freeze(self) -> bool:
        """Stops everything in here; False if it cannot."""
        file = self.freezer_file()
        try:
            write(file, next(frozen for each, _, frozen in self._freezers() if each == file))
        except (OSError, StopIteration):
            return False
        return True

    def thaw(self) -> None:
        """So that what is in here can end: in version 1 a frozen process does not even die."""
        for file, thawed, _ in self._freezers():
            with contextlib.suppress(OSError):
                write(file, thawed)

    def _freezers(self) -> Iterator[tuple[str, str, str]]:
        """The files that freeze it, what thaws it there and what freezes it."""
        for version, controllers, path in self._places:
            if version == 2 or "freezer" in controllers:
                name, thawed, frozen = _FREEZERS[version]
                yield f"{path}/{name}", thawed, frozen

    def events_file(self, controller: str) -> str:
        """The file that counts what a limit refused; empty if the group has no such limit."""
        for version, controllers, path in self._places:
            if controller in controllers:
                return f"{path}/{_EVENT_FILES.get((controller, version), 'pids.events')}"
        return ""

    def cause(self) -> EndCause:
        """The limit that was passed in here, if any was."""
        memory = _counters(self.events_file("memory"))
        if memory.get("oom_kill"):
            return "memory" if self._was_its_own_limit(memory) else "machine_memory"
        return "processes" if _counters(self.events_file("pids")).get("max") else ""

    def _was_its_own_limit(self, events: dict[str, int]) -> bool:
        """Or the end of the machine's memory, which kills in here too."""
        if "max" in events:
            return events["max"] > 0
        place = os.path.dirname(self.events_file("memory"))
        peak, limit = (int(read(f"{place}/{name}") or 0) for name in _PEAK_FILES)
        return peak > limit - MIB

    def members(self) -> set[int]:
        """The processes that live in here."""
        return {pid for _, _, path in self._places for pid in members(path)}

    def kill(self) -> None:
        """SIGKILL to all of them."""
        self.thaw()
        for pid in self.members():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def remove(self) -> bool:
        """Removes them; False while something lives in one."""
        self.let_go()
        gone = [_remove(path) for _, _, path in self._places]
        return all(gone)


class Groups:
    """The groups of one gateway, under one name; see the module. Without a name there are none."""

    def __init__(self, name: str, gateway_pid: int) -> None:
        self._name = name
        self._family = {gateway_pid, os.getpid()}
        self._found: list[Hierarchy] = []
        self._divided: list[Divided] = []
        self._missing: list[str] = []
        self._swept = 0
        self._locks: list[int] = []

    def open(self) -> None:
        """Finds out what can be made here."""
        if not self._name:
            return
        own, mounts = read("/proc/self/cgroup"), read("/proc/self/mountinfo")
        for hierarchy in hierarchies.find(own, mounts, name=self._name):
            self._swept += sweep(hierarchy.own)
            lesser = tuple(name for name in hierarchy.controllers if not name.startswith("cpu"))
            # Real-time processes keep `cpu` from being divided: that costs the weight, and no more.
            if not self._take(hierarchy) and 0 < len(lesser) < len(hierarchy.controllers):
                self._take(msgspec.structs.replace(hierarchy, controllers=lesser))

    def _take(self, hierarchy: Hierarchy) -> bool:
        """Whether groups can be made in a hierarchy, which is then used."""
        try:
            self._try(hierarchy)
        except OSError as error:
            if hierarchy.controllers == _FREEZER:  # no limit is missing without it
                return False
            where = f"cgroup v{hierarchy.version} ({', '.join(hierarchy.controllers)})"
            self._missing.append(f"{where}: {error.strerror or error}")
            return False
        self._found.append(hierarchy)
        return True

    def counting(self) -> Counting:
        """The report to the gateway."""
        held: dict[str, Mechanism] = {
            controller: "cgroup v2" if hierarchy.version == 2 else "cgroup v1"
            for hierarchy in self._found
            for controller in hierarchy.controllers
        }
        leaves = [divided.leaf for divided in self._divided]
        of_all = [each for each in self._found if each.controllers != _FREEZER]
        freezers = [self._base(each) for each in self._found if each.controllers == _FREEZER]
        return Counting(
            memory=held.get("memory", ""),
            processes=held.get("pids", ""),
            cpu=held.get("cpu", ""),
            directories=(*map(self._base, of_all), *leaves),
            freezers=tuple(freezers),
            missing="; ".join(self._missing),
            swept=self._swept,
        )

    def make(
        self, worker_id: int, *, memory_bytes: int, processes: int, is_freezable: bool = False
    ) -> Group | None:
        """A worker's group with its limits; None if there are none. Raises OSError. In version 1 one that can
        be frozen costs a directory more.
        """
        found = [each for each in self._found if is_freezable or each.controllers != _FREEZER]
        if not found:
            return None
        group = self._group(str(worker_id), found)
        group.make(memory_bytes, processes)
        return group

    def close(self) -> None:
        """Removes everything, and puts the gateway back where it was."""
        for hierarchy in self._found:
            _remove_tree(self._base(hierarchy))
        for lock in self._locks:
            os.close(lock)
        self._locks.clear()
        for divided in self._divided:
            divided.restore()

    def _base(self, hierarchy: Hierarchy) -> str:
        return f"{hierarchy.own}/{self._name}"

    def _group(self, name: str, found: list[Hierarchy]) -> Group:
        return Group([(each.version, each.controllers, f"{self._base(each)}/{name}") for each in found])

    def _try(self, hierarchy: Hierarchy) -> None:
        """Makes this gateway's group, and in it one with a process under limits. Raises OSError."""
        base = self._base(hierarchy)
        _remove_tree(base)
        divided = None
        try:
            if hierarchy.version == 2:
                divided = hierarchies.divide(hierarchy, self._name, self._family)
            os.mkdir(base, 0o755)
            if hierarchy.version == 2:
                hierarchies.enable(base, hierarchy.controllers)
            self._locks.append(_lock(base))
            if "cpu" in hierarchy.controllers:
                file, weight = _WEIGHTS[hierarchy.version]
                write(f"{base}/{file}", str(weight))
            self._prove(self._group("trial", [hierarchy]))
        except OSError:
            _remove_tree(base)
            if divided is not None:
                divided.restore()
            raise
        if divided is not None:
            self._divided.append(divided)

    def _prove(self, group: Group) -> None:
        """A process goes in and is found there, under the limits that were set. Raises OSError."""
        group.make(_TRIAL_BYTES, _TRIAL_PROCESSES)
        said, saying = os.pipe()
        try:
            pid = kernel.clone(0, cgroup_fd=group.directory_fd)
            if pid == 0:
                _stay(group, saying)
            os.close(saying)
            has_entered = os.read(said, 1) == b"+"
            is_counted = pid in group.members() and group.has_limits(_TRIAL_BYTES, _TRIAL_PROCESSES)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            if not (has_entered and is_counted):
                raise OSError(0, "a process that was put into a group was not found in it")
        finally:
            os.close(said)
            group.remove()


def _stay(group: Group, saying: int) -> NoReturn:
    """In the trial's child: enters, says so, and waits for its end."""
    try:
        group.enter()
        os.write(saying, b"+")
        os.close(saying)
        signal.pause()
    finally:
        os._exit(1)


def _limit(version: int, path: str, controller: str, value: int) -> None:
    write(f"{path}/{_LIMIT_FILES[controller, version]}", str(value))
    if controller != "memory":
        return
    for name in _SWAP_FILES[version]:
        with contextlib.suppress(OSError):
            text = {"memory.swap.max": "0", "memory.oom.group": "1"}.get(name, str(value))
            write(f"{path}/{name}", text)


def _counters(path: str) -> dict[str, int]:
    """`name number` lines."""
    words = (line.split() for line in read(path).splitlines()) if path else ()
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdigit()}


def _remove(path: str) -> bool:
    """Whether it is gone. On a read-only mount, rmdir(2) fails with that even where there is nothing."""
    try:
        os.rmdir(path)
    except OSError:
        return not os.path.lexists(path)
    return True


def sweep(own: str) -> int:
    """Removes what killed gateways left in a group: groups of theirs that are empty; how many went.

    A group is somebody's while its gateway's pid is there, or while its fork server holds a lock on it: in
    another pid namespace the pid says nothing. Where processes live, the kernel refuses (cgroups(7)).
    """
    count = 0
    for name in _directories(own):
        found = _NAME.fullmatch(name)
        if found is None or os.path.exists(f"/proc/{found[1]}"):
            continue
        path = f"{own}/{name}"
        try:
            lock = _lock(path)
        except OSError:
            continue
        for below in _directories(path):
            count += _is_removed(f"{path}/{below}")
        os.close(lock)
        count += _is_removed(path)
    return count


def _directories(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _is_removed(path: str) -> bool:
    try:
        os.rmdir(path)
    except OSError:
        return False
    return True


def _lock(path: str) -> int:
    """Says whose a group is, for as long as the descriptor is open. Raises OSError if it is somebody's."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(directory)
        raise
    return directory


def _remove_tree(base: str) -> None:
    """A group and those in it, after killing what lives there; bounded."""
    deadline = time.monotonic() + REMOVE_SECONDS
    while not _try_to_remove(base) and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)


def _try_to_remove(base: str) -> bool:
    with contextlib.suppress(OSError), os.scandir(base) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                group = Group([(1, (), entry.path)])
                group.kill()
                group.remove()
    return _remove(base)
