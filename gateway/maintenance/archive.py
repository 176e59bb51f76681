"""The file that a backup is: a tar whose last member counts and digests all the others.

Files of agents keep their holes (GNU tar's sparse format 1.0, which tar and Python read) and their hard
links, so that a backup is no larger than what they take on the disk.

Guarantees: nothing outside a session's directory is ever read, whatever links its agent makes meanwhile;
nothing is written through a link or outside of the target, whatever the file says; neither depth, nor size,
nor number of what is in a file decides how much memory is used.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import pathlib
import stat
import tarfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import IO, Final

import msgspec
from msgspec import Struct

from gateway.auth.tickets import SECRET_NAME
from gateway.workers import trees

MANIFEST: Final = "manifest.json"
DATABASE: Final = "gateway.db"
FILES: Final = "sessions"
TRAILER: Final = "complete.json"
CHUNK_BYTES: Final = 1024 * 1024
NAME_BYTES: Final = 4096
"""The longest name of a member: a longer path cannot be used by any program (PATH_MAX), and names of nested
directories add up to the square of their depth.
"""
EXTRA_BYTES: Final = 1024 * 1024
"""The longest extra head of a member (names, times), and the longest file of the gateway's own that is read
whole.
"""
SPARSE_BYTES: Final = 8**11
"""The sparse format has room for less data than this; more of it is written with its holes filled."""
_EXTRA: Final = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)

Segments = list[tuple[int, int]]
"""Where a file has data: (offset, length)."""


class BackupFailed(Exception):
    """What is wrong with a backup, or with where it should go, and what to do."""


class Trailer(Struct, frozen=True, kw_only=True):
    """That a backup is whole: how many members stand before this one, and the SHA-256 of them all."""

    members: int
    sha256: str
    left_out: int = 0
    """Files and directories that the gateway's user may not read, or whose path is too long."""


Readable = IO[bytes] | io.RawIOBase


class Writing:
    """A tar file that counts and digests its members."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._digest = hashlib.sha256()
        self._members = 0
        self.left_out = 0

    def add(self, info: tarfile.TarInfo, content: Readable | None = None) -> None:
        """A member, with as many bytes of content as it says."""
        self._add(info, info, content)

    def add_sparse(self, info: tarfile.TarInfo, file: int, segments: Segments) -> None:
        """An open file with holes, of which only the data is written."""
        head = _sparse_map(segments)
        # A short name, which only programs unpack that do not know the format: a long one would have an extra
        # head of its own, which comes after ours and wins.
        stored = tarfile.TarInfo(f"GNUSparseFile.0/{self._members}")
        stored.mode, stored.mtime, stored.uid, stored.gid = info.mode, info.mtime, info.uid, info.gid
        stored.size = len(head) + sum(length for _, length in segments)
        stored.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": info.name,
            "GNU.sparse.realsize": str(info.size),
        }
        self._add(stored, info, _Sparse(head, file, segments))

    def _add(self, stored: tarfile.TarInfo, info: tarfile.TarInfo, content: Readable | None) -> None:
        """`info` is the member as it is read again."""
        noted = _Digested(content, self._digest) if content is not None else None
        _digest_head(self._digest, info)
        self._tar.addfile(stored, noted)
        _forget_members(self._tar)
        self._members += 1

    def add_bytes(self, name: str, content: bytes) -> None:
        """A file of the gateway's own."""
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = len(content), 0o600, int(time.time())
        self.add(info, io.BytesIO(content))

    def trailer(self) -> Trailer:
        """What to write last."""
        return Trailer(members=self._members, sha256=self._digest.hexdigest(), left_out=self.left_out)

    def leave_out(self, _error: OSError | None = None) -> None:
        """Counts what is there and cannot be taken."""
        self.left_out += 1


class _Digested(io.RawIOBase):
    """Passes on what is read, through a digest."""

    def __init__(self, content: Readable, digest: hashlib._Hash) -> None:
        self._content = content
        self._update = digest.update

    def read(self, size: int = -1) -> bytes:
        data = self._content.read(size)
        self._update(data)
        return data


def _forget_members(tar: tarfile.TarFile) -> None:
    """It would keep every one for a list that nobody asks for."""
    tar.members.clear()  # type: ignore[attr-defined]


def _digest_head(digest: hashlib._Hash, info: tarfile.TarInfo) -> None:
    digest.update(repr((info.name, info.type, info.linkname, info.size)).encode("utf-8", "surrogateescape"))


def add_files(writing: Writing, root: pathlib.Path, key: str) -> None:
    """The files of a session. Its agent may be at work: what vanishes is left out, and no link is followed,
    also none that takes a directory's place meanwhile.
    """
    with contextlib.suppress(FileNotFoundError):  # no worker ever needed one, or it was erased meanwhile
        trees.walk(root / key, _Adding(writing, key))


class _Adding(trees.Visitor):
    """Adds what a walk finds."""

    def __init__(self, writing: Writing, key: str) -> None:
        self._writing = writing
        self._paths: list[str] = []
        """Names of the directories from the top to where the walk is."""
        self._key = key
        self._linked: dict[tuple[int, int], str] = {}
        """Files of several names: (device, inode) → the first one."""

    def enter(self, directory: int, depth: int, name: str) -> list[str]:
        path = f"{self._paths[depth - 1]}/{name}" if depth else f"{FILES}/{self._key}"
        self._paths[depth:] = [path]
        self._writing.add(info_of(path, os.fstat(directory), kind=tarfile.DIRTYPE))
        below: list[str] = []
        for entry in sorted(_names(directory, self.fail)):
            if len(os.fsencode(f"{path}/{entry}")) > NAME_BYTES:
                self._writing.leave_out()
                continue
            try:
                if self._add(f"{path}/{entry}", entry, directory):
                    below.append(entry)
            except OSError as error:
                self.fail(error)
        return below[::-1]

    def fail(self, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            self._writing.leave_out(error)

    def _add(self, name: str, entry: str, directory: int) -> bool:
        """Whether it is a directory, which is added when the walk comes to it."""
        found = os.lstat(entry, dir_fd=directory)
        if stat.S_ISLNK(found.st_mode):
            info = info_of(name, found, kind=tarfile.SYMTYPE)
            info.linkname = os.readlink(entry, dir_fd=directory)
            self._writing.add(info)
        elif stat.S_ISREG(found.st_mode):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(entry, flags, dir_fd=directory), "rb") as file:
                found = os.fstat(file.fileno())
                if stat.S_ISREG(found.st_mode):
                    self._add_file(name, file, found)
        return stat.S_ISDIR(found.st_mode)

    def _add_file(self, name: str, file: IO[bytes], found: os.stat_result) -> None:
        first = self._linked.setdefault((found.st_dev, found.st_ino), name) if found.st_nlink > 1 else name
        if first != name:
            info = info_of(name, found, kind=tarfile.LNKTYPE)
            info.linkname = first
            self._writing.add(info)
            return
        segments = _segments(file.fileno(), found.st_size)
        data = sum(length for _, length in segments)
        if data < found.st_size and data < SPARSE_BYTES:
            self._writing.add_sparse(info_of(name, found), file.fileno(), segments)
        else:
            file.seek(0)
            self._writing.add(info_of(name, found), _Exactly(file, found.st_size))


def _names(directory: int, fail: Callable[[OSError], None]) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError as error:
        fail(error)
        return []


class _Exactly(io.RawIOBase):
    """A file that may grow or shrink while it is read, as exactly so many bytes."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._file.read(wanted).ljust(wanted, b"\0")
        self._left -= len(data)
        return data


def info_of(name: str, found: os.stat_result, *, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    """The head of a member: owner, times and mode, without set-user-id bits."""
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, stat.S_IMODE(found.st_mode) & 0o777, int(found.st_mtime)
    info.uid, info.gid = found.st_uid, found.st_gid
    info.size = found.st_size if kind == tarfile.REGTYPE else 0
    return info


# -- holes ------------------------------------------------------------------------------------------------


def _segments(file: int, size: int) -> Segments:
    """Where an open file has data. If the file system knows no holes, everywhere."""
    found: Segments = []
    offset = 0
    while offset < size:
        try:
            start = os.lseek(file, offset, os.SEEK_DATA)
            offset = min(size, os.lseek(file, start, os.SEEK_HOLE))
        except OSError as error:
            if error.errno == errno.ENXIO:  # no more data
                break
            return [(0, size)]
        if start < offset:
            found.append((start, offset - start))
    if not found or sum(found[-1]) < size:
        found.append((size, 0))  # which tells GNU tar how long the file is
    return found


def _sparse_map(segments: Segments) -> bytes:
    """What the sparse format has before the data: decimal numbers, a line each, up to a block's end."""
    numbers = [len(segments), *(number for segment in segments for number in segment)]
    text = b"".join(b"%d\n" % number for number in numbers)
    return text.ljust(-(-len(text) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, b"\0")


class _Sparse(io.RawIOBase):
    """The map, then the data of an open file, as exactly so many bytes."""

    def __init__(self, head: bytes, file: int, segments: Segments) -> None:
        self._head = io.BytesIO(head)
        self._file = file
        self._left = deque(segments)

    def read(self, size: int = -1) -> bytes:
        data = self._head.read(size)
        while self._left and (size < 0 or len(data) < size):
            offset, length = self._left.popleft()
            wanted = length if size < 0 else min(length, size - len(data))
            data += os.pread(self._file, wanted, offset).ljust(wanted, b"\0")
            if wanted < length:
                self._left.appendleft((offset + wanted, length - wanted))
        return data


# -- taking one apart -------------------------------------------------------------------------------------


class Head(tarfile.TarInfo):
    """A member's head, which may be forged: one whose size would make its reader go round in circles, or read
    the whole file as a name, is refused.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Head:
        head = super().frombuf(buf, encoding, errors)
        if head.size < 0 or (head.type in _EXTRA and head.size > EXTRA_BYTES):
            raise BackupFailed(f"A member says that it has {head.size:,} bytes, which cannot be.")
        return head


def taken_apart(file: IO[bytes], target: pathlib.Path) -> tuple[Trailer | None, Trailer]:
    """The trailer in a backup, and the one that it should have. Raises BackupFailed, and what tarfile
    raises.
    """
    digest, members = hashlib.sha256(), 0
    with tarfile.open(fileobj=file, mode="r:", tarinfo=Head) as tar, _unpacking(target, digest) as unpacking:
        for info in _members(tar):
            if info.name == TRAILER:
                told = msgspec.json.decode(_whole(file, info), type=Trailer)
                return told, Trailer(members=members, sha256=digest.hexdigest())
            _digest_head(digest, info)
            unpacking.place(info, file)
            members += 1
    return None, Trailer(members=members, sha256=digest.hexdigest())


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Each once, in order, and none of them kept."""
    last = -1
    while (info := tar.next()) is not None:
        _forget_members(tar)
        if info.size < 0 or info.offset <= last:
            raise BackupFailed(f"{info.name!r} has a size that cannot be.")
        last = info.offset
        yield info


def _whole(file: IO[bytes], info: tarfile.TarInfo) -> bytes:
    if info.size > EXTRA_BYTES:
        raise BackupFailed(f"{info.name!r} is too large for what it is.")
    file.seek(info.offset_data)
    return file.read(info.size)


@contextlib.contextmanager
def _unpacking(target: pathlib.Path, digest: hashlib._Hash) -> Iterator[_Unpacking]:
    top = os.open(target, trees.OPEN_DIRECTORY)
    unpacking = _Unpacking(top, digest)
    try:
        yield unpacking
    finally:
        unpacking.close()
        os.close(top)


class _Unpacking:
    """Puts members below a directory. Each step is one name in an open directory, and follows no link; a
    directory comes before what is in it.
    """

    def __init__(self, top: int, digest: hashlib._Hash) -> None:
        self._top = top
        self._digest = digest
        self._here: list[str] = []
        self._fd = os.dup(top)
        """Of the directory `_here`, where the last member was placed."""
        os.mkdir(FILES, 0o700, dir_fd=top)

    def close(self) -> None:
        os.close(self._fd)

    def place(self, info: tarfile.TarInfo, file: IO[bytes]) -> None:
        """One member, as a new file, link or directory. Raises BackupFailed or OSError."""
        parts = info.name.split("/")
        if not _is_ours(parts) or len(os.fsencode(info.name)) > NAME_BYTES:
            raise BackupFailed(f"{_short(info.name)} has no place in a backup.")
        try:
            self._place(info, parts, file)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BackupFailed(f"{_short(info.name)} is in no directory of the backup.") from error
        except FileExistsError as error:
            raise BackupFailed(f"{_short(info.name)} is in the backup twice.") from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise BackupFailed(f"{_short(info.name)} leads through a link.") from error
            raise

    def _place(self, info: tarfile.TarInfo, parts: list[str], file: IO[bytes]) -> None:
        here, name = self._enter(parts[:-1]), parts[-1]
        if info.isdir():
            os.mkdir(name, 0o700, dir_fd=here)
            made = self._enter(parts)
            _give(made, info, stat.S_IRWXU)
        elif info.issym():
            os.symlink(info.linkname, name, dir_fd=here)
            if os.geteuid() == 0:
                os.chown(name, info.uid, info.gid, dir_fd=here, follow_symlinks=False)
        elif info.islnk():
            self._link(info, parts)
        elif info.isreg():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            made = os.open(name, flags, 0o600, dir_fd=here)
            try:
                self._copy(info, file, made)
                _give(made, info, 0)
            finally:
                os.close(made)
        else:
            raise BackupFailed(f"{_short(info.name)} is neither a file, a directory nor a link.")

    def _enter(self, parts: list[str]) -> int:
        """Opens a directory, from the last one on if it is below that."""
        if parts[: len(self._here)] != self._here:
            self._go(self._top, ".")
            self._here = []
        for name in parts[len(self._here) :]:
            self._go(self._fd, name)
            self._here.append(name)
        return self._fd

    def _go(self, directory: int, name: str) -> None:
        below = os.open(name, trees.OPEN_DIRECTORY, dir_fd=directory)
        os.close(self._fd)
        self._fd = below

    def _link(self, info: tarfile.TarInfo, parts: list[str]) -> None:
        """Another name for an earlier file of the same session."""
        first = info.linkname.split("/")
        if not _is_ours(first) or first[:2] != parts[:2] or len(first) < 3:
            raise BackupFailed(f"{_short(info.name)} is a link to what is not its session's.")
        here = os.dup(self._enter(parts[:-1]))
        try:
            there = self._enter(first[:-1])
            if not stat.S_ISREG(os.lstat(first[-1], dir_fd=there).st_mode):
                raise BackupFailed(f"{_short(info.name)} is a link to what is no file.")
            os.link(first[-1], parts[-1], src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)
        finally:
            os.close(here)

    def _copy(self, info: tarfile.TarInfo, file: IO[bytes], made: int) -> None:
        """The content, with its holes."""
        segments: Segments = [(0, info.size)]
        if info.sparse is not None:
            segments = _checked(info)
            self._digest.update(_sparse_map(segments))
        os.truncate(made, info.size)
        file.seek(info.offset_data)
        for offset, length in segments:
            self._copy_segment(info, file, made, offset, length)

    def _copy_segment(
        self, info: tarfile.TarInfo, file: IO[bytes], made: int, offset: int, length: int
    ) -> None:
        end = offset + length
        while offset < end:
            chunk = file.read(min(CHUNK_BYTES, end - offset))
            if not chunk:
                raise BackupFailed(f"{_short(info.name)} is cut short.")
            self._digest.update(chunk)
            written = 0
            while written < len(chunk):
                written += os.pwrite(made, chunk[written:], offset + written)
            offset += len(chunk)


def _checked(info: tarfile.TarInfo) -> Segments:
    """The segments of a file with holes, in order and inside of it."""
    segments: Segments = info.sparse  # type: ignore[assignment]
    end = 0
    for offset, length in segments:
        if offset < end or length < 0 or offset + length > info.size:
            raise BackupFailed(f"{_short(info.name)} has holes that cannot be.")
        end = offset + length
    return segments


def _give(file: int, info: tarfile.TarInfo, rights: int) -> None:
    if os.geteuid() == 0:
        os.fchown(file, info.uid, info.gid)
    os.fchmod(file, info.mode & 0o777 | rights)


def _is_ours(parts: list[str]) -> bool:
    is_file_of_a_session = parts[0] == FILES and len(parts) > 1 and not {"", ".", ".."} & set(parts)
    return is_file_of_a_session or (len(parts) == 1 and parts[0] in (MANIFEST, DATABASE, SECRET_NAME))


def _short(name: str) -> str:
    """A name that may be as long as somebody likes, for an error."""
    return repr(name if len(name) <= 100 else f"{name[:60]}…{name[-30:]}")
