"""What is done at one of two gateways on one database holds at the other, and quotas hold over both."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import time
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
import psutil
import pytest
import pytest_asyncio

from tests.gateways import RunningGateway, is_running
from tests.nodes import Nodes, running_nodes
from tests.shared import SHARED, ask, crowding, eventually

pytestmark = SHARED
SECOND: Final = 1.0
PEOPLE_SECONDS: Final = 5.0
"""Within which everything of a disabled person has ended, everywhere."""
ALLOWED: Final = 10
CONFIG: Final = f"""
[auth]
modes = ["keys"]
[tenants.acme]
[tenants.beta]
[tenants.few]
quota = {{ sessions_live = {ALLOWED} }}
"""
SLOW: Final = {"turns": [[{"say": "begun"}, {"hang": True}]], "repeat": True}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nodes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nodes]:
    directory: pathlib.Path = tmp_path_factory.mktemp("nodes")
    async with running_nodes(directory, 2, config=CONFIG, agents={"slow": SLOW}) as running:
        yield running


@contextlib.asynccontextmanager
async def streaming(
    nodes: Nodes, key: str
) -> AsyncIterator[tuple[aiohttp.ClientSession, aiohttp.ClientResponse]]:
    """Somebody who has a session at the second gateway, and follows it there."""
    async with nodes[1].caller(key) as caller:
        said = {"session_id": "s", "message": "x", "agent": "slow"}
        answer = await ask(caller, "POST", "/api/chat", said)
        assert answer.status == 200, answer.body
        async with caller.get("/api/chat/stream?session_id=s") as response:
            assert response.status == 200
            await response.content.readany()
            yield caller, response


def scripted_agents(gateway: RunningGateway) -> set[psutil.Process]:
    """Those that work at a gateway now."""
    found = set()
    for process in psutil.Process(gateway.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "worker.scripted" in process.cmdline():
                found.add(process)
    return found


async def refused_in_time(
    caller: aiohttp.ClientSession, response: aiohttp.ClientResponse, code: str, began: float
) -> None:
    """What is open has ended, and requests are refused so."""
    async for _ in response.content.iter_any():
        pass
    answer = await ask(caller, "GET", "/api/sessions")
    assert time.monotonic() - began < SECOND * crowding()
    assert answer.code == code, answer.body


async def test_a_key_revoked_at_one_gateway_is_refused_at_the_other(nodes: Nodes) -> None:
    key = await nodes[0].mint("ann", tenant="acme")
    async with streaming(nodes, key) as (caller, response), nodes[0].operator() as operator:
        (row,) = [one for one in await operator.keys() if one.subject == "ann"]
        began = time.monotonic()
        await operator.revoke_key(row.id)
        await refused_in_time(caller, response, "unauthorized", began)


async def test_a_person_disabled_at_one_gateway_is_refused_at_the_other(nodes: Nodes) -> None:
    key = await nodes[0].mint("bob", tenant="acme")
    before = scripted_agents(nodes[1])
    async with streaming(nodes, key) as (caller, response), nodes[0].operator() as operator:

        async def has_worker() -> bool:
            return bool(scripted_agents(nodes[1]) - before)

        async def has_none() -> bool:
            return not any(map(is_running, workers))

        await eventually(has_worker)
        workers = scripted_agents(nodes[1]) - before
        began = time.monotonic()
        await operator.disable_person("acme", "bob")
        await refused_in_time(caller, response, "person_disabled", began)
        await eventually(has_none, seconds=PEOPLE_SECONDS)
        assert time.monotonic() - began < PEOPLE_SECONDS * crowding()


async def test_a_tenant_disabled_at_one_gateway_is_refused_at_the_other(nodes: Nodes) -> None:
    key = await nodes[0].mint("cat", tenant="beta")
    async with streaming(nodes, key) as (caller, response), nodes[0].operator() as operator:
        began = time.monotonic()
        await operator.disable_tenant("beta")
        await refused_in_time(caller, response, "tenant_disabled", began)


async def test_starts_at_both_gateways_at_once_keep_to_a_quota_of_both(nodes: Nodes) -> None:
    key = await nodes[0].mint("dan", tenant="few")

    async def start(caller: aiohttp.ClientSession, number: int) -> int:
        said = {"session_id": f"q{number}", "message": "x", "agent": "slow"}
        return (await ask(caller, "POST", "/api/chat", said)).status

    async with nodes[0].caller(key) as one, nodes[1].caller(key) as other:
        statuses = await asyncio.gather(
            *(start(one if number % 2 else other, number) for number in range(30))
        )
        assert sorted(statuses) == [200] * ALLOWED + [429] * (30 - ALLOWED)
