"""Contents of snapshots in a bucket: one object each, `PREFIX/KEY/DIGEST`.

Keys for the bucket come from where AWS's own tools look for them: the environment, the instance, the pod.
Small contents are written and read many at a time, because each request takes its time.
"""

from __future__ import annotations

import contextlib
import errno
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from gateway.files.blobs import pack, unpacked
from gateway.files.contents import BATCH_BYTES, PART_BYTES

T = TypeVar("T")

CHECKED: Final = "check"
"""An object that is written and removed, to find out if that can be done."""
AT_ONCE: Final = 16
"""Requests."""
NEAR_BYTES: Final = 256 * 1024
"""A larger content is not read ahead."""
UNASKED: Final = 8
"""So few contents are written without a look whether they are there."""
KNOWN_SESSIONS: Final = 64
"""Of so many sessions it is remembered which contents are there."""
CONNECT_SECONDS: Final = 3
REQUEST_SECONDS: Final = 20
RETRY_SECONDS: Final = 10
"""For so long a request is tried again, before its turn's snapshot is given up for now."""
DELETED_AT_ONCE: Final = 1_000
"""What S3 takes in one request."""


class S3Contents:
    """`Contents`; see the module."""

    def __init__(self, url: str) -> None:
        """`s3://BUCKET/PREFIX?endpoint=URL&region=NAME`; both of the query may be left out."""
        parts = urlsplit(url)
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        self._store = S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            config={name: value for name, value in options.items() if name in ("endpoint", "region")},
            client_options={
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                "timeout": timedelta(seconds=REQUEST_SECONDS),
                "allow_http": options.get("endpoint", "").startswith("http://"),
            },
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
        )
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="s3")
        self._waiting: dict[str, dict[bytes, bytes]] = {}
        self._near: dict[str, dict[bytes, bytes]] = {}
        self._known: OrderedDict[str, dict[bytes, int]] = OrderedDict()
        """By session: contents that are there, and their sizes."""
        self._lock = threading.Lock()

    def check(self) -> None:
        with _worded():
            obstore.put(self._store, CHECKED, b"agent-gateway")
            obstore.delete(self._store, CHECKED)

    def close(self) -> None:
        self._threads.shutdown()

    def put(self, key: str, content: Iterable[bytes]) -> tuple[bytes, int]:
        with tempfile.SpooledTemporaryFile(BATCH_BYTES) as file:
            digest, size = pack(content, file)
            file.seek(0)
            self._put(key, digest, file.read())
        return digest, size

    def put_packed(self, key: str, digest: bytes, pieces: Iterable[bytes]) -> None:
        self._put(key, digest, b"".join(pieces))

    def _put(self, key: str, digest: bytes, body: bytes) -> None:
        waiting = self._waiting.setdefault(key, {})
        waiting[digest] = body
        if sum(map(len, waiting.values())) >= BATCH_BYTES:
            self.flush(key)

    def flush(self, key: str) -> None:
        waiting = self._waiting.pop(key, None)
        if not waiting:
            return
        known = self._there(key) if len(waiting) > UNASKED else self._known.get(key, {})
        new = {digest: body for digest, body in waiting.items() if digest not in known}
        self._each(lambda one: obstore.put(self._store, _path(key, one[0]), one[1]), new.items())
        if key in self._known:
            self._known[key] |= {digest: len(body) for digest, body in new.items()}

    def _there(self, key: str) -> dict[bytes, int]:
        """What a session has there."""
        with self._lock:
            if (known := self._known.get(key)) is not None:
                self._known.move_to_end(key)
                return known
        with _worded():
            found = {
                bytes.fromhex(one["path"].rpartition("/")[2]): one["size"]
                for batch in obstore.list(self._store, prefix=key)
                for one in batch
            }
        with self._lock:
            self._known[key] = found
            while len(self._known) > KNOWN_SESSIONS:
                self._known.popitem(last=False)
        return found

    def get(self, key: str, digest: bytes) -> Iterator[bytes]:
        return unpacked(self._packed(key, digest), digest)

    def _packed(self, key: str, digest: bytes) -> Iterator[bytes]:
        for near in (self._near, self._waiting):
            if (body := near.get(key, {}).get(digest)) is not None:
                yield body
                return
        with _worded(may_be_missing=True):
            found = obstore.get(self._store, _path(key, digest))
            for piece in found.stream(min_chunk_size=PART_BYTES):
                yield bytes(piece)

    def ahead(self, key: str, digests: Collection[bytes]) -> None:
        if not digests:
            self._near.pop(key, None)
            return
        there = self._there(key)
        small = [one for one in digests if there.get(one, NEAR_BYTES + 1) <= NEAR_BYTES]
        bodies = self._each(lambda digest: bytes(obstore.get(self._store, _path(key, digest)).bytes()), small)
        self._near[key] = dict(zip(small, bodies, strict=True))

    def keep(self, key: str, digests: set[bytes]) -> None:
        self.forget(key)
        self._delete(key, [one for one in self._there(key) if one not in digests])

    def _delete(self, key: str, digests: list[bytes]) -> None:
        self._known.pop(key, None)  # also if only a part of it is done, or nobody hears that it was
        with _worded():
            for first in range(0, len(digests), DELETED_AT_ONCE):
                some = digests[first : first + DELETED_AT_ONCE]
                obstore.delete(self._store, [_path(key, digest) for digest in some])

    def share(self, source: str, target: str, digests: Collection[bytes]) -> None:
        self._known.pop(target, None)
        self._each(
            lambda digest: obstore.copy(self._store, _path(source, digest), _path(target, digest)), digests
        )

    def size_bytes(self, key: str, digests: Collection[bytes] | None = None) -> int:
        there = self._there(key)
        return sum(there.values()) if digests is None else sum(there.get(one, 0) for one in digests)

    def remove(self, key: str) -> None:
        self.forget(key)
        self._delete(key, list(self._there(key)))

    def forget(self, key: str) -> None:
        self._waiting.pop(key, None)
        self._near.pop(key, None)
        self._known.pop(key, None)

    def _each(self, act: Callable[[Any], T], of: Iterable[Any]) -> list[T]:
        """Does it to each, several at a time. Raises OSError."""

        def worded(one: Any) -> T:
            with _worded():
                return act(one)

        return list(self._threads.map(worded, of))


def _path(key: str, digest: bytes) -> str:
    return f"{key}/{digest.hex()}"


@contextlib.contextmanager
def _worded(*, may_be_missing: bool = False) -> Iterator[None]:
    """What the bucket says, as OSError in words; without the address, which may have a secret in it. Only
    what `may_be_missing` is FileNotFoundError: a session's files are not gone if the bucket is.
    """
    try:
        yield
    except FileNotFoundError as error:
        if may_be_missing:
            raise FileNotFoundError(errno.ENOENT, "a content is missing in the bucket") from error
        raise OSError(errno.EIO, "the bucket is not there") from error
    except PermissionError as error:
        raise OSError(errno.EIO, "the bucket refuses this gateway's keys") from error
    except (BaseError, OSError) as error:
        raise OSError(errno.EIO, f"the bucket does not answer ({type(error).__name__})") from error
