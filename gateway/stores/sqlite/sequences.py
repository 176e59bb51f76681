"""`SequenceStore` beside the rows that carry the numbers: a sequence is named for its table."""

from __future__ import annotations

import sqlite3
from typing import Final

from gateway.stores.database import Database

_NEXT: Final = "SELECT seq + 1 FROM sqlite_sequence WHERE name = ?"
_RAISE: Final = "UPDATE sqlite_sequence SET seq = seq + ? WHERE name = ?"
_BEGIN: Final = "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)"


class SqliteSequences:
    """Counts where AUTOINCREMENT does, in the file: a gateway that takes over may have it open, too."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, name: str, count: int) -> int:
        def act(connection: sqlite3.Connection) -> int:
            row = connection.execute(_NEXT, (name,)).fetchone()
            if row is None:
                connection.execute(_BEGIN, (name, count))
                return 1
            connection.execute(_RAISE, (count, name))
            return int(row[0])

        return await self._database.write(act)
