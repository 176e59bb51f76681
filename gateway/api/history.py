"""A conversation a part at a time: its last messages at once, the earlier ones when somebody looks for them.

`GET /api/sessions/{id}/history` pages back: the items that a page draws, as a `resync` frame spells them.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.errors import SessionNotFound
from gateway.events.facts import slices
from gateway.events.fold import Elsewhere, SnapshotPart, items_parts
from gateway.events.window import LAST_MOST, MessageWindow, part_of
from gateway.http.gate import principal_of
from gateway.http.operation import Operation, Parameter
from gateway.http.packing import packed
from gateway.http.reading import checked_session_id, query_window
from gateway.sessions.manager import SessionManager
from gateway.sessions.reader import Source

SLICE_BYTES: Final = 32 * 1024
DEFAULT: Final = MessageWindow(50)
LAST_PARAMETER: Final = Parameter(
    name="last",
    schema={"type": "integer", "minimum": 0, "maximum": LAST_MOST},
    description="Only so many messages, the last ones, and what is still open; `earlier` says how many come "
    "before them. A stream of events then begins with a `resync` of these, if it has no cursor.",
)
WINDOW_PARAMETERS: Final = (
    LAST_PARAMETER,
    Parameter(
        name="before",
        schema={"type": "integer", "minimum": 0},
        description="With `last`: those before the message of this number. The first one has the number 0, "
        "so `earlier` of one answer is `before` of the next.",
    ),
)
_encode: Final = msgspec.json.Encoder().encode


class HistoryPage(Struct, frozen=True):
    """Items of a conversation in the order in which they are drawn; `earlier` messages come before them."""

    session_id: str
    seq: int
    earlier: int
    items: list[dict[str, Any]]


class HistoryFace:
    """The handler."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager

    def operations(self) -> list[Operation]:
        """Paging back as an operation."""
        return [
            Operation(
                method="GET", scope="read", path="/api/sessions/{session_id}/history",
                handler=self.show_history, summary="Earlier messages, and what was done between them",
                answer=HistoryPage, parameters=WINDOW_PARAMETERS, errors=(404,),
            ),
        ]  # fmt: skip

    async def show_history(self, request: Request) -> Response:
        window = query_window(request) or DEFAULT
        session_id = checked_session_id(request.path_params["session_id"])
        source = await self._manager.source(principal_of(request).owner, session_id)
        if source is None:
            raise SessionNotFound(session_id=session_id)
        return packed(request, history(source, window, is_guest=False))


def history(source: Source, window: MessageWindow, *, is_guest: bool) -> Response:
    """A page of it."""
    fold, part = source.fold, part_of(source.fold, window)
    head = {"session_id": fold.session_id, "seq": fold.seq, "earlier": part.earlier}
    parts = [
        _encode(head)[:-1] + b',"items":',
        *items_parts((item.item() for item in part.items), is_guest=is_guest),
        b"}",
    ]
    pieces = fetched(source, parts)
    return StreamingResponse(pieces, media_type="application/json", headers={"Cache-Control": "no-store"})


async def fetched(source: Source, parts: Iterable[SnapshotPart]) -> AsyncIterator[bytes]:
    """JSON piece by piece; long values are fetched one by one as their turn comes."""
    for part in _joined(parts):
        if isinstance(part, Elsewhere):
            for piece in await source.log.value(part, slice_bytes=SLICE_BYTES):
                yield piece
            continue
        for value in (part,) if isinstance(part, bytes) else part:
            for piece in slices(memoryview(value), SLICE_BYTES):
                yield piece


def _joined(parts: Iterable[SnapshotPart]) -> Iterator[SnapshotPart]:
    """The same with neighbouring bytes made one."""
    for is_here, run in itertools.groupby(parts, key=lambda part: isinstance(part, bytes)):
        if is_here:
            yield b"".join(part for part in run if isinstance(part, bytes))
        else:
            yield from run
