"""Another way from here: forks of a session, what a turn changed of its files, and taking that back."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.answers import SessionSummary
from gateway.errors import InvalidField, SessionNotFound
from gateway.events.facts import ForkFiles
from gateway.files.snapshots import Snapshots, TurnChanges
from gateway.http.gate import principal_of
from gateway.http.operation import IDEMPOTENCY_KEY, Operation, Parameter, SessionId, json_response
from gateway.http.reading import checked_session_id, query_int, read_body
from gateway.sessions.forks import Forks, ForkWanted
from gateway.sessions.idempotency import Once
from gateway.sessions.manager import SessionManager
from gateway.sessions.services import FaceServices
from gateway.sessions.session import Session

Seq = Annotated[int, Meta(ge=0, le=2**53)]


class ForkRequest(Struct):
    """`POST /api/sessions/{id}/fork`: where, and what the new session is to be. Nothing: after the last turn
    that has ended.
    """

    at_seq: Seq | None = None
    """After this event: the end of a turn, or anything between two turns."""
    before_message: Annotated[str, Meta(max_length=200)] | None = None
    """Before the user's message of this id; instead of `at_seq`."""
    session_id: SessionId | None = None
    agent: str | None = None
    """Another agent, which gets the conversation as a transcript."""


class ForkAnswer(Struct, frozen=True):
    """The new session. `files`: `snapshot`: those of that moment; `now`: those of now, because none of that
    moment are kept; `none`: there were none.
    """

    session: SessionSummary
    at_seq: int
    """Up to this event the conversation was copied."""
    files: ForkFiles
    missing: int
    """Files that did not come along, because they are too large or could not be read."""
    is_mixed: bool
    """The next turn began before all files of that moment were read: some of its changes may be in them."""


class UndoRequest(Struct):
    """`POST /api/sessions/{id}/files/restore`: a number below that of the turn's end takes the turn back."""

    at_seq: Seq


class UndoAnswer(Struct, frozen=True):
    """How many files are again what they were; `seq` is the number of the event that says so, and the number
    below it brings back what they were before.
    """

    files: int
    failed: list[str]
    """Names that could not be put back."""
    seq: int


class ForksFace:
    """The handlers."""

    def __init__(
        self, manager: SessionManager, services: FaceServices, forks: Forks, snapshots: Snapshots
    ) -> None:
        self._manager = manager
        self._services = services
        self._forks = forks
        self._snapshots = snapshots

    def operations(self) -> list[Operation]:
        """Forks as operations."""
        one = "/api/sessions/{session_id}"
        turn = Parameter(
            name="turn",
            schema={"type": "integer", "minimum": 1},
            description="The number of the event that ended the turn.",
        )
        return [
            Operation(
                method="POST", scope="chat", path=one + "/fork", handler=self.fork_session,
                summary="Make a new session of this one up to a point, with its files",
                body=ForkRequest, answer=ForkAnswer, status=201, errors=(404, 409),
                parameters=(IDEMPOTENCY_KEY,),
            ),
            Operation(
                method="POST", scope="chat", path=one + "/files/restore", handler=self.restore_files,
                summary="Make the working directory what it was at a point",
                body=UndoRequest, answer=UndoAnswer, errors=(404, 409),
            ),
            Operation(
                method="GET", scope="read", path=one + "/files/changes", handler=self.list_turn_changes,
                summary="What a turn changed in the working directory",
                answer=TurnChanges, parameters=(turn,), errors=(404,),
            ),
        ]  # fmt: skip

    async def fork_session(self, request: Request) -> Response:
        body = await read_body(request, ForkRequest, self._services.config)
        if body.session_id is not None:
            checked_session_id(body.session_id)
        if body.at_seq is not None and body.before_message is not None:
            raise InvalidField("Say at_seq or before_message, not both - at `$.at_seq`.")
        principal, session_id = principal_of(request), checked_session_id(request.path_params["session_id"])
        key = request.headers.get("idempotency-key")
        asked = f"fork {session_id} {msgspec.json.encode(body)!r}"
        once = None if key is None else Once(key, asked, is_unnamed=body.session_id is None)
        forked = await self._forks.fork(
            principal.owner,
            session_id,
            ForkWanted(
                at_seq=body.at_seq,
                before_message=body.before_message,
                session_id=body.session_id,
                agent=body.agent,
                among=principal.agents,
            ),
            once=once,
        )
        answer = ForkAnswer(
            self._manager.summary(forked.record),
            forked.at_seq,
            forked.files.files,
            forked.files.missing,
            forked.files.is_mixed,
        )
        return json_response(answer, status=201, headers={"X-Session-Id": forked.record.session_id})

    async def restore_files(self, request: Request) -> Response:
        body = await read_body(request, UndoRequest, self._services.config)
        principal, session_id = principal_of(request), checked_session_id(request.path_params["session_id"])
        session, undone = await self._manager.do(
            principal.owner, session_id, lambda one: one.undo_files(body.at_seq), is_making=False
        )
        self._services.audit.note(principal, "files.restored", target=session.record.key)
        return json_response(UndoAnswer(undone.files, undone.failed, undone.seq))

    async def list_turn_changes(self, request: Request) -> Response:
        session_id = checked_session_id(request.path_params["session_id"])
        turn = query_int(request, "turn", default=0, low=1, high=10**12 - 1)
        if not turn:
            raise InvalidField("turn is the number of the event that ended a turn.", field=("query", "turn"))
        source = await self._manager.source(principal_of(request).owner, session_id)
        if source is None:
            raise SessionNotFound(session_id=session_id)
        if isinstance(source, Session):
            await source.files.until_kept()
        return json_response(await self._snapshots.changes(source.record.key, turn))
