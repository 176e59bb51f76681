"""Notices for the staff: a bounded board per tenant. Each reader is a cursor. A reader that falls too far
behind learns that it lost notices and must fetch the list again; a slow reader delays no one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

import msgspec

KEPT: Final = 1_000


class _Board:
    def __init__(self) -> None:
        self.notices: deque[str] = deque(maxlen=KEPT)
        self.last = 0
        self.bell = asyncio.Event()


class Notices:
    """See the module."""

    def __init__(self) -> None:
        self._boards: dict[str, _Board] = {}

    def _board(self, tenant: str) -> _Board:
        return self._boards.setdefault(tenant, _Board())

    def put(self, tenant: str, notice: dict[str, Any]) -> None:
        """One more, for everybody who watches this tenant."""
        board = self._board(tenant)
        board.last += 1
        board.notices.append(msgspec.json.encode(notice).decode())
        board.bell.set()
        board.bell = asyncio.Event()

    def last(self, tenant: str) -> int:
        """A cursor behind everything that was said so far."""
        return self._board(tenant).last

    async def after(self, tenant: str, cursor: int) -> tuple[list[str], int, bool]:
        """What came after a cursor, once there is something; the next cursor; whether some was lost."""
        board = self._board(tenant)
        while board.last <= cursor:
            await board.bell.wait()
        due = min(board.last - cursor, len(board.notices))
        is_lost = due < board.last - cursor
        return list(board.notices)[-due:], board.last, is_lost
