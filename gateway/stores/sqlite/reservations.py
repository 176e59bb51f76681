"""Reservations of model calls on their way into the database, in a small file beside it.

A call waits for its reservation, and a commit takes longer than all else before a call. What is written to a
file is the kernel's at once: it is there when this process is killed, and after an orderly end of the
machine. A machine that loses its power may lose what was written in the last moments, as long as a commit
takes.

Guarantees: what was noted is what the next one reads that opens the file, unless it was dropped before; of a
record that is not whole nothing is read; the room is taken when the file is opened, so that a full disk is
met then; only one process writes to it. Where any of this cannot be had, nothing is noted.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import pathlib
import struct
import zlib
from typing import Final

log = logging.getLogger(__name__)

CALLS_SUFFIX: Final = "-calls"
"""Behind the name of the database."""
FILE_BYTES: Final = 256 * 1024
"""Some hundreds of reservations, each of which stays for as long as a commit takes."""
_HEAD: Final = struct.Struct("<II")
"""Length and checksum of a record; a length of 0 ends the file."""
_END: Final = bytes(_HEAD.size)


class ReservationFile:
    """See the module. `open`, then `note` and `drop`; `close` it."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._fd = -1
        self._used = 0

    def open(self) -> list[bytes]:
        """Begins to write, if nobody else does; what the one before noted and did not drop."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            log.info("reservations wait for their commits: %s", error)
            return []
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = records(os.pread(fd, FILE_BYTES, 0))
            os.posix_fallocate(fd, 0, FILE_BYTES)
        except OSError as error:
            os.close(fd)
            log.info("reservations wait for their commits: %s", error)
            return []
        self._fd = fd
        self._used = sum(_HEAD.size + len(record) for record in found)
        return found

    def note(self, record: bytes) -> bool:
        """Keeps a record; False if it cannot."""
        size = _HEAD.size + len(record)
        if self._fd < 0 or self._used + size + len(_END) > FILE_BYTES:
            return False
        data = _HEAD.pack(len(record), zlib.crc32(record)) + record + _END
        if not self._write(data, self._used):
            return False
        self._used += size
        return True

    def drop(self) -> None:
        """Keeps none of them any more, nor a byte of them: they name people."""
        if self._used and self._write(bytes(self._used), 0):
            self._used = 0

    def close(self) -> None:
        """What is noted stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, data: bytes, at: int) -> bool:
        with contextlib.suppress(OSError):
            return os.pwrite(self._fd, data, at) == len(data)
        return False


def records(data: bytes) -> list[bytes]:
    """Those that are whole, up to the first one that is not."""
    found: list[bytes] = []
    at = 0
    while at + _HEAD.size <= len(data):
        size, checksum = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        record = data[at : at + size]
        if not size or len(record) < size or zlib.crc32(record) != checksum:
            break
        found.append(record)
        at += size
    return found
