"""The way into a store for an application: its own tables and queries, and rows that are made of events.

`write` shares the one writer, and with it the group commits: a call is one transaction of its own inside the
group, undone alone where it refuses with a GatewayError, and durable when it returns. A projection writes its
rows in the commit of the event itself. On PostgreSQL they are `transact` and `query`, and what they are given
is awaited.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

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


class Statements(Protocol):
    """PostgreSQL inside `query` or `transact`: a connection of asyncpg's, of which this much may be used. A
    row is read by position or by the name of a column; parameters are `$1`, `$2`.
    """

    async def execute(self, query: str, /, *values: Any) -> str:
        """Runs a statement: its tag, such as "DELETE 3"."""

    async def executemany(self, query: str, rows: Iterable[Sequence[Any]], /) -> None:
        """Runs it for each of the rows."""

    async def fetch(self, query: str, /, *values: Any) -> Sequence[Any]:
        """All rows."""

    async def fetchrow(self, query: str, /, *values: Any) -> Any:
        """The first row, or None."""

    async def fetchval(self, query: str, /, *values: Any) -> Any:
        """The first column of the first row, or None."""


PostgresqlProjection = Callable[[Statements, int, Event], Awaitable[None]]
"""`Projection` for PostgreSQL."""


@runtime_checkable
class PostgresqlDatabase(Protocol):
    """`Database` for PostgreSQL. Raises StoreFull, StoreFailed, and what `act` refuses with."""

    def query(self, act: Callable[[Statements], Awaitable[T]]) -> Awaitable[T]:
        """Reads; it sees everything that was committed before."""

    def transact(self, act: Callable[[Statements], Awaitable[T]], *, is_long: bool = False) -> Awaitable[T]:
        """One transaction, in the order of everything else that is written. `act` may run again, after it
        was undone; so it changes nothing but the database, and awaits nothing else.
        """

    def has_table(self, name: str) -> Awaitable[bool]:
        """True if the store has a table of this name."""

    def project(self, kinds: Iterable[type], act: PostgresqlProjection) -> None:
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


Tables = Database | PostgresqlDatabase | MemoryTables
