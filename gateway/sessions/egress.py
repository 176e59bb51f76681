"""A session as the rules of its worker's connections see it."""

from __future__ import annotations

from collections.abc import Callable

from gateway.events.facts import EgressAnswered, EgressAsked, EgressDenied
from gateway.events.fold import ChatState, EgressFold
from gateway.principal import tenant_of
from gateway.sessions.log import EventLog
from gateway.stores.contract import SessionRecord


class WorkerEgress:
    """Implements `egress.session_admission.EgressSubject`."""

    def __init__(self, record: Callable[[], SessionRecord], fold: ChatState, log: EventLog) -> None:
        """`record` is the session's as it is now: a session can change its owner."""
        self._record = record
        self._fold = fold
        self._log = log

    @property
    def key(self) -> str:
        return self._record().key

    @property
    def agent(self) -> str:
        return self._record().agent

    @property
    def tenant(self) -> str:
        return tenant_of(self._record().owner)

    @property
    def turn_id(self) -> str | None:
        return self._fold.turn_id

    @property
    def egress(self) -> EgressFold:
        return self._fold.egress

    def say(self, event: EgressDenied | EgressAsked | EgressAnswered) -> None:
        """Appends to the log; a question waits for its person, so that it is on the disk first."""
        if not self._log.is_closed:
            self._log.append(event, durable=not isinstance(event, EgressDenied))
