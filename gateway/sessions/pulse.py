"""The gateway's own watch over itself: once a minute it keeps what it was like and looks at its alarms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from gateway.events.facts import iso
from gateway.sessions.census import Census
from gateway.sights import AlarmRow, Overview, OverviewHistory
from gateway.telemetry.alarms import Signals, raised
from gateway.telemetry.clocks import Clock
from gateway.telemetry.history import STEP_SECONDS, DayHistory
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tallies import Lately

SAVED_EVERY: Final = 5
"""Rows between two writes of the history: a kill costs its last five minutes."""


class Pulse:
    """`beat` for ever; `history` and `alarms` for operators."""

    def __init__(
        self,
        census: Census,
        history: DayHistory,
        *,
        metrics: Metrics,
        clock: Clock,
        tasks_down: Callable[[], Sequence[str]],
    ) -> None:
        self._census = census
        self._history = history
        self._metrics = metrics
        self._clock = clock
        self._tasks_down = tasks_down
        self._since: dict[str, int] = {}
        self.lately = Lately(metrics, monotonic=clock.monotonic)

    async def beat_for_ever(self) -> None:
        """Restores the history, adds to it every minute, and saves it now and then and at the end."""
        await asyncio.to_thread(self._history.load, now=self._clock.wall_ms())
        try:
            while True:
                for _ in range(SAVED_EVERY):
                    await asyncio.sleep(STEP_SECONDS)
                    await self.beat()
                await asyncio.to_thread(self._history.save)
        finally:
            self._history.save()

    async def beat(self) -> None:
        """Adds what is true now to the history, and looks at the alarms."""
        overview = await self._census.overview()
        growth = self.lately.since(STEP_SECONDS)
        errors = growth.of("failed_answers") * 60 / growth.seconds
        self._history.note(overview, at=self._clock.wall_ms(), errors=errors)
        self.alarms(overview)
        self.lately.note()

    def shown(self) -> OverviewHistory:
        """The history."""
        return self._history.shown()

    def alarms(self, overview: Overview) -> list[AlarmRow]:
        """Those that are raised now, with the time since when."""
        now = self._clock.wall_ms()
        found = list(raised(self._signals(overview)))
        self._since = {one.name: self._since.get(one.name, now) for one in found}
        return [
            AlarmRow(name=one.name, severity=one.severity, value=one.value, since=iso(self._since[one.name]))
            for one in found
        ]

    def _signals(self, overview: Overview) -> Signals:
        metrics, lately, now = self._metrics, self.lately, self.lately.now()
        return Signals(
            five=lately.since(300, now=now),
            ten=lately.since(600, now=now),
            fifteen=lately.since(900, now=now),
            workers=overview.workers,
            worker_limit=overview.worker_limit,
            start_p99_seconds=overview.start_p99_seconds,
            loop_lag_p99_seconds=overview.loop_lag_p99_seconds,
            store_waiting=overview.store_waiting,
            is_store_lost=metrics.is_store_lost,
            damaged=now.counts.get("errors/store_damaged", 0.0),
            disk_free_bytes=metrics.disk_now[0],
            disk_low_bytes=metrics.disk_now[1],
            tasks_down=len(self._tasks_down()),
            is_memory_short=metrics.is_memory_short,
        )
