"""A session that has left the map is freed at once: no circle keeps it until the collector comes."""

from __future__ import annotations

import asyncio
import gc
import pathlib
import weakref

from tests.inside import gateway_inside
from tests.patience import within


async def test_a_deleted_session_is_freed_without_the_collector(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path) as gateway:
        gc.disable()
        try:
            await gateway.chat("gone", "/echo hi")
            found = weakref.ref(next(iter(gateway.inner.manager.sessions())))
            assert found() is not None
            await gateway.delete("gone")
            async with within(5):
                while found() is not None:
                    await asyncio.sleep(0.01)
        finally:
            gc.enable()
