"""The two clocks of a gateway."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple


def wall_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


class Clock(NamedTuple):
    """What a gateway measures time with, and what it says the time is."""

    monotonic: Callable[[], float] = time.monotonic
    """Seconds of a clock that is never set."""
    wall_ms: Callable[[], int] = wall_ms
    """Milliseconds since 1970 UTC."""


class LivedTime:
    """The time, but never further on than this process has lived: a clock that jumps ahead makes nothing so
    old that it is dropped.
    """

    def __init__(self, *, wall_ms: Callable[[], int], monotonic: Callable[[], float]) -> None:
        self._wall_ms, self._monotonic = wall_ms, monotonic
        self._began_ms, self._began = wall_ms(), monotonic()

    def ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        lived = round((self._monotonic() - self._began) * 1000)
        return min(self._wall_ms(), self._began_ms + lived)
