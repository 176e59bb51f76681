"""Where contents of snapshots are kept that several gateways reach: in their store, or in a folder that all
of them have.

Of each session its own, as in `FolderBlobs`. All methods wait, and raise OSError; nothing here is called on
the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pathlib
import tempfile
from collections.abc import Collection, Coroutine, Iterable, Iterator
from typing import IO, Any, Final, Protocol, TypeVar

from gateway.errors import GatewayError, StoreFull
from gateway.files.blobs import FolderBlobs, pack, unpacked
from gateway.stores.files import ContentPart, FileStore

T = TypeVar("T")

PART_BYTES: Final = 256 * 1024
"""Of a content in the store: what is read at a time, for 64 files, is 16 MiB at most."""
BATCH_BYTES: Final = 4 * 1024 * 1024
"""Small contents that are written together, and the pieces of a large one."""
BATCH_PARTS: Final = 2_000
WAIT_SECONDS: Final = 60.0
"""How long one request to the store may take: a batch over a slow line."""


class Contents(Protocol):
    """Contents of sessions by their digests; see the module."""

    def check(self) -> None:
        """Writes something and removes it. Raises OSError, in words."""

    def put(self, key: str, content: Iterable[bytes]) -> tuple[bytes, int]:
        """Keeps a content; its digest and its size. It is there when `flush` has returned."""

    def put_packed(self, key: str, digest: bytes, pieces: Iterable[bytes]) -> None:
        """Keeps one that is packed already."""

    def flush(self, key: str) -> None:
        """Has everything there that was put."""

    def get(self, key: str, digest: bytes) -> Iterator[bytes]:
        """A content, piece by piece. Raises FileNotFoundError, ValueError if it is damaged."""

    def ahead(self, key: str, digests: Collection[bytes]) -> None:
        """These are got next."""

    def keep(self, key: str, digests: set[bytes]) -> None:
        """Removes every other."""

    def share(self, source: str, target: str, digests: Collection[bytes]) -> None:
        """Another session has these, too."""

    def size_bytes(self, key: str, digests: Collection[bytes] | None = None) -> int:
        """What these take; None: all of the session."""

    def remove(self, key: str) -> None:
        """Removes all of a session."""

    def forget(self, key: str) -> None:
        """What is remembered of a session may be true no longer: another gateway had it."""

    def close(self) -> None:
        """Ends what runs."""


class Bridge:
    """Asks the store, which lives on the loop, from a thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Called on the loop."""
        self._loop = asyncio.get_running_loop()

    def __call__(self, asked: Coroutine[Any, Any, T]) -> T:
        """What the store answers. Raises OSError with its words."""
        if self._loop is None or self._loop.is_closed():
            asked.close()
            raise OSError(errno.ESHUTDOWN, "the store is closed")
        future = asyncio.run_coroutine_threadsafe(asked, self._loop)
        try:
            return future.result(WAIT_SECONDS)
        except TimeoutError as error:
            future.cancel()
            raise OSError(errno.ETIMEDOUT, "the store did not answer in time") from error
        except GatewayError as error:
            code = errno.ENOSPC if isinstance(error, StoreFull) else errno.EIO
            raise OSError(code, error.message.removesuffix(".")) from error


class StoreContents:
    """In the store: packed as a whole, cut into parts, the small ones many at a time."""

    def __init__(self, store: FileStore, ask: Bridge) -> None:
        self._store = store
        self._ask = ask
        self._waiting: dict[str, dict[bytes, bytes]] = {}
        """By session: contents that are not written yet."""
        self._near: dict[str, dict[bytes, bytes]] = {}
        """By session: contents that were read together."""

    def check(self) -> None:
        """It is there with the store."""

    def close(self) -> None:
        """It is closed with the store."""

    def put(self, key: str, content: Iterable[bytes]) -> tuple[bytes, int]:
        with tempfile.SpooledTemporaryFile(BATCH_BYTES) as file:
            digest, size = pack(content, file)
            file.seek(0)
            self._put(key, digest, file)
        return digest, size

    def put_packed(self, key: str, digest: bytes, pieces: Iterable[bytes]) -> None:
        with tempfile.SpooledTemporaryFile(BATCH_BYTES) as file:
            for piece in pieces:
                file.write(piece)
            file.seek(0)
            self._put(key, digest, file)

    def _put(self, key: str, digest: bytes, packed: IO[bytes]) -> None:
        body = packed.read(PART_BYTES)
        following = packed.read(PART_BYTES)
        if not following:
            waiting = self._waiting.setdefault(key, {})
            waiting[digest] = body
            if len(waiting) >= BATCH_PARTS or sum(map(len, waiting.values())) >= BATCH_BYTES:
                self.flush(key)
        elif self._ask(self._store.missing(key, [digest])):
            self._put_large(key, digest, body, following, packed)

    def _put_large(self, key: str, digest: bytes, body: bytes, following: bytes, packed: IO[bytes]) -> None:
        parts: list[ContentPart] = []
        number = 0
        while body:
            parts.append(ContentPart(digest, number, not following, body))
            if len(parts) * PART_BYTES >= BATCH_BYTES or not following:
                self._ask(self._store.put_parts(key, parts))
                parts = []
            number, body, following = number + 1, following, packed.read(PART_BYTES)

    def flush(self, key: str) -> None:
        waiting = self._waiting.pop(key, None)
        if not waiting:
            return
        missing = self._ask(self._store.missing(key, list(waiting)))
        parts = [ContentPart(one, 0, True, body) for one, body in waiting.items() if one in missing]
        if parts:
            self._ask(self._store.put_parts(key, parts))

    def get(self, key: str, digest: bytes) -> Iterator[bytes]:
        return unpacked(self._packed(key, digest), digest)

    def _packed(self, key: str, digest: bytes) -> Iterator[bytes]:
        for near in (self._near, self._waiting):
            if (body := near.get(key, {}).get(digest)) is not None:
                yield body
                return
        first, count, is_last = 0, BATCH_BYTES // PART_BYTES, False
        while not is_last:
            parts = self._ask(self._store.parts(key, digest, first=first, count=count))
            if not parts:
                raise FileNotFoundError(errno.ENOENT, "a content of a snapshot is missing")
            for part in parts:
                yield part.body
            first, is_last = first + len(parts), parts[-1].is_last

    def ahead(self, key: str, digests: Collection[bytes]) -> None:
        if digests:
            self._near[key] = self._ask(self._store.small(key, list(digests)))
        else:
            self._near.pop(key, None)

    def keep(self, key: str, digests: set[bytes]) -> None:
        self._waiting.pop(key, None)
        self._ask(self._store.keep_contents(key, digests))

    def share(self, source: str, target: str, digests: Collection[bytes]) -> None:
        self._ask(self._store.share_contents(source, target, digests))

    def size_bytes(self, key: str, digests: Collection[bytes] | None = None) -> int:
        return self._ask(self._store.contents_bytes(key, digests))

    def remove(self, key: str) -> None:
        self.forget(key)  # the rows go with the manifests

    def forget(self, key: str) -> None:
        self._waiting.pop(key, None)
        self._near.pop(key, None)


class FolderContents:
    """In a folder that all gateways have, such as a volume that is mounted everywhere. It must be there: made
    by a gateway, it would be on that one's own disk if the volume is not mounted.
    """

    def __init__(self, root: pathlib.Path) -> None:
        self._root = root
        self._blobs = FolderBlobs(root)

    def check(self) -> None:
        check_folder(self._root)
        with _of_the_place(), tempfile.TemporaryFile(dir=self._root):
            pass

    def close(self) -> None:
        """Nothing runs."""

    def put(self, key: str, content: Iterable[bytes]) -> tuple[bytes, int]:
        check_folder(self._root)
        with _of_the_place():
            return self._blobs.put(key, content)

    def put_packed(self, key: str, digest: bytes, pieces: Iterable[bytes]) -> None:
        check_folder(self._root)
        self._blobs.put_packed(key, digest, pieces)

    def flush(self, key: str) -> None:
        self._blobs.flush(key)

    def get(self, key: str, digest: bytes) -> Iterator[bytes]:
        try:
            yield from self._blobs.get(key, digest)
        except FileNotFoundError:
            check_folder(self._root)  # else every file of the session were taken for lost
            raise

    def ahead(self, key: str, digests: Collection[bytes]) -> None:
        """They are near."""

    def keep(self, key: str, digests: set[bytes]) -> None:
        self._blobs.keep(key, set(), digests)

    def share(self, source: str, target: str, digests: Collection[bytes]) -> None:
        if digests:
            self._blobs.share(source, target, (), digests)

    def size_bytes(self, key: str, digests: Collection[bytes] | None = None) -> int:
        return self._blobs.size_bytes(key) if digests is None else self._blobs.contents_bytes(key, digests)

    def remove(self, key: str) -> None:
        self._blobs.remove(key)

    def forget(self, key: str) -> None:
        self._blobs.forget_size(key)


@contextlib.contextmanager
def _of_the_place() -> Iterator[None]:
    """It is no file of the session that is not there, or may not be read."""
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        raise OSError(errno.EIO, f"{error.strerror} ({error.filename})") from error


def check_folder(root: pathlib.Path) -> None:
    """Raises OSError, in words, if a shared folder is not there or cannot be written."""
    if not root.is_dir():
        raise OSError(errno.EIO, f"the folder {root} is not there: is it mounted?")
    if not os.access(root, os.W_OK | os.X_OK):
        raise OSError(errno.EIO, f"the folder {root} cannot be written")
