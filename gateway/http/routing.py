"""Routes found by their path: a request looks at the few that can fit, in their order, not at all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from starlette.convertors import PathConvertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, Router, WebSocketRoute
from starlette.types import Lifespan, Receive, Scope, Send

SLASHES: Final = 16
"""Paths with so many or more are looked for among the routes of any length."""


class PathRouter(Router):
    """Starlette's, which would ask each of its routes whether it fits. Routes are not added later on."""

    def __init__(self, routes: Sequence[BaseRoute], *, lifespan: Lifespan[Any]) -> None:
        super().__init__(routes, lifespan=lifespan)
        found = [one for one in self.routes if isinstance(one, Route | WebSocketRoute)]
        self._fixed = {route.path for route in found if not route.param_convertors}
        self._kept: dict[str | int, list[BaseRoute]] = {}
        """By a fixed path, or by the number of slashes."""

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(scope, receive, send)
            return
        scope.setdefault("router", self)
        second: tuple[BaseRoute, Scope] | None = None
        path = _path(scope)
        for route in self.fitting(path):
            if type(route) is Route and route.path == path and scope.get("method") in (route.methods or ()):
                scope["route"], scope["endpoint"], scope["path_params"] = route, route.endpoint, {}
                await route.app(scope, receive, send)  # as `matches` and `handle` would have it
                return
            match, found = route.matches(scope)
            if match is Match.FULL:
                scope["route"] = route
                scope.update(found)
                await route.handle(scope, receive, send)
                return
            if match is Match.PARTIAL and second is None:
                second = route, found
        if second is None:
            await self.default(scope, receive, send)
            return
        route, found = second
        scope["route"] = route
        scope.update(found)
        await route.handle(scope, receive, send)  # says which methods there are

    def fitting(self, path: str) -> list[BaseRoute]:
        """The routes that can fit a path, in their order."""
        name: str | int = path if path in self._fixed else min(path.count("/"), SLASHES)
        kept = self._kept.get(name)
        if kept is None:
            kept = self._kept[name] = [route for route in self.routes if _may_fit(route, name)]
        return kept


def _path(scope: Scope) -> str:
    """The path below where this is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(root) else path


def _may_fit(route: BaseRoute, name: str | int) -> bool:
    """Whether a route can fit a fixed path, or any other with so many slashes."""
    if not isinstance(route, Route | WebSocketRoute):
        return True
    if isinstance(name, str):
        return route.path_regex.match(name) is not None
    if not route.param_convertors:
        return False
    is_any_length = any(isinstance(one, PathConvertor) for one in route.param_convertors.values())
    return is_any_length or route.path.count("/") == name


class Endpoint:
    """A handler as a route's application. What it raises is for the guard, so nothing looks at it before."""

    def __init__(self, handle: Callable[[Request], Awaitable[Response]]) -> None:
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._handle(Request(scope, receive, send))
        await response(scope, receive, send)
