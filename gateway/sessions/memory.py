"""Whether memory has room for another worker.

Guarantees: what is measured is never older than a moment; workers that are starting, and have not taken their
memory yet, count with what their agent took before; memory that is short is enough again only when clearly
more than that is free, so that nothing is parked and started in turns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from gateway.config.memory import MemoryConfig
from gateway.telemetry.metrics import Metrics
from gateway.workers.pressure import MemoryRoom

log = logging.getLogger(__name__)

FRESH_SECONDS: Final = 0.05
"""A measurement so young is used again: sessions that start in a burst would each make one."""
ENOUGH: Final = 1.25
"""Memory that was short is enough again when so many times what is kept free is available."""
STALL_SHARE: Final = 3
"""Stalls count only while less than so many times what is kept free is available: a worker at the limit of
its own group stalls, too.
"""
BUILT_IN_BYTES: Final = 4 * 1024 * 1024
COMMAND_BYTES: Final = 48 * 1024 * 1024
"""What a worker is expected to take before one of its agent has ended and was measured."""
FORGOTTEN: Final = 0.1
"""Of an agent's size so far, so much is forgotten with each smaller worker that ends."""


class MemoryAdmission:
    """See the module."""

    def __init__(
        self,
        read: Callable[[], MemoryRoom],
        *,
        config: Callable[[], MemoryConfig],
        monotonic: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._read = read
        self._config = config
        self._monotonic = monotonic
        self._metrics = metrics
        self._room = MemoryRoom(0, 0)
        self._at = float("-inf")
        self._is_short = False
        self._sizes: dict[str, float] = {}
        """Of each agent's workers, in bytes."""

    # -- what a worker takes ----------------------------------------------------------------------------

    def note_size(self, agent: str, size: int) -> None:
        """A worker of an agent had taken so much at its end."""
        before = self._sizes.get(agent, 0.0)
        if size:
            self._sizes[agent] = max(float(size), before + FORGOTTEN * (size - before))

    def expected_bytes(self, agent: str, *, is_built_in: bool) -> int:
        """What the next worker of an agent will take."""
        known = self._sizes.get(agent)
        return round(known) if known else BUILT_IN_BYTES if is_built_in else COMMAND_BYTES

    def parked(self, count: int) -> None:
        """So many workers were asked to park because memory is short."""
        self._metrics.memory_parked.inc(count)

    # -- what there is ----------------------------------------------------------------------------------

    @property
    def is_short(self) -> bool:
        """Whether idle workers are to go, and none is to start."""
        self._measure()
        return self._is_short

    def has_room(self, bytes_wanted: int) -> bool:
        """Whether so much can be taken and memory is not short after that."""
        if not self._config().admission:
            return True
        self._measure()
        kept = self._config().kept_free(self._room.limit_bytes)
        return not self._is_short and self._room.available_bytes - bytes_wanted >= kept

    def _measure(self) -> None:
        now = self._monotonic()
        if now - self._at < FRESH_SECONDS:
            return
        self._at, config = now, self._config()
        room = self._room = self._read()
        kept = config.kept_free(room.limit_bytes)
        is_stalled = 0 < config.stalled_percent <= room.stalled_percent
        is_short = room.available_bytes < (ENOUGH * kept if self._is_short else kept)
        is_short = is_short or (is_stalled and room.available_bytes < STALL_SHARE * kept)
        self._changed(is_short=is_short and config.admission, kept=kept)

    def _changed(self, *, is_short: bool, kept: int) -> None:
        self._metrics.memory_seen(self._room.limit_bytes, self._room.available_bytes, is_short=is_short)
        if is_short == self._is_short:
            return
        self._is_short = is_short
        free = f"{self._room.available_bytes / 1e6:,.0f} of {self._room.limit_bytes / 1e6:,.0f} MB available"
        if is_short:
            log.warning(
                "memory is short (%s, %.0f MB are kept free): idle agents are parked, and turns wait",
                *(free, kept / 1e6),
            )
        else:
            log.warning("memory is no longer short (%s)", free)
