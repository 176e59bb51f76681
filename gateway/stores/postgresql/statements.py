"""What a statement did, read off what PostgreSQL says of it."""

from __future__ import annotations


def changed(tag: str) -> int:
    """How many rows a statement changed, by its tag, such as "DELETE 3" or "INSERT 0 1"."""
    return int(tag.rpartition(" ")[2])
