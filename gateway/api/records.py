"""Searching what was done and what was logged, for administrators: a page at a time, bounded.

An administrator of a tenant finds its lines of the audit log; the gateway's own log is for those of the
gateway's own tenant. Neither has a word of a conversation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import InvalidField
from gateway.http.gate import principal_of
from gateway.http.operation import Operation, Parameter, json_response
from gateway.http.reading import query_int
from gateway.principal import reach
from gateway.sessions.services import FaceServices
from gateway.sights import LogLinePage
from gateway.telemetry.audit import AuditLine
from gateway.telemetry.audit_reading import AuditCursor, AuditPage, cursor_of, search
from gateway.telemetry.recent_log import LEVELS, LINES_KEPT, RecentLog

ROWS_MOST: Final = 500
ROWS: Final = 100
_OUTCOMES: Final = ("ok", "refused", "failed")
_LIMIT: Final = Parameter(
    name="limit", schema={"type": "integer", "minimum": 1, "maximum": ROWS_MOST}, description="How many."
)
_WORDS: Final = Parameter(name="q", schema={"type": "string"}, description="Words that are all in a line.")


class RecordsFace:
    """The handlers."""

    def __init__(self, services: FaceServices, log: RecentLog) -> None:
        self._services = services
        self._log = log

    def operations(self) -> list[Operation]:
        """The audit log and the gateway's log as operations."""
        return [
            Operation(
                method="GET", scope="admin", path="/api/admin/audit", handler=self.search_audit,
                summary="Search the audit log, the newest line first", answer=AuditPage,
                parameters=(
                    _WORDS,
                    Parameter(
                        name="outcome", schema={"type": "string", "enum": list(_OUTCOMES)},
                        description="Only with this outcome.",
                    ),
                    Parameter(
                        name="before", schema={"type": "string"}, description="`next` of the page before."
                    ),
                    _LIMIT,
                ),
            ),
            Operation(
                method="GET", scope="admin", path="/api/admin/log", handler=self.search_log,
                summary=f"Search the last {LINES_KEPT:,} lines of the gateway's log", answer=LogLinePage,
                is_gateway_wide=True,
                parameters=(
                    _WORDS,
                    Parameter(
                        name="level", schema={"type": "string", "enum": list(LEVELS)},
                        description="Only lines of this level and worse.",
                    ),
                    Parameter(
                        name="before", schema={"type": "integer", "minimum": 1},
                        description="`next` of the page before.",
                    ),
                    _LIMIT,
                ),
            ),
        ]  # fmt: skip

    async def search_audit(self, request: Request) -> Response:
        limit = query_int(request, "limit", default=ROWS, low=1, high=ROWS_MOST)
        matches = _matching(
            request.query_params.get("q", "").casefold().split(),
            outcome=_chosen(request, "outcome", ("", *_OUTCOMES)),
            tenant=reach(principal_of(request)),
        )
        found = await asyncio.to_thread(
            search, self._services.config.data_path, matches, before=_before(request), limit=limit
        )
        return json_response(found)

    async def search_log(self, request: Request) -> Response:
        limit = query_int(request, "limit", default=ROWS, low=1, high=ROWS_MOST)
        before = query_int(request, "before", default=0, low=1, high=10**12)
        level = _chosen(request, "level", ("", *LEVELS)) or LEVELS[0]
        words = request.query_params.get("q", "")
        return json_response(self._log.found(words, level=level, before=before or None, limit=limit))


def _matching(words: list[str], *, outcome: str, tenant: str | None) -> Callable[[AuditLine], bool]:
    def matches(line: AuditLine) -> bool:
        if tenant not in (None, line.tenant) or outcome not in ("", line.outcome):
            return False
        said = (line.at, line.action, line.outcome, line.tenant, line.subject, line.kind, line.key_id)
        more = (line.target, line.request_id, line.detail)
        text = " ".join(part for part in (*said, *more) if part).casefold()
        return all(word in text for word in words)

    return matches


def _chosen(request: Request, name: str, among: tuple[str, ...]) -> str:
    """One of these. Raises InvalidField (422)."""
    value = request.query_params.get(name, "")
    if value not in among:
        raise InvalidField(f"{name} is one of {', '.join(filter(None, among))}.", field=("query", name))
    return value


def _before(request: Request) -> AuditCursor | None:
    """Where the page before ended. Raises InvalidField (422)."""
    text = request.query_params.get("before")
    if not text:
        return None
    cursor = cursor_of(text)
    if cursor is None:
        raise InvalidField("before is the `next` of another page.", field=("query", "before"))
    return cursor
