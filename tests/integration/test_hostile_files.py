"""Agents whose files are the attack: nested without end, larger than the disk, more than can be deleted."""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio

from tests.gateways import RunningGateway, running_gateway
from tests.shared import SHARED, eventually, fresh_id
from tests.trees import in_memory
from tests.walls import PYTHON

pytestmark = SHARED

AGENT: Final = pathlib.Path(__file__).parents[1] / "hostile" / "files.py"
CONFIG: Final = f"""
[sessions]
stop_grace_seconds = 0.2
sweep_interval_seconds = 0.3
[workers]
disk_bytes = {200 << 20}
[agents.files]
command = ["{PYTHON}", "{AGENT}"]
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway() -> AsyncIterator[RunningGateway]:
    """On a disk, fifty thousand files would take minutes."""
    with in_memory() as directory:
        async with running_gateway(directory, config=CONFIG) as running:
            yield running


async def attack(gateway: RunningGateway, session_id: str, act: str) -> list[str]:
    """What the system says after a turn in which the agent does something."""
    body = {"message": act, "session_id": session_id, "agent": "files"}
    state = await gateway.post("/api/chat?wait=240", body)
    return [message["content"] for message in state["messages"] if message["sender"] == "system"]


def sessions(gateway: RunningGateway) -> set[str]:
    return {path.name for path in (gateway.data_path / "sessions").iterdir() if not path.name.startswith(".")}


@pytest.mark.parametrize("depth", [1_100, 5_000])
async def test_a_session_with_nested_directories_is_deleted_and_the_gateway_lives_on(
    gateway: RunningGateway, depth: int
) -> None:
    session_id, before = fresh_id("deep"), sessions(gateway)
    assert await attack(gateway, session_id, f"nest {depth}") == []
    deleted = await gateway.delete(session_id)
    assert deleted["receipt"]["survivors"] == 0
    assert sessions(gateway) == before
    async with gateway.http.get("/readyz") as response:
        assert response.status == 200
    assert (await gateway.chat("neighbour", "/echo on"))["messages"][-1]["content"] == "on"


async def test_the_reaper_purges_nested_directories_and_goes_on() -> None:
    with in_memory() as directory:
        async with running_gateway(directory, config=CONFIG) as gateway:
            assert await attack(gateway, "a-deep", "nest 1100") == []
            await gateway.chat("b-plain", "/echo x")
            assert len(sessions(gateway)) == 2
        database = directory / "data" / "gateway.db"
        with contextlib.closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("UPDATE sessions SET expires_at = 1000")
        async with running_gateway(directory, config=CONFIG) as gateway:
            await eventually(lambda: _are_gone(gateway))
            assert "Traceback" not in gateway.log()


async def _are_gone(gateway: RunningGateway) -> bool:
    return not sessions(gateway)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("sparse 1800 wait", "add up to more than the 1,677 MB they may, holes included (8 times the 209 MB"),
        ("many 50001 wait", "more than the 50,000 files it may"),
    ],
)
async def test_files_past_a_limit_end_the_worker_in_words(
    gateway: RunningGateway, act: str, words: str
) -> None:
    session_id = fresh_id("large")
    said = await attack(gateway, session_id, act)
    assert words in said[-1]
    assert (await gateway.delete(session_id))["receipt"]["survivors"] == 0
