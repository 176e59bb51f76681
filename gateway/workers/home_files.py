"""Files that the gateway writes into a session's HOME before its agent starts.

Guarantees: HOME is the agent's to write, so no link in it is followed, neither by a directory on the way nor
by the file itself; a file is replaced as a whole; it belongs to the session's uid and only that may read it.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_files(home: str, files: Mapping[str, str], *, uid: int | None) -> None:
    """Writes files, by their paths inside HOME. What is in the way of a directory and is none is removed.

    Raises OSError: a full disk, or a directory where a file is to be.
    """
    for path, text in files.items():
        with ExitStack() as stack:
            at = _opened(home, _DIRECTORY, stack=stack)
            *directories, name = path.split("/")
            for directory in directories:
                at = _directory(directory, at, uid, stack)
            _replace(name, text.encode("utf-8", "surrogateescape"), at, uid)


def _opened(path: str, flags: int, *, stack: ExitStack, at: int | None = None) -> int:
    fd = os.open(path, flags, dir_fd=at)
    stack.callback(os.close, fd)
    return fd


def _directory(name: str, at: int, uid: int | None, stack: ExitStack) -> int:
    """Opens a directory, after making it if it is not there."""
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=at)
            raise FileNotFoundError
    except FileNotFoundError:
        os.mkdir(name, 0o700, dir_fd=at)
        if uid is not None:
            os.chown(name, uid, uid, dir_fd=at, follow_symlinks=False)
    return _opened(name, _DIRECTORY, stack=stack, at=at)


def _replace(name: str, data: bytes, at: int, uid: int | None) -> None:
    """Writes beside the file and then takes its place, so that no other name of it is written to."""
    draft = f".{secrets.token_hex(8)}"
    fd = os.open(draft, _NEW_FILE, 0o600, dir_fd=at)
    try:
        with os.fdopen(fd, "wb") as file:
            if uid is not None:
                os.fchown(file.fileno(), uid, uid)
            file.write(data)
        os.rename(draft, name, src_dir_fd=at, dst_dir_fd=at)
    except BaseException:
        os.unlink(draft, dir_fd=at)
        raise
