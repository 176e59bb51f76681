"""What statements of PostgreSQL's are given, and what it says of them."""

from __future__ import annotations


def changed(tag: str) -> int:
    """How many rows a statement changed, by its tag, such as "DELETE 3" or "INSERT 0 1"."""
    return int(tag.rpartition(" ")[2])


def numbered(count: int) -> str:
    """So many parameters: `$1, $2`."""
    return ", ".join(f"${number}" for number in range(1, 1 + count))
