"""A message that waits for its turn: changed, or put at another place of the queue."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.answers import SessionSummary
from gateway.errors import InvalidField
from gateway.http.gate import principal_of
from gateway.http.operation import Operation, json_response
from gateway.http.reading import checked_message, checked_session_id, read_body
from gateway.sessions.manager import SessionManager
from gateway.sessions.services import FaceServices


class QueuedChange(Struct):
    """`PATCH /api/sessions/{id}/queue/{message_id}`: a new text, a new place, or both."""

    message: str | None = None
    before: Annotated[str, Meta(max_length=200)] | None = None
    """The id of the waiting message that it is put before; empty: behind all of them."""


class QueuedFace:
    """The handler."""

    def __init__(self, manager: SessionManager, services: FaceServices) -> None:
        self._manager = manager
        self._services = services

    def operations(self) -> list[Operation]:
        """It as an operation."""
        return [
            Operation(
                method="PATCH",
                scope="chat",
                path="/api/sessions/{session_id}/queue/{message_id}",
                handler=self.change_queued,
                summary="Change a message that waits, or its place",
                body=QueuedChange,
                answer=SessionSummary,
                errors=(404, 409),
            )
        ]

    async def change_queued(self, request: Request) -> Response:
        config = self._services.config
        body = await read_body(request, QueuedChange, config)
        if body.message is None and body.before is None:
            raise InvalidField("Say a message, a place (before), or both - at `$.message`.")
        text = body.message if body.message is None else checked_message(body.message, config.limits)
        session, _ = await self._manager.do(
            principal_of(request).owner,
            checked_session_id(request.path_params["session_id"]),
            lambda one: one.change_queued(request.path_params["message_id"], text=text, before=body.before),
            is_making=False,
        )
        return json_response(self._manager.summary(session.fresh_record()))
