"""The chat page, and the pages and files of applications: what Vite built, with headers that let it do no
more than it needs. The build compressed them: a client that accepts that gets the smaller file.
"""

from __future__ import annotations

import contextlib
import gzip
import mimetypes
import pathlib
from collections.abc import Mapping
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

from gateway.http.packing import accepted

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
PDF: Final = "pdf.html"
"""Draws a PDF in a frame of the page. Its author may know a fault of what reads it: so the frame has no
origin, and can load nothing; its script is in it.
"""
_PDF_HEADERS: Final = {
    "Content-Security-Policy": (
        "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; worker-src blob:; "
        "style-src 'unsafe-inline'; img-src blob: data:; font-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
DIAGRAM: Final = "diagram.html"
"""Draws a diagram that an agent wrote, in a frame of the page like a PDF's, and gives the page a picture."""
_DIAGRAM_HEADERS: Final = {
    **_PDF_HEADERS,
    "Content-Security-Policy": (
        "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
}
FRAMED: Final = {PDF: _PDF_HEADERS, DIAGRAM: _DIAGRAM_HEADERS}
"""Pages that are shown only inside a page of ours → their headers."""
OFFERED: Final = (".html", ".js")
"""Files that are there only if an application offers them."""
_UNBUILT: Final = "The page is not built. Run `make page`, or install the package with `pip install .`.\n"
_YEAR: Final = "public, max-age=31536000, immutable"
PACKED: Final = {"br": ".br", "gzip": ".gz"}
"""Content coding → how the file that is coded so is named, the smaller first."""


def routes(pages: Mapping[str, str], files: Mapping[str, Mapping[str, str]]) -> list[BaseRoute]:
    """The pages and what they load. `pages` are those of applications, path → file name; `files` what they
    offer to every page, name → headers.
    """
    root = next((place for place in PLACES if (place / "index.html").is_file()), None)

    pages = {"/": "index.html", **pages}
    found: list[BaseRoute] = [_page_route(path, root, name, HEADERS) for path, name in pages.items()]
    found += [_page_route(f"/{name}", root, name, headers) for name, headers in FRAMED.items()]
    if root is not None:
        assets = _Assets(directory=root / "assets", check_dir=False)
        folders = sorted({path.rpartition("/")[0] for path in pages})
        found += [Mount(f"{folder}/assets", assets) for folder in folders]
        found += [
            _file_route(path, files.get(path.name))
            for path in sorted(root.iterdir())
            if path.name in files or (path.is_file() and path.suffix not in (*OFFERED, *PACKED.values()))
        ]
    return found


def _page_route(path: str, root: pathlib.Path | None, name: str, headers: Mapping[str, str]) -> Route:
    async def serve(request: Request) -> Response:
        if root is None or not any((root / f"{name}{end}").is_file() for end in ("", PACKED["gzip"])):
            return PlainTextResponse(_UNBUILT, status_code=404)
        return await run_in_threadpool(_file, request, root / name, {**headers, "Cache-Control": "no-cache"})

    return Route(path, serve, methods=["GET"])


def _file_route(path: pathlib.Path, headers: Mapping[str, str] | None) -> Route:
    more = headers or {"Cache-Control": "no-cache"}

    async def serve(request: Request) -> Response:
        return _file(request, path, {**HEADERS, **more})

    return Route(f"/{path.name}", serve, methods=["GET"])


def _file(request: Request, path: pathlib.Path, headers: dict[str, str]) -> Response:
    """A file, in the smallest coding that the client takes, or 304 if the client has it."""
    headers = {**headers, "Vary": "Accept-Encoding"}
    media_type = mimetypes.guess_type(path.name)[0]
    for coding in accepted(request.headers.get("Accept-Encoding", ""), PACKED):
        packed = path.with_name(path.name + PACKED[coding])
        if packed.is_file():
            path, headers = packed, {**headers, "Content-Encoding": coding}
            break
    if not path.is_file():  # a large one is kept compressed alone
        plain = gzip.decompress(path.with_name(path.name + PACKED["gzip"]).read_bytes())
        return Response(plain, headers=headers, media_type=media_type)
    response = FileResponse(path, headers=headers, media_type=media_type, stat_result=path.stat())
    known = request.headers.get("If-None-Match", "").split(",")
    if response.headers["ETag"] in [tag.strip().removeprefix("W/") for tag in known]:
        # A browser takes these headers over for the file that it has: its policy has to be among them.
        unchanged = NotModifiedResponse(response.headers)
        unchanged.headers.update(headers)
        return unchanged
    return response


class _Assets(StaticFiles):
    """Files whose names carry their hash: they never change."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        if path.endswith(tuple(PACKED.values())):
            raise HTTPException(404)
        response = await self._packed(path, scope) or await self._unpacked(path, scope)
        response.headers.update(HEADERS)
        response.headers["Vary"] = "Accept-Encoding"
        response.headers["Cache-Control"] = _YEAR
        return response

    async def _packed(self, path: str, scope: Scope) -> Response | None:
        for coding in accepted(Headers(scope=scope).get("Accept-Encoding", ""), PACKED):
            with contextlib.suppress(HTTPException):
                response = await super().get_response(path + PACKED[coding], scope)
                response.headers["Content-Encoding"] = coding
                return response
        return None

    async def _unpacked(self, path: str, scope: Scope) -> Response:
        """Also of a large one, which is kept compressed alone."""
        try:
            return await super().get_response(path, scope)
        except HTTPException:
            plain = await run_in_threadpool(self._plain, path)
            if plain is None:
                raise
        return Response(plain, media_type=mimetypes.guess_type(path)[0])

    def _plain(self, path: str) -> bytes | None:
        try:
            packed, found = self.lookup_path(path + PACKED["gzip"])
            return None if found is None else gzip.decompress(pathlib.Path(packed).read_bytes())
        except (OSError, ValueError):  # no name of a file
            return None
