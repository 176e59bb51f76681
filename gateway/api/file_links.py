"""Short-lived addresses of single files: for an image, a frame, a download, where no credentials can be sent.

A link is signed, opens one file of one session as one kind (to look at, or to keep), for minutes. It ends
with the session, with its maker's key or sign-in, and when their account or tenant is disabled. What it
shows is in a sandbox without an origin: nothing in it runs or asks for anything.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Final

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.files import AskedFile, FileAccess, checked_name, name_mark
from gateway.api.sending import Delivery
from gateway.auth.tickets import Ticket
from gateway.errors import FileLinkNotFound, InvalidField, SessionNotFound
from gateway.events.facts import iso
from gateway.files import media, reading
from gateway.files.media import Preview
from gateway.files.names import encoded, in_query
from gateway.http.gate import Gate, principal_of
from gateway.http.operation import Operation, json_response
from gateway.http.reading import read_body
from gateway.sessions.services import FaceServices

KINDS: Final = ("preview", "download")
TOKEN_SCHEMA: Final = {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,16000}$"}


class FileLinkRequest(Struct):
    """`POST /api/sessions/{id}/files/link`: `path` as in a listing."""

    path: str
    kind: Annotated[str, Meta(extra_json_schema={"enum": list(KINDS)})] = "preview"


class FileLink(Struct, frozen=True):
    """The address of one file, from the gateway's root; anyone who has it may read the file until then."""

    url: str
    expires_at: str
    preview: Preview


class FileLinksFace:
    """The handlers."""

    def __init__(self, files: FileAccess, services: FaceServices, gate: Gate) -> None:
        self._files = files
        self._services = services
        self._gate = gate

    def operations(self) -> list[Operation]:
        """Links to files as operations."""
        return [
            Operation(
                method="POST", path="/api/sessions/{session_id}/files/link", scope="read",
                handler=self.link_file, summary="A short-lived address of one file", body=FileLinkRequest,
                answer=FileLink, status=201, errors=(404, 409),
            ),
            Operation(
                method="GET", path="/api/files/{token}", scope="", handler=self.linked_file,
                summary="The file that a link leads to", media_type="application/octet-stream",
                errors=(404, 409, 416), path_schemas={"token": TOKEN_SCHEMA},
            ),
        ]  # fmt: skip

    async def link_file(self, request: Request) -> Response:
        body = await read_body(request, FileLinkRequest, self._services.config)
        if body.kind not in KINDS:
            raise InvalidField("kind is preview or download - at `$.kind`.", field=("body", "kind"))
        name = in_query(b"path=" + body.path.replace("&", "%26").replace("+", "%2B").encode(), b"path") or ""
        asked = await self._files.asked(request, name=name)
        file = await self._files.run(asked, functools.partial(reading.opened, asked.work, asked.name))
        file.close()
        seconds = self._services.config.files.link_seconds
        token = self._gate.tickets.issue(
            "file",
            seconds=seconds,
            principal=principal_of(request),
            extra={
                "session": asked.record.session_id,
                "key": asked.record.key,
                "path": encoded(asked.name),
                "kind": body.kind,
            },
        )
        self._services.audit.note(
            principal_of(request), "file.linked", target=asked.record.key, detail=name_mark(asked.name)
        )
        ends = iso(self._services.wall_ms() + seconds * 1000)
        return json_response(FileLink(f"/api/files/{token}", ends, media.preview(asked.name)), status=201)

    async def linked_file(self, request: Request) -> Response:
        ticket = self._gate.tickets.read("file", request.path_params["token"])
        if ticket is None or ticket.principal is None or not self._gate.stands(ticket.principal):
            raise FileLinkNotFound
        asked = await self._asked(ticket, ticket.principal.owner)
        file = await self._files.run(asked, functools.partial(reading.opened, asked.work, asked.name))
        is_preview = ticket.extra["kind"] == "preview"
        to = Delivery(
            owner=asked.record.owner,
            kind="preview" if is_preview else "file",
            may_go_on=self._gate.permit_of(asked.record.owner, self._is_good(ticket)),
        )
        response = self._files.sender.file(request, file, asked.name, to)
        if response.status_code < 300 and request.method != "HEAD":
            action = "file.previewed" if is_preview else "file.downloaded"
            detail = name_mark(asked.name)
            self._services.audit.note(ticket.principal, action, target=asked.record.key, detail=detail)
        return response

    def _is_good(self, ticket: Ticket) -> Callable[[], bool]:
        """Whether a download that has begun may go on: it may end later than its link."""
        principal = ticket.principal
        return lambda: principal is not None and self._gate.stands(principal)

    async def _asked(self, ticket: Ticket, owner: str) -> AskedFile:
        """Where the link leads. Raises FileLinkNotFound if the session is gone, or another has its name."""
        try:
            record = await self._files.record(owner, ticket.extra["session"])
        except SessionNotFound:
            raise FileLinkNotFound from None
        if record.key != ticket.extra["key"]:
            raise FileLinkNotFound
        name = in_query(b"path=" + ticket.extra["path"].encode(), b"path") or ""
        return AskedFile(record, await self._files.work(record), checked_name(name))
