"""How many conversations a shop on PostgreSQL may make, counted seldom."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.apps.shop.room import FULL_MILLISECONDS, GATEWAYS, ShopRoom
from gateway.errors import SessionLimit


class Table:
    """The rows that there are, and how often they were counted."""

    def __init__(self) -> None:
        self.rows = 0
        self.counts = 0

    async def fetchval(self, _query: str, /, *_values: Any) -> int:
        self.counts += 1
        return self.rows

    async def make(self, room: ShopRoom, at: int = 0) -> None:
        await room.take(self, at)  # type: ignore[arg-type]
        self.rows += 1


async def test_a_bound_is_reached_exactly_and_counted_seldom() -> None:
    table, room = Table(), ShopRoom(10_000)
    for _ in range(10_000):
        await table.make(room)
    assert table.counts < 200
    with pytest.raises(SessionLimit):
        await table.make(room)


async def test_gateways_that_share_a_table_keep_the_bound_together() -> None:
    table, rooms = Table(), [ShopRoom(1_000) for _ in range(GATEWAYS)]
    refused: set[int] = set()
    while len(refused) < len(rooms):
        for number, room in enumerate(rooms):
            try:
                await table.make(room)
            except SessionLimit:
                refused.add(number)
    assert table.rows == 1_000


async def test_a_full_shop_is_counted_once_a_second() -> None:
    table, room = Table(), ShopRoom(1)
    await table.make(room)
    for at in (0, 1, FULL_MILLISECONDS - 1, FULL_MILLISECONDS, -5):
        with pytest.raises(SessionLimit):
            await table.make(room, at)
    assert table.counts == 1 + 3  # at the start, after a second, and because the clock was set back
    table.rows = 0
    room.freed()
    await table.make(room, -5)
