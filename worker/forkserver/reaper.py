"""The init above an agent as a program of 256 bytes, in place of an interpreter that only waits: two
megabytes of every session whose agent is a command.

It does what `init.run` does from there on, as pid 1 of a pid namespace: reaps, sends signals on to the
agent's process group, and writes the agent's wait status to the report pipe as its last word. It is run from
memory (memfd_create(2)), holds nothing but that pipe, and asks the kernel for nothing but rt_sigtimedwait,
wait4, kill, write and exit_group. It has no capability, and the agent, which has the same user, cannot look
into it. Where it cannot be run (another processor than x86-64, a kernel that runs nothing from memory) the
interpreter stays.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
from collections.abc import Iterable
from typing import Final

from worker.sandbox import kernel

_CODE: Final = bytes.fromhex(
    # reap: wait4(-1, rsp - 16, WNOHANG, 0)
    "b83d000000"  # mov eax, 61
    "4883cfff"  # or rdi, -1
    "488d7424f0"  # lea rsi, [rsp - 16]
    "ba01000000"  # mov edx, 1
    "4531d2"  # xor r10d, r10d
    "0f05"  # syscall
    "3b0562000000"  # cmp eax, [agent]
    "7438"  # je over
    "85c0"  # test eax, eax
    "7fdc"  # jg reap: there may be more
    # wait: rt_sigtimedwait(signals, 0, 0, 8)
    "b880000000"  # mov eax, 128
    "488d3d48000000"  # lea rdi, [signals]
    "31f6"  # xor esi, esi
    "31d2"  # xor edx, edx
    "41ba08000000"  # mov r10d, 8
    "0f05"  # syscall
    "83f811"  # cmp eax, SIGCHLD
    "74bf"  # je reap
    "85c0"  # test eax, eax
    "78df"  # js wait: it was interrupted
    # kill(-agent, signal)
    "89c6"  # mov esi, eax
    "8b3d33000000"  # mov edi, [agent]
    "f7df"  # neg edi
    "b83e000000"  # mov eax, 62
    "0f05"  # syscall
    "ebcc"  # jmp wait
    # over: write(report, rsp - 16, 4)
    "8b3d26000000"  # mov edi, [report]
    "488d7424f0"  # lea rsi, [rsp - 16]
    "ba04000000"  # mov edx, 4
    "b801000000"  # mov eax, 1
    "0f05"  # syscall
    # exit_group(0)
    "31ff"  # xor edi, edi
    "b8e7000000"  # mov eax, 231
    "0f05"  # syscall
)
_NUMBERS: Final = struct.Struct("<Qii")
"""What follows the code: the set of signals, the agent's pid, the report pipe."""
_FILE_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_HEADERS_BYTES: Final = _FILE_HEADER.size + _SEGMENT.size
_ADDRESS: Final = 0x400000
_PAGE_BYTES: Final = 4096
_X86_64: Final = 62
_RUN_ONLY: Final = 0o111
"""Who runs what they cannot read can be looked into by nobody of the same user (PR_SET_DUMPABLE(2const))."""
_MFD_EXEC: Final = 0x10
"""Since Linux 6.3: not for data alone (vm.memfd_noexec)."""


def become(agent: int, report: int, forwarded: Iterable[signal.Signals]) -> None:
    """Called by pid 1 when its agent runs. It returns only if the program cannot be run here."""
    if os.uname().machine != "x86_64":
        return
    signals = {signal.SIGCHLD, *forwarded}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # kept by the program, which waits for them
    with contextlib.suppress(OSError):
        memory = _in_memory(program(signals, agent, report))
        os.set_inheritable(report, True)
        kernel.set_dumpable(False)
        kernel.drop_capabilities()  # with them it could read the file: what it runs could be looked into
        os.execve(memory, ["init"], {})  # noqa: S606
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def program(signals: Iterable[signal.Signals], agent: int, report: int) -> bytes:
    """The executable file (elf(5)): one segment that is read and run."""
    awaited = sum(1 << (number - 1) for number in signals)
    size = _HEADERS_BYTES + len(_CODE) + _NUMBERS.size
    ident = b"\x7fELF" + bytes((2, 1, 1))  # 64 bits, little end first, version 1
    header = _FILE_HEADER.pack(
        ident, 2, _X86_64, 1, _ADDRESS + _HEADERS_BYTES, _FILE_HEADER.size, 0, 0,
        _FILE_HEADER.size, _SEGMENT.size, 1, 0, 0, 0,
    )  # fmt: skip
    segment = _SEGMENT.pack(1, 5, 0, _ADDRESS, _ADDRESS, size, size, _PAGE_BYTES)
    return header + segment + _CODE + _NUMBERS.pack(awaited, agent, report)


def _in_memory(content: bytes) -> int:
    """A file that no path leads to. Raises OSError."""
    try:
        memory = os.memfd_create("init", os.MFD_CLOEXEC | _MFD_EXEC)
    except OSError:
        memory = os.memfd_create("init", os.MFD_CLOEXEC)
    os.write(memory, content)
    os.fchmod(memory, _RUN_ONLY)
    return memory
