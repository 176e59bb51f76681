"""What this gateway has committed lately, to be committed again if PostgreSQL has lost it.

A standby that is promoted may lack the last commits of the server before it, although they were acknowledged;
so may a server that crashed with `synchronous_commit = off`. Each commit leaves its number in `commits`, and
what is lost is always the end: if the number there is lower than one that was acknowledged, everything above
it is missing. A write finds that out itself, and writes nothing (appending.py, writer.py); if there is
nothing to write, a beat does (lease.py). What is missing is committed again first, in its old order, in one
transaction.

Guarantees: events keep their numbers; what is kept is bounded in time and bytes; and it is known whether that
reaches back far enough.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from msgspec import Struct

from gateway.events.facts import Event
from gateway.stores.database import Statements
from gateway.stores.grouping import WriteGroup
from gateway.stores.logs import Sink

Act = Callable[[Statements], Awaitable[Any]]

RECENT_SECONDS: Final = 30.0
"""A standby that is farther behind is no standby to promote: its monitoring should have said so."""
RECENT_BYTES: Final = 8 * 1024 * 1024
"""Some seconds of two hundred agents that write as fast as people read."""
ACT_BYTES: Final = 1024
"""About what the work of one call holds in memory."""


class RecentCommit(Struct, frozen=True):
    """One that was acknowledged."""

    number: int
    at: float
    """By time.monotonic()."""
    size: int
    events: dict[Sink, list[Event]]
    acts: Sequence[Act]
    """What calls did, after the events."""


class Healing(Struct):
    """What PostgreSQL had lost, and what became of it."""

    commits: int = 0
    """That were done again."""
    events: int = 0
    lost_events: int = 0
    """Of sessions that another gateway has by now, or that cannot be written."""
    lost_calls: int = 0
    is_whole: bool = True
    """False if some commits were not in memory any more."""
    fenced: set[Sink] = set()
    """Logs that another gateway has."""

    @property
    def words(self) -> str:
        """For the operator."""
        text = (
            "PostgreSQL has lost what it had committed last, as when a standby that was behind is promoted:"
            f" {self.commits} commits with {self.events} events were written again from memory"
        )
        if self.is_all:
            return f"{text}, and nothing of this gateway is lost."
        older = "" if self.is_whole else " Older commits were not in memory any more."
        return (
            f"{text}; NOT written were {self.lost_events} events and {self.lost_calls} other changes.{older}"
            " Look at what people did just before the failover, and use a synchronous standby."
        )

    @property
    def is_all(self) -> bool:
        """Whether nothing is lost."""
        return self.is_whole and not (self.lost_events or self.lost_calls)


class RecentCommits:
    """See the module."""

    def __init__(self, *, seconds: float = RECENT_SECONDS, most_bytes: int = RECENT_BYTES) -> None:
        self.begun = 0
        """The number of the last commit that was tried; it is never used again."""
        self.acknowledged = 0
        """The number of the last one of which it is known that it was committed."""
        self._seconds = seconds
        self._most = most_bytes
        self._kept: deque[RecentCommit] = deque()
        self._bytes = 0
        self._dropped = 0
        """The number of the last one that is not kept any more."""

    def next(self) -> int:
        """The number of a commit that is tried now."""
        self.begun += 1
        return self.begun

    def add(self, number: int, group: WriteGroup) -> None:
        """This number was committed, with what of a group was not refused."""
        if not number:
            return
        self.acknowledged = number
        events = {
            sink: [event for event in events if event.seq not in group.spoiled.get(sink, ())]
            for sink, events in group.written().items()
        }
        acts = [call.act for call in group.calls if call.error is None and not call.is_long]
        size = sum(event.size_bytes for each in events.values() for event in each) + ACT_BYTES * len(acts)
        self._kept.append(RecentCommit(number, time.monotonic(), size, events, acts))
        self._bytes += size
        self._drop_old()

    def _drop_old(self) -> None:
        oldest = time.monotonic() - self._seconds
        while self._kept and (self._bytes > self._most or self._kept[0].at < oldest):
            dropped = self._kept.popleft()
            self._bytes -= dropped.size
            self._dropped = dropped.number

    def is_behind(self, number: int | None) -> bool:
        """Whether a database whose last commit has this number lacks some; None: it has no number."""
        return number is not None and number < self.acknowledged

    def missing(self, number: int) -> tuple[list[RecentCommit], bool]:
        """What a database lacks whose last commit has this number; and whether that is all of it."""
        return [commit for commit in self._kept if commit.number > number], self._dropped <= number
