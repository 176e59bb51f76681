"""The chat page, the staff's inbox, the widget and its demonstration: the files that Vite built, with headers
that let them do no more than they need.
"""

from __future__ import annotations

import pathlib
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

PLACES: Final = (
    pathlib.Path(__file__).parent.parent / "page",
    pathlib.Path(__file__).parent.parent.parent / "frontend" / "dist",
)
"""Inside an installed package; in a source tree."""

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; "
        "connect-src 'self'; "
        "object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}
PAGES: Final = {"/": "index.html", "/inbox": "inbox.html", "/demo/product": "demo.html"}
WIDGET: Final = "widget.js"
"""Pages of other sites include it, so it may be loaded from everywhere; it holds nothing of anybody."""
WIDGET_HEADERS: Final = {
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Cache-Control": "public, max-age=300",
}
_UNBUILT: Final = "The page is not built. Run `make page`, or install the package with `pip install .`.\n"
_YEAR: Final = "public, max-age=31536000, immutable"


def routes() -> list[BaseRoute]:
    """The pages and what they load."""
    root = next((place for place in PLACES if (place / "index.html").is_file()), None)

    found: list[BaseRoute] = [_page_route(path, root, name) for path, name in PAGES.items()]
    if root is not None:
        assets = _Assets(directory=root / "assets", check_dir=False)
        found += [Mount("/assets", assets), Mount("/demo/assets", assets)]
        found += [
            _file_route(path)
            for path in sorted(root.iterdir())
            if path.is_file() and path.name not in PAGES.values()
        ]
    return found


def _page_route(path: str, root: pathlib.Path | None, name: str) -> Route:
    async def serve(_request: Request) -> Response:
        if root is None or not (root / name).is_file():
            return PlainTextResponse(_UNBUILT, status_code=404)
        return FileResponse(root / name, headers={**HEADERS, "Cache-Control": "no-cache"})

    return Route(path, serve, methods=["GET"])


def _file_route(path: pathlib.Path) -> Route:
    more = WIDGET_HEADERS if path.name == WIDGET else {"Cache-Control": "no-cache"}

    async def serve(_request: Request) -> Response:
        return FileResponse(path, headers={**HEADERS, **more})

    return Route(f"/{path.name}", serve, methods=["GET"])


class _Assets(StaticFiles):
    """Files whose names carry their hash: they never change."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        response.headers["Cache-Control"] = _YEAR
        return response
