"""Unique numbers, for rows that are numbered before they are written."""

from __future__ import annotations

from typing import Protocol


class SequenceStore(Protocol):
    """Sequences by name, each from 1 on. Every method may raise StoreFull or StoreFailed."""

    async def take(self, name: str, count: int) -> int:
        """Reserves the next `count` numbers of a sequence; the first of them.

        No other caller is given them while this store is open, and none of them is in a stored row of the
        table that the sequence is named for. After a restart, those that no row carries may come again.
        """
