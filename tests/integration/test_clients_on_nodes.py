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
from playwright.async_api import expect

from tests.balancer import balanced
from tests.browser.conftest import OpenPage
from tests.browser.conftest import browser as browser
from tests.browser.conftest import open_page as open_page
from tests.browser.test_page import expect_answer, say
from tests.gateways import ROOT, RunningGateway
from tests.nodes import Nodes, running_nodes
from tests.products.clients import *  # noqa: F403 - the tests
from tests.products.clients import RATES
from tests.products.shop import Shop, config
from tests.scrapes import parsed
from tests.shared import SHARED, fresh_id

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


@pytest.mark.browser
async def test_the_page_shows_two_people_the_same(gateway: RunningGateway, open_page: OpenPage) -> None:
    """Its messages, what follows from them, and its button to stop; also after it was loaded again."""
    address = f"{gateway.url}/#s={fresh_id('page')}"
    first, second = await open_page(address), await open_page(address)
    for number, page in enumerate((first, second)):
        await say(page, f"/echo {number} of two")
        for each in (first, second):
            await expect_answer(each, f"{number} of two")
    await say(first, "/count 600 1000")
    await second.get_by_test_id("stop").click()
    for page in (first, second):
        await expect(page.get_by_test_id("message-agent").last).to_have_attribute("data-streaming", "false")
        await page.reload()
        await expect(page.get_by_test_id("message-user")).to_have_count(3)
        await expect(page.get_by_test_id("message-agent").nth(1)).to_contain_text("1 of two")
