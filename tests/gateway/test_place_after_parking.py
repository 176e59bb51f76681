"""A session whose worker was parked asks for a place again, also if a message came while the worker ended."""

from __future__ import annotations

import asyncio
import pathlib
from typing import Any, Final

import pytest

from gateway.sessions.host import WorkerHost
from tests.inside import gateway_inside
from tests.streams import state_when

BUSY: Final = {"about": "Works for ever.", "load": {}, "turns": [[{"sleep": 3_600_000}]]}


async def test_a_message_that_comes_while_the_worker_ends_takes_no_memory_that_is_not_there(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends, may_end, stop = asyncio.Event(), asyncio.Event(), WorkerHost.stop

    async def slow(self: WorkerHost, **kwargs: Any) -> Any:
        ends.set()
        await may_end.wait()
        return await stop(self, **kwargs)

    async with gateway_inside(tmp_path, agents={"busy": BUSY}) as gateway:
        memory = gateway.inner.services.memory
        await gateway.chat("s1", "/echo one")
        await gateway.post("/api/sessions", {"session_id": "other", "agent": "busy"}, status=201)
        await gateway.send("other", "keep your place")  # without others who do, one may always start
        with monkeypatch.context() as patch:
            patch.setattr(WorkerHost, "stop", slow)
            gateway.session("s1").ask_to_park()
            await ends.wait()
            await gateway.send("s1", "/echo two")
            patch.setattr(memory, "has_room", lambda _wanted: False)
            may_end.set()
            state = await state_when(
                gateway.http, "s1", lambda s: s.get("start_short_of") == "memory" or not s["is_processing"]
            )
            assert state["is_processing"]
        gateway.inner.services.slots.look()
        state = await state_when(gateway.http, "s1", lambda s: not s["is_processing"])
        assert state["messages"][-1]["content"] == "two"
