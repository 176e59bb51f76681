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
