"""What is committed together, for every engine that commits in groups.

Whatever arrives while a commit runs goes into the next one, so a hundred writers cost one fsync. Events that
nobody waits for are held back up to 50 ms, and an urgent one takes only its own log's along: what is held
back together lies in fewer rows. The order of a log's events is kept, and a call that is waited for comes
after every event that was given before it. A call that takes long goes with at most every group, and with at
least every second one.

There is no thread here and no loop: who writes waits, and holds a lock if others are in other threads.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from gateway.errors import GatewayError, SessionFenced, StoreFailed
from gateway.events.facts import Event
from gateway.stores.logs import Sink

GROUP_SECONDS: Final = 0.05
"""How long an event that no caller waits for may be held back for its group."""


class WriteCall:
    """Work of which somebody awaits the outcome; nobody, if it has no future."""

    __slots__ = ("act", "error", "future", "is_long", "result")

    def __init__(self, act: Any, future: asyncio.Future[Any] | None, *, is_long: bool = False) -> None:
        self.act = act
        self.future = future
        self.is_long = is_long
        """Housekeeping, which may as well be done later."""
        self.result: Any = None
        self.error: Exception | None = None


class WriteGroup(Struct):
    """What is committed together: events, log by log, then calls. It may be empty."""

    events: dict[Sink, list[Event]]
    calls: list[WriteCall]
    spoiled: dict[Sink, set[int]] = {}
    """Events that cannot be stored, whatever is tried: the others were committed without them."""
    fenced: set[Sink] = set()
    """Logs that another gateway has: nothing of theirs was committed."""

    def written(self) -> dict[Sink, list[Event]]:
        """The events of the others."""
        return {sink: events for sink, events in self.events.items() if sink not in self.fenced}

    def tell(self) -> None:
        """On the loop: what was committed."""
        for call in self.calls:
            if call.future is None or call.future.done():
                continue
            if call.error is not None:
                call.future.set_exception(call.error)
            else:
                call.future.set_result(call.result)
        for sink in self.fenced:
            sink.refused(SessionFenced())
        for sink, events in self.written().items():
            if spoiled := self.spoiled.get(sink):
                sink.spoiled(spoiled, StoreFailed("This cannot be stored."))
            sink.committed(events[-1].seq)


class Grouping:
    """See the module."""

    def __init__(self) -> None:
        self.events: dict[Sink, list[Event]] = {}
        self.urgent: set[Sink] = set()
        """Logs of which an event must be committed at once."""
        self.kept: dict[Sink, list[Event]] = {}
        """What was refused, and is tried again."""
        self.is_stopping = False
        self._since = 0.0
        """No event has waited for longer."""
        self._calls: list[WriteCall] = []
        self._long: deque[WriteCall] = deque()
        """Calls that take long: one goes with a group, so that no group waits for more than one of them."""
        self._was_passed_over = False
        """Whether the last group went without one."""
        self._later: list[WriteCall] = []
        """Calls that nobody waits for: they go with whatever is committed next."""

    # -- given --------------------------------------------------------------------------------------------

    def put(self, sink: Sink, events: Sequence[Event], *, urgent: bool) -> bool:
        """Events for one and the same group; whether who waits must look again."""
        is_first = not (self.events or self._later)
        if is_first:
            self._since = time.monotonic()
        waiting = self.events.get(sink)
        if waiting is None:
            self.events[sink] = list(events)
        else:
            waiting += events
        if urgent and sink not in self.urgent:
            self.urgent.add(sink)
            return True
        return is_first

    def call_soon(self, act: Any) -> bool:
        """A call that nobody waits for; whether who waits must look again."""
        is_first = not (self.events or self._later)
        if is_first:
            self._since = time.monotonic()
        self._later.append(WriteCall(act, None))
        return is_first

    def call(self, act: Any, future: asyncio.Future[Any], *, is_long: bool) -> None:
        """A call for the next group; who waits must look again."""
        (self._long if is_long else self._calls).append(WriteCall(act, future, is_long=is_long))

    def forget(self, sink: Sink, seqs: set[int]) -> None:
        """Takes back events that were refused."""
        for waiting in (self.kept, self.events):
            if left := [event for event in waiting.pop(sink, ()) if event.seq not in seqs]:
                waiting[sink] = left

    def backlog(self) -> int:
        """How many events and calls wait, those that were refused and are tried again among them."""
        logs = (*self.events.values(), *self.kept.values())
        return sum(map(len, logs)) + len(self._calls) + len(self._long)

    # -- taken --------------------------------------------------------------------------------------------

    @property
    def has_new(self) -> bool:
        """True if there is something that was not refused before."""
        return bool(self.events or self._calls or self._long or self._later)

    def left(self) -> float:
        """Seconds until what is new must be written; at most 0 if that is now."""
        if self.urgent or self._calls or self._long or self.is_stopping:
            return 0.0
        return self._left_of_events()

    def _left_of_events(self) -> float:
        is_empty = not (self.events or self._later)
        return 0.0 if is_empty else self._since + GROUP_SECONDS - time.monotonic()

    def take(self) -> WriteGroup:
        """What goes into the next group: everything, or the urgent logs' events."""
        has_calls = bool(self._calls or self._long)
        if self.kept or has_calls or self.is_stopping or self._left_of_events() <= 0:
            group = WriteGroup(self.kept, [*self._calls, *self._later, *self._next_long()])
            for sink, events in self.events.items():
                group.events.setdefault(sink, []).extend(events)
            self.kept, self.events, self._calls = {}, {}, []
        else:
            urgent = [sink for sink in self.urgent if sink in self.events]
            group = WriteGroup({sink: self.events.pop(sink) for sink in urgent}, self._later)
        self._later = []
        self.urgent.clear()
        return group

    def _next_long(self) -> list[WriteCall]:
        """A call that takes long, if there is one: at the latest in every second group, and before that if
        nobody waits for anything else.
        """
        is_passed_over = bool(self._long and (self._calls or self.urgent)) and not self._was_passed_over
        self._was_passed_over = is_passed_over
        return [self._long.popleft()] if self._long and not is_passed_over else []

    def empty(self) -> WriteGroup:
        """Everything, for those to be told that wait for it."""
        group = WriteGroup(self.kept | self.events, [*self._calls, *self._long])
        self._calls, self._later, self.events, self.kept = [], [], {}, {}
        self._long.clear()
        return group


def refuse(calls: list[WriteCall], sinks: list[Sink], error: GatewayError) -> None:
    """On the loop: every waiting call and every log hears of a failure."""
    for call in calls:
        if call.future is not None and not call.future.done():
            call.future.set_exception(error)
    for sink in sinks:
        sink.refused(error)
