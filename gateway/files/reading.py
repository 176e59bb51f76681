"""A file of a session that is being read: opened once, then taken a piece at a time.

Guarantees: what was opened is a regular file beneath the working directory that the session's uid may read;
its size and its tag are those of the moment when it was opened; `read` answers nothing once the session is
erased.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from gateway.files.beneath import Folder, Unsafe
from gateway.files.places import WorkFolder

PIECE_BYTES: Final = 256 * 1024
"""Read and sent at once: large enough for the disk, small enough to share threads and memory."""


def etag_of(found: os.stat_result) -> str:
    """What changes whenever a file does; what downloads answer and uploads compare."""
    return f'"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"'


class OpenFile:
    """See the module. Close it; if its request was given up meanwhile, it is closed when it is forgotten."""

    def __init__(self, folder: Folder, name: str) -> None:
        """Raises Unsafe for what is no regular file, and OSError."""
        self._descriptor = self._root = -1
        if not stat.S_ISREG(folder.look(name).st_mode):
            raise Unsafe(errno.EINVAL, "not a file", name)
        self._descriptor = folder.open(name)
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise Unsafe(errno.EINVAL, "not a file", name)
        self._root = os.dup(folder.descriptor)
        self.size = status.st_size
        self.modified_ns = status.st_mtime_ns
        self.mode = status.st_mode
        self.etag = etag_of(status)

    def read(self, start: int, length: int) -> bytes:
        """Bytes from a place, fewer at the end of the file; none if the session is erased. Raises OSError."""
        if os.fstat(self._root).st_nlink == 0:
            return b""
        return os.pread(self._descriptor, min(length, PIECE_BYTES), start)

    def close(self) -> None:
        """Lets go of it; a second time does nothing. A read in another thread that was given up may be late:
        what it finds is dropped.
        """
        for descriptor in (self._descriptor, self._root):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._root = -1

    def __del__(self) -> None:
        self.close()


def opened(work: WorkFolder, name: str) -> OpenFile:
    """Opens a file of a session. Raises FileNotFoundError, Unsafe, OSError."""
    with work.opened() as folder:
        if folder is None:
            raise FileNotFoundError(errno.ENOENT, "there are no files yet", name)
        return OpenFile(folder, name)
