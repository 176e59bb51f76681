"""The clients that there are, each of whose requests goes to any of several gateways: the six verbs, the
tools of the shop over MCP, the shopping assistant, and product chat over REST and WebSockets. A few tests of
other modules, which know nothing of it.
"""

from __future__ import annotations

import asyncio
import pathlib
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.acceptance import test_original_client as verbs
from tests.balancer import balanced
from tests.gateway import test_mcp_tools as mcp_tools
from tests.gateway import test_shopping as shopping
from tests.gateways import ROOT, RunningGateway
from tests.nodes import Nodes, running_nodes
from tests.products import test_rest as rest
from tests.products import test_sockets as sockets
from tests.products.shop import Browser, Shop, config
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
    settings = config(session_rate=6000, visitor_rate=6000, address_rate=6000)
    directory = tmp_path_factory.mktemp("shop")
    async with running_nodes(directory, COUNT, config=settings) as nodes, balanced(nodes) as found:
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


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(shop: Shop) -> AsyncIterator[Browser]:
    async with shop.visitor() as browser:
        yield browser


test_a_client_of_the_six_verbs_works = verbs.test_a_client_with_an_id_works
test_a_cart_is_filled_seen_and_emptied = mcp_tools.test_a_cart_is_filled_seen_and_emptied
test_two_people_have_carts_of_their_own = mcp_tools.test_alice_and_bob_have_carts_of_their_own
test_what_a_shopping_session_remembers = shopping.test_what_a_session_remembers
test_the_assistant_and_an_mcp_client_fill_one_cart = (
    shopping.test_the_mcp_client_of_the_same_person_fills_the_same_cart
)
test_a_visitor_finds_everything_again = rest.test_a_visitor_begins_chats_and_finds_everything_again
test_a_person_takes_over = rest.test_a_person_takes_over_answers_and_hands_back
test_the_six_verbs_read_the_same = rest.test_the_six_verbs_read_the_same_conversation
test_everybody_sees_one_order = sockets.test_everybody_sees_everything_in_one_order_and_nobody_an_echo
test_a_socket_that_comes_back_misses_nothing = (
    sockets.test_coming_back_with_the_last_seq_brings_what_was_missed_once
)


async def test_every_conversation_has_a_cart_of_its_own(gateway: RunningGateway) -> None:
    """What `test-sessions.sh` runs."""
    script = ROOT / pathlib.Path("tests/test_sessions.py")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(script), gateway.url), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
