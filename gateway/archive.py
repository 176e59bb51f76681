"""The file that a backup is: a tar whose last member counts and digests all the others.

Guarantees: nothing outside a session's directory is ever read, whatever links its agent makes meanwhile;
nothing is written through a link or outside of the target, whatever the file says.
"""

from __future__ import annotations

import hashlib
import io
import os
import pathlib
import stat
import tarfile
import time
from typing import IO, Final

import msgspec
from msgspec import Struct

from gateway.tickets import SECRET_NAME

MANIFEST: Final = "manifest.json"
DATABASE: Final = "gateway.db"
FILES: Final = "sessions"
TRAILER: Final = "complete.json"
CHUNK_BYTES: Final = 1024 * 1024
DEPTH: Final = 100
"""An agent may nest directories without end."""


class BackupFailed(Exception):
    """What is wrong with a backup, or with where it should go, and what to do."""


class Trailer(Struct, frozen=True, kw_only=True):
    """That a backup is whole: how many members stand before this one, and the SHA-256 of them all."""

    members: int
    sha256: str
    left_out: int = 0
    """Files and directories that the gateway's user may not read, or that lie too deep."""


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
        noted = _Digested(content, self._digest) if content is not None else None
        _digest_head(self._digest, info)
        self._tar.addfile(info, noted)
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


def _digest_head(digest: hashlib._Hash, info: tarfile.TarInfo) -> None:
    digest.update(repr((info.name, info.type, info.linkname, info.size)).encode("utf-8", "surrogateescape"))


def add_files(writing: Writing, root: pathlib.Path, key: str) -> None:
    """The files of a session. Its agent may be at work: what vanishes is left out, and no link is followed,
    also none that takes a directory's place meanwhile.
    """
    if not (root / key).is_dir():
        return  # no worker ever needed one, or the session was erased meanwhile
    for path, directories, files, here in os.fwalk(
        root / key, onerror=writing.leave_out, follow_symlinks=False
    ):
        name = f"{FILES}/{os.path.relpath(path, root)}"
        writing.add(info_of(name, os.fstat(here), kind=tarfile.DIRTYPE))
        for entry in sorted(files + directories):
            try:
                _add_entry(writing, f"{name}/{entry}", entry, here)
            except FileNotFoundError:
                continue
            except OSError as error:
                writing.leave_out(error)
        if name.count("/") >= DEPTH and directories:
            writing.leave_out()
            directories.clear()


def _add_entry(writing: Writing, name: str, entry: str, directory: int) -> None:
    found = os.lstat(entry, dir_fd=directory)
    if stat.S_ISLNK(found.st_mode):
        info = info_of(name, found, kind=tarfile.SYMTYPE)
        info.linkname = os.readlink(entry, dir_fd=directory)
        writing.add(info)
    elif stat.S_ISREG(found.st_mode):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        with os.fdopen(os.open(entry, flags, dir_fd=directory), "rb") as file:
            found = os.fstat(file.fileno())
            if stat.S_ISREG(found.st_mode):
                writing.add(info_of(name, found), _Exactly(file, found.st_size))


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


def taken_apart(tar: tarfile.TarFile, target: pathlib.Path) -> tuple[Trailer | None, Trailer]:
    """The trailer that stands in the file, and what it should be."""
    digest, members, links = hashlib.sha256(), 0, set[str]()
    for info in tar:
        if info.name == TRAILER:
            content = tar.extractfile(info)
            told = msgspec.json.decode(content.read() if content else b"", type=Trailer)
            return told, Trailer(members=members, sha256=digest.hexdigest())
        _digest_head(digest, info)
        _place(tar, info, target, links, digest)
        members += 1
    return None, Trailer(members=members, sha256=digest.hexdigest())


def _place(
    tar: tarfile.TarFile, info: tarfile.TarInfo, target: pathlib.Path, links: set[str], digest: hashlib._Hash
) -> None:
    """One member, as a new file: nothing is written through a link, nor outside of the directory."""
    parts = info.name.split("/")
    parents = {"/".join(parts[:count]) for count in range(1, len(parts))}
    if not _is_ours(parts) or parents & links:
        raise BackupFailed(f"{info.name!r} has no place in a backup.")
    path = target / info.name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if info.isdir():
        path.mkdir(mode=0o700, exist_ok=True)
    elif info.issym():
        links.add(info.name)
        path.symlink_to(info.linkname)
    elif info.isreg():
        _copy(tar, info, path, digest)
    else:
        raise BackupFailed(f"{info.name!r} is neither a file, a directory nor a link.")
    if os.geteuid() == 0:
        os.chown(path, info.uid, info.gid, follow_symlinks=False)
    if not info.issym():
        path.chmod(info.mode & 0o777 | (stat.S_IRWXU if info.isdir() else 0))


def _is_ours(parts: list[str]) -> bool:
    is_file_of_a_session = parts[0] == FILES and len(parts) > 1 and not {"", ".", ".."} & set(parts)
    return is_file_of_a_session or (len(parts) == 1 and parts[0] in (MANIFEST, DATABASE, SECRET_NAME))


def _copy(tar: tarfile.TarFile, info: tarfile.TarInfo, path: pathlib.Path, digest: hashlib._Hash) -> None:
    content = tar.extractfile(info)
    if content is None:
        raise BackupFailed(f"{info.name!r} has no content.")
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
