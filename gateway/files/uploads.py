"""Uploads: files that people put into a session's working directory.

Guarantees: a file is never in memory as a whole; a slow sender holds no thread and no lock; whoever erases a
session's files waits for what is being written, and nothing is written afterwards; of two requests that go on
with one upload the newer one does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from gateway.config.files import FilesConfig
from gateway.errors import (
    FileTooLarge,
    FileTypeRefused,
    RateLimited,
    SessionDiskFull,
    SessionEnded,
    UploadElsewhere,
)
from gateway.events.facts import Attachment
from gateway.files import arrival, attached, sniffing
from gateway.files.arrival import Arrival, FilesPlace, Placement, StoredFile
from gateway.files.attached import Seen, Shown
from gateway.workers.trees import TooMany
from gateway.workers.watchdog import measure
from gateway.workers.workspace import Workspaces

T = TypeVar("T")

THREADS: Final = 4
"""Of their own: a disk that hangs holds up no other work of the gateway."""
BATCH_BYTES: Final = 1024 * 1024
"""So much of a file is written at once."""
AT_ONCE: Final = 16
"""Uploads of one session that run at the same time."""
MEGABYTE: Final = 1024 * 1024


class Upload:
    """One file on its way, and what is in memory of it."""

    def __init__(self, request: UploadRequest, placement: Placement) -> None:
        self._request = request
        self.placement = placement
        self._arrival = Arrival(request.place, placement)
        self._batch = bytearray()
        self._limit = request.files.file_bytes
        self._is_checked = False
        self.is_replaced = False
        """Whether a newer request goes on with it."""

    @property
    def received(self) -> int:
        """Bytes of it that have arrived."""
        return self._arrival.received + len(self._batch)

    async def open(self, *, goes_on: bool = False) -> None:
        """Raises GatewayError."""
        if self.placement.size is not None:
            self._check_size(self.placement.size)
        kept = self._request.files.partial_hours * 3600
        await self._request.do(lambda: self._arrival.open(goes_on=goes_on, kept_seconds=kept))

    async def begin_at(self, start: int) -> None:
        """Goes on at this byte. Raises UploadElsewhere, and what the disk refuses."""
        if start > self._arrival.received:
            words = f"{self._arrival.received} bytes of this upload have arrived; go on from there."
            raise UploadElsewhere(words)
        if start < self._arrival.received:
            await self._request.do(lambda: self._arrival.begin_at(start))

    async def write(self, data: bytes) -> None:
        """Takes what has arrived. Raises GatewayError."""
        self._batch += data
        self._check_size(self.received)
        if len(self._batch) >= BATCH_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        batch, self._batch = self._batch, bytearray()
        if self.is_replaced:
            raise UploadElsewhere("A newer request goes on with this upload.")
        if not self._is_checked and self._arrival.received == 0:
            self._check_type(sniffing.type_of(self._arrival.name, bytes(batch[: sniffing.HEAD_BYTES])))
        self._is_checked = True
        self._request.take(len(batch))
        await self._request.do(lambda: self._arrival.write(batch))

    async def seal(self) -> str:
        """All of it has arrived; its type. Raises GatewayError."""
        if self._batch:
            await self._flush()
        media_type = await self._request.do(self._arrival.seal)
        self._check_type(media_type)
        return media_type

    async def put(self, media_type: str) -> StoredFile:
        """Puts it in its place. Raises GatewayError."""
        if self.is_replaced:
            raise UploadElsewhere("A newer request goes on with this upload.")
        stored = await self._request.do(lambda: self._arrival.put(media_type))
        self._request.grown += stored.size - stored.replaced
        self._request.on_stored()  # it may have taken longer than a turn
        return stored

    async def take_back(self, stored: StoredFile) -> None:
        """Removes it from its place."""
        await self._request.do(lambda: self._arrival.take_back(stored))
        self._request.grown -= stored.size

    async def leave(self) -> None:
        """Keeps what has arrived, so that it can go on."""
        batch, self._batch = self._batch, bytearray()
        if batch and not self.is_replaced:
            self._request.take(len(batch))
            await self._request.do(lambda: self._arrival.write(batch))
        await self._request.do(self._arrival.leave)

    async def drop(self) -> None:
        """Removes what has arrived."""
        self._batch.clear()
        last = self._arrival.close if self.is_replaced else self._arrival.drop
        await self._request.last(last)

    def _check_size(self, size: int) -> None:
        if size > self._limit:
            raise too_large(self._arrival.name, self._limit)

    def _check_type(self, media_type: str) -> None:
        if not sniffing.is_allowed(media_type, self._request.files.types):
            allowed = ", ".join(self._request.files.types)
            words = f"{self._arrival.name} is of the type {media_type}. Accepted here: {allowed}."
            raise FileTypeRefused(words)


class UploadRequest:
    """What one request uploads to a session."""

    def __init__(
        self,
        uploads: Uploads,
        place: FilesPlace,
        files: FilesConfig,
        *,
        on_stored: Callable[[], None],
        on_arrived: Callable[[int], None],
    ) -> None:
        self._uploads = uploads
        self.on_stored = on_stored
        self._on_arrived = on_arrived
        self._arrived = 0
        self.grown = 0
        """Bytes more in the session's files, or less, by what is in its place."""
        self.allocated: int | None = None
        """What the session's files took when it began; None: that was not measured."""
        self.place = place
        self.files = files
        self.is_stopped = False
        """Whether the session's files are about to be erased."""
        self._left = 0
        self._work: set[asyncio.Future[Any]] = set()
        self._open: list[Upload] = []

    async def prepare(self, size: int) -> None:
        """Makes the session's directories, and checks that so many bytes fit. Raises GatewayError."""
        await self.do(lambda: self._uploads.make(self.place))
        self.allocated = await self.do(lambda: _allocated(self.place))
        self._left = self.place.disk_bytes - self.allocated if self.allocated is not None else 2**62
        self._check_room(size)

    async def open(self, placement: Placement, *, goes_on: bool = False) -> Upload:
        """Begins a file, or goes on with one. Raises GatewayError."""
        upload = Upload(self, placement)
        self._uploads.replace(self.place.key, upload)
        self._open.append(upload)
        await upload.open(goes_on=goes_on)
        return upload

    def take(self, size: int) -> None:
        """So many bytes more. Raises SessionDiskFull, QuotaExceeded."""
        self._check_room(size)
        self._on_arrived(self._arrived + size)
        self._arrived += size
        self._left -= size

    def _check_room(self, size: int) -> None:
        if size > self._left:
            raise SessionDiskFull

    async def do(self, act: Callable[[], T]) -> T:
        """Does something on the disk. Raises SessionEnded if the session is being erased."""
        if self.is_stopped:
            raise SessionEnded
        return await self.last(act)

    async def last(self, act: Callable[[], T]) -> T:
        """The same at the end of a request, when the session may be gone."""
        future = asyncio.get_running_loop().run_in_executor(self._uploads.threads, act)
        self._work.add(future)
        future.add_done_callback(self._work.discard)
        return await asyncio.shield(future)

    async def stop(self) -> None:
        """Nothing more is written; returns when what was being written is."""
        self.is_stopped = True
        if self._work:
            await asyncio.wait(set(self._work))

    async def close(self) -> None:
        """Lets go of what neither arrived nor was kept, once nothing is being written."""
        if self._work:
            await asyncio.wait(set(self._work))
        for upload in self._open:
            await upload.drop()
            self._uploads.forget(self.place.key, upload)


class Uploads:
    """See the module."""

    def __init__(self, workspaces: Workspaces, files: Callable[[], FilesConfig]) -> None:
        self._workspaces = workspaces
        self._files = files
        self._requests: dict[str, set[UploadRequest]] = {}
        self._running: dict[tuple[str, str, int], Upload] = {}
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="uploads")

    def begin(
        self, place: FilesPlace, *, on_stored: Callable[[], None], on_arrived: Callable[[int], None]
    ) -> UploadRequest:
        """A request that uploads to a session. `on_stored` hears of each file that is in its place,
        `on_arrived` how many bytes there are before they are written; it may refuse them. Raises RateLimited.
        Not to be awaited: whoever erases the session from now on knows of it.
        """
        running = self._requests.setdefault(place.key, set())
        if len(running) >= AT_ONCE:
            raise RateLimited(f"{AT_ONCE} uploads of this session are running.", retry_after_seconds=1)
        request = UploadRequest(self, place, self._files(), on_stored=on_stored, on_arrived=on_arrived)
        running.add(request)
        return request

    @asynccontextmanager
    async def ending(self, request: UploadRequest) -> AsyncIterator[UploadRequest]:
        """Ends a request with the block."""
        try:
            yield request
        finally:
            try:
                await request.close()
            finally:
                running = self._requests[request.place.key]
                running.discard(request)
                if not running:
                    del self._requests[request.place.key]

    def are_under_way(self, key: str) -> bool:
        """Whether files of this session arrive."""
        return bool(self._requests.get(key))

    async def stop(self, key: str) -> None:
        """The files of a session are about to be erased: returns when nothing is written there any more."""
        for request in list(self._requests.get(key, ())):
            await request.stop()

    async def arrived(self, place: FilesPlace, placement: Placement) -> tuple[int, bool]:
        """How much has arrived of an upload, and if there is a file in its place. Raises GatewayError."""
        return await self._in_thread(lambda: arrival.arrived(place, placement))

    async def free_path(self, place: FilesPlace, path: str) -> str:
        """The path, or with a number the first that nothing has. Raises GatewayError."""
        return await self._in_thread(lambda: arrival.free_path(place, path))

    async def attachments(self, place: FilesPlace, paths: Sequence[str]) -> tuple[Attachment, ...]:
        """What the files that a message names are. Raises AttachmentRefused, BadFileName."""
        return await self._in_thread(lambda: attached.attachments(place, paths, self._files()))

    async def seen(self, place: FilesPlace, files: Sequence[Attachment], shown: Shown) -> list[Seen]:
        """What an agent is shown of a message's files."""
        return await self._in_thread(lambda: attached.seen(place, files, shown, self._files()))

    async def _in_thread(self, act: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.threads, act)

    def make(self, place: FilesPlace) -> None:
        """Makes the session's directories if there are none. Raises GatewayError. Waits for the disk."""
        try:
            self._workspaces.make(place.key, place.uid)
        except OSError as error:
            raise arrival.refusal_of(error, "uploads") from None

    def replace(self, key: str, upload: Upload) -> None:
        """From now on this one goes on with an upload, and one that did before does not."""
        if upload.placement.size is None or upload.placement.keeps_others:
            return
        name = (key, upload.placement.path, upload.placement.size)
        before = self._running.get(name)
        if before is not None:
            before.is_replaced = True
        self._running[name] = upload

    def forget(self, key: str, upload: Upload) -> None:
        """It has ended."""
        name = (key, upload.placement.path, upload.placement.size or 0)
        if self._running.get(name) is upload:
            del self._running[name]


def _allocated(place: FilesPlace) -> int | None:
    """How much the session's files take, if there is a limit to that. Raises SessionDiskFull."""
    if not place.disk_bytes:
        return None
    try:
        return measure(place.home, place.work, files=place.files).allocated_bytes
    except TooMany:
        raise SessionDiskFull("This session has more files than it may. Delete some.") from None


def too_large(name: str, limit: int) -> FileTooLarge:
    """For a file that is larger than one may be."""
    return FileTooLarge(f"{name} is larger than the {limit / MEGABYTE:.3g} MB that a file may be.")
