"""Two gateways on one database: what is noted or decided at one is seen in a session of the other at once."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio

from gateway.auth.node_tickets import HEADER, Said, digest, new_mark
from gateway.http.node_post import body_digest
from tests.contract.engines import migrated_database
from tests.inside import GatewayInside, gateway_inside
from tests.mcp_clients import PRODUCT, call, result
from tests.products.shop import Browser, Shop, config
from tests.shared import SHARED, ask, crowding, eventually, free_port, fresh_id
from tests.streams import open_stream

pytestmark = SHARED
CONFIG: Final = config().replace("[visitors]", "[visitors]\ncommands = true") + "[tenants.acme]\n"
SOON_SECONDS: Final = 1.0


@contextlib.asynccontextmanager
async def both(directory: pathlib.Path) -> AsyncIterator[tuple[GatewayInside, GatewayInside]]:
    """Two gateways that know each other."""
    database = migrated_database()
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for name in ("a", "b"):
            place = directory / name
            place.mkdir()
            environ = {
                "AGENT_GATEWAY_STORE": database,
                "AGENT_GATEWAY_CLUSTER_NAME": name,
                "AGENT_GATEWAY_CLUSTER_URL": f"http://127.0.0.1:{free_port()}",
                "AGENT_GATEWAY_CLUSTER_BEAT_SECONDS": "0.1",
                "AGENT_GATEWAY_CLUSTER_FILES": "none",
            }
            made.append(
                await stack.enter_async_context(gateway_inside(place, config=CONFIG, environ=environ))
            )
        first, second = made
        while len(list(first.inner._other_nodes())) < 1:
            await asyncio.sleep(0.01)
        yield first, second


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[GatewayInside, GatewayInside]]:
    async with both(tmp_path_factory.mktemp("told")) as found:
        yield found


def told(gateway: GatewayInside, what: str, outcome: str) -> float:
    """How often something came of what it told."""
    labels = {"what": what, "outcome": outcome}
    registry = gateway.inner.services.metrics.registry
    return registry.get_sample_value("agent_gateway_told_total", labels) or 0.0


async def test_a_cart_that_changes_at_one_is_shown_in_the_conversation_of_the_other(
    two: tuple[GatewayInside, GatewayInside],
) -> None:
    first, second = two
    key, name = await first.mint("ann", tenant="acme"), fresh_id()
    async with first.caller(key) as here, second.caller(key) as there:
        said = {"session_id": name, "message": "/echo hello"}
        assert (await ask(there, "POST", "/api/chat?wait=60", said)).status == 200
        assert second.inner.manager.get("acme/ann", name) is not None
        async with open_stream(there, name) as direct, open_stream(here, name) as relayed:
            for stream in (direct, relayed):
                await stream.until_event("turn_ended")
            await result(here, call("view_cart", meta={"sessionId": name}))  # the first call loads the tools
            for items in (1, 2):
                began = time.monotonic()
                await result(
                    here, call("add_to_cart", {"product_id": PRODUCT.format(3)}, meta={"sessionId": name})
                )
                for stream in (direct, relayed):
                    assert (await stream.until_event("cart", seconds=10)).data["items"] == items
                assert time.monotonic() - began < SOON_SECONDS * crowding()
    assert told(first, "fact", "told") >= 1


async def test_a_sign_in_at_one_ends_what_is_open_at_the_other_and_moves_its_session_there(
    two: tuple[GatewayInside, GatewayInside],
) -> None:
    first, second = two
    name, key = fresh_id(), await first.mint("bob", tenant="acme")
    async with first.caller(Origin=first.url) as browser, first.caller() as stranger:
        await ask(browser, "POST", "/api/sessions", {"session_id": fresh_id()})  # makes it a visitor
        cookies = {"Cookie": "; ".join(f"{one.key}={one.value}" for one in browser.cookie_jar)}
        async with second.caller(**cookies, Origin=second.url) as there:
            said = {"session_id": name, "message": "/echo before"}
            answer = await ask(there, "POST", "/api/chat?wait=60", said)
            assert answer.status == 200, answer.body
            (visitor,) = {
                one.record.owner for one in second.inner.manager.sessions() if one.session_id == name
            }
            async with contextlib.AsyncExitStack() as stack:
                streams = [
                    await stack.enter_async_context(open_stream(http, session, headers=cookies))
                    for http in (there, stranger)
                    for session in (name, fresh_id("not-there"))
                ]
                for stream in streams:
                    await stream.next()
                began = time.monotonic()
                assert (await ask(browser, "POST", "/api/auth/sign-in", {"key": key})).status == 200
                for stream in streams:
                    assert (await stream.to_end(seconds=5))[-1].event == "moved"
                assert time.monotonic() - began < SOON_SECONDS * crowding()
        assert second.inner.manager.get(visitor, name) is None
        assert second.inner.manager.get("acme/bob", name) is not None, "though nobody has asked there for it"
        said = {"session_id": name, "message": "/echo after"}
        state = (await ask(browser, "POST", "/api/chat?wait=60", said)).body
        assert [one["content"] for one in state["messages"]][1::2] == ["before", "after"]


async def test_the_staff_at_one_hears_of_a_message_in_a_chat_of_the_other(
    two: tuple[GatewayInside, GatewayInside],
) -> None:
    first, second = two
    visitor = Browser(second)
    async with (
        visitor.http,
        Shop(first).staff() as ruth,
        ruth.socket("/ws/chat/admin/1?admin_name=Ruth") as desk,
    ):
        await desk.until("connection_status")
        name = await visitor.begin(2, customer_name="Dana", initial_message="I want a refund")
        notice = await desk.until("new_customer_message", session_id=name)
        assert (notice["customer_name"], notice["message"]) == ("Dana", "I want a refund")
    assert told(second, "word", "told") >= 1


async def test_the_staff_at_one_sees_who_is_there_at_both(two: tuple[GatewayInside, GatewayInside]) -> None:
    first, second = two
    visitor = Browser(second)
    async with visitor.http, Shop(first).staff() as ruth:
        name = await visitor.begin(2, customer_name="Eli", initial_message="hello")

        async def counted(customers: int, names: list[str]) -> None:
            async def is_so() -> bool:
                stats = (await ruth.ask("GET", "/api/websocket/stats")).json
                there = (await ruth.ask("GET", f"/api/websocket/sessions/{name}")).json
                shown = [one["user_name"] for one in there["participants"]]
                return (stats["customer_connections"], shown) == (customers, names)

            await eventually(is_so)

        async with visitor.socket(f"/ws/chat/customer/2/{name}?customer_name=Eli") as chat:
            await chat.until("connection_status")
            await counted(1, ["Eli"])
        await counted(0, [])


async def test_counts_and_the_operators_sight_are_of_both(two: tuple[GatewayInside, GatewayInside]) -> None:
    first, second = two
    key, name = await first.mint("cat", tenant="acme", scopes=["chat", "read"]), fresh_id()
    tenants = await first.mint("op", tenant="acme", scopes=["read", "operate"])
    everybodys = await first.mint("op", scopes=["read", "operate"])
    async with first.caller(key) as here, second.caller(key) as there:
        for http, said in ((there, "/echo one"), (there, "/count 500 100"), (here, "/echo two")):
            body = {"session_id": fresh_id() if http is here else f"{name}{said[1]}", "message": said}
            assert (
                await ask(http, "POST", f"/api/chat?wait={0 if 'count' in said else 60}", body)
            ).status == 200
        counts = [(await ask(http, "GET", "/api/sessions/count")).body for http in (here, there)]
        assert counts[0]["active_sessions"] == counts[1]["active_sessions"] == 3
        assert counts[0]["live"] >= 2, "the one that answers there, and the one here"
        assert counts[0]["parked"] == 3 - counts[0]["live"]
    async with first.caller(tenants) as http:
        assert (await ask(http, "GET", "/api/sessions/count")).body["active_sessions"] >= 3
    wanted = first.inner.manager.get_active_session_count() + second.inner.manager.get_active_session_count()
    async with first.caller(everybodys) as http:

        async def is_counted() -> bool:
            counted = (await ask(http, "GET", "/api/sessions/count")).body["active_sessions"]
            rows = (await ask(http, "GET", "/api/admin/overview")).body["nodes"]
            return bool(counted == wanted == sum(one["sessions"] for one in rows))

        await eventually(is_counted)  # with the next beat
        nodes = (await ask(http, "GET", "/api/admin/overview")).body["nodes"]
    assert [(one["name"], one["state"], one["is_this"]) for one in nodes] == [
        ("a", "up", True),
        ("b", "up", False),
    ]
    assert nodes[1]["url"] == second.inner.config.cluster.url


async def post(two: tuple[GatewayInside, GatewayInside], body: bytes, *, signed: bytes) -> int:
    """What the second gateway answers to a message with a ticket for another one, perhaps."""
    first, second = two
    url = second.inner.config.cluster.url
    host, target = url.partition("://")[2], f"/_node/tell?sha256={body_digest(signed)}"
    said = Said(
        edge=first.inner.own_node(), to=second.inner.own_node(), mark=new_mark(),
        asked=digest("http", "POST", target.encode(), host.encode()),
    )  # fmt: skip
    headers: dict[str, Any] = {HEADER.decode(): first.inner.node_tickets.write(said, None)}
    async with aiohttp.ClientSession(url) as http, http.post(target, data=body, headers=headers) as answer:
        return answer.status


async def test_a_message_that_is_not_the_signed_one_or_cannot_be_read_does_nothing(
    two: tuple[GatewayInside, GatewayInside],
) -> None:
    moved = b'{"type":"moved","mark":"m","giver":"a/b","taker":"a/c","sessions":{},"keeps_shares":false}'
    nothing = b'{"type":"word","mark":"n","application":"none","said":1}'
    assert await post(two, moved, signed=nothing) == 400
    assert await post(two, b"{", signed=b"{") == 400
    assert await post(two, nothing, signed=nothing) == 204
    async with aiohttp.ClientSession(two[1].inner.config.cluster.url) as http:
        assert (await ask(http, "POST", f"/_node/tell?sha256={body_digest(moved)}")).status == 401
