"""Meters and budgets for tests of what is beside them."""

from __future__ import annotations

from collections.abc import Callable

from gateway.config.tables import Config
from gateway.models.budgets import Budgets
from gateway.models.meter import CallUsage, ModelCall


class FreeMeter:
    """Refuses nothing; notes what was settled."""

    def __init__(self) -> None:
        self.settled: list[tuple[ModelCall, CallUsage, int]] = []

    def reserve(self, call: ModelCall) -> FreeReservation:
        return FreeReservation(self, call)


class FreeReservation:
    """Of a call that costs nothing."""

    def __init__(self, meter: FreeMeter, call: ModelCall) -> None:
        self._meter = meter
        self._call = call

    async def kept(self) -> None:
        """At once."""

    def settle(
        self, usage: CallUsage, *, status: int, model: str = "", first_byte_milliseconds: int | None = None
    ) -> None:
        self._meter.settled.append((self._call, usage, status))


def budgets_of(config: Callable[[], Config], *, wall_ms: Callable[[], int]) -> Budgets:
    """Budgets that nothing is counted in yet."""
    return Budgets(config, wall_ms=wall_ms)
