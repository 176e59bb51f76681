"""Where the contents and the manifests of snapshots are kept: a contract, and folders of files.

Each session has its own: nobody learns from what is stored already whether somebody else has a file, and
with the session goes all of it. Another place (a database, an object store) is a class with these methods.

Guarantees of `FolderBlobs`: a content is whole under its name or is not there; a manifest is written after
what it needs, and is durable when `put_manifest` returns; what a death left half written is removed when the
session's snapshots are touched next; only the gateway's own user reads any of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import pathlib
import secrets
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Final, Protocol

from gateway.workers import trees

CHUNK_BYTES: Final = 1024 * 1024
READ_BYTES: Final = 64 * 1024
"""Of what is packed, at a time: most contents are there with one read."""
FOLDER: Final = "snapshots"
"""In the data directory."""
EACH_SYNCED: Final = 8
"""So many new contents are flushed one by one; of more, the whole file system is, in one call."""
_SYNC_FILE_RANGE_WRITE: Final = 2
_UNFINISHED: Final = ".part"

_libc = ctypes.CDLL(None, use_errno=True)


class Blobs(Protocol):
    """Contents by their digests and manifests by their places, of one session each. All methods wait for
    the disk and raise OSError.
    """

    def put(self, key: str, content: Iterable[bytes]) -> tuple[bytes, int]:
        """Keeps a content; its digest and its size. It is durable when the next manifest is."""

    def get(self, key: str, digest: bytes) -> Iterator[bytes]:
        """A content, piece by piece. Raises FileNotFoundError, ValueError if it is damaged."""

    def put_manifest(self, key: str, place: int, manifest: bytes) -> None:
        """Keeps a manifest, after everything that was put before it."""

    def manifest(self, key: str, place: int) -> bytes:
        """A manifest. Raises FileNotFoundError."""

    def places(self, key: str) -> list[int]:
        """The places of the manifests, the oldest first."""

    def keep(self, key: str, places: set[int], digests: set[bytes]) -> None:
        """Removes every other manifest and content."""

    def share(self, source: str, target: str, places: Iterable[int], digests: Iterable[bytes]) -> None:
        """Another session has these, too, from now on."""

    def keys(self, prefix: str) -> list[str]:
        """Those that begin so and have something here."""

    def size_bytes(self, key: str) -> int:
        """What they take."""

    def contents_bytes(self, key: str, digests: Iterable[bytes]) -> int:
        """What these contents take, of those that are there."""

    def ahead(self, key: str, digests: Iterable[bytes]) -> None:
        """These contents are got next."""

    def remove(self, key: str) -> None:
        """Removes all of a session."""


class FolderBlobs:
    """`Blobs` in a folder for each session: `KEY/blobs/DIGEST`, `KEY/manifests/PLACE`."""

    def __init__(self, root: pathlib.Path) -> None:
        self._root = root
        self._unsynced: dict[str, list[pathlib.Path]] = {}
        self._sizes: dict[str, int] = {}
        """As far as they were counted."""

    def open(self, *, is_empty: bool = False) -> None:
        """Makes the root; `is_empty` removes what an earlier gateway left there."""
        if is_empty:
            trees.remove(self._root)
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _folder(self, key: str, name: str) -> pathlib.Path:
        return self._root / key / name

    def put(self, key: str, content: Iterable[bytes]) -> tuple[bytes, int]:
        folder = self._folder(key, "blobs")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _new_file(folder) as (path, file):
            digest, size = pack(content, file)
            file.flush()
            name = folder / digest.hex()
            if name.exists():
                path.unlink()
            else:
                self._add(key, path, name)
        return digest, size

    def get(self, key: str, digest: bytes) -> Iterator[bytes]:
        return unpacked(self.packed(key, digest), digest)

    def packed(self, key: str, digest: bytes) -> Iterator[bytes]:
        """A content as it lies there, piece by piece."""
        descriptor = os.open(f"{self._root}/{key}/blobs/{digest.hex()}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            while piece := os.read(descriptor, READ_BYTES):
                yield piece
        finally:
            os.close(descriptor)

    def put_packed(self, key: str, digest: bytes, pieces: Iterable[bytes]) -> None:
        """Keeps a content that is packed already."""
        folder = self._folder(key, "blobs")
        name = folder / digest.hex()
        if name.exists():
            return
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _new_file(folder) as (path, file):
            for piece in pieces:
                file.write(piece)
            file.flush()
            self._add(key, path, name)

    def _add(self, key: str, path: pathlib.Path, name: pathlib.Path) -> None:
        """Gives a content, which is written, its name."""
        path.rename(name)
        self._grow(key, name)
        self._unsynced.setdefault(key, []).append(name)

    def put_manifest(self, key: str, place: int, manifest: bytes) -> None:
        folder = self._folder(key, "manifests")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _new_file(folder) as (path, file):
            file.write(manifest)
            file.flush()
            self._flush(key, path)
            path.rename(folder / str(place))
        self._grow(key, folder / str(place))
        _sync([folder])

    def flush(self, key: str) -> None:
        """Has the contents on the disk that are not yet. Raises OSError."""
        self._flush(key)

    def _flush(self, key: str, *also: pathlib.Path) -> None:
        new = self._unsynced.pop(key, [])
        if len(new) > EACH_SYNCED:
            _sync_all(self._root / key)
        elif new:
            _sync([*new, *also, self._folder(key, "blobs")])
        else:
            _sync(also)

    def manifest(self, key: str, place: int) -> bytes:
        return (self._folder(key, "manifests") / str(place)).read_bytes()

    def places(self, key: str) -> list[int]:
        return sorted(int(name) for name in _names(self._folder(key, "manifests")) if name.isdecimal())

    def keep(self, key: str, places: set[int], digests: set[bytes]) -> None:
        kept = {str(place) for place in places}
        _remove_others(self._folder(key, "manifests"), kept.__contains__)
        self._sizes.pop(key, None)
        names = {digest.hex() for digest in digests}
        _remove_others(self._folder(key, "blobs"), names.__contains__)

    def share(self, source: str, target: str, places: Iterable[int], digests: Iterable[bytes]) -> None:
        for kind, names in (("blobs", [d.hex() for d in digests]), ("manifests", [str(s) for s in places])):
            there = self._folder(target, kind)
            there.mkdir(mode=0o700, parents=True, exist_ok=True)
            copied = [name for name in names if not _link(self._folder(source, kind) / name, there / name)]
            if copied:
                _sync_all(there)
            else:
                _sync([there])  # what the names lead to is on the disk already

    def keys(self, prefix: str) -> list[str]:
        return [name for name in _names(self._root) if name.startswith(prefix)]

    def size_bytes(self, key: str) -> int:
        if key in self._sizes:
            return self._sizes[key]
        total = 0
        for kind in ("blobs", "manifests"):
            for name in _names(self._folder(key, kind)):
                with contextlib.suppress(FileNotFoundError):
                    total += (self._folder(key, kind) / name).stat().st_size
        self._sizes[key] = total
        return total

    def contents_bytes(self, key: str, digests: Iterable[bytes]) -> int:
        folder, total = self._folder(key, "blobs"), 0
        for digest in digests:
            with contextlib.suppress(FileNotFoundError):
                total += (folder / digest.hex()).stat().st_size
        return total

    def ahead(self, key: str, digests: Iterable[bytes]) -> None:
        """They are near."""

    def forget_size(self, key: str) -> None:
        """Others may have changed what a session has here."""
        self._sizes.pop(key, None)

    def _grow(self, key: str, path: pathlib.Path) -> None:
        if key in self._sizes:
            self._sizes[key] += path.stat().st_size

    def remove(self, key: str) -> None:
        self._sizes.pop(key, None)
        self._unsynced.pop(key, None)
        trees.remove(self._root / key)


def pack(content: Iterable[bytes], file: IO[bytes]) -> tuple[bytes, int]:
    """Writes a content packed; its digest and its size."""
    digest, packer, size = hashlib.sha256(), zlib.compressobj(1), 0
    for piece in content:
        digest.update(piece)
        size += len(piece)
        file.write(packer.compress(piece))
    file.write(packer.flush())
    return digest.digest(), size


def unpacked(pieces: Iterator[bytes], digest: bytes) -> Iterator[bytes]:
    """A content from its packed pieces. Raises ValueError if it is damaged."""
    unpacker, found = zlib.decompressobj(), hashlib.sha256()
    try:
        for packed in pieces:
            piece = packed
            while piece and not unpacker.eof:
                data = unpacker.decompress(piece, CHUNK_BYTES)
                piece = unpacker.unconsumed_tail
                found.update(data)
                yield data
    except zlib.error as error:
        raise ValueError(f"a content of a snapshot is damaged: {error}") from error
    if found.digest() != digest:
        raise ValueError("a content of a snapshot is damaged")


@contextlib.contextmanager
def _new_file(folder: pathlib.Path) -> Iterator[tuple[pathlib.Path, IO[bytes]]]:
    """A file of a temporary name, which is removed if something fails."""
    path = folder / f"{secrets.token_hex(8)}{_UNFINISHED}"
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield path, file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _names(folder: pathlib.Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _remove_others(folder: pathlib.Path, is_kept: Callable[[str], bool]) -> None:
    """Half written ones among them: nothing is written meanwhile, as one thread at a time has a session."""
    for name in _names(folder):
        if not is_kept(name):
            (folder / name).unlink(missing_ok=True)


def _link(source: pathlib.Path, target: pathlib.Path) -> bool:
    """A second name for a file that never changes; a copy, and False, if the file system has none."""
    try:
        os.link(source, target)
    except FileExistsError:
        return True
    except FileNotFoundError:
        raise
    except OSError:
        target.write_bytes(source.read_bytes())
        return False
    return True


def _sync(paths: Iterable[pathlib.Path]) -> None:
    """Has files and folders on the disk. The writing of all begins before the first is waited for: a file
    system with a journal then commits once for all of them. Raises OSError.
    """
    with contextlib.ExitStack() as opened:
        descriptors: list[int] = []
        for path in paths:
            descriptors.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            opened.callback(os.close, descriptors[-1])
        for descriptor in descriptors:
            _begin_writing(descriptor)
        for descriptor in descriptors:
            os.fsync(descriptor)


def _begin_writing(descriptor: int) -> None:
    """Only for speed: what cannot be begun, such as a folder, is written by its fsync."""
    _libc.sync_file_range(
        ctypes.c_int(descriptor), ctypes.c_int64(0), ctypes.c_int64(0), ctypes.c_uint(_SYNC_FILE_RANGE_WRITE)
    )


def _sync_all(path: pathlib.Path) -> None:
    """Has everything of the file system on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(ctypes.c_int(descriptor)) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(descriptor)
