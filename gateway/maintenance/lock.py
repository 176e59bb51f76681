"""One gateway to a data directory: a lock that the kernel holds for this process's life.

The file's text only informs (who, where): pids lie across containers that share a volume; the lock does not.
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import secrets
import socket
from typing import Final

import msgspec
from msgspec import Struct

from gateway.errors import StoreFailed

LOCK_NAME: Final = "gateway.lock"
UNFINISHED_NAME: Final = "restore.unfinished"
"""In the data directory while a restore moves things; no gateway starts beside it."""


_MARK_NAME: Final = "node.mark"


def mark_of(data_path: pathlib.Path) -> str:
    """What no other data directory has, nor a copy of this one; made at its first use. Raises StoreFailed."""
    path = data_path / _MARK_NAME
    try:
        if not path.exists():
            path.write_text(secrets.token_hex(16))
        return f"{path.read_text()} {path.stat().st_ino} {socket.gethostname()}"
    except OSError as error:
        raise StoreFailed(f"{path} cannot be used: {error.strerror}.") from error


class LockHolder(Struct, frozen=True):
    """Who holds a data directory."""

    pid: int
    url: str


class DataLock:
    """`take` it before anything in the directory is touched; `release` it last."""

    def __init__(self, data_path: pathlib.Path) -> None:
        self._path = data_path / LOCK_NAME
        self._fd = -1

    @property
    def fd(self) -> int:
        """Its descriptor; whoever has a copy of it holds the lock, too. -1: it was not taken."""
        return self._fd

    def share(self, fd: int) -> None:
        """Holds the lock together with the gateway that passed this descriptor of it."""
        self._fd = fd

    def take(self) -> None:
        """Raises StoreFailed, naming the holder, if another gateway has the directory, or if it
        cannot be used. Nothing to do if it is shared.
        """
        if self._fd >= 0:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreFailed(
                f"The data directory {self._path.parent} cannot be used: {error.strerror}. "
                "Choose another with --data-dir."
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            known = holder(self._path.parent)
            os.close(self._fd)
            self._fd = -1
            who = f"process {known.pid} at {known.url}" if known else "another process"
            raise StoreFailed(
                f"The data directory {self._path.parent} is in use by {who}. Stop that gateway, or choose "
                "another directory with --data-dir."
            ) from None

    def inform(self, url: str) -> None:
        """Writes who holds it, for those who find it taken."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, msgspec.json.encode(LockHolder(os.getpid(), url)), 0)

    def release(self) -> None:
        """Lets others have it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def holder(data_path: pathlib.Path) -> LockHolder | None:
    """Who says that they hold a directory; None if no process does, or if the file is empty."""
    try:
        return msgspec.json.decode((data_path / LOCK_NAME).read_bytes(), type=LockHolder)
    except (OSError, msgspec.DecodeError):
        return None


def is_held(data_path: pathlib.Path) -> bool:
    """Whether a gateway holds the directory at this moment."""
    lock = DataLock(data_path)
    if not (data_path / LOCK_NAME).exists():
        return False
    try:
        lock.take()
    except StoreFailed:
        return True
    lock.release()
    return False


def refuse_half_restored(data_path: pathlib.Path) -> None:
    """Raises StoreFailed if a restore was cut in the middle."""
    if (data_path / UNFINISHED_NAME).exists():
        raise StoreFailed(f"A restore into {data_path} was cut short: run agent-gateway restore again.")
