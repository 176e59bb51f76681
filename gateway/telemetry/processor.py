"""Who goes first where processors are short: the loop, then the gateway's other threads, then workers.

Beside agents that compute, a loop that wakes has to wait for the end of the slice of whoever runs: up to some
milliseconds, at each step of a request. With a short slice of its own it runs at once, as long as it takes
less than its share (Linux 6.12, sched_setattr(2)). It takes no more time than without.

Guarantees: what a thread asks for here, no process that it starts and no other thread has; a kernel that
knows nothing of it, and a policy that somebody chose, stay as they are.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import threading
from typing import Final

SLICE_NANOSECONDS: Final = 100_000
"""The shortest that Linux gives. Between two waits the loop seldom takes longer; and if it does, it goes on
unless somebody else's time is due.
"""
_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
_RESET_ON_FORK: Final = 1


class _Attributes(ctypes.Structure):
    """`struct sched_attr` (sched_setattr(2)); for ordinary threads `runtime` is the length of a slice."""

    _fields_ = [
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    ]


def go_first() -> bool:
    """This thread, once it wakes, waits for nobody's slice; False if that could not be asked for."""
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    wanted = _Attributes(
        size=ctypes.sizeof(_Attributes),
        policy=os.SCHED_OTHER,
        flags=_RESET_ON_FORK,
        nice=os.getpriority(os.PRIO_PROCESS, threading.get_native_id()),
        runtime=SLICE_NANOSECONDS,
    )
    code = ctypes.CDLL(None).syscall(
        ctypes.c_long(number), ctypes.c_int(0), ctypes.byref(wanted), ctypes.c_uint(0)
    )
    return bool(code == 0)


def give_way(nice: int) -> None:
    """This thread goes after the loop if they share a core (nice(2)); on Linux each thread has its own."""
    thread = threading.get_native_id()
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + nice)
