"""The system calls a worker cannot make: a seccomp filter (seccomp(2), BPF), built once, installed in the
child.

A list of what is refused, not of what is allowed: agents are any program. Refused are the ways out
(namespaces, mounts, tracing, other processes' memory), the ways into the kernel that no agent needs (BPF,
io_uring, userfaultfd, modules, keys), and memory that no limit of a process counts (memfd, System V segments
and queues).

If a worker sees other workers' processes (`basic`), it has no `pidfd_open` either, because a filter cannot
tell whose process a pid names. Runtimes that use the call for their children fall back, as on kernels before
5.3.

Guarantees: a call of another architecture's table ends the process; a refused call answers EPERM, or ENOSYS
if the C library and runtimes have a fallback; a filter is never built in a child.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Final

from worker.sandbox import kernel
from worker.spec import Network

_IS_ARM: Final = kernel.MACHINE == "aarch64"
_ARCHITECTURE: Final = 0xC000_00B7 if _IS_ARM else 0xC000_003E
"""AUDIT_ARCH_AARCH64, AUDIT_ARCH_X86_64 of linux/audit.h."""
_X32_BIT: Final = 0x4000_0000
"""x86-64's second table of system calls, which is not in use."""

_EPERM: Final = 1
_ENOSYS: Final = 38
_EAFNOSUPPORT: Final = 97

# name: (x86-64, aarch64); None: this machine has no such call.
_REFUSED: Final[dict[str, tuple[int | None, int | None]]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "lookup_dcookie": (212, 18),
    "vhangup": (153, 58),
    "syslog": (103, 116),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "fanotify_init": (300, 262),
}
_UNKNOWN: Final[dict[str, tuple[int | None, int | None]]] = {
    "clone3": (
        435,
        435,
    ),  # its flags lie in memory that a filter cannot read; the C library falls back to clone
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
}
_OF_OTHERS: Final[dict[str, tuple[int | None, int | None]]] = {"pidfd_open": (434, 434)}
_CLONE: Final = (56, 220)
_IOCTL: Final = (16, 29)
_SOCKET: Final = (41, 198)
_NAMESPACE_FLAGS: Final = 0x7E02_0000
"""CLONE_NEWNS NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET."""
_TERMINAL_TRICKS: Final = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX: typing into somebody else's terminal."""
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
"""What programs use; netlink is how the C library lists addresses before it resolves a name."""

# linux/bpf_common.h, linux/filter.h
_LOAD: Final = 0x20
_JUMP_EQUAL: Final = 0x15
_JUMP_GREATER_OR_EQUAL: Final = 0x35
_JUMP_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_ALLOW: Final = 0x7FFF_0000
_KILL: Final = 0x8000_0000
_ERRNO: Final = 0x0005_0000
_AT_NUMBER, _AT_ARCHITECTURE, _AT_FIRST_ARGUMENT = 0, 4, 16

_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _answer(errno: int) -> bytes:
    return _instruction(_RETURN, _ERRNO | errno)


def _number(numbers: tuple[int | None, int | None]) -> int | None:
    return numbers[1] if _IS_ARM else numbers[0]


def _refuse(table: dict[str, tuple[int | None, int | None]], errno: int) -> bytes:
    """One comparison and one answer for each call."""
    known = [number for number in map(_number, table.values()) if number is not None]
    return b"".join(_instruction(_JUMP_EQUAL, n, 0, 1) + _answer(errno) for n in known)


def _by_argument(numbers: tuple[int, int], argument: int, *checks: bytes) -> bytes:
    """`checks` run on the low word of one argument of one call; each may answer, else the call is allowed."""
    body = _instruction(_LOAD, _AT_FIRST_ARGUMENT + 8 * argument) + b"".join(checks)
    body += _instruction(_RETURN, _ALLOW)
    return _instruction(_JUMP_EQUAL, numbers[_IS_ARM], 0, len(body) // 8) + body


def _families(network: Network) -> bytes:
    """Refuses every family of sockets but the usual ones; without network, all but local ones."""
    allowed = (_AF_UNIX,) if network == "none" else (_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK)
    checks = [_instruction(_JUMP_EQUAL, f, len(allowed) - i, 0) for i, f in enumerate(allowed)]
    return b"".join(checks) + _answer(_EAFNOSUPPORT)


def program(network: Network, *, sees_others: bool = False) -> bytes:
    """The filter as the kernel takes it: struct sock_filter, one after another. `sees_others`: processes of
    others have a number where it holds.
    """
    parts = [
        _instruction(_LOAD, _AT_ARCHITECTURE),
        _instruction(_JUMP_EQUAL, _ARCHITECTURE, 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _AT_NUMBER),
    ]
    if not _IS_ARM:
        parts += [_instruction(_JUMP_GREATER_OR_EQUAL, _X32_BIT, 0, 1), _answer(_ENOSYS)]
    parts += [
        _refuse(_REFUSED, _EPERM),
        _refuse(_UNKNOWN, _ENOSYS),
        _refuse(_OF_OTHERS, _ENOSYS) if sees_others else b"",
        _by_argument(_CLONE, 0, _instruction(_JUMP_ANY_BIT, _NAMESPACE_FLAGS, 0, 1), _answer(_EPERM)),
        _by_argument(
            _IOCTL,
            1,
            *(_instruction(_JUMP_EQUAL, trick, 0, 1) + _answer(_EPERM) for trick in _TERMINAL_TRICKS),
        ),
        _by_argument(_SOCKET, 0, _families(network)),
        _instruction(_RETURN, _ALLOW),
    ]
    return b"".join(parts)


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


class Filter:
    """A filter ready to be installed."""

    def __init__(self, network: Network, *, sees_others: bool = False) -> None:
        code = program(network, sees_others=sees_others)
        self._buffer = ctypes.create_string_buffer(code, len(code))
        self._program = _Program(len(code) // 8, ctypes.cast(self._buffer, ctypes.c_void_p))

    def install(self) -> None:
        """For this process and all that it starts, for good. Needs no_new_privs. Raises OSError."""
        kernel.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(self._program), what="seccomp")
