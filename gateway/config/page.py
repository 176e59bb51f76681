"""The table `[page]`: what the chat page is called and looks like. A reload applies it."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from msgspec import field

from gateway.config.colours import READABLE, is_colour, least_contrast, readable
from gateway.config.table import Table

if TYPE_CHECKING:
    from gateway.config.tables import Config

LOGO_BYTES: Final = 128 * 1024
"""Every visitor loads it before anything else is drawn."""
LOGO_TYPES: Final = {
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
}
NAME_MOST: Final = 60
TEXT_MOST: Final = 1_000
SUGGESTIONS_MOST: Final = 6
SUGGESTION_MOST: Final = 200
LINKS_MOST: Final = 6


class PageConfig(Table, frozen=True, kw_only=True):
    """The operator's own name, colours and words. What is empty is as the page brings it along."""

    name: str = ""
    logo_file: str = ""
    """An SVG, PNG, WebP or JPEG, at most 128 KiB, drawn about 40 pixels high."""
    accent: str = ""
    """The colour of buttons and links, `#rrggbb`; it must be readable on the light page."""
    accent_dark: str = ""
    """The same on the dark page; empty: `accent`, with as much white in it as that needs."""
    welcome: str = ""
    """The heading above an empty conversation."""
    welcome_text: str = ""
    suggestions: tuple[str, ...] = ()
    """What one may begin with: a click sends it. They replace the page's own."""
    links: dict[str, str] = field(default_factory=dict)
    """Below the list of conversations: what is read → an address with https://, http:// or mailto:."""

    def contradictions(self, config: Config) -> Iterator[str]:
        yield from self._accents()
        yield from _logo(self.logo_file)
        yield from _longer("name", self.name, NAME_MOST)
        yield from _longer("welcome", self.welcome, SUGGESTION_MOST)
        yield from _longer("welcome_text", self.welcome_text, TEXT_MOST)
        if len(self.suggestions) > SUGGESTIONS_MOST:
            yield f"suggestions: at most {SUGGESTIONS_MOST}"
        for suggestion in self.suggestions:
            if not suggestion.strip():
                yield "suggestions: one is empty"
            yield from _longer("suggestions", suggestion, SUGGESTION_MOST)
        if len(self.links) > LINKS_MOST:
            yield f"links: at most {LINKS_MOST}"
        for title, url in self.links.items():
            yield from _longer("links", title, NAME_MOST)
            if not _leads_somewhere(url):
                yield f"links: {url!r} is not an address that begins with https://, http:// or mailto:"

    @property
    def dark_accent(self) -> str:
        """The accent of the dark page; empty if there is none."""
        return self.accent_dark or (readable(self.accent, is_dark=True) if self.accent else "")

    def _accents(self) -> Iterator[str]:
        if self.accent_dark and not self.accent:
            yield "accent: is missing, and accent_dark alone leaves the light page as it is"
        for name, colour in (("accent", self.accent), ("accent_dark", self.accent_dark)):
            if not colour:
                continue
            if not is_colour(colour):
                yield f"{name}: write a colour as #rrggbb, not {colour!r}"
                continue
            is_dark = name == "accent_dark"
            found = least_contrast(colour, is_dark=is_dark)
            if found < READABLE:
                yield (
                    f"{name}: {colour} cannot be read well on the {'dark' if is_dark else 'light'} page: its "
                    f"contrast is {found:.1f} : 1, and text needs {READABLE} : 1. "
                    f"{readable(colour, is_dark=is_dark)} is near it and can be read"
                )


def _logo(name: str) -> Iterator[str]:
    if not name:
        return
    path = pathlib.Path(os.path.expanduser(name))
    if path.suffix.lower() not in LOGO_TYPES:
        yield f"logo_file: {name}: is none of {', '.join(sorted(LOGO_TYPES))}"
    elif not (path.is_file() and os.access(path, os.R_OK)):
        yield f"logo_file: {name} cannot be read"
    elif path.stat().st_size > LOGO_BYTES:
        yield f"logo_file: {name} has {path.stat().st_size} bytes; {LOGO_BYTES} are allowed"


def _longer(name: str, text: str, most: int) -> Iterator[str]:
    if len(text) > most:
        yield f"{name}: has {len(text)} characters; {most} are allowed"


def _leads_somewhere(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # half an IPv6 address
        return False
    has_place = bool(parts.path if parts.scheme == "mailto" else parts.netloc)
    return parts.scheme in ("https", "http", "mailto") and has_place and url.isprintable() and " " not in url
