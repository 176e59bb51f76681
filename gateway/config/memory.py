"""The table `[memory]`: how much of the machine's memory workers may take."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gateway.config.table import Table

_Percent = Annotated[float, Meta(ge=0, le=90)]


class MemoryConfig(Table, frozen=True, kw_only=True):
    """When memory is short, and what is done then: idle workers are parked, and turns wait."""

    admission: bool = True
    """Measure the memory that is left, of the machine or of the control group that the gateway runs in, and
    start no worker that would take the last of it."""
    kept_free_percent: _Percent = 5
    """Memory is short if less than this share of it is available, at most `kept_free_bytes`."""
    kept_free_bytes: Annotated[int, Meta(ge=0)] = 1024 * 1024 * 1024
    stalled_percent: _Percent = 10
    """It is also short if everything stood still for so much of the last ten seconds because of memory,
    and less than three times the share above is available (0: stalls are not looked at)."""

    def kept_free(self, limit_bytes: int) -> int:
        """What is kept free of so much memory, in bytes."""
        return min(round(limit_bytes * self.kept_free_percent / 100), self.kept_free_bytes)
