"""The walls that a child builds round itself between fork and run.

`none`: a session and process group of its own, its own environment and directories, closed descriptors,
rlimits. `basic`: also a uid of its own if the fork server is root, no capabilities, no new privileges, not
dumpable, Landlock and seccomp. It needs no privilege and gives no private view: see docs/isolation for what
it cannot enforce. `strict`: in addition, namespaces of its own (user, mount, pid, ipc, uts, and net
unless it shares the machine's network), a private root (`worker.sandbox.root`), no nested user namespaces.

Guarantees: the walls are complete before any code of the agent runs; a wall that cannot be built is an
OSError, never a gap; in `basic` and `strict` nothing runs as uid 0 of the machine; the parent-death signal is
set after the last change of user, and a pipe to the parent then shows whether it is still alive.

Order, and why: namespaces at the clone; the root while there are capabilities; the uid after the root, so
that a directory only root may enter (a virtual environment below /root) can still be bound; the user
namespace after the uid if the fork server is root, at the clone if it is not; Landlock and seccomp
last.
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import socket
import struct
from collections.abc import Collection
from typing import Final

from worker.sandbox import doors, kernel, landlock, paths, root
from worker.sandbox.seccomp import Filter
from worker.spec import INNER_HOME, INNER_WORK, Network, Profile, SpawnRequest

OOM_SCORE: Final = 800
"""At the memory wall workers die, not the gateway (proc(5), oom_score_adj; 1000 is always first)."""
COMMAND_DATA_SLACK: Final = 4
"""RLIMIT_DATA of a command is so many times its memory limit: runtimes map far more than they use, and Bun,
seeing a limit near its need, collects garbage without end. The watchdog enforces the limit itself; this stops
a runaway until then. If a control group limits the memory, a command has no such limit.
"""
PROCESSES_SLACK: Final = 64
"""If a control group counts processes, RLIMIT_NPROC is higher by this number: a second limit, which a program
can read (getrlimit(2)). The group's limit is reached first, because the group counts what it refuses.
"""
_NAMESPACES: Final = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
_HOSTNAME: Final = "agent"
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP_RUNNING: Final = 0x41
_FILTERS: Final[dict[tuple[Profile, Network], Filter]] = {
    (profile, network): Filter(network, sees_others=profile == "basic")
    for profile in ("basic", "strict")
    for network in ("shared", "none")
}
_FILTERS["strict", "broker"] = _FILTERS["strict", "shared"]


class WallMissing(OSError):
    """A wall cannot be built here."""


def clone_flags(profile: Profile, network: Network) -> int:
    """The namespaces that a worker is born into."""
    if profile != "strict":
        return 0
    flags = _NAMESPACES | (kernel.CLONE_NEWNET if network != "shared" else 0)
    return flags if os.geteuid() == 0 else flags | kernel.CLONE_NEWUSER


def enter(request: SpawnRequest, *, counted: Collection[str] = (), channel: int = -1) -> None:
    """Everything but the last lock: what an init needs to be let do is still possible. Raises OSError.

    `counted` are the controllers of its control group: what those hold needs no rlimit. `channel` is where
    the doors of its own network go.
    """
    if request.sandbox.network == "broker" and request.sandbox.profile != "strict":
        raise WallMissing(1, "the network `broker` needs strict walls")
    if request.sandbox.profile != "none" and os.geteuid() == 0 and not request.uid:
        raise WallMissing(1, "a worker must not run as root, and no other uid was given")
    _write("/proc/self/oom_score_adj", _score)
    if request.sandbox.profile == "strict":
        os.umask(0o022)
        _enter_strict(request, channel)
        os.chdir(INNER_WORK)
    else:
        os.chdir(request.cwd)
        if request.uid is not None and os.geteuid() == 0:
            if request.sandbox.profile == "basic":
                kernel.drop_bounding_set()
            _become(request.uid)
            _check_reachable(request)
    os.umask(0o077)
    _limit(request, counted)
    _take_environment(request)


def lock(request: SpawnRequest, *, parent: int, death_signal: int = signal.SIGKILL) -> None:
    """Builds the last walls, which cannot be undone. `parent` is a pipe to the process that must outlive
    this one.
    """
    if request.sandbox.profile != "none":
        kernel.drop_capabilities()
        kernel.set_dumpable(False)
    kernel.set_parent_death_signal(death_signal)
    _check_alive(parent)
    if request.sandbox.profile == "none":
        return
    kernel.renounce_new_privileges()
    _restrict_files(request)
    _FILTERS[request.sandbox.profile, request.sandbox.network].install()


_score = str(OOM_SCORE)
_server_uid, _server_gid = os.geteuid(), os.getegid()
"""The fork server's own ids. A child in a new user namespace cannot ask for them: until it has mapped its
ids, the kernel returns the overflow id.
"""


def touch() -> None:
    """Run once in the parent: what a child does first, it shall not do for the first time, and what is the
    same for all is done here. Each page that a child writes, be it a reference count, is its own.
    """
    global _score, _server_uid, _server_gid
    kernel.touch()
    _server_uid, _server_gid = os.geteuid(), os.getegid()
    _score = str(max(OOM_SCORE, _oom_score()))
    os.environ.clear()
    resource.getrlimit(resource.RLIMIT_NOFILE)
    if not kernel.IS_KNOWN_MACHINE:
        raise WallMissing(38, f"no table of system calls for {kernel.MACHINE}")


def _enter_strict(request: SpawnRequest, channel: int) -> None:
    is_root = os.geteuid() == 0
    if not is_root:
        _map_ids(_server_uid, _server_gid)
    root.build(
        request.sandbox,
        request.limits,
        home=request.home,
        work=request.cwd,
        is_command=not request.is_built_in,
    )
    kernel.set_hostname(_HOSTNAME)
    if request.sandbox.network != "shared":
        _raise_loopback()
    if request.sandbox.network == "broker":
        doors.open_doors(channel, request.sandbox.ports)
    if is_root and request.uid is not None:
        _become(request.uid)
        kernel.set_dumpable(True)
        kernel.unshare(kernel.CLONE_NEWUSER)
        _map_ids(request.uid, request.uid)
    _write("/proc/sys/user/max_user_namespaces", "0")


def _map_ids(uid: int, gid: int) -> None:
    """One user and one group, the same inside whatever they are outside: user_namespaces(7)."""
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{root.INNER_ID} {uid} 1")
    _write("/proc/self/gid_map", f"{root.INNER_ID} {gid} 1")


def _become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def _check_reachable(request: SpawnRequest) -> None:
    """A uid of its own is of no use where it cannot enter the directory that it owns."""
    for path in (request.home, request.cwd):
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise WallMissing(13, f"its own uid cannot reach {path}; choose a data_dir that others may enter")


def _limit(request: SpawnRequest, counted: Collection[str]) -> None:
    """nice; rlimits, after the user namespace exists: RLIMIT_NPROC then counts in it alone (Linux 5.14)."""
    limits, profile = request.limits, request.sandbox.profile
    _set_limit(resource.RLIMIT_CORE, 0)
    _set_limit(resource.RLIMIT_NOFILE, limits.open_files)
    _set_limit(resource.RLIMIT_FSIZE, limits.file_bytes)
    if request.is_built_in or "memory" not in counted:
        slack = 1 if request.is_built_in else COMMAND_DATA_SLACK
        _set_limit(resource.RLIMIT_DATA, limits.memory_bytes * slack)
    _set_limit(resource.RLIMIT_CPU, limits.cpu_seconds, grace=1)
    if profile != "none":
        _set_limit(resource.RLIMIT_MEMLOCK, 64 * 1024)
        _set_limit(resource.RLIMIT_MSGQUEUE, 0, is_zero_a_limit=True)
    has_own_count = profile == "strict" or (profile == "basic" and os.geteuid() != _server_uid)
    if has_own_count and limits.processes:
        slack = PROCESSES_SLACK if "pids" in counted else 0
        _set_limit(resource.RLIMIT_NPROC, limits.processes + slack)
    if request.nice:
        os.nice(request.nice)


def _set_limit(kind: int, value: int, *, is_zero_a_limit: bool = False, grace: int = 0) -> None:
    """The hard limit is `grace` above the soft one: at a soft limit of CPU the signal says what was
    passed.
    """
    if not value and not is_zero_a_limit and kind != resource.RLIMIT_CORE:
        return
    hard = resource.getrlimit(kind)[1]
    upper = value + grace
    if hard != resource.RLIM_INFINITY:
        value, upper = min(value, hard), min(upper, hard)
    resource.setrlimit(kind, (value, upper))


def _take_environment(request: SpawnRequest) -> None:
    environ = request.env
    if request.sandbox.profile == "strict":
        environ = environ | {"HOME": INNER_HOME, "TMPDIR": "/tmp"}  # noqa: S108
    if os.environ:
        os.environ.clear()
    for name, value in environ.items():
        os.environ[name] = value


def _restrict_files(request: SpawnRequest) -> None:
    sandbox = request.sandbox
    if not landlock.VERSION:
        if sandbox.profile == "strict":
            return
        raise WallMissing(38, "this kernel has no Landlock")
    if sandbox.profile == "strict":
        writable = (INNER_HOME, INNER_WORK, "/tmp", "/dev", "/proc", *sandbox.writable)  # noqa: S108
        landlock.restrict(readable=("/",), writable=writable, network=sandbox.network)
        return
    landlock.restrict(
        readable=(*paths.READABLE_IN_PLACE, *sandbox.readable),
        writable=(request.home, request.cwd, *paths.DEVICES, *sandbox.writable),
        network=sandbox.network,
    )


def _raise_loopback() -> None:
    """A new network namespace has a loopback interface that is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", _IFF_UP_RUNNING))


def _check_alive(parent: int) -> None:
    """The parent may have died before its death could be signalled: its end of the pipe is closed then."""
    poll = select.poll()
    poll.register(parent, 0)
    if poll.poll(0):
        os._exit(1)


def _oom_score() -> int:
    with open("/proc/self/oom_score_adj", "rb") as file:
        return int(file.read())


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)
