"""A permit that is lost ends what waits under it, and nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.api.stream import while_good
from gateway.auth.permits import Permits
from tests.patience import soon


async def quiet() -> AsyncIterator[bytes]:
    yield b"first"
    await asyncio.Event().wait()


async def read(permits: Permits, allowed: set[str], into: list[bytes]) -> None:
    async for frame in while_good(quiet(), permits.issue("ann", lambda: "ann" in allowed)):
        into.append(frame)  # noqa: PERF401 - it is looked at meanwhile


async def test_a_lost_permit_ends_the_stream_and_its_task_goes_on() -> None:
    permits, allowed, seen = Permits(), {"ann"}, list[bytes]()
    reading = asyncio.create_task(read(permits, allowed, seen))
    while not seen:
        await asyncio.sleep(0)
    permits.look_again("ann")
    allowed.clear()
    permits.look_again("somebody else")
    assert not reading.done()
    for _ in range(2):
        permits.look_again("ann")
    await soon(reading, 5)
    assert (seen, reading.cancelling()) == ([b"first"], 0)


async def test_a_cancellation_of_others_goes_through() -> None:
    permits, seen = Permits(), list[bytes]()
    reading = asyncio.create_task(read(permits, {"ann"}, seen))
    while not seen:
        await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_a_stream_that_is_not_permitted_shows_nothing() -> None:
    seen: list[bytes] = []
    await soon(read(Permits(), set(), seen), 5)
    assert seen == []
