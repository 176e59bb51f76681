"""The life of a session as words: one enum, one table, one way to be dead plus a reason. Pure.

          create           a verb that needs it        ready
(none) ─────────► PARKED ───────────────────► STARTING ──────► IDLE ──────► RUNNING ⇄ WAITING
                   ▲  ▲                          │             ▲ │  chat     │  │
                   │  └──── worker ended ◄───────┴─────────────┤ │           │  │ interrupt
                   └─────── park (idle) ◄──────────────────────┘ turn ended ─┘  ▼
                                                               IDLE ◄──── INTERRUPTING
every living state ──► CLOSING ──► CLOSED(reason)
"""

from __future__ import annotations

import enum
from typing import Final


class SessionState(enum.StrEnum):
    """The state of a session."""

    PARKED = "parked"
    STARTING = "starting"
    IDLE = "idle"
    RUNNING = "running"
    WAITING = "waiting"
    INTERRUPTING = "interrupting"
    CLOSING = "closing"
    CLOSED = "closed"


class CloseReason(enum.StrEnum):
    """Why a session left the map."""

    DELETED = "deleted"
    IDLE = "idle"
    DRAINED = "drained"
    STORE_FAILED = "store_failed"
    TENANT_DISABLED = "tenant_disabled"
    PERSON_DISABLED = "person_disabled"
    FAILED = "failed"
    FENCED = "fenced"
    """Another gateway has the session."""


class WorkerEnd(enum.StrEnum):
    """Why a worker ended; its session lives on, parked."""

    EXITED = "exited"
    START_FAILED = "start_failed"
    WIRE_ERROR = "wire_error"
    INTERRUPT_TIMEOUT = "interrupt_timeout"
    TURN_TIMEOUT = "turn_timeout"
    LIMIT_EXCEEDED = "limit_exceeded"
    PARKED = "parked"
    CLOSED = "closed"
    KILLED = "killed"
    FORKSERVER_LOST = "forkserver_lost"
    STORE_FAILED = "store_failed"
    LEASE_LOST = "lease_lost"


_S = SessionState


ARROWS: Final[dict[SessionState, frozenset[SessionState]]] = {
    _S.PARKED: frozenset({_S.STARTING, _S.CLOSING}),
    _S.STARTING: frozenset({_S.IDLE, _S.PARKED, _S.CLOSING}),
    _S.IDLE: frozenset({_S.RUNNING, _S.PARKED, _S.CLOSING}),
    _S.RUNNING: frozenset({_S.WAITING, _S.INTERRUPTING, _S.IDLE, _S.PARKED, _S.CLOSING}),
    _S.WAITING: frozenset({_S.RUNNING, _S.INTERRUPTING, _S.IDLE, _S.PARKED, _S.CLOSING}),
    _S.INTERRUPTING: frozenset({_S.IDLE, _S.PARKED, _S.CLOSING}),
    _S.CLOSING: frozenset({_S.CLOSED}),
    _S.CLOSED: frozenset(),
}
"""The arrows of the drawing above; any other is a bug of the gateway."""

BUSY: Final = frozenset({_S.STARTING, _S.RUNNING, _S.WAITING, _S.INTERRUPTING, _S.CLOSING})
"""States in which a session is never reaped or parked."""

LIVE: Final = frozenset({_S.STARTING, _S.IDLE, _S.RUNNING, _S.WAITING, _S.INTERRUPTING})
"""States in which a session has a worker."""


def is_allowed(origin: SessionState, to: SessionState) -> bool:
    """Whether the drawing has this arrow."""
    return to in ARROWS[origin]
