"""Puts the files of a snapshot into a folder: a new one (a fork), or the one they were taken from (undo).

Runs in a thread, with the rights of the files' owner. Guarantees: nothing is written through a link or
outside of the folder; links are made as they were and never followed; of an undo, all contents are on the
disk before the first file is touched, so a full disk changes nothing; what was left out of the snapshot
(caches, ignored and too large files) stays where it is.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Final, Self

from gateway.files.beneath import Folder, as_user
from gateway.files.blobs import Blobs
from gateway.files.left_out import STAGING
from gateway.files.manifest import Change, Entry, changes
from gateway.workers import trees

OPEN_FILES: Final = 64
"""New files that are open at a time: for so many the thread takes the owner's rights once."""
OPEN_FOLDERS: Final = 16
AHEAD_FILES: Final = 1_000
AHEAD_BYTES: Final = 16 * 1024 * 1024
"""Contents that are asked for together, unpacked: each question of a store or a bucket takes its time."""
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY


class PutBack(Exception):
    """The files could not be put back, and why; nothing was changed."""


class PuttingBack:
    """One folder of a session, and where contents come from."""

    def __init__(self, folder: Folder, blobs: Blobs, key: str, uid: int | None) -> None:
        self._folder = folder
        self._blobs = blobs
        self._key = key
        self._uid = uid

    def fill(self, entries: Sequence[Entry], *, lost: list[bytes] | None = None) -> int:
        """Makes everything of a snapshot in an empty folder, in which nobody is at work; how many files have
        no content in it, and are missing. Nothing is flushed: a fork that was cut is made again as a whole.
        Raises OSError; and ValueError for a content that is damaged, unless such files are `lost`: then they
        are left out and noted there.
        """
        made = [entry for entry in entries if entry.kind != "file" or entry.digest]
        with _Parents(self._folder) as parents:
            for batch in _batches(made):
                self._blobs.ahead(self._key, {entry.digest for entry in batch if entry.digest})
                for first in range(0, len(batch), OPEN_FILES):
                    with ExitStack() as opened:
                        files = self._made(batch[first : first + OPEN_FILES], parents, opened)
                        for entry, descriptor in files:
                            self._fill_one(entry, descriptor, lost)
        self._blobs.ahead(self._key, ())
        self._finish_folders(entries)
        return len(entries) - len(made)

    def _fill_one(self, entry: Entry, descriptor: int, lost: list[bytes] | None) -> None:
        try:
            self._write_content(entry, descriptor)
        except (FileNotFoundError, ValueError):
            if lost is None:
                raise
            lost.append(entry.path)
            self._in_parent(entry.path, lambda name, parent: os.unlink(name, dir_fd=parent))

    def _made(
        self, entries: Sequence[Entry], parents: _Parents, opened: ExitStack
    ) -> list[tuple[Entry, int]]:
        """Makes these names, with the owner's rights; the files are empty, and open until `opened` ends."""
        files: list[tuple[Entry, int]] = []
        with as_user(self._uid):
            for entry in entries:
                above, _, name = entry.path.rpartition(b"/")
                parent = parents.descriptor(above)
                if entry.kind == "folder":
                    os.mkdir(name, 0o700, dir_fd=parent)
                elif entry.kind == "link":
                    os.symlink(entry.target, name, dir_fd=parent)
                else:
                    descriptor = os.open(name, _NEW | os.O_NOFOLLOW, 0o600, dir_fd=parent)
                    opened.callback(os.close, descriptor)
                    files.append((entry, descriptor))
        return files

    def undo(self, before: Sequence[Entry], after: Sequence[Entry], top: bytes) -> tuple[int, list[bytes]]:
        """Makes of what there is (`after`) what there was before: how many files that changes, and the names
        that could not be put back. Raises PutBack if a content cannot be had or written.
        """
        found, names = changes(before, after), {entry.path for entry in before if entry.kind == "folder"}
        folders = [entry for entry in before if entry.kind == "folder"]
        staging = top + f"/{STAGING}{secrets.token_hex(6)}".encode()
        staged: dict[bytes, bytes] = {}
        try:
            with as_user(self._uid):
                self._folder.make_folders(os.fsdecode(staging))
            for number, change in enumerate(found):
                if change.before is not None and change.before.digest:
                    staged[change.path] = staging + b"/%d" % number
                    self._write(change.before, staged[change.path])
        except (OSError, ValueError) as error:
            self._remove(staging)
            raise PutBack(getattr(error, "strerror", None) or str(error)) from error
        failed = [change.path for change in found if not self._clear(change)]
        self._remove_empty(e.path for e in after if e.kind == "folder" and e.path not in names)
        for entry in folders:
            with contextlib.suppress(OSError):
                self._make_folder(entry.path)
        failed += [
            change.path
            for change in found
            if change.before is not None and not self._put(change.before, staged.get(change.path))
        ]
        self._remove(staging)
        self._finish_folders(folders)
        failed = sorted(set(failed))
        return len(found) - len(failed), failed

    def _remove_empty(self, folders: Iterable[bytes]) -> None:
        """Removes those of these folders that are empty, the deepest first."""
        for path in sorted(folders, reverse=True):
            with contextlib.suppress(OSError):
                self._in_parent(path, lambda name, parent: os.rmdir(name, dir_fd=parent))

    def _make_folder(self, path: bytes) -> None:
        """Makes a folder in one that is there; nothing to do if it is there itself."""
        if b"/" in path:
            with contextlib.suppress(FileExistsError):
                self._in_parent(path, lambda name, parent: os.mkdir(name, 0o700, dir_fd=parent))

    # -- one name ---------------------------------------------------------------------------------------

    def _in_parent(self, path: bytes, act: Callable[[bytes, int], object]) -> None:
        """Does something to a name in its folder. Raises OSError."""
        above, _, name = path.rpartition(b"/")
        with as_user(self._uid):
            parent = self._folder.open(os.fsdecode(above), _OPEN_FOLDER)
            try:
                act(name, parent)
            finally:
                os.close(parent)

    def _write(self, entry: Entry, path: bytes) -> None:
        """A new file with a content of a snapshot."""
        with as_user(self._uid):
            descriptor = self._folder.open(os.fsdecode(path), _NEW, 0o600)
        try:
            self._write_content(entry, descriptor)
        finally:
            os.close(descriptor)

    def _write_content(self, entry: Entry, descriptor: int) -> None:
        for piece in self._blobs.get(self._key, entry.digest):
            left = memoryview(piece)
            while left:
                left = left[os.write(descriptor, left) :]
        os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        os.fchmod(descriptor, entry.mode)

    def _link(self, entry: Entry) -> None:
        self._in_parent(entry.path, lambda name, parent: os.symlink(entry.target, name, dir_fd=parent))

    def _clear(self, change: Change) -> bool:
        """Takes away what is there now and was not, or was something else."""
        if change.after is None:
            return True
        if change.before is not None and not (change.before.digest or change.before.kind == "link"):
            return False  # what it was is not kept: better this than nothing
        if change.before is not None and change.before.kind == change.after.kind == "file":
            return True  # replaced in one step
        try:
            self._in_parent(change.path, lambda name, parent: os.unlink(name, dir_fd=parent))
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def _put(self, entry: Entry, staged: bytes | None) -> bool:
        try:
            if entry.kind == "link":
                self._link(entry)
                return True
            if staged is None:
                return False
            above, _, name = staged.rpartition(b"/")
            with as_user(self._uid):
                source = self._folder.open(os.fsdecode(above), _OPEN_FOLDER)
            try:
                self._in_parent(
                    entry.path,
                    lambda new, parent: os.rename(name, new, src_dir_fd=source, dst_dir_fd=parent),
                )
            finally:
                os.close(source)
        except OSError:
            return False
        return True

    def _remove(self, path: bytes) -> None:
        """A folder of its own and all in it, as far as that can be."""
        with contextlib.suppress(OSError):
            above, _, name = path.rpartition(b"/")
            with as_user(self._uid):
                parent = self._folder.open(os.fsdecode(above), _OPEN_FOLDER)
                try:
                    trees.walk(os.fsdecode(name), trees.Removal(), below=parent)
                    os.rmdir(name, dir_fd=parent)
                finally:
                    os.close(parent)

    def _finish_folders(self, entries: Iterable[Entry]) -> None:
        """Their permissions, the deepest first: one of them may let nobody in."""
        folders = sorted((one for one in entries if one.kind == "folder"), key=lambda e: e.path)
        with as_user(self._uid):
            for entry in reversed(folders):
                with contextlib.suppress(OSError):
                    descriptor = self._folder.open(os.fsdecode(entry.path), _OPEN_FOLDER)
                    try:
                        os.fchmod(descriptor, entry.mode)
                    finally:
                        os.close(descriptor)


def _batches(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """The same, a batch at a time of what is asked for together."""
    first = size = 0
    for at, entry in enumerate(entries):
        if at > first and (size + entry.size > AHEAD_BYTES or at - first >= AHEAD_FILES):
            yield entries[first:at]
            first, size = at, 0
        size += entry.size
    if entries:
        yield entries[first:]


class _Parents:
    """Folders that stay open for the names in them, which come in their order; a few at a time."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._open: list[tuple[bytes, int]] = []
        """Each is inside those before it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            os.close(self._open.pop()[1])

    def descriptor(self, path: bytes) -> int:
        """The open folder of this name. Raises OSError."""
        while self._open and not (path + b"/").startswith(self._open[-1][0] + b"/"):
            os.close(self._open.pop()[1])
        if not self._open or self._open[-1][0] != path:
            if len(self._open) == OPEN_FOLDERS:
                os.close(self._open.pop(0)[1])
            self._open.append((path, self._folder.open(os.fsdecode(path), _OPEN_FOLDER)))
        return self._open[-1][1]
