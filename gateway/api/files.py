"""Files out: what is in a session's working directory, read by its owner; docs/files.md.

Nothing here starts a worker: the files of a session that is parked, or in the store only, are read as those
of one that runs. A session that never had files is an empty folder. Not yours and not there are the same
404.
"""

from __future__ import annotations

import errno
import functools
import hashlib
from collections.abc import Callable
from typing import Final, TypeVar

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.sending import Delivery, Sender
from gateway.errors import (
    ArchiveTooLarge,
    FileNotReadable,
    GatewayError,
    InvalidField,
    NoSuchFile,
    SessionNotFound,
)
from gateway.files import archive, reading, tree
from gateway.files.beneath import Unsafe, parts_of
from gateway.files.media import BYTES
from gateway.files.names import encoded, in_query
from gateway.files.places import FileThreads, WorkFolder, work_folder
from gateway.files.snapshots import Snapshots
from gateway.files.tree import FileEntry, FileListing
from gateway.http.gate import Gate, principal_of
from gateway.http.operation import Operation, Parameter, json_response
from gateway.http.reading import checked_session_id, query_int
from gateway.sessions.files import brought_to_read
from gateway.sessions.manager import SessionManager
from gateway.sessions.services import FaceServices
from gateway.stores.contract import SessionRecord
from gateway.workers.workspace import Workspaces

T = TypeVar("T")

PATH: Final = Parameter(
    name="path",
    schema={"type": "string"},
    description="From the working directory, percent-encoded byte for byte; absent: the directory itself.",
)
RANGE: Final = Parameter(
    name="Range", schema={"type": "string"}, description="One range of bytes (RFC 9110).", place="header"
)
LIMIT: Final = 1_000


class AskedFile(Struct, frozen=True):
    """Which file of which session a request is about."""

    record: SessionRecord
    work: WorkFolder
    name: str


class FileAccess:
    """Finds files of sessions and reads them in threads; what goes wrong is said in the gateway's words."""

    def __init__(
        self,
        manager: SessionManager,
        services: FaceServices,
        *,
        workspaces: Workspaces,
        snapshots: Snapshots,
    ) -> None:
        self._manager = manager
        self._snapshots = snapshots
        self._workspaces = workspaces
        self.threads = FileThreads()
        self.sender = Sender(services, self.threads)

    async def record(self, owner: str, session_id: str) -> SessionRecord:
        """The record of a session. Raises SessionNotFound."""
        found = await self._manager.record(owner, session_id)
        if found is None:
            raise SessionNotFound(session_id=session_id)
        return found

    async def asked(self, request: Request, *, name: str | None = None) -> AskedFile:
        """What the request is about. Raises SessionNotFound, MalformedSessionId, InvalidField."""
        session_id = checked_session_id(request.path_params["session_id"])
        record = await self.record(principal_of(request).owner, session_id)
        given = in_query(request.scope["query_string"], b"path") if name is None else name
        return AskedFile(record, await self.work(record), checked_name(given or ""))

    async def work(self, record: SessionRecord) -> WorkFolder:
        """The working directory of a session, with its newest files. Raises FilesNotHere."""
        session = self._manager.get(record.owner, record.session_id)
        if session is None or not session.files.are_here:
            await brought_to_read(self._snapshots, record)
        return work_folder(self._workspaces, record.key, record.uid)

    async def run(self, asked: AskedFile, act: Callable[[], T]) -> T:
        """What `act` answers, in a thread. Raises NoSuchFile, FileNotReadable."""
        try:
            return await self.threads.run(asked.record.owner, act)
        except OSError as error:
            raise told(error, asked.record.session_id) from None


class FilesFace:
    """The handlers."""

    def __init__(self, files: FileAccess, services: FaceServices, gate: Gate) -> None:
        self._files = files
        self._services = services
        self._gate = gate

    def operations(self) -> list[Operation]:
        """Reading files as operations."""
        of = "/api/sessions/{session_id}/files"
        depth = Parameter(
            name="depth",
            schema={"type": "integer", "minimum": 1, "maximum": tree.DEEPEST},
            description="How many levels; 1 by default.",
        )
        limit = Parameter(
            name="limit",
            schema={"type": "integer", "minimum": 1, "maximum": tree.ENTRIES_AT_ONCE},
            description="How many entries of the folder.",
        )
        cursor = Parameter(name="cursor", schema={"type": "string"}, description="Of the page before.")
        return [
            Operation(
                method="GET", path=of, scope="read", handler=self.list_files,
                summary="What is in a folder of a session", answer=FileListing,
                parameters=(PATH, depth, limit, cursor), errors=(404, 409),
            ),
            Operation(
                method="GET", path=of + "/stat", scope="read", handler=self.show_file,
                summary="One file or folder of a session", answer=FileEntry, parameters=(PATH,),
                errors=(404, 409),
            ),
            Operation(
                method="GET", path=of + "/content", scope="read", handler=self.read_file,
                summary="The bytes of a file of a session", media_type="application/octet-stream",
                parameters=(PATH, RANGE), errors=(404, 409, 416),
            ),
            Operation(
                method="GET", path=of + "/archive", scope="read", handler=self.read_archive,
                summary="A folder of a session as a zip", media_type="application/zip",
                other_media_types=(BYTES,), parameters=(PATH,), errors=(404, 409, 413),
            ),
        ]  # fmt: skip

    async def list_files(self, request: Request) -> Response:
        asked = await self._files.asked(request)
        limit = query_int(request, "limit", default=LIMIT, low=1, high=tree.ENTRIES_AT_ONCE)
        depth = query_int(request, "depth", default=1, low=1, high=tree.DEEPEST)
        try:
            after = tree.place_of(in_query(request.scope["query_string"], b"cursor") or None)
        except Unsafe:
            raise InvalidField("cursor is one that a listing answered.", field=("query", "cursor")) from None

        def listing() -> FileListing:
            with asked.work.opened() as folder:
                if folder is None:
                    return _empty(asked.name)
                return tree.TreeWalk(folder, limit=limit).listing(asked.name, depth=depth, after=after)

        return json_response(await self._files.run(asked, listing))

    async def show_file(self, request: Request) -> Response:
        asked = await self._files.asked(request)

        def entry() -> FileEntry:
            with asked.work.opened() as folder:
                if folder is None:
                    raise FileNotFoundError(errno.ENOENT, "there are no files yet", asked.name)
                return tree.entry_of(asked.name, folder.look(asked.name))

        return json_response(await self._files.run(asked, entry))

    async def read_file(self, request: Request) -> Response:
        asked = await self._files.asked(request)
        file = await self._files.run(asked, functools.partial(reading.opened, asked.work, asked.name))
        response = self._files.sender.file(request, file, asked.name, self._delivery(request, asked))
        if response.status_code < 300 and request.method != "HEAD":
            self._note(request, "file.downloaded", asked)
        return response

    async def read_archive(self, request: Request) -> Response:
        asked = await self._files.asked(request)
        limits = self._services.config.files

        def planned() -> archive.ArchivePlan:
            return archive.planned(
                asked.work, asked.name, most_bytes=limits.archive_bytes, most_entries=limits.archive_entries
            )

        try:
            plan = await self._files.run(asked, planned)
        except archive.FolderTooLarge:
            raise ArchiveTooLarge(
                f"This folder holds more than {limits.archive_entries} files or {limits.archive_bytes} "
                "bytes, or its names are too long; download a folder inside it."
            ) from None
        base = asked.name.rpartition("/")[2] or asked.record.session_id.replace(":", "_")
        pieces = archive.zipped(asked.work, plan)
        response = self._files.sender.archive(request, pieces, base + ".zip", self._archive(request, asked))
        if request.headers.get("accept") == BYTES:
            response.headers["Content-Type"] = BYTES
        if request.method != "HEAD":
            self._note(request, "folder.downloaded", asked)
        return response

    def _delivery(self, request: Request, asked: AskedFile) -> Delivery:
        return Delivery(owner=asked.record.owner, kind="file", may_go_on=self._gate.permit(request))

    def _archive(self, request: Request, asked: AskedFile) -> Delivery:
        return Delivery(owner=asked.record.owner, kind="archive", may_go_on=self._gate.permit(request))

    def _note(self, request: Request, action: str, asked: AskedFile) -> None:
        self._services.audit.note(
            principal_of(request), action, target=asked.record.key, detail=name_mark(asked.name)
        )


def checked_name(name: str) -> str:
    """The name in its one spelling. Raises InvalidField for one that leads out."""
    try:
        return "/".join(parts_of(name))
    except Unsafe:
        raise InvalidField(
            "path is relative to the working directory, and stays in it.", field=("query", "path")
        ) from None


def told(error: OSError, session_id: str) -> GatewayError:
    """What a failed access means to its caller."""
    if isinstance(error, FileNotFoundError) or error.errno == errno.ENAMETOOLONG:
        return NoSuchFile(session_id=session_id)
    if isinstance(error, NotADirectoryError):
        return FileNotReadable("This is not a folder.", session_id=session_id)
    return FileNotReadable(session_id=session_id)


def name_mark(name: str) -> str:
    """What the audit log says of a file: names are content, so it is a hash that tells files apart."""
    return hashlib.sha256(encoded(name).encode()).hexdigest()[:16]


def _empty(name: str) -> FileListing:
    if name:
        raise FileNotFoundError(errno.ENOENT, "there are no files yet", name)
    return FileListing(path="", entries=[])
