"""Answers of the gateway that both ends use: the faces that give them, the client that reads them."""

from __future__ import annotations

from msgspec import Struct

from worker.spec import Receipt


class SessionSummary(Struct, frozen=True):
    """A session in a list; times are ISO 8601."""

    session_id: str
    title: str | None
    state: str
    agent: str
    created_at: str
    last_active_at: str
    messages: int


class SessionList(Struct, frozen=True):
    """The caller's sessions, last active first."""

    sessions: list[SessionSummary]


class Deleted(Struct, frozen=True):
    """What a deletion came to: everything of the session is erased, and its processes are gone."""

    session_id: str
    deleted: bool
    receipt: Receipt


class Counts(Struct, frozen=True):
    """What operators watch."""

    active_sessions: int
    """Everything in the map."""
    live: int
    """With a worker."""
    parked: int


class ErrorDetail(Struct, frozen=True):
    """What went wrong: a stable slug, words with what to do, and the session where there is one."""

    code: str
    message: str
    session_id: str | None = None


class ErrorBody(Struct, frozen=True):
    """Every error of this gateway."""

    error: ErrorDetail
    request_id: str
