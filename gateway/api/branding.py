"""What the chat page is called and looks like: the operator's own, said with how to be let in; and the logo.

Guarantees: the logo is read anew for each request, so that a reload shows another one at once; it is bounded;
whatever is in it, it runs nothing: its address has a policy of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import pathlib
from collections.abc import Callable
from typing import Final

from msgspec import UNSET, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.config.page import LOGO_BYTES, LOGO_TYPES, PageConfig
from gateway.errors import RouteNotFound
from gateway.files.ranges import is_known

LOGO_PATH: Final = "/page/logo"
_HEADERS: Final = {
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class PageLink(Struct, frozen=True):
    """A link of the operator's."""

    title: str
    url: str


class Branding(Struct, frozen=True, omit_defaults=True):
    """The operator's own; what is absent is as the page brings it along."""

    name: str = ""
    logo: str = ""
    """Its address, relative to the gateway's."""
    accent: str = ""
    accent_dark: str = ""
    welcome: str = ""
    welcome_text: str = ""
    suggestions: tuple[str, ...] = ()
    links: tuple[PageLink, ...] = ()


def branding(config: PageConfig) -> Branding | UnsetType:
    """The table as the page reads it; UNSET if nothing is set."""
    known = Branding(
        name=config.name,
        logo=LOGO_PATH.lstrip("/") if config.logo_file else "",
        accent=config.accent,
        accent_dark=config.dark_accent,
        welcome=config.welcome,
        welcome_text=config.welcome_text,
        suggestions=config.suggestions,
        links=tuple(PageLink(title, url) for title, url in config.links.items()),
    )
    return UNSET if known == Branding() else known


def logo_route(config: Callable[[], PageConfig]) -> Route:
    """`GET /page/logo`, for everybody: the page shows it before anyone has signed in."""

    async def serve(request: Request) -> Response:
        name = config().logo_file
        body = await asyncio.to_thread(_read, name) if name else None
        if body is None:
            raise RouteNotFound
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {**_HEADERS, "ETag": tag}
        if is_known(request.headers.get("If-None-Match"), tag):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=LOGO_TYPES[pathlib.PurePath(name).suffix.lower()])

    return Route(LOGO_PATH, serve, methods=["GET"])


def _read(name: str) -> bytes | None:
    """The file; None if it is gone, or larger than it was when the configuration was read."""
    try:
        with pathlib.Path(name).expanduser().open("rb") as file:
            body = file.read(LOGO_BYTES + 1)
    except OSError:
        return None
    return body if len(body) <= LOGO_BYTES else None
