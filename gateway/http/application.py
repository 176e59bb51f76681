"""The ASGI application: routes behind the guard, described by a document."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Sequence

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from gateway.auth.passes import Passes
from gateway.buckets import TokenBuckets
from gateway.config.tables import Config
from gateway.http import slashes
from gateway.http.guard import Guard
from gateway.http.operation import Operation, json_response, openapi
from gateway.http.packing import packed
from gateway.http.routing import PathRouter
from gateway.models.tokens import ModelTokens
from gateway.telemetry.audit import Audit
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import Tracer


def document(operations: Sequence[Operation], *, version: str) -> Route:
    """`GET /openapi.json`, which describes these operations. It is made for the first who asks."""

    @functools.cache
    def text() -> bytes:
        return msgspec.json.encode(openapi(operations, version=version))

    async def describe(request: Request) -> Response:
        return packed(request, json_response(await asyncio.to_thread(text)))

    return Route("/openapi.json", describe, methods=["GET"])


class GatewayApplication(Starlette):
    """Starlette without its own layers for errors: the guard, which is outside, has the words for all."""

    def put_inside(self, layer: Callable[[ASGIApp], ASGIApp]) -> None:
        """Has one more layer between the guard and the routes, for requests that come from now on."""
        if self.middleware_stack is None:
            self.user_middleware.append(Middleware(layer))  # the innermost
        else:
            self._guard.put_inside(layer)

    def give_up_waiting(self) -> None:
        """See the guard; nothing before the first request."""
        if self.middleware_stack is not None:
            self._guard.give_up_waiting()

    def build_middleware_stack(self) -> ASGIApp:
        app: ASGIApp = self.router
        for middleware, args, kwargs in reversed(self.user_middleware):
            app = middleware(app, *args, **kwargs)
            if isinstance(app, Guard):
                self._guard = app
        return app


def application(
    routes: Sequence[BaseRoute],
    *,
    lifespan: Callable[[], contextlib.AbstractAsyncContextManager[None]],
    config: Callable[[], Config],
    metrics: Metrics,
    audit: Audit,
    tracer: Tracer,
    passes: Passes,
    tokens: ModelTokens,
    monotonic: Callable[[], float],
    check_place: Callable[[], None],
    may_doubt: bool,
) -> GatewayApplication:
    """The routes, the first that fits before the others, behind the guard. `check_place` raises if nothing
    may be changed now; for `may_doubt` see the guard.
    """
    app = GatewayApplication()
    app.router = PathRouter(routes, lifespan=lambda _app: lifespan())
    slashes.redirect(app.router)
    limits = config().limits
    rates = TokenBuckets(
        rate=limits.address_requests_per_second,
        burst=limits.address_burst,
        monotonic=monotonic,
        on_refused=lambda: metrics.rejections.labels("address_requests_per_second").inc(),
    )
    app.add_middleware(
        Guard,
        config=config,
        rates=rates,
        metrics=metrics,
        audit=audit,
        tracer=tracer,
        passes=passes,
        tokens=tokens,
        check_place=check_place,
        may_doubt=may_doubt,
    )
    return app
