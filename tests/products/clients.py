"""The clients that there are: the six verbs, the tools of the shop over MCP, the shopping assistant, and
product chat over REST and WebSockets. A few tests of other modules, for modules whose gateways are of another
kind: each imports all of this beside its own fixtures `gateway` and `shop`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from tests.acceptance import test_original_client as verbs
from tests.gateway import test_mcp_tools as mcp_tools
from tests.gateway import test_shopping as shopping
from tests.products import test_rest as rest
from tests.products import test_sockets as sockets
from tests.products.shop import Browser, Shop

RATES: dict[str, Any] = {"session_rate": 6000, "visitor_rate": 6000, "address_rate": 6000}
"""For the fixture `shop`: all tests are one client to it."""


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
