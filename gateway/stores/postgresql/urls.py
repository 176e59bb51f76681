"""Addresses of databases in words: without what may be a password."""

from __future__ import annotations

from urllib.parse import urlsplit


def shown(url: str) -> str:
    """Hosts and database of a URL. Only what stands behind the last @ of its hosts is repeated."""
    parts = urlsplit(url)
    return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"
