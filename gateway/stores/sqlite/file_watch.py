"""Whether the database's file is still the one that was opened, and whether the directory once had one.

A process that has a file open writes into it although somebody has removed or replaced it: everything is
acknowledged, and nothing of it is found after a restart. So the file is looked at around every commit and
every second between them: by name (is it there, is it the same inode), by size (a database only grows, unless
SQLite itself made it smaller), and by its mark, a number in its header that was drawn when it was made.

The mark is written beside the database too (`gateway.db.id`). A directory that remembers a database which is
not there is not given an empty one: people would take it for their own, and write into it.

Guarantees: nothing here is raised but StoreFailed; nothing is written to a file that is not the one that was
opened; an open descriptor is kept, so that a file which was removed can still be copied out of
/proc/PID/fd while this process lives.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import random
import sqlite3
import struct
import time
from collections.abc import Callable
from typing import Final

from gateway.errors import StoreFailed

log = logging.getLogger(__name__)

ID_SUFFIX: Final = ".id"
MAGIC: Final = b"SQLite format 3\x00"
FIRST_MARKED_SCHEMA: Final = 6
"""Every version that brings a database to this schema gives it a mark, too."""
BUSY_SECONDS: Final = 0.02
BUSY_TRIES: Final = 50
_HEADER_BYTES: Final = 100
_MARK_AT: Final = 68
"""Where SQLite's header has `application_id`, four bytes, the highest first."""
LARGEST_MARK: Final = 2**31 - 1
_PARTS: Final = ("", "-wal", "-shm")
_LOST: Final = (
    "NOTHING IS STORED ANY MORE: %s Nothing new is accepted. Before this process ends, save what it still "
    "has open: cp /proc/%d/fd/%d RESCUED.db. Then stop it, put the database back or restore a backup, and "
    "start it again."
)


class FileWatch:
    """One database file while it is open; `look` belongs to the writer's thread."""

    def __init__(self, path: pathlib.Path, *, on_trouble: Callable[[bool], None]) -> None:
        """`on_trouble` hears, in the thread, when something begins to be wrong and when it is well again."""
        self._path = path
        self._on_trouble = on_trouble
        self._mark = 0
        self._fd = -1
        self._inodes: dict[str, tuple[int, int]] = {}
        self._sizes: dict[str, int] = {}
        self._said = ""

    def open(self) -> None:
        """Takes note of the file, which has been prepared. Raises StoreFailed."""
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StoreFailed(f"The database {self._path} cannot be opened: {error.strerror}.") from error
        self._mark = _mark_in(self._fd)
        found = os.fstat(self._fd)
        self._inodes, self._sizes = {"": (found.st_dev, found.st_ino)}, {"": found.st_size}

    def close(self) -> None:
        """Only once SQLite has closed the file: with any descriptor of it, this process's locks on it go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def look(self, connection: sqlite3.Connection) -> None:
        """Raises StoreFailed while the file is not what was opened."""
        words = self._trouble(connection)
        if words != self._said:
            self._said = words
            if words:
                self._save_what_is_open(connection)
            self._on_trouble(bool(words))
            if words:
                log.critical(_LOST, words, os.getpid(), self._fd)
            else:
                log.warning("the database %s is in its place again; what waited is stored", self._path)
        if words:
            raise StoreFailed(f"The database was taken away underneath the gateway: {words}")

    def _save_what_is_open(self, connection: sqlite3.Connection) -> None:
        """Moves the write-ahead log, which may have lost its name, into the file that is still open; a file
        that was changed is not touched.
        """
        if _mark_in(self._fd) == self._mark and os.fstat(self._fd).st_size >= self._sizes[""]:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _trouble(self, connection: sqlite3.Connection) -> str:
        for part in _PARTS:
            name = self._path.name + part
            try:
                found = os.stat(self._path.with_name(name))
            except FileNotFoundError:
                if part in self._inodes:
                    return f"{name} was removed."
                continue
            except OSError as error:
                return f"{name} cannot be looked at ({error.strerror})."
            inode = found.st_dev, found.st_ino
            if self._inodes.setdefault(part, inode) != inode:
                return f"{name} was replaced by another file."
            if part != "-shm" and self._has_lost(part, found.st_size, connection):
                return f"{name} was made shorter."
        if self._mark and _mark_in(self._fd) != self._mark:
            return f"{self._path.name} was written over."
        return ""

    def _has_lost(self, part: str, size: int, connection: sqlite3.Connection) -> bool:
        """Whether a file is shorter than it was, and not by SQLite's own doing (VACUUM, a checkpoint)."""
        if size < self._sizes.get(part, 0):
            try:
                is_well = _is_whole(size, connection) if part == "" else _is_in_the_database(connection)
            except sqlite3.Error:
                is_well = False
            if not is_well:
                return True
        self._sizes[part] = size
        return False


def _is_whole(size: int, connection: sqlite3.Connection) -> bool:
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    return bool(pages * connection.execute("PRAGMA page_size").fetchone()[0] <= size)


def _is_in_the_database(connection: sqlite3.Connection) -> bool:
    """Whether everything that was in the write-ahead log is in the database itself; another process may be
    moving it at this moment.
    """
    for _ in range(BUSY_TRIES):
        is_busy, frames, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if not is_busy and frames == moved:
            return True
        time.sleep(BUSY_SECONDS)
    return False


def _mark_in(fd: int) -> int:
    """The mark in a database's own header, which is not new before the first checkpoint; 0: it has none."""
    header = os.pread(fd, _HEADER_BYTES, 0)
    if len(header) < _HEADER_BYTES or not header.startswith(MAGIC):
        return 0
    return int(struct.unpack_from(">i", header, _MARK_AT)[0])


# -- what the directory remembers -------------------------------------------------------------------------


def id_path(path: pathlib.Path) -> pathlib.Path:
    """The path of the file beside a database that holds its mark."""
    return path.with_name(path.name + ID_SUFFIX)


def refuse_missing(path: pathlib.Path) -> None:
    """Raises StoreFailed if there is no database, or an empty file, and there was one."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size:
            return
    if _remembered(path) is not None:
        raise StoreFailed(
            f"The database {path} is missing or empty, but this directory has had one. Put it back, or "
            f"restore a backup with agent-gateway restore. To begin with nothing, remove {id_path(path)}."
        )


def refuse_another(path: pathlib.Path, connection: sqlite3.Connection) -> None:
    """Raises StoreFailed if the database is not the one that the directory has had."""
    remembered, mark = _remembered(path), _mark_of(connection)
    if remembered is not None and not mark and _is_from_before_marks(connection):
        log.warning("%s was put there by an earlier version, which goes by no mark; it is taken", path)
    elif remembered is not None and mark != remembered:
        raise StoreFailed(
            f"{path} is not the database that this directory has had. Put that one back, or restore a backup "
            f"with agent-gateway restore. If this one is meant, remove {id_path(path)}."
        )


def remember(path: pathlib.Path, connection: sqlite3.Connection) -> None:
    """Gives a database its mark, if it has none, and writes it beside the file."""
    mark = _mark_of(connection)
    if not mark:
        mark = random.SystemRandom().randint(1, LARGEST_MARK)
        connection.execute(f"PRAGMA application_id = {mark}")
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    if _remembered(path) != mark:
        target = id_path(path)
        partial = target.with_name(target.name + ".partial")
        partial.write_text(f"{mark}\n")
        partial.chmod(0o600)
        partial.replace(target)


def forget(path: pathlib.Path) -> None:
    """Another database takes the place of this one, by intention."""
    id_path(path).unlink(missing_ok=True)


def _remembered(path: pathlib.Path) -> int | None:
    try:
        return int(id_path(path).read_text())
    except (OSError, ValueError):
        return None


def _is_from_before_marks(connection: sqlite3.Connection) -> bool:
    """Whether a version wrote it that knows no marks. If it ran here after a newer one, it has restored a
    backup, and left the mark of the database that this replaced.
    """
    return 0 < int(connection.execute("PRAGMA user_version").fetchone()[0]) < FIRST_MARKED_SCHEMA


def _mark_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA application_id").fetchone()[0])
