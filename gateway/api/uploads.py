"""Files in: what people put into the working directory of a session, whole or in parts.

Not yours and not there are the same 404. No worker is started.
"""

from __future__ import annotations

import asyncio
import re
import urllib.parse
from collections.abc import AsyncIterator
from typing import BinaryIO, Final

from msgspec import Struct
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from gateway.config.files import FilesConfig
from gateway.errors import (
    BadRequest,
    BodyTooLarge,
    GatewayError,
    InvalidField,
    RequestTimeout,
    UploadCut,
    UploadElsewhere,
    UploadNotFound,
    WrongMediaType,
)
from gateway.files import sniffing, upload_names, uploads
from gateway.files.arrival import FilesPlace, Placement, StoredFile
from gateway.files.attached import open_file
from gateway.files.uploads import Upload, Uploads
from gateway.http.gate import principal_of
from gateway.http.multipart import Multipart, PartBegun, PartEnded, boundary_of
from gateway.http.operation import Operation, Parameter, json_response
from gateway.http.reading import checked_session_id
from gateway.http.scope import BodyRules, carried
from gateway.principal import Account
from gateway.sessions.manager import SessionManager
from gateway.sessions.services import FaceServices
from gateway.sessions.session import Session

_RANGE: Final = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})")
_SIZE: Final = re.compile(r"[0-9]{1,15}")
SERVED_BYTES: Final = 256 * 1024
"""A file is sent in such pieces."""


class UploadedFile(Struct, frozen=True):
    """A file that was uploaded, or what has arrived of it; a message names it by its `path`."""

    path: str
    """Relative to the working directory."""
    name: str
    received: int
    """Bytes of it that have arrived."""
    size: int | None
    """Of the whole file; null: not known."""
    is_whole: bool
    """True if it is in its place."""
    media_type: str = ""
    etag: str = ""


class UploadList(Struct, frozen=True):
    """What one request uploaded, in its order."""

    files: list[UploadedFile]


class BodySpan(Struct, frozen=True):
    """Which part of a file a request brings."""

    start: int
    end: int | None
    """Behind its last byte; None: whatever comes."""
    total: int | None

    @property
    def is_last(self) -> bool:
        return self.end is None or self.end == self.total


class UploadsFace:
    """The handlers."""

    def __init__(self, manager: SessionManager, services: FaceServices, files: Uploads) -> None:
        self._manager = manager
        self._services = services
        self._uploads = files

    def operations(self) -> list[Operation]:
        """Uploads as operations."""
        one = "/api/sessions/{session_id}"
        path = Parameter(
            name="path",
            schema={"type": "string", "minLength": 1},
            description="The file, relative to the working directory.",
        )
        wished = Parameter(
            name="name",
            schema={"type": "string", "minLength": 1},
            description="Instead of a path: the name of a file that is to go to a free path in uploads/.",
        )
        size = Parameter(
            name="size", schema={"type": "integer", "minimum": 0}, description="Of the whole file."
        )
        part = Parameter(
            name="Content-Range",
            schema={"type": "string"},
            description="`bytes FIRST-LAST/SIZE`: the part of the file that this request brings.",
            place="header",
        )
        conditions = [
            Parameter(name=name, schema={"type": "string"}, description=words, place="header")
            for name, words in (
                ("If-Match", "The ETag that the file must have."),
                ("If-None-Match", "`*`: there must be no such file."),
            )
        ]
        refusals = (400, 404, 408, 409, 412, 413, 415, 507)
        return [
            Operation(
                method="PUT", scope="chat", path=one + "/files/content", handler=self.put_file,
                summary="Store a file, or go on with an upload that was cut",
                raw_body="application/octet-stream", answer=UploadedFile,
                parameters=(path, part, *conditions), errors=refusals,
            ),
            Operation(
                method="POST", scope="chat", path=one + "/uploads", handler=self.upload_files,
                summary="Upload files with a form", raw_body="multipart/form-data", answer=UploadList,
                status=201, errors=refusals,
            ),
            Operation(
                method="GET", scope="chat", path=one + "/uploads", handler=self.show_upload,
                summary="How much of an upload has arrived", answer=UploadedFile,
                parameters=(path, wished, size),
                errors=(400, 404, 409),
            ),
            Operation(
                method="GET", scope="read", path=one + "/uploads/{upload}", handler=self.serve_upload,
                summary="An uploaded file", media_type="application/octet-stream", errors=(404, 409),
                path_schemas={"upload": {"type": "string", "maxLength": 255}},
            ),
        ]  # fmt: skip

    # -- one file -----------------------------------------------------------------------------------------

    async def put_file(self, request: Request) -> Response:
        path = upload_names.checked_path(request.query_params.get("path", ""))
        span, said = _span(request), _content_length(request)
        placement = Placement(
            path=path,
            size=span.total,
            must_match=request.headers.get("if-match", ""),
            must_not_exist=request.headers.get("if-none-match") == "*",
        )
        if span.total is not None and span.total > self._files.file_bytes:
            raise uploads.too_large(path.rpartition("/")[2], self._files.file_bytes)
        incoming = await self._begin(request)
        async with self._uploads.ending(incoming):
            await incoming.prepare((span.total or said or 0) - span.start)
            upload = await incoming.open(placement, goes_on=span.start > 0)
            try:
                await upload.begin_at(span.start)
            except UploadElsewhere:
                await upload.leave()
                raise
            stored = await self._take(request, upload, span)
        return json_response(_told(upload, stored))

    async def _take(self, request: Request, upload: Upload, span: BodySpan) -> StoredFile | None:
        """Takes the part that a request brings; the file if it is whole then. Raises GatewayError; what was
        cut can go on if its size is known.
        """
        try:
            async for data in self._body(request):
                if span.end is not None and upload.received + len(data) > span.end:
                    raise BadRequest("The body is longer than the part that Content-Range names.")
                await upload.write(data)
        except (UploadCut, RequestTimeout):
            if upload.placement.size is not None:
                await upload.leave()
            raise
        if span.end is not None and upload.received < span.end:
            await upload.leave()
            raise UploadCut(f"{upload.received} bytes of the file have arrived; go on from there.")
        if not span.is_last:
            await upload.leave()
            return None
        return await upload.put(await upload.seal())

    async def show_upload(self, request: Request) -> Response:
        """`name` asks where a file of this name may go: to a path that nothing has."""
        name, size = request.query_params.get("name"), _whole_number(request.query_params.get("size"))
        path = upload_names.checked_path(request.query_params.get("path", "")) if name is None else ""
        place = await self._place(request)
        if name is not None:
            path = await self._uploads.free_path(place, upload_names.uploaded_path(name))
        received, is_there = await self._uploads.arrived(place, Placement(path=path, size=size))
        name = path.rpartition("/")[2]
        return json_response(UploadedFile(path, name, received, size, is_there))

    # -- several ------------------------------------------------------------------------------------------

    async def upload_files(self, request: Request) -> Response:
        incoming = await self._begin(request)
        async with self._uploads.ending(incoming):
            parser = Multipart(_boundary(request))
            said = _content_length(request) or 0
            if said > self._files.request_bytes:
                raise BodyTooLarge(f"One request may upload {self._files.request_bytes} bytes.")
            await incoming.prepare(said)
            arrived = await self._parts(request, parser, incoming)
            stored = await _put_all(arrived)
        told = [_told(upload, file) for (upload, _), file in zip(arrived, stored, strict=True)]
        return json_response(UploadList(told), status=201)

    async def _parts(
        self, request: Request, parser: Multipart, incoming: uploads.UploadRequest
    ) -> list[tuple[Upload, str]]:
        """Every file of a form, on the disk but not in its place, with its type. Raises GatewayError."""
        arrived: list[tuple[Upload, str]] = []
        current: Upload | None = None
        async for data in self._body(request):
            for part in parser.feed(data):
                match part:
                    case PartBegun(file_name=str(name)):
                        if len(arrived) >= self._files.files_per_request:
                            raise BodyTooLarge(f"One request may upload {len(arrived)} files.")
                        path = upload_names.uploaded_path(name)
                        current = await incoming.open(Placement(path=path, keeps_others=True))
                    case PartEnded() if current is not None:
                        arrived.append((current, await current.seal()))
                        current = None
                    case bytes() if current is not None:
                        await current.write(part)
        if not parser.is_over:
            raise UploadCut("The form ended before its last boundary; nothing of it was kept.")
        if not arrived:
            raise BadRequest("The form contains no file.")
        return arrived

    # -- reading ------------------------------------------------------------------------------------------

    async def serve_upload(self, request: Request) -> Response:
        """Its own page shows pictures; anything else is saved, never opened."""
        name, place = request.path_params["upload"], await self._place(request)
        loop = asyncio.get_running_loop()
        try:
            file, head, size = await loop.run_in_executor(
                self._uploads.threads, open_file, place, f"{upload_names.UPLOADS}/{name}"
            )
        except OSError:
            raise UploadNotFound from None
        kind = sniffing.type_of(name, head)
        how = "inline" if sniffing.is_image(kind) else "attachment"
        headers = {
            "Content-Length": str(size),
            "Content-Disposition": f"{how}; filename*=UTF-8''{urllib.parse.quote(name)}",
            "Content-Security-Policy": "sandbox; default-src 'none'",
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, no-cache",
        }
        media_type = kind if sniffing.is_image(kind) else sniffing.UNKNOWN
        return StreamingResponse(self._sent(file, size), headers=headers, media_type=media_type)

    async def _sent(self, file: BinaryIO, size: int) -> AsyncIterator[bytes]:
        """So many bytes of a file, though it may change meanwhile; nothing more if it is shorter now."""
        loop = asyncio.get_running_loop()
        try:
            while size > 0:
                data = await loop.run_in_executor(self._uploads.threads, file.read, min(size, SERVED_BYTES))
                if not data:
                    return
                size -= len(data)
                yield data
        finally:
            file.close()

    # -- inner --------------------------------------------------------------------------------------------

    @property
    def _files(self) -> FilesConfig:
        return self._services.config.files

    async def _begin(self, request: Request) -> uploads.UploadRequest:
        """A request that uploads to its session, which is used by it. Raises SessionNotFound,
        QuotaExceeded.
        """
        principal = principal_of(request)
        said = _content_length(request) or 0

        async def begin(session: Session) -> uploads.UploadRequest:
            session.touch()
            session.files.touched()
            account = Account(principal.owner, session.record.key, principal.key_id)
            self._services.quotas.check_bytes(account, said)
            return self._uploads.begin(session.place, on_stored=session.files.touched)

        self._manager.refuse_while_draining()
        session_id = checked_session_id(request.path_params["session_id"])
        _, incoming = await self._manager.do(principal.owner, session_id, begin, is_making=False)
        files = self._files
        carried(request.scope).body_rules = BodyRules(files.request_bytes, files.upload_silence_seconds)
        return incoming

    async def _place(self, request: Request) -> FilesPlace:
        """Where the files of a session lie. Raises SessionNotFound."""

        async def found(session: Session) -> FilesPlace:
            return session.place

        session_id = checked_session_id(request.path_params["session_id"])
        owner = principal_of(request).owner
        return (await self._manager.do(owner, session_id, found, is_making=False))[1]

    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises BodyTooLarge, UploadCut, RequestTimeout."""
        files, size = self._files, 0
        stream = request.stream()
        while True:
            try:
                async with asyncio.timeout(files.upload_silence_seconds):
                    data = await anext(stream, None)
            except TimeoutError:
                words = f"Nothing of the file arrived for {files.upload_silence_seconds:g} seconds."
                raise RequestTimeout(words) from None
            except ClientDisconnect:
                raise UploadCut from None
            if data is None:
                return
            size += len(data)
            if size > files.request_bytes:
                raise BodyTooLarge(f"One request may upload {files.request_bytes} bytes.")
            if data:
                yield data


async def _put_all(arrived: list[tuple[Upload, str]]) -> list[StoredFile]:
    """Puts all files in their places, or none of them. Raises GatewayError."""
    stored: list[StoredFile] = []
    try:
        for upload, media_type in arrived:
            stored.append(await upload.put(media_type))
    except GatewayError:
        for (upload, _), file in zip(arrived, stored, strict=False):
            await upload.take_back(file)
        raise
    return stored


def _told(upload: Upload, stored: StoredFile | None) -> UploadedFile:
    path = stored.path if stored is not None else upload.placement.path
    name = path.rpartition("/")[2]
    if stored is None:
        return UploadedFile(path, name, upload.received, upload.placement.size, is_whole=False)
    return UploadedFile(path, name, stored.size, stored.size, True, stored.media_type, stored.etag)


def _span(request: Request) -> BodySpan:
    """Raises BadRequest."""
    text = request.headers.get("content-range")
    if text is None:
        length = _content_length(request)
        return BodySpan(0, length, length)
    found = _RANGE.fullmatch(text)
    if found is None:
        raise BadRequest("Content-Range is `bytes FIRST-LAST/SIZE`.")
    first, last, total = (int(number) for number in found.groups())
    if not first <= last < total:
        raise BadRequest("Content-Range names no part of a file: FIRST <= LAST < SIZE.")
    return BodySpan(first, last + 1, total)


def _boundary(request: Request) -> bytes:
    """Raises WrongMediaType, BadRequest."""
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise WrongMediaType("Send a form, as curl -F file=@NAME does: multipart/form-data.")
    return boundary_of(kind)


def _content_length(request: Request) -> int | None:
    text = request.headers.get("content-length", "")
    return int(text) if _SIZE.fullmatch(text) else None


def _whole_number(text: str | None) -> int | None:
    """Raises InvalidField."""
    if text is None:
        return None
    if not _SIZE.fullmatch(text):
        raise InvalidField("size is a whole number of bytes.", field=("query", "size"))
    return int(text)
