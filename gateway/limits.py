"""Token buckets: how often somebody may ask. In memory, bounded, measured with a clock that is never set."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from gateway.errors import RateLimited

MAX_BUCKETS: Final = 50_000
"""Names remembered at once; the longest unused is forgotten, which only ever gives somebody more."""


class TokenBuckets:
    """A bucket for each name: `burst` tokens at most, refilled at `rate` a second."""

    def __init__(self, *, rate: float, burst: int, monotonic: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> None:
        """Takes a token. Raises RateLimited, with the seconds until there is one."""
        now = self._monotonic()
        tokens, at = self._buckets.pop(name, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        if tokens < 1:
            self._buckets[name] = (tokens, now)
            raise RateLimited(retry_after_seconds=(1 - tokens) / self._rate if self._rate else 60)
        self._buckets[name] = (tokens - 1, now)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)


class Gauge:
    """How many of something each name holds, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[str, int] = {}

    def take(self, name: str) -> bool:
        """Takes one more; False where the limit is reached."""
        held = self._held.get(name, 0)
        if held >= self._limit:
            return False
        self._held[name] = held + 1
        return True

    def give(self, name: str) -> None:
        """Gives one back."""
        held = self._held[name] - 1
        if held:
            self._held[name] = held
        else:
            del self._held[name]

    @property
    def total(self) -> int:
        """How many are held by all."""
        return sum(self._held.values())
