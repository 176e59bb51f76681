"""How often busy pipes are read while the loop has much to do, one for all agents of a gateway.

What an agent says is cheapest when much of it is read at once: its pieces leave as one. While there is little
to do every piece leaves at once. When the agents' output takes more than a fair part of the loop's time, a
pipe that has something every few milliseconds rests in between, and the others find the loop free. A pipe
that has been quiet is never kept waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

REST_SECONDS: Final = 0.004
QUICK_SECONDS: Final = 2 * REST_SECONDS
"""A pipe that had something within this time is busy."""
SMALL_BYTES: Final = 4 * 1024
"""A read of more has joined enough."""
BUSY_SHARE: Final = 0.2
"""Of the loop's time, what handling output takes, without reading and writing: pipes begin to rest."""
CALM_SHARE: Final = 0.05
"""And rest no more."""
WINDOW_SECONDS: Final = 0.02


class Pace:
    """See the module."""

    def __init__(self) -> None:
        self.is_slow = False
        """Whether busy pipes rest."""
        self._spent = 0.0
        self._since = 0.0
        self._resting: list[Callable[[], None]] = []

    def note(self, now: float, seconds: float) -> None:
        """At this time of the loop's clock so much more was spent on what agents say."""
        self._spent += seconds
        elapsed = now - self._since
        if elapsed >= WINDOW_SECONDS:
            self.is_slow = self._spent > elapsed * (CALM_SHARE if self.is_slow else BUSY_SHARE)
            self._spent, self._since = 0.0, now

    def rest(self, resume: Callable[[], None]) -> None:
        """Calls back when the next of the busy pipes are read."""
        if not self._resting:
            asyncio.get_running_loop().call_later(REST_SECONDS, self._wake)
        self._resting.append(resume)

    def _wake(self) -> None:
        resting, self._resting = self._resting, []
        for resume in resting:
            resume()
