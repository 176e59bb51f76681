"""What happened over the last minutes, for people who watch: rates and percentiles, per tenant where asked.

Bounded: an hour of a busy gateway costs no more memory than its last five minutes, and those no more than
`KEPT` entries a kind.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct

WINDOW_SECONDS: Final = 300.0
KEPT: Final = 20_000


class _Entry(Struct, frozen=True, gc=False):
    at: float
    value: float
    tenant: str


class Recent:
    """Values of one kind with the time when each came."""

    def __init__(self, monotonic: Callable[[], float], *, window_seconds: float = WINDOW_SECONDS) -> None:
        self._monotonic = monotonic
        self._window = window_seconds
        self._began = monotonic()
        self._entries: deque[_Entry] = deque(maxlen=KEPT)

    def note(self, value: float, tenant: str = "") -> None:
        """Counts one and drops old entries, because the others may never be read."""
        self._kept().append(_Entry(self._monotonic(), value, sys.intern(tenant)))

    def per_minute(self) -> float:
        """The sum of the values per minute (a count, if each is 1), over the window, or since the start if
        that is shorter.
        """
        total = sum(entry.value for entry in self._kept())
        return total / self._minutes()

    def count_per_minute(self) -> float:
        """How many came a minute, whatever their values."""
        return len(self._kept()) / self._minutes()

    def by_tenant(self) -> dict[str, float]:
        """The same for each tenant that has any."""
        totals: dict[str, float] = {}
        for entry in self._kept():
            totals[entry.tenant] = totals.get(entry.tenant, 0.0) + entry.value
        return {tenant: total / self._minutes() for tenant, total in totals.items()}

    def quantile(self, share: float) -> float | None:
        """The value below which this share of them lies (nearest rank); None if there are none."""
        values = sorted(entry.value for entry in self._kept())
        return values[max(0, math.ceil(share * len(values)) - 1)] if values else None

    def _minutes(self) -> float:
        lived = min(max(60.0, self._monotonic() - self._began), self._window)
        return lived / 60

    def _kept(self) -> deque[_Entry]:
        oldest = self._monotonic() - self._window
        while self._entries and self._entries[0].at < oldest:
            self._entries.popleft()
        return self._entries
