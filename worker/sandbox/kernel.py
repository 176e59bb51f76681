"""The system calls that Python's `os` lacks, through ctypes; every failure is an OSError that names the call.

Guarantee: no import, no allocation of a library and no lookup of a symbol is left for a forked child: what a
child calls was touched by `touch()` in its parent (the first ctypes call of a process costs 0.13 ms and some
pages). Numbers: the x86-64 and aarch64 tables of Linux; system calls from 424 on have one number everywhere.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

MACHINE: Final = os.uname().machine
IS_KNOWN_MACHINE: Final = MACHINE in {"x86_64", "aarch64"}

# unshare(2), clone(2)
CLONE_NEWNS: Final = 0x0002_0000
CLONE_NEWUTS: Final = 0x0400_0000
CLONE_NEWIPC: Final = 0x0800_0000
CLONE_NEWUSER: Final = 0x1000_0000
CLONE_NEWPID: Final = 0x2000_0000
CLONE_NEWNET: Final = 0x4000_0000
_CLONE_INTO_CGROUP: Final = 0x2_0000_0000
_CLONE_CHILD_CLEARTID: Final = 0x0020_0000
_CLONE_CHILD_SETTID: Final = 0x0100_0000

# mount(2)
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
_MNT_DETACH: Final = 2

# prctl(2)
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_DROP: Final = 24
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_GET_TID_ADDRESS: Final = 40
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
LAST_CAPABILITY: Final = 63
"""One more than any kernel has; dropping ends at the first that it does not know."""

_SYS_CLONE3: Final = 435
_SYS_CLOSE_RANGE: Final = 436
_SYS_MOUNT_SETATTR: Final = 442
_SYS_PIVOT_ROOT: Final = 41 if MACHINE == "aarch64" else 155
_SYS_CAPSET: Final = 91 if MACHINE == "aarch64" else 126
_AT_EMPTY_PATH: Final = 0x1000
_AT_RECURSIVE: Final = 0x8000
_MOUNT_ATTR_RDONLY: Final = 1
_MOUNT_ATTR_NOSUID: Final = 2
_MOUNT_ATTR_NODEV: Final = 4
_CAPABILITY_VERSION_3: Final = 0x2008_0522

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_held: Final = ctypes.PyDLL(None, use_errno=True)
"""The same library without letting go of the interpreter's lock: a clone must not happen outside it."""
_held.syscall.restype = ctypes.c_long
_python: Final = ctypes.pythonapi
for _hook in (_python.PyOS_BeforeFork, _python.PyOS_AfterFork_Child, _python.PyOS_AfterFork_Parent):
    _hook.restype = None


class _CloneArguments(ctypes.Structure):
    """struct clone_args of clone3(2)."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            *("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls"),
            *("set_tid", "set_tid_size", "cgroup"),
        )
    ]


class _MountAttributes(ctypes.Structure):
    """struct mount_attr of mount_setattr(2)."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns_fd")]


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


_THIS_PROCESS: Final = ctypes.byref(_CapabilityHeader(_CAPABILITY_VERSION_3, 0))
_NO_CAPABILITIES: Final = ctypes.byref((ctypes.c_uint32 * 6)())
"""Made here, not in a child: a new type of ctypes costs it 100 KiB of copied pages."""

_tid_address = ctypes.c_void_p()


def touch() -> None:
    """Makes the first calls in this process, so that a child's are not the first."""
    _libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(_tid_address), 0, 0, 0)
    _held.syscall(ctypes.c_long(-1))


def call(number: int, *arguments: object, what: str) -> int:
    """A system call by number. Raises OSError."""
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments), what)


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
    return int(result)


def clone(flags: int, *, cgroup_fd: int = -1, exit_signal: int = 17) -> int:
    """fork(2) into new namespaces and a version 2 control group, in one step: the child is the namespace's
    pid 1 and still the caller's child.

    clone3(2), with Python's documented hooks round it as `os.fork` has them, and with the C library's note of
    its own thread id kept right (what its fork does). Only for a process of one thread.
    """
    if not flags and cgroup_fd < 0:
        return os.fork()
    arguments = _CloneArguments(flags=flags, exit_signal=exit_signal)
    if cgroup_fd >= 0:
        arguments.flags |= _CLONE_INTO_CGROUP
        arguments.cgroup = cgroup_fd
    if _tid_address.value:
        arguments.flags |= _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID
        arguments.child_tid = _tid_address.value
    size = ctypes.c_size_t(ctypes.sizeof(arguments))
    pointer = ctypes.byref(arguments)
    _python.PyOS_BeforeFork()
    pid = _held.syscall(_SYS_CLONE3, pointer, size)
    if pid == 0:
        _python.PyOS_AfterFork_Child()
        return 0
    _python.PyOS_AfterFork_Parent()
    return _checked(pid, "clone3")


def unshare(flags: int) -> None:
    """unshare(2)."""
    _checked(_libc.unshare(flags), "unshare")


def enter_namespace(descriptor: int) -> None:
    """setns(2), into the namespace that a descriptor stands for."""
    _checked(_libc.setns(descriptor, 0), "setns")


def close_from(first: int) -> None:
    """Closes every descriptor from this one on: close_range(2), Linux 5.9."""
    if _libc.syscall(_SYS_CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(0xFFFF_FFFF), 0) < 0:
        os.closerange(first, 65_536)


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """mount(2)."""
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _checked(result, f"mount {target}")


def protect(path: str, *, writable: bool = False, recursive: bool = False) -> None:
    """Makes a mount read-only, or one that was made so writable again; either way without set-user-id
    programs.
    """
    if writable:
        _set_attributes(path, set_bits=_MOUNT_ATTR_NOSUID, clear_bits=_MOUNT_ATTR_RDONLY)
    else:
        _set_attributes(path, set_bits=_MOUNT_ATTR_NOSUID | _MOUNT_ATTR_RDONLY, recursive=recursive)


def seal(path: str) -> None:
    """No set-user-id programs and no devices on a mount."""
    _set_attributes(path, set_bits=_MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV)


def _set_attributes(path: str, *, set_bits: int, clear_bits: int = 0, recursive: bool = False) -> None:
    """mount_setattr(2), Linux 5.12: a whole tree in one call."""
    attributes = _MountAttributes(set=set_bits, clear=clear_bits)
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    try:
        call(_SYS_MOUNT_SETATTR, fd, b"", flags, ctypes.byref(attributes), size, what=f"mount_setattr {path}")
    finally:
        os.close(fd)


def enter_root(path: str) -> None:
    """Makes `path` the root and lets go of the old one: pivot_root(2), `pivot_root(".", ".")`."""
    os.chdir(path)
    call(_SYS_PIVOT_ROOT, b".", b".", what="pivot_root")
    _checked(_libc.umount2(b".", _MNT_DETACH), "umount2")
    os.chdir("/")


def set_hostname(name: str) -> None:
    """sethostname(2)."""
    _checked(_libc.sethostname(name.encode(), ctypes.c_size_t(len(name))), "sethostname")


def set_parent_death_signal(number: int) -> None:
    """Cleared by a change of user, so it comes after: PR_SET_PDEATHSIG(2const)."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0), "PR_SET_PDEATHSIG")


def set_dumpable(is_dumpable: bool) -> None:
    """Whether others of the same user may look into this process: PR_SET_DUMPABLE(2const)."""
    _checked(_libc.prctl(_PR_SET_DUMPABLE, int(is_dumpable), 0, 0, 0), "PR_SET_DUMPABLE")


def become_subreaper() -> None:
    """Orphaned descendants become this process's children: PR_SET_CHILD_SUBREAPER(2const)."""
    _checked(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "PR_SET_CHILD_SUBREAPER")


def renounce_new_privileges() -> None:
    """No program that is executed from here on gains anything by its set-user-id bit:
    PR_SET_NO_NEW_PRIVS(2const).
    """
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")


def drop_bounding_set() -> None:
    """Drops what a program could gain by being executed; needs CAP_SETPCAP, and does nothing without."""
    for number in range(LAST_CAPABILITY + 1):
        if _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) < 0:
            break


def drop_capabilities() -> None:
    """Drops every capability from every set, for good: capabilities(7)."""
    drop_bounding_set()
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    call(_SYS_CAPSET, _THIS_PROCESS, _NO_CAPABILITIES, what="capset")


def prctl(option: int, *arguments: object, what: str) -> int:
    """prctl(2), for what has no name here."""
    padded = [*arguments, 0, 0, 0, 0][:4]
    return _checked(_libc.prctl(option, *padded), what)
