"""Whose worker starts next: tenants in turn."""

from __future__ import annotations

import asyncio
import contextlib

from gateway.sessions.starts import StartQueue
from tests.patience import within


async def started(queue: StartQueue, order: list[str], name: str) -> None:
    async with queue.turn(name[0]):
        order.append(name)
        await asyncio.sleep(0)


async def test_a_burst_of_one_tenant_does_not_stand_before_another() -> None:
    queue, order = StartQueue(at_once=1), list[str]()
    names = [f"a{number}" for number in range(500)] + ["b0", "b1", "c0"]
    await asyncio.gather(*(started(queue, order, name) for name in names))
    assert sorted(order) == sorted(names)
    assert order.index("b0") <= 3
    assert order.index("c0") <= 3
    assert order.index("b1") <= 6
    assert [name for name in order if name[0] == "a"] == names[:500]


async def test_no_more_start_at_once_than_may() -> None:
    queue, running, most = StartQueue(at_once=3), 0, 0

    async def start() -> None:
        nonlocal running, most
        async with queue.turn("a"):
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.001)
            running -= 1

    await asyncio.gather(*(start() for _ in range(20)))
    assert most == 3


async def test_who_gives_up_waiting_leaves_no_place_taken() -> None:
    queue, order = StartQueue(at_once=1), list[str]()
    async with queue.turn("a"):
        waiting = [asyncio.create_task(started(queue, order, f"b{number}")) for number in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
    waiting[1].cancel()  # perhaps in the moment in which its turn has come
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*waiting)
    await asyncio.wait(waiting)
    async with within(1):
        await started(queue, order, "c0")
    assert order[-1] == "c0"
