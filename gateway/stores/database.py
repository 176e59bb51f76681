"""The way into a store for an application: its own tables and queries, and rows that are made of events.

`write` shares the one writer thread, and with it the group commits: a call is one transaction of its own
inside the group, undone alone where it refuses with a GatewayError, and durable when it returns. A projection
writes its rows in the commit of the event itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar, runtime_checkable

from gateway.events.facts import Event
from gateway.stores.sessions import SessionRecord

T = TypeVar("T")

Projection = Callable[[sqlite3.Connection, int, Event], None]
"""Writes what a table says of an event, in the commit of the event itself; told the session's row id."""
Take = Callable[[str, Event], None]
"""The same in memory; told the session's key."""


@runtime_checkable
class Database(Protocol):
    """Where `act` runs: never on the loop. Raises StoreFull, StoreFailed, and what `act` refuses with."""

    def read(self, act: Callable[[sqlite3.Connection], T]) -> Awaitable[T]:
        """In the thread that reads; it sees everything that was committed before."""

    def write(self, act: Callable[[sqlite3.Connection], T], *, is_long: bool = False) -> Awaitable[T]:
        """In the thread that writes; nothing else writes meanwhile. One that `is_long` lets others go first,
        and never goes together with another such.
        """

    def has_table(self, name: str) -> Awaitable[bool]:
        """True if the store has a table of this name."""

    def project(self, kinds: Iterable[type], act: Projection) -> None:
        """Has rows made of events whose data is of these types; called before the store is opened."""


class MemoryTables:
    """The same for a store in memory: an application keeps its rows itself."""

    def __init__(self, record_of: Callable[[str], SessionRecord | None]) -> None:
        self.record_of = record_of
        """The session of a key, while there is one."""
        self._takes: dict[type, list[Take]] = {}
        self._drops: list[Callable[[str], None]] = []

    def project(self, kinds: Iterable[type], take: Take, *, drop: Callable[[str], None]) -> None:
        """Calls `take` with events whose data is of these types, and `drop` with a session that is erased."""
        for kind in kinds:
            self._takes.setdefault(kind, []).append(take)
        self._drops.append(drop)

    def appended(self, key: str, event: Event) -> None:
        """An event was appended to the log of this session."""
        for take in self._takes.get(event.kind, ()):
            take(key, event)

    def dropped(self, key: str) -> None:
        """A session was erased."""
        for drop in self._drops:
            drop(key)


Tables = Database | MemoryTables
