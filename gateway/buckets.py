"""Token buckets: how often somebody may ask. In memory, bounded, measured with a clock that is never set."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from gateway.errors import RateLimited

MAX_BUCKETS: Final = 50_000
"""Names remembered at once; the longest unused is forgotten, which only ever gives somebody more."""


class Buckets(Protocol):
    """Buckets by name: what a store that several gateways share would have to do."""

    def wait(self, name: str, *, rate: float, burst: float) -> float:
        """Seconds until the bucket of this name holds a token; 0 if it does."""

    def spend(self, name: str, *, rate: float, burst: float) -> None:
        """Takes a token that `wait` said is there."""


class MemoryBuckets:
    """`Buckets` in this process: `burst` tokens at most, refilled at `rate` a second."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, tuple[float, float, float]] = OrderedDict()
        """Tokens, since when, and when it will be full; the longest unused first."""

    def wait(self, name: str, *, rate: float, burst: float) -> float:
        tokens, _ = self._filled(name, rate, burst)
        if tokens >= 1:
            return 0.0
        return (1 - tokens) / rate if rate else 60.0

    def spend(self, name: str, *, rate: float, burst: float) -> None:
        tokens, now = self._filled(name, rate, burst)
        self._put(name, tokens - 1, now, rate=rate, burst=burst)

    def take(self, name: str, *, rate: float, burst: float) -> float:
        """Both at once: 0 if there was a token, which is spent, else the seconds until there is one."""
        tokens, now = self._filled(name, rate, burst)
        if tokens < 1:
            return (1 - tokens) / rate if rate else 60.0
        self._put(name, tokens - 1, now, rate=rate, burst=burst)
        return 0.0

    def _put(self, name: str, tokens: float, now: float, *, rate: float, burst: float) -> None:
        self._buckets.pop(name, None)
        full_at = now + (burst - tokens) / rate if rate else math.inf
        self._buckets[name] = (tokens, now, full_at)
        self._forget_full(now)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)

    def _forget_full(self, now: float) -> None:
        """A full bucket is as good as none; two at a time, so that they go faster than they come."""
        for _ in range(2):
            oldest = next(iter(self._buckets))
            if self._buckets[oldest][2] > now:
                return
            del self._buckets[oldest]

    def _filled(self, name: str, rate: float, burst: float) -> tuple[float, float]:
        now = self._monotonic()
        tokens, at, _ = self._buckets.get(name, (burst, now, now))
        return min(burst, tokens + (now - at) * rate), now


class TokenBuckets:
    """A bucket of the same size for each name."""

    def __init__(
        self,
        *,
        rate: float,
        burst: int,
        monotonic: Callable[[], float],
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_refused` hears of each token that is not there."""
        self._on_refused = on_refused
        self._rate = rate
        self._burst = float(burst)
        self._buckets = MemoryBuckets(monotonic)

    def take(self, name: str) -> None:
        """Takes a token. Raises RateLimited, with the seconds until there is one."""
        seconds = self._buckets.take(name, rate=self._rate, burst=self._burst)
        if seconds:
            self._on_refused()
            raise RateLimited(retry_after_seconds=seconds)


class Gauge:
    """How many of something each name holds, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[str, int] = {}

    def take(self, name: str) -> bool:
        """Takes one more; False if the limit is reached."""
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
