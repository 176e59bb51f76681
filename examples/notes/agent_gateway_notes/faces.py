"""What notes add to a gateway: two operations, a tool, an observer, and a part of the page."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from agent_gateway_notes.facts import NoteAdded
from agent_gateway_notes.settings import NotesConfig
from agent_gateway_notes.store import AnyNotes, Note, keep
from gateway.errors import BadRequest, GatewayError
from gateway.extension import (
    Answer,
    Caller,
    Context,
    ConversationKey,
    Faces,
    Operation,
    Session,
    Tool,
    Toolset,
)
from gateway.http.gate import principal_of
from gateway.http.operation import json_response
from gateway.http.reading import checked_session_id, read_body

PAGE_PART: Final = "notes/page.js"
PATH: Final = "/api/sessions/{session_id}/notes"


class NewNote(Struct):
    """`POST /api/sessions/{session_id}/notes`."""

    text: str


class NoteList(Struct, frozen=True):
    """The notes of a session, oldest first."""

    notes: list[Note]


def open_notes(context: Context) -> Faces:
    """Notes on the sessions of this gateway."""
    store = keep(context.tables)
    handlers = Handlers(context, store)
    return Faces(
        operations=(
            Operation(
                method="POST", path=PATH, scope="chat", handler=handlers.add_note, summary="Take a note",
                body=NewNote, answer=Note, errors=(404, 409),
            ),
            Operation(
                method="GET", path=PATH, scope="read", handler=handlers.list_notes, summary="Read the notes",
                answer=NoteList,
            ),
        ),
        routes=(Route(f"/{PAGE_PART}", handlers.page_part, methods=["GET"]),),
        toolsets=(NoteTools(context, store),),
        observers=(store,),
        page_part=PAGE_PART,
    )  # fmt: skip


class Handlers:
    """The operations."""

    def __init__(self, context: Context, store: AnyNotes) -> None:
        self._context = context
        self._store = store

    async def add_note(self, request: Request) -> Response:
        """The session's log says so, too: whoever reads it hears of the note."""
        body = await read_body(request, NewNote, self._context.config())
        if not body.text.strip():
            raise BadRequest("text is empty: say what to note.", field=("body", "text"))
        key, most = _key(request), self._context.settings(NotesConfig).most

        async def add(session: Session) -> Note:
            note = await self._store.add(key, body.text, at=self._context.wall_ms(), most=most)
            await session.note(NoteAdded(note.id))
            return note

        _, note = await self._context.sessions.do(key.owner, key.conversation, add, is_making=False)
        return json_response(note)

    async def list_notes(self, request: Request) -> Response:
        return json_response(NoteList(list(await self._store.all(_key(request)))))

    async def page_part(self, _request: Request) -> Response:
        return FileResponse(pathlib.Path(__file__).parent / "page.js", media_type="text/javascript")


def _key(request: Request) -> ConversationKey:
    session_id = checked_session_id(request.path_params["session_id"], field=("path", "session_id"))
    principal = principal_of(request)
    return ConversationKey(principal.tenant, principal.owner, session_id)


class TakeNote(Struct):
    """The arguments of `take_note`."""

    text: str


TAKE_NOTE: Final = Tool(
    name="take_note",
    title="Take a note",
    description="Keeps a note beside this conversation, for the people in it.",
    arguments=TakeNote,
    is_read_only=False,
)


class NoteTools(Toolset):
    """The tool: for MCP clients at `/mcp`, and for agents whose `tools` name `notes`."""

    name = "notes"
    instructions = "Take a note of what somebody may want to find again."

    def __init__(self, context: Context, store: AnyNotes) -> None:
        self._context = context
        self._store = store

    def describe(self) -> Sequence[Tool]:
        return (TAKE_NOTE,)

    async def call(self, name: str, arguments: Mapping[str, Any], caller: Caller) -> Answer:
        try:
            text = msgspec.convert({"text": arguments.get("text")}, TakeNote).text
            most = self._context.settings(NotesConfig).most
            note = await self._store.add(caller.key, text, at=self._context.wall_ms(), most=most)
        except (msgspec.ValidationError, GatewayError) as error:
            return Answer(text=str(error), is_error=True)
        self._context.sessions.note_aside(caller.key, NoteAdded(note.id))
        told = caller.key.conversation if caller.is_fresh else None
        return Answer(text=f"Noted as number {note.id}.", structured={"id": note.id}, fresh_id=told)
