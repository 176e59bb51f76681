"""Redirects between a path with a slash at its end and the same without, whichever of the two there is.

The address is relative to the one that was asked, so it keeps host, scheme and the path that a proxy put
before ours, none of which the gateway has to know.
"""

from __future__ import annotations

from urllib.parse import quote

from starlette.responses import RedirectResponse
from starlette.routing import Match, Router
from starlette.types import Receive, Scope, Send


def redirect(router: Router) -> None:
    """Makes a router redirect what it has under the other path, in place of Starlette's own way."""
    router.redirect_slashes = False
    otherwise = router.default

    async def default(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        other = path.rstrip("/") if path.endswith("/") else f"{path}/"
        if scope["type"] != "http" or path == "/" or not _has(router, {**scope, "path": other}):
            await otherwise(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        address = _relative(path, other) + (f"?{query}" if query else "")
        await RedirectResponse(address)(scope, receive, send)

    router.default = default


def _has(router: Router, scope: Scope) -> bool:
    return any(route.matches(scope)[0] is not Match.NONE for route in router.routes)


def _relative(path: str, other: str) -> str:
    """The address of `other`, seen from `path`: nothing but the slashes at the end differs."""
    name = quote(other.rstrip("/").rpartition("/")[2])
    ups = path.count("/") - other.count("/")
    return f"./{name}/" if ups < 0 else "../" * ups + name
