"""How fast the files of one owner leave: so many bytes a second, all downloads together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

AHEAD_SECONDS: Final = 1.0
"""What was not used lately may be used at once, up to so much."""
REMEMBERED: Final = 10_000


class Bandwidth:
    """Tells each download how long to wait before its next piece."""

    def __init__(self, rate: Callable[[], int], *, monotonic: Callable[[], float]) -> None:
        """`rate`: bytes a second; 0: no limit."""
        self._rate = rate
        self._monotonic = monotonic
        self._free_at: dict[str, float] = {}
        """When all that each owner was sent is paid for."""

    def wait_seconds(self, owner: str, size: int) -> float:
        """Counts these bytes, and answers how long to wait before they are sent."""
        rate = self._rate()
        if not rate:
            return 0.0
        now = self._monotonic()
        free_at = max(self._free_at.pop(owner, 0.0), now - AHEAD_SECONDS) + size / rate
        self._free_at[owner] = free_at
        if len(self._free_at) > REMEMBERED:
            del self._free_at[next(iter(self._free_at))]
        return max(0.0, free_at - now)
