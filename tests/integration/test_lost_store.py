"""A gateway whose database is taken away, whose thread ends or hangs, whose agent cannot be stored."""

from __future__ import annotations

import asyncio
import os
import pathlib
import re
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import aiohttp
import pytest

from tests import planted
from tests.contract.test_store_faults import empty, remove, replace
from tests.gateways import RunningGateway, running_gateway
from tests.integration.test_command_line import typed
from tests.patience import soon
from tests.scrapes import scrape
from tests.shared import ask, crowding, eventually
from tests.streams import open_stream, state_when

NOTICED_SECONDS: Final = 4.0
"""How long it may take until nothing is acknowledged and `/readyz` says no."""
HURRIED: Final = "[server]\ndrain_seconds = 1\n"
PLANTED: Final = str(pathlib.Path(planted.__file__))


async def say(gateway: RunningGateway, session_id: str) -> Any:
    return await ask(gateway.http, "POST", "/api/chat", {"message": "/echo hi", "session_id": session_id})


@pytest.mark.parametrize("deed", [remove, replace, empty])
async def test_nothing_is_acknowledged_and_everybody_is_told_once_the_database_is_taken_away(
    tmp_path: pathlib.Path, deed: Callable[[pathlib.Path], None]
) -> None:
    async with running_gateway(tmp_path) as gateway:
        await gateway.chat("kept", "/echo before")
        database = gateway.data_path / "gateway.db"
        deed(database)
        began = time.monotonic()
        answer = await say(gateway, "kept")
        assert (answer.status, answer.code) == (503, "store_failed")
        assert "taken away underneath the gateway: gateway.db" in answer.body["error"]["message"]
        ready = await ask(gateway.http, "GET", "/readyz")
        assert time.monotonic() - began < NOTICED_SECONDS * crowding()
        assert ready.status == 503
        assert "gateway.db" in str(ready.body)
        assert (await scrape(gateway)).value("store_lost") == 1
        assert (await gateway.state("kept"))["messages"][1]["content"] == "before"
        [saving] = set(re.findall(r"cp (/proc/\d+/fd/\d+) RESCUED", gateway.log()))
        assert deed is empty or os.path.getsize(saving) > 0
        assert await gateway.stop() == 0
        code, _, words = await typed("serve", "--port", "0", "--data-dir", str(gateway.data_path))
        assert code == 1
        assert "this directory has had" in words


async def test_when_the_writing_thread_ends_the_gateway_says_so_and_exits(tmp_path: pathlib.Path) -> None:
    prefix = (sys.executable, PLANTED, "ends")
    async with running_gateway(tmp_path, prefix=prefix) as gateway:
        await gateway.chat("a", "/echo before")
        (gateway.data_path / planted.PLANT).touch()
        try:
            assert (await say(gateway, "a")).status == 503
        except aiohttp.ClientError:
            pass  # it has ended already
        assert await soon(gateway.process.wait(), 10) == 1
        assert "THE THREAD THAT WRITES THE DATABASE HAS ENDED: planted" in gateway.log()
        assert "Nothing could be stored any more" in gateway.log()


async def test_a_gateway_whose_disk_hangs_ends_when_it_is_asked_to(tmp_path: pathlib.Path) -> None:
    prefix = (sys.executable, PLANTED, "hangs")
    async with running_gateway(tmp_path, prefix=prefix, config=HURRIED) as gateway:
        await gateway.chat("a", "/echo before")
        (gateway.data_path / planted.PLANT).touch()
        waiting = asyncio.create_task(say(gateway, "a"))

        async def is_not_ready() -> bool:
            return (await ask(gateway.http, "GET", "/readyz")).status == 503

        await eventually(is_not_ready)
        waiting.cancel()
        assert await soon(gateway.stop(), 15) == 70
        assert "something hangs" in gateway.log()


async def test_an_agent_whose_word_cannot_be_stored_loses_its_turn_and_nobody_else_does(
    tmp_path: pathlib.Path,
) -> None:
    tool = {"title": planted.POISON, "kind": "other", "input": {}, "output": "x", "status": "completed"}
    agents = {"bad": {"turns": [[{"say": "before"}, {"tool": tool}, {"hang": True}]], "repeat": True}}
    prefix = (sys.executable, PLANTED, "spoils")
    async with running_gateway(tmp_path, prefix=prefix, agents=agents) as gateway:
        slow = asyncio.create_task(gateway.chat("well", "/count 30 20"))
        await gateway.send("hurt", "go", agent="bad")
        state = await state_when(
            gateway.http, "hurt", lambda s: bool(s["messages"]) and not s["is_processing"]
        )
        assert "cannot be kept" in state["messages"][-1]["content"]
        async with open_stream(gateway.http, "hurt", after=0) as stream:
            ended = await stream.until_event("turn_interrupted")
        assert ended.data["reason"] == "store_failed"
        assert (await slow)["messages"][-1]["content"].endswith("30")
        await gateway.send("hurt", "again")
        await state_when(gateway.http, "hurt", lambda s: len(s["messages"]) > 4 and not s["is_processing"])
        assert (await ask(gateway.http, "GET", "/readyz")).status == 200
