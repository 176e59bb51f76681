"""Where a log may be forked, and what of it is copied. Pure.

A point is complete: no turn is open there. A message whose turn has not begun there is not copied, wherever
in the log it stands (it may have been sent while the turn before ran).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec
from msgspec import UNSET, Struct

from gateway.errors import ForkRefused
from gateway.events import facts as ev
from gateway.events.facts import Event

T = TypeVar("T")

_OF_THE_AGENT = (ev.AgentCommands, ev.AgentOptions, ev.SessionOptions, ev.OptionChosen)
_NOT_COPIED = (ev.ApplicationFact, ev.Unknown, ev.BudgetNear, ev.BudgetSpent, ev.SessionClosed)


class Point(Struct, frozen=True, kw_only=True):
    """A complete point of a log."""

    through: int
    """Events up to here are copied."""
    files_before: int | None
    """The end of the next turn: files kept below this number are those of the point; None: the last ones."""
    is_end: bool
    """No turn began after it."""
    is_running: bool
    """A turn runs, and is left out."""
    is_beginning: bool
    """No turn began before it."""
    begun_later: frozenset[str]
    """Messages whose turns begin after it."""
    open_questions: tuple[str, ...] = ()
    open_egress: tuple[str, ...] = ()
    has_waiting: bool = False
    wallet: bool = False
    workspace: ev.WorkspaceChanged | None = None
    """What the files of the point began as, if that was said after it only."""


class Outline:
    """What of a log decides where it may be forked; `add` its events in order."""

    def __init__(self) -> None:
        self.last = 0
        self._starts: list[tuple[int, ev.TurnStarted]] = []
        self._ends: list[tuple[int, str]] = []
        self._messages: dict[str, tuple[int, str | None]] = {}
        self._questions: list[tuple[int, str, bool]] = []
        self._hosts: list[tuple[int, str, bool]] = []
        self._queues: list[tuple[int, frozenset[str]]] = []
        self._wallets: list[tuple[int, bool]] = []
        self._given: tuple[int, ev.WorkspaceChanged] | None = None

    def add(self, events: Iterable[Event]) -> None:
        """The next events."""
        for event in events:
            self.last = event.seq
            self._add(event.seq, event.data)

    def _add(self, seq: int, data: ev.EventData) -> None:
        match data:
            case ev.TurnStarted():
                self._starts.append((seq, data))
            case ev.TurnEnded(turn_id=turn_id) | ev.TurnInterrupted(turn_id=turn_id):
                self._ends.append((seq, turn_id))
            case ev.MessageAdded(message_id=message_id, sender="user", turn_id=turn_id):
                self._messages.setdefault(message_id, (seq, turn_id))
            case ev.QuestionAsked(question_id=name):
                self._questions.append((seq, name, True))
            case ev.QuestionAnswered(question_id=name):
                self._questions.append((seq, name, False))
            case ev.EgressAsked(ask_id=name):
                self._hosts.append((seq, name, True))
            case ev.EgressAnswered(ask_id=name):
                self._hosts.append((seq, name, False))
            case ev.QueueChanged(waiting=waiting):
                self._queues.append((seq, frozenset(one.message_id for one in waiting)))
            case ev.WorkspaceChanged(commit=commit) if commit and self._given is None:
                self._given = (seq, data)
            case ev.WalletChanged(pending=pending):
                self._wallets.append((seq, pending is not None))

    def point(self, *, at_seq: int | None, before_message: str | None) -> Point:
        """The point that is asked for: after an event, before a user's message, or the last one. Raises
        ForkRefused if there is none.
        """
        if before_message is not None:
            return self._point(self._before(before_message))
        if at_seq is None:
            return self._point(self._last_complete())
        if at_seq > self.last:
            raise ForkRefused("The conversation does not reach that far.")
        if self._open_at(at_seq) is not None:
            raise ForkRefused("That is in the middle of an answer: choose its end, or the message before it.")
        return self._point(at_seq)

    def _before(self, message_id: str) -> int:
        if message_id not in self._messages:
            raise ForkRefused("There is no such message of a user in this conversation.")
        seq, turn_id = self._messages[message_id]
        for start, started in self._starts:
            if started.message_id == message_id or (turn_id is not None and started.turn_id == turn_id):
                return start - 1
        return seq - 1 if self._open_at(seq - 1) is None else self._last_complete()

    def _last_complete(self) -> int:
        start = self._open_at(self.last)
        return self.last if start is None else start - 1

    def _open_at(self, seq: int) -> int | None:
        """Where the turn began that is open at this event."""
        ended = {turn_id for end, turn_id in self._ends if end <= seq}
        starts = [start for start, one in self._starts if start <= seq and one.turn_id not in ended]
        return starts[-1] if starts else None

    def _point(self, through: int) -> Point:
        later = {one.message_id for start, one in self._starts if start > through}
        waiting = _value(self._queues, through, frozenset())
        return Point(
            through=through,
            files_before=next((end for end, _ in self._ends if end > through), None),
            is_end=not later,
            is_beginning=all(start > through for start, _ in self._starts),
            is_running=self._open_at(self.last) is not None,
            begun_later=frozenset(later) | waiting,
            open_questions=_open(self._questions, through),
            open_egress=_open(self._hosts, through),
            has_waiting=bool(waiting),
            wallet=_value(self._wallets, through, False),
            workspace=self._given[1] if self._given is not None and self._given[0] > through else None,
        )


def _value(facts: list[tuple[int, T]], through: int, default: T) -> T:
    return next((value for seq, value in reversed(facts) if seq <= through), default)


def _open(facts: list[tuple[int, str, bool]], through: int) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for seq, name, is_asked in facts:
        if seq <= through:
            found.pop(name, None)
            if is_asked:
                found[name] = None
    return tuple(found)


class CopiedLog:
    """An event as a fork has it; None: it has it not."""

    def __init__(self, point: Point, *, session_id: str, agent: str, is_same_agent: bool) -> None:
        self._point = point
        self._created = ev.SessionCreated(session_id, agent)
        self._is_same_agent = is_same_agent

    def __call__(self, event: Event) -> Event | None:
        """Called in any thread."""
        data = event.data
        if isinstance(data, _NOT_COPIED) or (isinstance(data, _OF_THE_AGENT) and not self._is_same_agent):
            return None
        match data:
            case ev.SessionCreated():
                return Event(event.seq, event.at, self._created)
            case ev.MessageAdded(message_id=message_id, sender="user"):
                return None if message_id in self._point.begun_later else event
            case ev.Usage():
                return Event(event.seq, event.at, msgspec.structs.replace(data, spending=UNSET, cost=UNSET))
        return event


def closing(point: Point) -> list[ev.EventData]:
    """What ends in the copy what was open at the point."""
    closed: list[ev.EventData] = []
    if point.has_waiting:
        closed.append(ev.QueueChanged(()))
    if point.wallet:
        closed.append(ev.WalletChanged(None))
    closed += [ev.QuestionAnswered(name, "cancel") for name in point.open_questions]
    closed += [ev.EgressAnswered(name, "cancelled") for name in point.open_egress]
    return closed
