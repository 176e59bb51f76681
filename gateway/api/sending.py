"""A file, or a folder as a zip, as a response: a piece at a time, and no faster than its reader takes it.

Guarantees: never more than one piece of a download is in memory; a download ends when its reader has gone,
when their credentials end, and when the session is erased; one that cannot send what it promised breaks the
connection, so that no one takes half a file for a whole one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from email.utils import formatdate
from typing import Final

from msgspec import Struct
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.buckets import Gauge
from gateway.errors import RangeNotSatisfiable, TooManyDownloads
from gateway.files import media, names, ranges
from gateway.files.bandwidth import Bandwidth
from gateway.files.defuse import Defuser
from gateway.files.places import FileThreads
from gateway.files.ranges import ByteSpan
from gateway.files.reading import OpenFile
from gateway.files.times import told_seconds
from gateway.http.scope import carried
from gateway.sessions.services import FaceServices
from gateway.telemetry.metrics import SentKind

RETRY_SECONDS: Final = 2


class Delivery(Struct, frozen=True, kw_only=True):
    """To whom something is sent, and as what."""

    owner: str
    kind: SentKind
    may_go_on: Callable[[], bool]


class Sender:
    """Sends what `FileThreads` read."""

    def __init__(self, services: FaceServices, threads: FileThreads) -> None:
        self._services = services
        self._threads = threads
        settings = services.config.files
        self._downloads = Gauge(settings.downloads_per_owner)
        self._bandwidth = Bandwidth(
            lambda: services.config.files.download_bytes_per_second, monotonic=services.monotonic
        )

    def file(self, request: Request, file: OpenFile, name: str, to: Delivery) -> Response:
        """A file, or the part of it that the request asks for. Raises RangeNotSatisfiable,
        TooManyDownloads.
        """
        kind = to.kind if _may_show(request, name) else "file"
        is_page = kind == "preview" and media.preview(name) == "html"
        headers = _headers(name, kind, file.etag)
        headers["Last-Modified"] = formatdate(told_seconds(file.modified_ns), usegmt=True)
        if ranges.is_known(request.headers.get("if-none-match"), file.etag):
            file.close()
            return Response(status_code=304, headers=headers)
        try:
            span = ranges.wanted(
                None if is_page else request.headers.get("range"),
                size=file.size,
                if_range=request.headers.get("if-range"),
                etag=file.etag,
            )
        except LookupError:
            size = file.size
            file.close()
            carried(request.scope).answer_headers.append(("Content-Range", f"bytes */{size}"))
            raise RangeNotSatisfiable from None
        status, sent = (200, ByteSpan(0, file.size)) if span is None else (206, span)
        if span is not None:
            headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{file.size}"
        headers["Content-Length"] = str(sent.length)
        if request.method == "HEAD":
            file.close()
            return Response(status_code=status, headers=headers)
        try:
            pieces = self._pieces(file, sent, to)
            pieces = _defused(pieces) if is_page else pieces
            return self._sent(pieces, to, status=status, headers=headers, end=file.close)
        except TooManyDownloads:
            file.close()
            raise

    def archive(self, request: Request, pieces: Iterator[bytes], name: str, to: Delivery) -> Response:
        """A zip, whose length nobody knows before its end. Raises TooManyDownloads."""
        headers = _headers(name, to.kind, None)
        if request.method == "HEAD":
            return Response(headers=headers)
        return self._sent(self._zipped(pieces, to), to, status=200, headers=headers, end=lambda: None)

    def _sent(
        self,
        pieces: AsyncIterator[bytes],
        to: Delivery,
        *,
        status: int,
        headers: dict[str, str],
        end: Callable[[], None],
    ) -> Response:
        if not self._downloads.take(to.owner):
            raise TooManyDownloads(retry_after_seconds=RETRY_SECONDS)

        def ended() -> None:
            self._downloads.give(to.owner)
            end()

        self._services.metrics.file_downloads.labels(to.kind).inc()
        return _Download(pieces, status=status, headers=headers, on_end=ended)

    async def _pieces(self, file: OpenFile, span: ByteSpan, to: Delivery) -> AsyncIterator[bytes]:
        at = span.start
        while at < span.end:
            piece = await self._threads.run(to.owner, _read, file, at, span.end - at)
            if not piece or not to.may_go_on():
                raise ClientDisconnect  # what was promised cannot be sent
            at += len(piece)
            await self._paced(to, len(piece))
            yield piece

    async def _zipped(self, pieces: Iterator[bytes], to: Delivery) -> AsyncIterator[bytes]:
        while (piece := await self._threads.run(to.owner, next, pieces, None)) is not None:
            if not to.may_go_on():
                raise ClientDisconnect
            await self._paced(to, len(piece))
            yield piece

    async def _paced(self, to: Delivery, size: int) -> None:
        self._services.metrics.file_bytes.labels(to.kind).inc(size)
        if seconds := self._bandwidth.wait_seconds(to.owner, size):
            await asyncio.sleep(seconds)


class _Download(StreamingResponse):
    """Runs `on_end` however it ends."""

    def __init__(
        self,
        content: AsyncIterator[bytes],
        *,
        status: int,
        headers: dict[str, str],
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(content, status_code=status, headers=headers)
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()


def _may_show(request: Request, name: str) -> bool:
    """An SVG is shown as a picture only, never as a page: entities can hide anything in its XML."""
    return media.preview(name) != "svg" or request.headers.get("sec-fetch-dest") == "image"


async def _defused(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    defuser = Defuser()
    async for piece in pieces:
        yield defuser.feed(piece)
    yield defuser.last()


def _read(file: OpenFile, start: int, length: int) -> bytes:
    try:
        return file.read(start, length)
    except OSError:
        return b""


def _headers(name: str, kind: SentKind, etag: str | None) -> dict[str, str]:
    is_preview = kind == "preview"
    type_of = media.shown_type if is_preview else media.harmless_type
    return {
        "Content-Type": type_of(name),
        "Content-Disposition": names.disposition(
            name.rpartition("/")[2], is_inline=is_preview and media.preview(name) != "none"
        ),
        "Content-Security-Policy": media.SANDBOX if is_preview else media.LOCKED,
        "X-Content-Type-Options": "nosniff",
        "X-DNS-Prefetch-Control": "off",
        "Cache-Control": "no-store",
        **({"ETag": etag, "Accept-Ranges": "bytes"} if etag is not None else {}),
    }
