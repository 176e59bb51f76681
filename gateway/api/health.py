"""What machines ask a gateway: is it alive, can it take work, what are its figures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gateway.api.readiness import Check, ReadinessChecks
from gateway.events.facts import iso
from gateway.http.operation import Operation, json_response
from gateway.telemetry.heavy import loaded
from gateway.telemetry.metrics import CONTENT_TYPE


class Health(Struct, frozen=True):
    """`status` is ok or draining."""

    status: str
    timestamp: str
    uptime_seconds: float
    version: str


class Alive(Struct, frozen=True):
    """The process answers."""

    status: str = "ok"


class ReadyAnswer(Struct, frozen=True):
    """`status` is ok (200) or unready (503); each check says whether it holds, and what does not."""

    status: str
    checks: dict[str, Check]


class OpsFace:
    """The handlers."""

    def __init__(
        self,
        *,
        version: str,
        is_draining: Callable[[], bool],
        monotonic: Callable[[], float],
        wall_ms: Callable[[], int],
        readiness: ReadinessChecks,
        scrape: Callable[[], Awaitable[bytes]],
    ) -> None:
        self._version = version
        self._is_draining = is_draining
        self._monotonic = monotonic
        self._wall_ms = wall_ms
        self._readiness = readiness
        self._scrape = scrape
        self._began = monotonic()

    def operations(self) -> list[Operation]:
        """Health, liveness, readiness and the scrape as operations."""
        return [
            Operation(
                method="GET",
                scope="",
                path="/health",
                handler=self.health,
                summary="Whether it is alive",
                answer=Health,
                other_media_types=("text/plain",),
            ),
            Operation(
                method="GET", scope="", path="/livez", handler=self.livez,
                summary="Whether the process answers", answer=Alive,
            ),
            Operation(
                method="GET", scope="", path="/readyz", handler=self.readyz,
                summary="Whether it can take work", answer=ReadyAnswer,
            ),
            Operation(
                method="GET", scope="", path="/health/live", handler=self.live,
                summary="Whether the process answers, in the words of /health", answer=Health,
            ),
            Operation(
                method="GET", scope="", path="/health/ready", handler=self.ready,
                summary="Whether it can take work, in the words of /health", answer=Health,
            ),
            Operation(
                method="GET", scope="operate", path="/metrics", handler=self.metrics,
                summary="Its figures, for Prometheus", media_type="text/plain", is_gateway_wide=True,
            ),
        ]  # fmt: skip

    async def live(self, _request: Request) -> Response:
        return json_response(self.now())

    async def ready(self, _request: Request) -> Response:
        checks = await self._readiness.check()
        is_ready = all(check.is_well for check in checks.values())
        return json_response(self.now(), status=200 if is_ready else 503)

    def now(self) -> Health:
        """How it is."""
        status = "draining" if self._is_draining() else "ok"
        uptime = round(self._monotonic() - self._began, 3)
        return Health(status, iso(self._wall_ms()), uptime, self._version)

    async def health(self, request: Request) -> Response:
        if "application/json" not in request.headers.get("accept", ""):
            return PlainTextResponse("OK")
        return json_response(self.now())

    async def livez(self, request: Request) -> Response:
        return json_response(Alive())

    async def readyz(self, request: Request) -> Response:
        checks = await self._readiness.check()
        is_ready = all(check.is_well for check in checks.values())
        return json_response(
            ReadyAnswer("ok" if is_ready else "unready", checks), status=200 if is_ready else 503
        )

    async def metrics(self, request: Request) -> Response:
        await loaded("prometheus_client.exposition")
        return Response(await self._scrape(), headers={"Content-Type": CONTENT_TYPE})
