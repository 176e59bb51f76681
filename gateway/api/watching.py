"""How the gateway is and was, for operators: its health with its alarms, and a day of history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.readiness import ReadinessChecks
from gateway.errors import GatewayError
from gateway.events.facts import iso
from gateway.http.operation import Operation, json_response
from gateway.sessions.census import Census
from gateway.sessions.pulse import Pulse
from gateway.sights import GatewayHealth, HealthCheck, OverviewHistory
from gateway.stores.contract import Store
from gateway.telemetry.metrics import Metrics
from gateway.workers.walls import WalledSpawner

LATELY_SECONDS: Final = 300.0


class WatchingFace:
    """The handlers."""

    def __init__(
        self,
        census: Census,
        pulse: Pulse,
        readiness: ReadinessChecks,
        *,
        metrics: Metrics,
        spawner: WalledSpawner,
        store: Store,
        wall_ms: Callable[[], int],
    ) -> None:
        self._census = census
        self._pulse = pulse
        self._readiness = readiness
        self._metrics = metrics
        self._spawner = spawner
        self._store = store
        self._wall_ms = wall_ms

    def operations(self) -> list[Operation]:
        """Health and history as operations."""
        return [
            Operation(
                method="GET", scope="operate", path="/api/admin/health", handler=self.read_gateway_health,
                summary="How the gateway is, with the alarms that it raises", answer=GatewayHealth,
                is_gateway_wide=True,
            ),
            Operation(
                method="GET", scope="operate", path="/api/admin/history", handler=self.read_gateway_history,
                summary="What the gateway was like over the last day", answer=OverviewHistory,
                is_gateway_wide=True,
            ),
        ]  # fmt: skip

    async def read_gateway_history(self, _request: Request) -> Response:
        return json_response(self._pulse.shown())

    async def read_gateway_health(self, _request: Request) -> Response:
        overview, checks = await self._census.overview(), await self._readiness.check()
        lately, (free, low) = self._pulse.lately.since(LATELY_SECONDS), self._metrics.disk_now
        health = GatewayHealth(
            version=overview.version,
            started_at=iso(self._wall_ms() - round(overview.uptime_seconds * 1000)),
            uptime_seconds=overview.uptime_seconds,
            checks={n: HealthCheck(is_well=one.is_well, words=one.words) for n, one in checks.items()},
            disk_free_bytes=free,
            disk_low_bytes=low,
            database_bytes=await self._database_bytes(),
            walls=self._spawner.profile,
            walls_missing="; ".join(f"{name}: {why}" for name, why in self._spawner.missing.items()),
            errors={code: round(count) for code, count in lately.labelled("errors/").items()},
            failed_answers=round(lately.of("failed_answers")),
            rejections={limit: round(count) for limit, count in lately.labelled("rejections/").items()},
            alarms=self._pulse.alarms(overview),
        )
        return json_response(health)

    async def _database_bytes(self) -> int:
        """0, too, if the store does not answer: that is among the checks."""
        try:
            return await self._store.size_bytes()
        except GatewayError:
            return 0
