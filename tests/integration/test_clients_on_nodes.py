"""The clients that there are, each of whose requests goes to any of several gateways, of which none of them
knows.
"""

from __future__ import annotations

import asyncio
import pathlib
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.balancer import balanced
from tests.gateways import ROOT, RunningGateway
from tests.nodes import Nodes, running_nodes
from tests.products.clients import *  # noqa: F403 - the tests
from tests.products.clients import RATES
from tests.products.shop import Shop, config
from tests.scrapes import parsed
from tests.shared import SHARED

pytestmark = SHARED
COUNT = 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    async with running_nodes(tmp_path_factory.mktemp("any"), COUNT) as nodes, balanced(nodes) as found:
        yield found
        assert await passed_on(nodes, "verb")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    directory = tmp_path_factory.mktemp("shop")
    async with running_nodes(directory, COUNT, config=config(**RATES)) as nodes, balanced(nodes) as found:
        yield Shop(found)
        key = await nodes[0].mint("watcher", scopes=["operate"])
        assert await passed_on(nodes, "verb", key=key)
        assert await passed_on(nodes, "socket", key=key)


async def passed_on(nodes: Nodes, reason: str, *, key: str | None = None) -> float:
    """How many requests one of them has passed on to another: else these tests say nothing."""
    total = 0.0
    for index in nodes.indexes:
        async with nodes[index].caller(key) as http, http.get("/metrics") as response:
            assert response.status == 200
            total += parsed(await response.text()).value("forwarded_total", reason=reason)
    return total


async def test_every_conversation_has_a_cart_of_its_own(gateway: RunningGateway) -> None:
    """What `test-sessions.sh` runs."""
    script = ROOT / pathlib.Path("tests/test_sessions.py")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(script), gateway.url), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
