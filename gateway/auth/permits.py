"""Permits: whether what is open on somebody's behalf, a stream or a socket, may stay open.

A permit is asked before anything is shown. If credentials end (a person is disabled, a key is revoked), it is
asked at once, so that what waits for news ends, too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from weakref import WeakSet


class Permit:
    """That of one stream or socket: call it to ask."""

    __slots__ = ("__weakref__", "_is_good", "_task", "_wait", "is_cut", "owner")

    def __init__(self, owner: str, is_good: Callable[[], bool]) -> None:
        self.owner = owner
        self._is_good = is_good
        self._wait: asyncio.Timeout | None = None
        self._task: asyncio.Task[object] | None = None
        self.is_cut = False
        """True once it has cancelled the task that waited."""

    def __call__(self) -> bool:
        return self._is_good()

    def timeout(self, seconds: float | None = None) -> asyncio.Timeout:
        """A timeout that ends early when the permit is lost: `async with` it around a wait."""
        self._wait = asyncio.timeout(seconds if self._is_good() else 0)
        return self._wait

    def waits(self, task: asyncio.Task[object] | None) -> None:
        """From here on this task waits (None: none does), and is cancelled when the permit is lost: what
        `timeout` does, at a third of the cost, for as many waits as frames. The holder takes the
        cancellation back.
        """
        self._task = task

    def look_again(self) -> None:
        """Ends the wait of its holder if the permit is lost."""
        if self._task is not None and not self.is_cut and not self._is_good():
            self.is_cut = True
            self._task.cancel()
        if self._wait is not None and not self._is_good():
            with contextlib.suppress(RuntimeError):  # it does not wait now, and asks before it does
                self._wait.reschedule(0)


class Permits:
    """Those of everything that is open."""

    def __init__(self) -> None:
        self._open: WeakSet[Permit] = WeakSet()

    def issue(self, owner: str, is_good: Callable[[], bool]) -> Permit:
        """The permit of something that opens on behalf of this owner."""
        permit = Permit(owner, is_good)
        self._open.add(permit)
        return permit

    def owners(self) -> set[str]:
        """Everyone on whose behalf something is open."""
        return {permit.owner for permit in self._open}

    def look_again(self, owner: str | None = None) -> None:
        """Asks those of an owner (None: of everyone) whether they are still good."""
        for permit in list(self._open):
            if owner in (None, permit.owner):
                permit.look_again()
