"""Addresses of databases in words: without what may be a password."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

_NOTHING: Final = "postgresql://…"


def shown(url: str) -> str:
    """Hosts and database of a URL. Only what stands behind the last @ of its hosts is repeated; nothing, if a
    password has what ends them.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return _NOTHING
    if "@" in parts.path + parts.query + parts.fragment:
        return _NOTHING
    return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"
