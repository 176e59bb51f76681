"""`SequenceStore` beside the rows that carry the numbers: a sequence is named for its table."""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.stores.database import Database

_LARGEST: Final = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?"
"""What AUTOINCREMENT knows of a table: the largest number that a row of it ever had."""


class SqliteSequences:
    """Counts in memory, from the largest number that was ever in the table: the file has one gateway."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._next: dict[str, int] = {}
        self._lock = asyncio.Lock()

    async def take(self, name: str, count: int) -> int:
        async with self._lock:
            if name not in self._next:
                largest = await self._database.read(lambda c: int(c.execute(_LARGEST, (name,)).fetchone()[0]))
                self._next[name] = largest + 1
            first = self._next[name]
            self._next[name] = first + count
            return first
