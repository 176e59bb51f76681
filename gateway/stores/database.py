"""A way into a store's own SQLite file for what belongs to one product: its tables, its queries.

`write` shares the one writer thread, and with it the group commits: a call is one transaction of its own
inside the group, undone alone where it refuses with a GatewayError, and durable when it returns.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Database(Protocol):
    """Where `act` runs: never on the loop. Raises StoreFull, StoreFailed, and what `act` refuses with."""

    def read(self, act: Callable[[sqlite3.Connection], T]) -> Awaitable[T]:
        """In the thread that reads; it sees everything that was committed before."""

    def write(self, act: Callable[[sqlite3.Connection], T]) -> Awaitable[T]:
        """In the thread that writes; nothing else writes meanwhile."""
