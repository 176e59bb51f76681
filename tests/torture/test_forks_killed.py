"""A gateway that is killed while it makes forks: each is there as a whole, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import signal
from typing import Any

import aiohttp
import pytest

from gateway.sessions.forks import HALF
from tests.gateways import RunningGateway, running_gateway
from tests.patience import within

pytestmark = pytest.mark.torture

ROUNDS = int(os.environ.get("FORK_ROUNDS", "1"))
FORKS = 12
AGENTS: dict[str, Any] = {"shell": {"repeat": True, "turns": [[{"run": "$PROMPT"}]]}}
FILL = 'for n in $(seq 60); do mkdir -p d$n; echo "file $n" > d$n/f; done; ls | wc -l'
COUNT = "cat d*/f | sort -u | wc -l"


async def forked(gateway: RunningGateway, number: int) -> None:
    with contextlib.suppress(aiohttp.ClientError, OSError):
        await gateway.http.post("/api/sessions/parent/fork", json=named(number), headers=keyed(number))


def named(number: int) -> dict[str, str]:
    return {"session_id": f"fork-{number}"}


def keyed(number: int) -> dict[str, str]:
    return {"Idempotency-Key": f"key-{number}"}


async def killed(gateway: RunningGateway, number: int) -> None:
    """Kills it in the middle of so many forks: the first time as soon as one is being made, then later."""
    tasks = [asyncio.create_task(forked(gateway, number * FORKS + one)) for one in range(FORKS)]
    async with within(20):
        while not list((gateway.data_path / HALF).glob("*")):
            await asyncio.sleep(0.001)
    await asyncio.wait(tasks, timeout=0.05 * number)
    os.kill(gateway.pid, signal.SIGKILL)
    await asyncio.wait(tasks)


async def check(gateway: RunningGateway, directory: pathlib.Path) -> int:
    """How many forks there are; what is wrong with one of them fails."""
    data = directory / "data"
    rows = (await gateway.get("/api/sessions"))["sessions"]
    forks = [row["session_id"] for row in rows if row["session_id"].startswith("fork-")]
    assert len(list((data / "sessions").iterdir())) == len(rows)
    assert len(list((data / "snapshots").iterdir())) == len(rows)
    assert not list((data / HALF).glob("*"))
    for name in forks:
        async with gateway.http.get(f"/api/sessions/{name}/export?format=jsonl") as answer:
            events = [json.loads(line) for line in (await answer.text()).splitlines()]
        assert [one["parent"] for one in events if one["type"] == "session_forked"] == ["parent"]
        assert [one["type"] for one in events].count("turn_ended") == 1
    if forks:
        assert (await gateway.chat(forks[-1], COUNT))["messages"][-1]["content"].strip() == "60"
    return len(forks)


async def test_forks_that_a_death_cut_are_whole_or_not_there(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path, agents=AGENTS) as gateway:
        await gateway.post("/api/sessions", {"session_id": "parent", "agent": "shell"}, status=201)
        await gateway.chat("parent", FILL)
        await killed(gateway, 0)
    for number in range(1, ROUNDS + 1):
        async with running_gateway(tmp_path, agents=AGENTS) as gateway:
            before = await check(gateway, tmp_path)
            for one in range(2):  # whether it was made or not: asked for again, it is there once
                again = await gateway.http.post(
                    "/api/sessions/parent/fork", json=named(one), headers=keyed(one)
                )
                assert again.status == 201, await again.text()
            assert before <= await check(gateway, tmp_path) <= before + 2
            if number < ROUNDS:
                await killed(gateway, number)
