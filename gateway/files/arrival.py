"""One file that arrives: written beside its place under another name, and moved there when it is whole.

Guarantees: nothing is written outside of the working directory, whatever the agent put there; a file is seen
under its name only when all of it is on the disk; a link, a folder or a FIFO in its place is never opened,
followed or replaced. All functions here wait for the disk: they run in a thread.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from gateway.errors import BadFileName, FileChanged, FileInTheWay, GatewayError, StoreFull
from gateway.files import sniffing
from gateway.files.beneath import Folder, Unsafe, as_user
from gateway.files.reading import etag_of
from gateway.files.upload_names import PARTIAL_PREFIX, numbered

SAME_NAMES: Final = 1_000
"""So many files of one name are told apart by a number."""
SWEPT: Final = 1_000
"""So many entries of a folder are looked at for beginnings that nobody goes on with."""
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class FilesPlace(Struct, frozen=True, kw_only=True):
    """Where a session's files lie, and what they may take."""

    key: str
    """The internal key of the session."""
    work: str
    """Its working directory."""
    home: str
    uid: int | None
    """Who owns the files; None: the gateway's own user."""
    disk_bytes: int = 0
    """All files together; 0 is no limit."""
    files: int = 0
    """How many there may be; 0 is no limit."""


class Placement(Struct, frozen=True, kw_only=True):
    """How a file is to be placed."""

    path: str
    """Relative to the working directory."""
    size: int | None = None
    """Of the whole file, if that is known; then it can go on after a cut."""
    keeps_others: bool = False
    """Takes the next free name if there is a file already: `name (2).png`."""
    must_match: str = ""
    """The ETag that the file in its place must have; `*`: any."""
    must_not_exist: bool = False


class StoredFile(Struct, frozen=True):
    """A file that is in its place."""

    path: str
    size: int
    media_type: str
    etag: str
    replaced: int = 0
    """Bytes of the file that was in its place."""


def partial_name(placement: Placement) -> str:
    """The name of a file that is not whole: the same for each part of one upload."""
    said = f"{placement.path}\0{placement.size}".encode()
    return PARTIAL_PREFIX + hashlib.sha256(said).hexdigest()[:24]


class Arrival:
    """One file on its way: `open`, `write` as often as needed, then `seal` and `put`; or `leave`, or
    `drop`.
    """

    def __init__(self, place: FilesPlace, placement: Placement) -> None:
        folder, _, self.name = placement.path.rpartition("/")
        self._folder = folder
        self._place = place
        self._wish = placement
        self._partial = partial_name(placement)
        if placement.size is None or placement.keeps_others:
            self._partial = PARTIAL_PREFIX + os.urandom(12).hex()
        self._at = -1
        self._file = -1
        self.received = 0
        """Bytes of it that are there."""

    # -- beginning ----------------------------------------------------------------------------------------

    def open(self, *, goes_on: bool, kept_seconds: float) -> None:
        """Opens its folder, which is made, and the file that it is written to; `received` says how much of it
        is there. Raises GatewayError.
        """
        with _words(self._wish.path), Folder(self._place.work) as work, as_user(self._place.uid):
            if self._folder:
                work.make_folders(self._folder)
            self._at = work.open(self._folder or ".", os.O_RDONLY | os.O_DIRECTORY)
            self._sweep(kept_seconds)
            if not self._wish.keeps_others:
                self._check_place()
            self._file = self._open_partial(goes_on=goes_on)
            self.received = os.fstat(self._file).st_size

    def _open_partial(self, *, goes_on: bool) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        if goes_on:
            with contextlib.suppress(OSError):
                file = os.open(self._partial, flags, 0o600, dir_fd=self._at)
                found = os.fstat(file)
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
                    return file
                os.close(file)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._partial, dir_fd=self._at)
        return os.open(self._partial, flags | os.O_EXCL, 0o600, dir_fd=self._at)

    def _check_place(self) -> os.stat_result | None:
        """What is in its place; None: nothing. Raises FileInTheWay, FileChanged."""
        try:
            found = os.stat(self.name, dir_fd=self._at, follow_symlinks=False)
        except FileNotFoundError:
            if self._wish.must_match:
                raise FileChanged(f"There is no file {self._wish.path}.") from None
            return None
        if not stat.S_ISREG(found.st_mode):
            raise FileInTheWay(f"At {self._wish.path} there is something that is not a file.")
        if self._wish.must_not_exist:
            raise FileChanged(f"There is a file {self._wish.path} already.")
        if self._wish.must_match not in ("", "*", etag_of(found)):
            raise FileChanged(f"{self._wish.path} has changed since you read it.")
        return found

    def _sweep(self, kept_seconds: float) -> None:
        """Removes beginnings in its folder that nobody went on with."""
        before = time.time() - kept_seconds
        with os.scandir(self._at) as entries:
            for _, entry in zip(range(SWEPT), entries, strict=False):
                if not entry.name.startswith(PARTIAL_PREFIX):
                    continue
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(entry.name, dir_fd=self._at)

    # -- writing --------------------------------------------------------------------------------------------

    def begin_at(self, start: int) -> None:
        """What was there behind this byte comes again. Raises GatewayError."""
        with _words(self._wish.path):
            os.ftruncate(self._file, start)
        self.received = start

    def write(self, data: bytes | bytearray) -> None:
        """Appends to it. Raises GatewayError."""
        with _words(self._wish.path):
            view = memoryview(data)
            while view:
                done = os.pwrite(self._file, view, self.received)
                self.received += done
                view = view[done:]

    # -- ending -------------------------------------------------------------------------------------------

    def seal(self) -> str:
        """All of it is there: puts it on the disk, and says what type of file it is. Raises GatewayError."""
        with _words(self._wish.path):
            if os.fstat(self._file).st_size != self.received:
                raise FileInTheWay("Something else wrote to the file while it arrived. Send it again.")
            head = os.pread(self._file, sniffing.HEAD_BYTES, 0)
            os.fsync(self._file)
        return sniffing.type_of(self.name, head)

    def put(self, media_type: str) -> StoredFile:
        """Moves it to its place, on the disk, too. Raises GatewayError."""
        with _words(self._wish.path), as_user(self._place.uid):
            before = None
            if self._wish.keeps_others:
                name = self._link_free()
            else:
                name = self.name
                before = self._check_place()
                if before is not None:
                    os.fchmod(self._file, stat.S_IMODE(before.st_mode) & 0o777)
                if self._wish.must_not_exist:
                    self._link(name)
                else:
                    os.rename(self._partial, name, src_dir_fd=self._at, dst_dir_fd=self._at)
            os.fsync(self._at)
            found = os.fstat(self._file)
        self.close()
        path = f"{self._folder}/{name}" if self._folder else name
        replaced = before.st_size if before is not None else 0
        return StoredFile(path, found.st_size, media_type, etag_of(found), replaced)

    def _link_free(self) -> str:
        """Takes the first free name."""
        for number in range(1, SAME_NAMES + 1):
            name = numbered(self.name, number)
            with contextlib.suppress(FileExistsError):
                self._link(name)
                return name
        raise FileInTheWay(f"There are {SAME_NAMES} files called {self.name} already.")

    def _link(self, name: str) -> None:
        """Moves it to a name that nothing has. Raises FileExistsError."""
        os.link(self._partial, name, src_dir_fd=self._at, dst_dir_fd=self._at, follow_symlinks=False)
        os.unlink(self._partial, dir_fd=self._at)

    def take_back(self, stored: StoredFile) -> None:
        """Removes it from its place, if it is still what was put there."""
        with contextlib.suppress(OSError), Folder(self._place.work) as work, as_user(self._place.uid):
            at = work.open(self._folder or ".", os.O_RDONLY | os.O_DIRECTORY)
            try:
                name = stored.path.rpartition("/")[2]
                if etag_of(os.stat(name, dir_fd=at, follow_symlinks=False)) == stored.etag:
                    os.unlink(name, dir_fd=at)
            finally:
                os.close(at)

    def leave(self) -> None:
        """Keeps what is there, so that it can go on."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.fsync(self._file)
        self.close()

    def drop(self) -> None:
        """Removes what is there."""
        if self._at >= 0:
            with contextlib.suppress(OSError), as_user(self._place.uid):
                os.unlink(self._partial, dir_fd=self._at)
        self.close()

    def close(self) -> None:
        """Lets go of its descriptors; a second time does nothing."""
        for descriptor in (self._file, self._at):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._at = -1


def arrived(place: FilesPlace, placement: Placement) -> tuple[int, bool]:
    """How much is there of an upload that was cut, and if there is a file in its place. Raises
    GatewayError.
    """
    folder, _, name = placement.path.rpartition("/")
    with _words(placement.path):
        try:
            with Folder(place.work) as work, as_user(place.uid):
                at = work.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return 0, False
        try:
            partial = _stat(partial_name(placement), at)
            return (
                partial.st_size if partial is not None and stat.S_ISREG(partial.st_mode) else 0,
                _stat(name, at) is not None,
            )
        finally:
            os.close(at)


def free_path(place: FilesPlace, path: str) -> str:
    """The path, or with a number the first that nothing has. Raises GatewayError."""
    folder, _, name = path.rpartition("/")
    with _words(path):
        try:
            with Folder(place.work) as work, as_user(place.uid):
                at = work.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return path
        try:
            free = (numbered(name, number) for number in range(1, SAME_NAMES + 1))
            found = next((one for one in free if _stat(one, at) is None), name)
        finally:
            os.close(at)
    return f"{folder}/{found}" if folder else found


def _stat(name: str, at: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _words(path: str) -> Iterator[None]:
    """Says in words what the disk refuses."""
    try:
        yield
    except OSError as error:
        raise refusal_of(error, path) from None


def refusal_of(error: OSError, path: str) -> GatewayError:
    """What a failure means for somebody who sends a file."""
    if error.errno in _FULL:
        return StoreFull("The disk is full: the file is not stored. Try again when there is room.")
    if error.errno == errno.ENAMETOOLONG:
        return BadFileName("A name in the path is too long.")
    if isinstance(error, Unsafe):
        return FileInTheWay(f"On the way to {path} there is a link, or something that is not a folder.")
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP):
        return FileInTheWay(f"At {path}, or on the way there, something else is in the way.")
    if error.errno in (errno.EACCES, errno.EPERM):
        return FileInTheWay(f"The agent has made {path}, or the way there, unwritable.")
    return FileInTheWay(f"{path} cannot be written: {error.strerror}.")
