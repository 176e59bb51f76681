"""What operations ask: is it alive."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gateway.api.operation import Operation, json_response
from gateway.events import iso


class Health(Struct, frozen=True):
    """`status` is ok or draining."""

    status: str
    timestamp: str
    uptime_seconds: float
    version: str


class OpsFace:
    """The handlers."""

    def __init__(
        self,
        *,
        version: str,
        is_draining: Callable[[], bool],
        monotonic: Callable[[], float],
        wall_ms: Callable[[], int],
    ) -> None:
        self._version = version
        self._is_draining = is_draining
        self._monotonic = monotonic
        self._wall_ms = wall_ms
        self._began = monotonic()

    def operations(self) -> list[Operation]:
        """Health as an operation."""
        return [
            Operation(
                method="GET",
                scope="",
                path="/health",
                handler=self.health,
                summary="Whether it is alive",
                answer=Health,
                other_media_types=("text/plain",),
            )
        ]

    async def health(self, request: Request) -> Response:
        if "application/json" not in request.headers.get("accept", ""):
            return PlainTextResponse("OK")
        status = "draining" if self._is_draining() else "ok"
        uptime = round(self._monotonic() - self._began, 3)
        return json_response(Health(status, iso(self._wall_ms()), uptime, self._version))
