"""Files in: what people put into the working directory of a session, whole or in parts.

Not yours and not there are the same 404. No worker is started.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import BinaryIO, Final

from msgspec import Struct
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from gateway.api import upload_heads
from gateway.api.files import name_mark
from gateway.auth.quotas import StoredShare
from gateway.config.files import FilesConfig
from gateway.errors import (
    BadRequest,
    BodyTooLarge,
    GatewayError,
    RequestTimeout,
    UploadCut,
    UploadElsewhere,
    UploadNotFound,
)
from gateway.files import media, names, sniffing, upload_names, uploads
from gateway.files.arrival import FilesPlace, Placement, StoredFile
from gateway.files.attached import open_file
from gateway.files.uploads import Upload, Uploads
from gateway.http.gate import principal_of
from gateway.http.multipart import Multipart, PartBegun, PartEnded
from gateway.http.operation import Operation, Parameter, json_response
from gateway.http.reading import checked_session_id
from gateway.http.scope import BodyRules, carried
from gateway.principal import Account
from gateway.sessions.manager import SessionManager
from gateway.sessions.services import FaceServices
from gateway.sessions.session import Session

log = logging.getLogger(__name__)

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
        span, said = upload_heads.span_of(request), upload_heads.content_length(request)
        placement = Placement(
            path=path,
            size=span.total,
            must_match=request.headers.get("if-match", ""),
            must_not_exist=request.headers.get("if-none-match") == "*",
        )
        if span.total is not None and span.total > self._files.file_bytes:
            raise uploads.too_large(path.rpartition("/")[2], self._files.file_bytes)
        async with self._incoming(request, span.total or said or 0) as incoming:
            await incoming.prepare((span.total or said or 0) - span.start)
            upload = await incoming.open(placement, goes_on=span.start > 0)
            try:
                await upload.begin_at(span.start)
            except UploadElsewhere:
                await upload.leave()
                raise
            stored = await self._take(request, upload, span)
        if stored is not None:
            self._note(request, incoming, stored)
        return json_response(_told(upload, stored))

    async def _take(self, request: Request, upload: Upload, span: upload_heads.BodySpan) -> StoredFile | None:
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
        name = request.query_params.get("name")
        size = upload_heads.whole_number(request.query_params.get("size"))
        path = upload_names.checked_path(request.query_params.get("path", "")) if name is None else ""
        place = await self._place(request)
        if name is not None:
            path = await self._uploads.free_path(place, upload_names.uploaded_path(name))
        received, is_there = await self._uploads.arrived(place, Placement(path=path, size=size))
        name = path.rpartition("/")[2]
        return json_response(UploadedFile(path, name, received, size, is_there))

    # -- several ------------------------------------------------------------------------------------------

    async def upload_files(self, request: Request) -> Response:
        said = upload_heads.content_length(request) or 0
        async with self._incoming(request, said) as incoming:
            parser = Multipart(upload_heads.boundary(request))
            if said > self._files.request_bytes:
                raise BodyTooLarge(f"One request may upload {self._files.request_bytes} bytes.")
            await incoming.prepare(said)
            arrived = await self._parts(request, parser, incoming)
            stored = await _put_all(arrived)
        for file in stored:
            self._note(request, incoming, file)
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
        headers = {
            "Content-Length": str(size),
            "Content-Disposition": names.disposition(name, is_inline=sniffing.is_image(kind)),
            "Content-Security-Policy": "sandbox; default-src 'none'",
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, no-cache",
        }
        is_image = sniffing.is_image(kind)
        media_type = kind if is_image else media.BYTES
        if request.method != "HEAD":
            action = "file.previewed" if is_image else "file.downloaded"
            detail = name_mark(f"{upload_names.UPLOADS}/{name}")
            self._services.audit.note(principal_of(request), action, target=place.key, detail=detail)
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

    @contextlib.asynccontextmanager
    async def _incoming(self, request: Request, size: int) -> AsyncIterator[uploads.UploadRequest]:
        """A request that uploads about `size` bytes to its session, which is used by it: they count as stored
        from now on, and what is stored in the end after that. Raises SessionNotFound, QuotaExceeded.
        """
        principal, quotas, counted = principal_of(request), self._services.quotas, 0

        async def begin(session: Session) -> tuple[uploads.UploadRequest, StoredShare]:
            session.touch()
            await session.files.bring()
            session.files.touched()
            account = Account(principal.owner, session.record.key, principal.key_id)
            share = StoredShare(quotas, account, session_bytes=session.record.stored_bytes)
            share.reach(size)
            nonlocal counted
            counted = session.record.uploaded_bytes
            try:
                incoming = self._uploads.begin(
                    session.place, on_stored=session.files.touched, on_arrived=share.reach
                )
            except GatewayError:
                share.end()
                raise
            return incoming, share

        self._manager.refuse_while_draining()
        session_id = checked_session_id(request.path_params["session_id"])
        _, (incoming, share) = await self._manager.do(principal.owner, session_id, begin, is_making=False)
        files = self._files
        carried(request.scope).body_rules = BodyRules(files.request_bytes, files.upload_silence_seconds)
        try:
            async with self._uploads.ending(incoming):
                yield incoming
        finally:
            if incoming.grown:
                await self._count(principal.owner, session_id, incoming, counted)
            share.end()

    async def _count(
        self, owner: str, session_id: str, incoming: uploads.UploadRequest, counted: int
    ) -> None:
        """What is stored counts as the session's, in which `counted` was uploaded before. The session may
        have left memory meanwhile, or be gone.
        """
        try:
            session = await self._manager.find(owner, session_id)
            if session is not None and session.record.key == incoming.place.key:
                session.files.changed()
                await session.count_upload(incoming.grown, counted=counted, most=incoming.allocated)
        except GatewayError as error:
            log.warning("session %s: an upload is not counted: %s", incoming.place.key, error)

    def _note(self, request: Request, incoming: uploads.UploadRequest, stored: StoredFile) -> None:
        """A file is in its place."""
        detail = f"{name_mark(stored.path)} {stored.size} bytes"
        audit = self._services.audit
        audit.note(principal_of(request), "file.uploaded", target=incoming.place.key, detail=detail)
        self._services.metrics.file_uploads.inc()

    async def _place(self, request: Request) -> FilesPlace:
        """Where the files of a session lie. Raises SessionNotFound."""

        async def found(session: Session) -> FilesPlace:
            await session.files.bring()
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
            self._services.metrics.file_received_bytes.inc(len(data))
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
