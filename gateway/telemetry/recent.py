"""What happened over the last minutes, for people who watch: rates and percentiles, per tenant where asked.

Bounded: an hour of a busy gateway costs no more memory than its last five minutes, and those no more than
`KEPT` entries a kind.
"""

from __future__ import annotations

import bisect
import math
from array import array
from collections.abc import Callable
from typing import Final

WINDOW_SECONDS: Final = 300.0
KEPT: Final = 20_000
_OLD: Final = 256
"""So many that are too old are dropped at a time."""


class Recent:
    """Values of one kind with the time when each came: numbers in arrays, because small objects that come and
    go for ever hold the memory that a busy moment has freed.
    """

    def __init__(self, monotonic: Callable[[], float], *, window_seconds: float = WINDOW_SECONDS) -> None:
        self._monotonic = monotonic
        self._window = window_seconds
        self._began = monotonic()
        self._at = array("d")
        self._values = array("d")
        self._tenants = array("L")
        """The number of each one's tenant."""
        self._numbers: dict[str, int] = {}
        """By tenant, in the order in which they came."""

    def note(self, value: float, tenant: str = "") -> None:
        """Counts one and drops old entries, because the others may never be read."""
        self._at.append(self._monotonic())
        self._values.append(value)
        self._tenants.append(self._numbers.setdefault(tenant, len(self._numbers)))
        first = self._first()
        if first >= _OLD:
            for column in (self._at, self._values, self._tenants):
                del column[:first]

    def per_minute(self) -> float:
        """The sum of the values per minute (a count, if each is 1), over the window, or since the start if
        that is shorter.
        """
        return sum(self._kept()) / self._minutes()

    def count_per_minute(self) -> float:
        """How many came a minute, whatever their values."""
        return len(self._kept()) / self._minutes()

    def by_tenant(self) -> dict[str, float]:
        """The same for each tenant that has any."""
        totals: dict[str, float] = {}
        names, first = list(self._numbers), self._first()
        for number, value in zip(self._tenants[first:], self._values[first:], strict=True):
            totals[names[number]] = totals.get(names[number], 0.0) + value
        return {tenant: total / self._minutes() for tenant, total in totals.items()}

    def quantile(self, share: float) -> float | None:
        """The value below which this share of them lies (nearest rank); None if there are none."""
        values = sorted(self._kept())
        return values[max(0, math.ceil(share * len(values)) - 1)] if values else None

    def _minutes(self) -> float:
        lived = min(max(60.0, self._monotonic() - self._began), self._window)
        return lived / 60

    def _first(self) -> int:
        """Where the first lies that is counted still."""
        oldest = self._monotonic() - self._window
        return max(bisect.bisect_left(self._at, oldest), len(self._at) - KEPT)

    def _kept(self) -> array[float]:
        return self._values[self._first() :]
