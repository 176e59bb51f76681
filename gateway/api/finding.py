"""Finding one's sessions again: search over titles and texts, and how they are filed."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from msgspec import UNSET, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.answers import SearchAnswer, SearchHit, SessionSummary
from gateway.errors import InvalidField, SessionNotFound
from gateway.events.facts import iso
from gateway.http.gate import principal_of
from gateway.http.operation import Operation, Parameter, Spoken, json_response
from gateway.http.reading import checked_session_id, query_int, read_body
from gateway.sessions.manager import SessionManager
from gateway.sessions.services import FaceServices
from gateway.stores.labels import LabelChange, Labels
from gateway.stores.search import Match, SearchPlace, words_of

QUERY_CHARACTERS: Final = 500
SEARCH_SECONDS: Final = 0.5
"""How long one answer searches, about; the next goes on where it ended."""
SEARCHES_AT_ONCE: Final = 4
"""They share one thread, in turns: more would only be slower."""
HITS: Final = 30
TAGS_MOST: Final = 20
TAG_CHARACTERS: Final = 40


class LabelRequest(Struct, frozen=True):
    """`PUT /api/sessions/{id}/labels`: what is absent, or null, stays as it is."""

    pinned: bool | None = None
    archived: bool | None = None
    tags: list[Spoken] | None = None
    """All of them, in place of those before."""
    seen_seq: int | None = None
    """It was seen up to this event."""


class FindingFace:
    """The handlers."""

    def __init__(self, manager: SessionManager, services: FaceServices) -> None:
        self._manager = manager
        self._services = services
        self._searching = asyncio.Semaphore(SEARCHES_AT_ONCE)

    def operations(self) -> list[Operation]:
        """Searching and filing as operations."""
        text = {"type": "string", "minLength": 1, "maxLength": QUERY_CHARACTERS}
        limit = {"type": "integer", "minimum": 1, "maximum": 100}
        return [
            Operation(
                method="GET", scope="read", path="/api/search", handler=self.search_sessions,
                summary="Search the titles and texts of your sessions",
                answer=SearchAnswer,
                parameters=(
                    Parameter(name="q", schema=text, description="Words, each of which must occur."),
                    Parameter(name="limit", schema=limit, description="How many hits, about."),
                    Parameter(
                        name="after", schema={"type": "string"},
                        description="Goes on: `following` of the answer before.",
                    ),
                ),
            ),
            Operation(
                method="PUT", scope="chat", path="/api/sessions/{session_id}/labels",
                handler=self.label_session, summary="Pin, archive or tag a session, or mark it as seen",
                body=LabelRequest, answer=SessionSummary, errors=(404,),
            ),
        ]  # fmt: skip

    async def search_sessions(self, request: Request) -> Response:
        query = request.query_params.get("q") or ""
        words = words_of(query)
        if not words or len(query) > QUERY_CHARACTERS:
            raise InvalidField(
                f"Say what to search for: q has 1 to {QUERY_CHARACTERS} characters.", field=("query", "q")
            )
        limit = query_int(request, "limit", default=HITS, low=1, high=100)
        place = _place(request.query_params.get("after"))
        async with self._searching:
            found = await self._services.store.search.find(
                principal_of(request).owner, words, place=place, limit=limit, seconds=SEARCH_SECONDS
            )
        answer = SearchAnswer(
            hits=[_hit(match) for match in found.matches],
            is_complete=found.following is None,
            following=found.following.spelled() if found.following else UNSET,
            is_indexing=found.is_indexing,
        )
        return json_response(answer)

    async def label_session(self, request: Request) -> Response:
        body = await read_body(request, LabelRequest, self._services.config)
        session_id = checked_session_id(request.path_params["session_id"])
        owner = principal_of(request).owner
        change = LabelChange(
            is_pinned=UNSET if body.pinned is None else body.pinned,
            is_archived=UNSET if body.archived is None else body.archived,
            tags=UNSET if body.tags is None else _tags(body.tags),
            seen_seq=UNSET if body.seen_seq is None else _seq(body.seen_seq),
        )
        labels = await self._services.store.labels.change(owner, session_id, change)
        record = await self._manager.record(owner, session_id)
        if labels is None or record is None:
            raise SessionNotFound(session_id=session_id)
        return json_response(labelled(self._manager.summary(record), labels))


def labelled(summary: SessionSummary, labels: Labels | None) -> SessionSummary:
    """A session in a list, with how it is filed."""
    if labels is None:
        return summary
    return msgspec.structs.replace(
        summary,
        pinned=labels.is_pinned or UNSET,
        archived=labels.is_archived or UNSET,
        tags=labels.tags or UNSET,
        unread=labels.is_unread or UNSET,
    )


def _hit(match: Match) -> SearchHit:
    return SearchHit(
        session_id=match.session_id,
        title=match.title,
        at=iso(match.at),
        excerpt=match.excerpt,
        marks=match.marks,
        message_id=UNSET if match.message_id is None else match.message_id,
        sender=UNSET if match.sender is None else match.sender,
        seq=UNSET if match.seq is None else match.seq,
    )


def _place(text: str | None) -> SearchPlace | None:
    if not text:
        return None
    try:
        return SearchPlace.read(text)
    except ValueError:
        raise InvalidField("after is what an answer gave as following.", field=("query", "after")) from None


def _tags(given: list[str]) -> tuple[str, ...]:
    tags = tuple(dict.fromkeys(tag for tag in (" ".join(text.split()) for text in given) if tag))
    if len(tags) > TAGS_MOST or any(len(tag) > TAG_CHARACTERS for tag in tags):
        raise InvalidField(
            f"A session has at most {TAGS_MOST} tags of {TAG_CHARACTERS} characters - at `$.tags`.",
            field=("body", "tags"),
        )
    return tags


def _seq(seq: int) -> int:
    if not 0 <= seq < 2**62:
        raise InvalidField(
            "seen_seq is the number of an event - at `$.seen_seq`.", field=("body", "seen_seq")
        )
    return seq
