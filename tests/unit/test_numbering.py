"""The numbers of a product chat's messages: given once, in order, whatever the store reserves."""

from __future__ import annotations

import asyncio
import sys

import pytest

from gateway.apps.product_chat.numbering import Numbers
from gateway.errors import StoreFailed


class Counter:
    """A store's counter, which several gateways use."""

    def __init__(self, *, block: int) -> None:
        self.last = 0
        self.reservations = 0
        self.fails = False
        self._block = block

    async def reserve(self) -> range:
        await asyncio.sleep(0)
        if self.fails:
            raise StoreFailed
        self.reservations += 1
        self.last += self._block
        return range(self.last - self._block + 1, self.last + 1)


async def test_a_block_is_used_up_before_another_is_reserved() -> None:
    counter = Counter(block=3)
    numbers = Numbers(counter.reserve)
    assert await numbers.take(2, above=0) == [1, 2]
    assert await numbers.take(5, above=2) == [3, 4, 5, 6, 7]
    assert await numbers.take(0, above=7) == []
    assert counter.reservations == 3


async def test_those_who_ask_at_once_get_numbers_in_the_order_in_which_they_asked() -> None:
    numbers = Numbers(Counter(block=2).reserve)
    asked = [asyncio.create_task(numbers.take(above=0)) for _ in range(7)]
    assert [(await task)[0] for task in asked] == list(range(1, 8))


async def test_two_gateways_never_give_the_same_and_a_chat_that_moves_goes_on_above() -> None:
    counter = Counter(block=4)
    here, there = Numbers(counter.reserve), Numbers(counter.reserve)
    given = await here.take(above=0) + await there.take(above=0)
    assert given == [1, 5]
    assert await here.take(above=given[-1]) == [9]
    assert await there.take(above=9) == [13]
    assert await there.take(above=9) == [14]


async def test_an_endless_block_goes_on_above_what_came_from_elsewhere() -> None:
    async def reserve() -> range:
        return range(1, sys.maxsize)

    numbers = Numbers(reserve)
    assert await numbers.take(2, above=0) == [1, 2]
    assert await numbers.take(above=5_000) == [5_001]
    assert await numbers.take(above=0) == [5_002]


async def test_a_store_that_failed_gives_numbers_later() -> None:
    counter = Counter(block=2)
    numbers = Numbers(counter.reserve)
    assert await numbers.take(above=0) == [1]
    counter.fails = True
    with pytest.raises(StoreFailed):
        await numbers.take(3, above=0)
    counter.fails = False
    assert await numbers.take(3, above=0) == [3, 4, 5]
