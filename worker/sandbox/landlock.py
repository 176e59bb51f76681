"""What of the file system a worker reaches, held by Landlock (landlock(7)): no privilege needed, Linux 5.13
or later.

Guarantees: what is not named is neither read, written, listed nor executed; if the kernel supports it (Linux
6.12), no signal and no abstract socket leaves the domain; processes outside cannot be traced, nor their
memory, environment and descriptors read through /proc.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from typing import Final

from worker.sandbox import kernel
from worker.spec import Network

_CREATE: Final = 444
_ADD_RULE: Final = 445
_RESTRICT: Final = 446
_GET_VERSION: Final = 1
_RULE_PATH: Final = 1

EXECUTE: Final = 1 << 0
WRITE_FILE: Final = 1 << 1
READ_FILE: Final = 1 << 2
READ_DIRECTORY: Final = 1 << 3
TRUNCATE: Final = 1 << 14
IOCTL_DEVICE: Final = 1 << 15
_ALL_OF_VERSION_1: Final = (1 << 13) - 1
_REFER: Final = 1 << 13
_CONNECT_AND_BIND_TCP: Final = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS: Final = 0b11

READ: Final = EXECUTE | READ_FILE | READ_DIRECTORY
_OF_FILES: Final = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEVICE


class _Ruleset(ctypes.Structure):
    """struct landlock_ruleset_attr."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("fs", "net", "scoped")]


class _Below(ctypes.Structure):
    """struct landlock_path_beneath_attr."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("access", ctypes.c_uint64), ("fd", ctypes.c_int32)]


def version() -> int:
    """The kernel's Landlock ABI; 0 if there is none."""
    try:
        return kernel.call(_CREATE, None, ctypes.c_size_t(0), _GET_VERSION, what="landlock")
    except OSError:
        return 0


VERSION: Final = version()
_HANDLED: Final = (
    _ALL_OF_VERSION_1
    | (_REFER if VERSION >= 2 else 0)
    | (TRUNCATE if VERSION >= 3 else 0)
    | (IOCTL_DEVICE if VERSION >= 5 else 0)
)
WRITE: Final = _HANDLED
"""Everything below a path, which is the worker's own."""


def restrict(*, readable: Iterable[str], writable: Iterable[str], network: Network) -> None:
    """Restricts this process and all that it starts, for good. Paths that are not there are left out.

    Needs no_new_privs. Raises OSError.
    """
    rules = _Ruleset(fs=_HANDLED)
    if network == "none" and VERSION >= 4:
        rules.net = _CONNECT_AND_BIND_TCP
    if VERSION >= 6:
        rules.scoped = _ABSTRACT_SOCKETS_AND_SIGNALS
    size = ctypes.c_size_t(24 if VERSION >= 6 else 16 if VERSION >= 4 else 8)
    ruleset = kernel.call(_CREATE, ctypes.byref(rules), size, 0, what="landlock_create_ruleset")
    try:
        for path in readable:
            _allow(ruleset, path, READ)
        for path in writable:
            _allow(ruleset, path, WRITE)
        kernel.call(_RESTRICT, ruleset, 0, what="landlock_restrict_self")
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            access &= _OF_FILES
        below = _Below(access & _HANDLED, fd)
        kernel.call(_ADD_RULE, ruleset, _RULE_PATH, ctypes.byref(below), 0, what=f"landlock_add_rule {path}")
    finally:
        os.close(fd)
