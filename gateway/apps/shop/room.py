"""How many conversations a shop on PostgreSQL may still make, without counting all for each: there, counting
reads them all.

Guarantees: one gateway never makes more than its bound, and neither do `GATEWAYS` on one database.
"""

from __future__ import annotations

from typing import Final

from gateway.errors import SessionLimit
from gateway.extension import Statements

GATEWAYS: Final = 16
"""Of what is free, each gateway takes no more than such a part before it counts again."""
FULL_MILLISECONDS: Final = 1_000
"""For so long a shop that was full is not counted again, unless something was forgotten here."""


class ShopRoom:
    """What was counted last, and what was made since. An act that runs again only has it counted earlier."""

    def __init__(self, conversations: int) -> None:
        self._conversations = conversations
        self._left = 0
        self._full_at: int | None = None

    def freed(self) -> None:
        """Conversations were forgotten."""
        self._full_at = None

    async def take(self, connection: Statements, at: int) -> None:
        """Called before one is made. Raises SessionLimit."""
        if self._left > 0:
            self._left -= 1
            return
        if self._full_at is not None and 0 <= at - self._full_at < FULL_MILLISECONDS:
            raise SessionLimit
        free = self._conversations - await connection.fetchval("SELECT count(*) FROM shop_sessions")
        if free <= 0:
            self._full_at = at
            raise SessionLimit
        self._left = max(free // GATEWAYS, 1) - 1
