"""A session that has left the map is freed at once: no circle keeps it until the collector comes."""

from __future__ import annotations

import asyncio
import collections
import gc
import pathlib
import weakref
from typing import Final

from tests.inside import GatewayInside, gateway_inside
from tests.streams import open_stream

SESSIONS: Final = 10


async def test_a_deleted_session_is_freed_without_the_collector(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path) as gateway:
        gc.disable()
        try:
            await gateway.chat("gone", "/echo hi")
            found = weakref.ref(next(iter(gateway.inner.manager.sessions())))
            assert found() is not None
            await gateway.delete("gone")
            async with asyncio.timeout(5):
                while found() is not None:
                    await asyncio.sleep(0.01)
        finally:
            gc.enable()


async def test_sessions_workers_and_connections_leave_nothing_for_the_collector(
    tmp_path: pathlib.Path,
) -> None:
    async with gateway_inside(tmp_path, config="[sessions]\nsweep_interval_seconds = 0.05\n") as gateway:
        await live(gateway, "first")  # what is made once is made
        gc.collect()
        gc.disable()
        try:
            for number in range(SESSIONS):
                await live(gateway, f"s{number}")
                if number % 2:
                    await gateway.delete(f"s{number}")
            gateway.clock.advance(gateway.inner.config.sessions.idle_timeout_seconds + 1)
            async with asyncio.timeout(10):
                while gateway.inner.manager.sessions():
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0)
            assert not ours_in_circles()
        finally:
            gc.enable()


def ours_in_circles() -> dict[str, int]:
    """What only the collector finds, of classes of this program."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        kinds = collections.Counter(f"{type(o).__module__}.{type(o).__name__}" for o in gc.garbage)
        return {name: count for name, count in kinds.items() if name.startswith(("gateway.", "worker."))}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


async def live(gateway: GatewayInside, session_id: str) -> None:
    """A turn, with a reader who keeps up."""
    async with open_stream(gateway.http, session_id) as stream:
        await gateway.chat(session_id, "/echo hi")
        await stream.until_event("turn_ended")
