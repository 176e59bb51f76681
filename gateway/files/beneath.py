"""Opens files beneath one folder and nowhere else, with the rights of the user who owns them.

An agent writes what it likes into its folders: links that lead out of them, links that change while we look,
FIFOs that never answer. `openat2(2)` resolves a whole name inside the kernel, beneath the folder and through
no link (`RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS`, `RESOLVE_NO_MAGICLINKS`; Linux 5.6). Without it (an
older kernel, a filter that refuses it) each part of the name is opened by itself with `O_NOFOLLOW`.

All functions here wait for the disk: they run in a thread, never on the loop.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

OPENAT2: Final = 437
"""The number of the system call: the same on every architecture of Linux."""
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RETRIES: Final = 20
"""`RESOLVE_BENEATH` says EAGAIN if something was renamed meanwhile; an agent may rename without end."""

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


class Unsafe(OSError):
    """A name that leads out of the folder, or something there that is neither a file nor a folder."""


@contextmanager
def as_user(uid: int | None) -> Iterator[None]:
    """Has this thread's file accesses made with the rights of a user, until the end of the block.

    `setfsuid(2)` belongs to one thread, takes root's rights over files away and changes nothing else. For
    None, and if the gateway is not root, nothing changes. Not for use on the loop's thread, and not across
    an `await`.
    """
    if uid is None or os.geteuid() != 0:
        yield
        return
    _libc.setfsgid(uid)
    _libc.setfsuid(uid)
    try:
        yield
    finally:
        _libc.setfsuid(0)
        _libc.setfsgid(0)


def parts_of(name: str) -> list[str]:
    """The parts of a name relative to a folder; none for the folder itself.

    Raises Unsafe for an absolute name, `..`, or a NUL character. Names are not changed otherwise: whatever an
    agent could create can be named (bytes that are not UTF-8 as surrogates, `os.fsdecode`).
    """
    if name.startswith("/") or "\0" in name:
        raise Unsafe(errno.EINVAL, "the name leads out of the folder", name)
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Unsafe(errno.EINVAL, "the name leads out of the folder", name)
    return parts


class Folder:
    """A folder that is kept open; names are relative to it. Closed by `close` or at the end of a `with`."""

    def __init__(self, path: Path | str) -> None:
        """Opens the folder itself, which must not be a link. Raises OSError."""
        self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def __enter__(self) -> Folder:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()

    def close(self) -> None:
        """Closes it; a second time does nothing."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def open(self, name: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
        """Opens something beneath the folder, and answers its descriptor. Never waits for a FIFO's writer.

        Raises Unsafe for a name that leads out, a link on the way or at the end, and anything that is neither
        a file nor a folder; OSError otherwise (`FileNotFoundError` and so on).
        """
        parts = parts_of(name)
        path = "/".join(parts) or "."
        flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        try:
            descriptor = self._resolved(path, flags, mode)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EXDEV, errno.ENXIO):
                raise Unsafe(error.errno, "a link, or nothing that can be read", name) from None
            raise
        kind = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            os.close(descriptor)
            raise Unsafe(errno.EINVAL, "neither a file nor a folder", name)
        return descriptor

    def look(self, name: str) -> os.stat_result:
        """What is there, without opening it and through no link: of a link it answers the link itself.

        Raises Unsafe for a name that leads out and for a link on the way; OSError otherwise.
        """
        path = "/".join(parts_of(name)) or "."
        try:
            descriptor = self._resolved(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, 0)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EXDEV):
                raise Unsafe(error.errno, "a link leads there", name) from None
            raise
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def _resolved(self, path: str, flags: int, mode: int) -> int:
        how = _OpenHow(
            flags,
            mode if flags & os.O_CREAT else 0,
            RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
        )
        for _ in range(RETRIES):
            descriptor = _libc.syscall(
                ctypes.c_long(OPENAT2),
                ctypes.c_int(self.descriptor),
                ctypes.c_char_p(os.fsencode(path)),
                ctypes.byref(how),
                ctypes.c_size_t(ctypes.sizeof(how)),
            )
            if descriptor >= 0:
                return int(descriptor)
            code = ctypes.get_errno()
            if code in (errno.ENOSYS, errno.EPERM):
                return self.part_by_part(path, flags, mode)
            if code != errno.EAGAIN:
                raise OSError(code, os.strerror(code), path)
        raise OSError(errno.EAGAIN, "something is renamed again and again", path)

    def part_by_part(self, path: str, flags: int, mode: int) -> int:
        """The same for kernels without `openat2`: each part is opened by itself, through no link."""
        *folders, last = path.split("/")
        at = os.dup(self.descriptor)
        try:
            for folder in folders:
                inner = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
                os.close(at)
                at = inner
            return os.open(last, flags | os.O_NOFOLLOW, mode, dir_fd=at)
        finally:
            os.close(at)

    def make_folders(self, name: str, mode: int = 0o700) -> None:
        """Makes a folder and those above it where they are missing. Raises Unsafe and OSError."""
        done: list[str] = []
        for part in parts_of(name):
            parent = self.open("/".join(done) or ".", os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.mkdir(part, mode, dir_fd=parent)
            except FileExistsError:
                pass  # opened next, through no link
            finally:
                os.close(parent)
            done.append(part)
        os.close(self.open(name, os.O_RDONLY | os.O_DIRECTORY))
