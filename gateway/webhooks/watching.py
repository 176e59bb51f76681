"""Sees in the sessions what the webhook's receiver should hear: a permission request or a question that waits
too long, and a turn that ends while nobody follows the session.

What waited when a gateway ended is counted anew once its session comes into memory again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from gateway.config.tables import Config
from gateway.config.webhook import PERMISSION_WAITS, QUESTION_WAITS, TURN_UNWATCHED
from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.principal import subject_of, tenant_of
from gateway.sessions.observers import Observer
from gateway.sessions.presence import OWNER, Rooms
from gateway.sessions.session import Session
from gateway.webhooks.delivery import Webhooks

LOOK_SECONDS: Final = 1.0
MINUTE_MILLISECONDS: Final = 60_000
_KINDS: Final = frozenset(
    {
        *(ev.PermissionAsked, ev.PermissionAnswered, ev.QuestionAsked, ev.QuestionAnswered),
        *(ev.TurnEnded, ev.TurnInterrupted, ev.SessionClosed),
    }
)
"""What is looked at; most events of a log are none of these."""


class _Wait(Struct, frozen=True):
    """Something that was asked and has no answer yet."""

    kind: str
    session: Session
    since: int


class Watching(Observer):
    """See the module."""

    def __init__(
        self, webhooks: Webhooks, config: Callable[[], Config], rooms: Rooms, *, wall_ms: Callable[[], int]
    ) -> None:
        self._webhooks = webhooks
        self._config = config
        self._rooms = rooms
        self._wall_ms = wall_ms
        self._waits: dict[tuple[str, str], _Wait] = {}
        self._bell = asyncio.Event()

    def appended(self, session: Session, event: Event | None) -> None:
        if event is None:
            self._restore(session)
            return
        if event.kind not in _KINDS:
            return
        key = session.record.key
        match event.data:
            case ev.PermissionAsked(permission_id=asked):
                self._wait(session, PERMISSION_WAITS, asked, since=event.at)
            case ev.QuestionAsked(question_id=asked):
                self._wait(session, QUESTION_WAITS, asked, since=event.at)
            case ev.PermissionAnswered(permission_id=asked) | ev.QuestionAnswered(question_id=asked):
                self._waits.pop((key, asked), None)
            case ev.TurnEnded(stop_reason=reason):
                self._ended(session, reason)
            case ev.TurnInterrupted():
                self._ended(session, "interrupted")
            case ev.SessionClosed():
                self._forget(key)

    def _restore(self, session: Session) -> None:
        fold, now = session.fold, self._wall_ms()
        for permission_id in fold.permissions:
            self._wait(session, PERMISSION_WAITS, permission_id, since=now)
        for question_id in fold.questions:
            self._wait(session, QUESTION_WAITS, question_id, since=now)

    def _wait(self, session: Session, kind: str, asked: str, *, since: int) -> None:
        self._waits[session.record.key, asked] = _Wait(kind, session, since)
        self._bell.set()

    def _ended(self, session: Session, reason: str) -> None:
        if reason == "cancelled" or self._rooms.people(session.record.key) or session.log.is_waited_for:
            return
        self._webhooks.put(TURN_UNWATCHED, {**about(session), "stop_reason": reason})

    def notify(self, session: Session, kind: str, more: Mapping[str, Any]) -> None:
        """An application's event."""
        self._webhooks.put(kind, {**about(session), **more})

    @contextlib.contextmanager
    def attended(self, session: Session) -> Iterator[None]:
        """Somebody follows a session by an application's own way."""
        key, name = session.record.key, (session.record.owner, session.session_id)
        self._rooms.enter(key, name, OWNER)
        try:
            yield
        finally:
            self._rooms.leave(key, OWNER)

    def _forget(self, key: str) -> None:
        for name in [name for name in self._waits if name[0] == key]:
            del self._waits[name]

    async def run(self) -> None:
        """Says of each that waits too long so once, for as long as the gateway runs."""
        while True:
            self._bell.clear()
            self.look()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._bell.wait(), LOOK_SECONDS if self._waits else None)

    def look(self) -> None:
        """Says what waits too long."""
        now = self._wall_ms()
        most = self._config().webhook.waits_minutes * MINUTE_MILLISECONDS
        for name in [name for name, wait in self._waits.items() if now - wait.since >= most]:
            wait = self._waits.pop(name)
            seconds = (now - wait.since) // 1000
            if not wait.session.log.is_closed:
                self._webhooks.put(wait.kind, {**about(wait.session), "waiting_seconds": seconds})


def about(session: Session) -> dict[str, Any]:
    """Which session it is. Its title is words of the conversation, and left out."""
    owner = session.record.owner
    return {
        "tenant": tenant_of(owner),
        "subject": subject_of(owner),
        "session_id": session.session_id,
        "agent": session.record.agent,
    }
