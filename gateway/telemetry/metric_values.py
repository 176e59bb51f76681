"""What a metric keeps its number in: a place of its own that never moves.

The library's own value is a new object each time it changes, wherever there is room at that moment; after a
flood some hundred of them would hold the memory around them, which nobody else uses any more.
"""

from __future__ import annotations

from array import array
from typing import Any

from prometheus_client import values


class PlacedValue(values.MutexValue):
    """A number of the library's, in eight bytes that are given once."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)  # type: ignore[no-untyped-call]
        self._place = array("d", [0.0])

    def inc(self, amount: float) -> None:
        with self._lock:
            self._place[0] += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        with self._lock:
            self._place[0] = value

    def get(self) -> float:
        return self._place[0]


def use() -> None:
    """Metrics that are made from now on keep their numbers so."""
    values.ValueClass = PlacedValue
