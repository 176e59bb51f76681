"""Tenures: how long what an owner has is the owner's. A visitor's ends when somebody signs in and takes it.

What stays open on an owner's behalf (a stream, a socket) holds the owner's tenure and asks it before it shows
anything: from the first moment of an adoption on, nothing of what is being moved is shown under the old name.
What asked goes on to `settled`, so that a client which comes back at once finds everything moved.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from weakref import WeakValueDictionary


class Tenure:
    """One owner's, until it is over."""

    def __init__(self) -> None:
        self.is_over = False
        self._settled = asyncio.Event()

    async def settled(self) -> None:
        """Waits until everything has been moved."""
        await self._settled.wait()

    def settle(self) -> None:
        """Everything has been moved, or could not be."""
        self._settled.set()


class Tenures:
    """The tenures that somebody holds, by owner."""

    def __init__(self) -> None:
        self._held: WeakValueDictionary[str, Tenure] = WeakValueDictionary()

    def of(self, owner: str) -> Tenure:
        """The owner's tenure; while one ends, that one."""
        return self._held.setdefault(owner, Tenure())

    @contextlib.contextmanager
    def ending(self, owner: str) -> Iterator[None]:
        """Ends the owner's tenure now; it is settled when the block ends, and the next one begins."""
        tenure = self.of(owner)
        tenure.is_over = True
        try:
            yield
        finally:
            if self._held.get(owner) is tenure:
                del self._held[owner]
            tenure.settle()
