"""Who asks, where another gateway answers: what the first one has found holds, and ends when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import sys
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
import pytest
import pytest_asyncio

from gateway.auth.node_tickets import HEADER, Said, digest
from gateway.principal import Principal
from tests.pairs import IDS, Pair, at_owner, pair
from tests.shared import SHARED, ask, free_port
from tests.streams import open_stream

pytestmark = SHARED
SERVED: Final = pathlib.Path(__file__).parent.parent / "served.py"
CONFIG: Final = f"""
[auth]
modes = ["keys", "anonymous"]
[tenants.acme]
[agents.served]
command = {json.dumps([sys.executable, "-I", str(SERVED)])}
readable = ["{SERVED}"]
network = "shared"
[sessions]
park_after_seconds = 0
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    async with pair(tmp_path_factory.mktemp("people"), config=CONFIG) as found:
        yield found


async def test_the_principal_of_the_edge_is_the_owners_too(two: Pair) -> None:
    """The key is known at the edge alone."""
    key, session_id = await two.edge.mint("alice", tenant="acme"), at_owner(two)
    async with two.edge.caller(key) as alice:
        body = {"session_id": session_id, "message": "/echo apple"}
        assert (await ask(alice, "POST", "/api/chat?wait=20", body)).status == 200
    assert two.owner.inner.manager.get("acme/alice", session_id) is not None
    bob = await two.edge.mint("bob", tenant="acme")
    async with two.edge.caller(bob) as other:
        state = await ask(other, "GET", f"/api/state?session_id={session_id}")
        assert state.body["messages"] == []


async def test_what_a_key_may_not_do_it_may_not_do_there(two: Pair) -> None:
    key, session_id = await two.edge.mint("reader", tenant="acme", scopes=["read"]), at_owner(two)
    before = two.forwarded("verb")
    async with two.edge.caller(key) as reader:
        body = {"session_id": session_id, "message": "hello"}
        assert (await ask(reader, "POST", "/api/chat", body)).status == 403
        assert (await ask(reader, "GET", f"/api/state?session_id={session_id}")).status == 200
    assert two.forwarded("verb") == before + 1


async def test_the_scope_is_looked_at_there_again(two: Pair) -> None:
    principal = Principal("acme", "reader", "key", frozenset({"read"}))
    host, path = two.urls[1].partition("://")[2], "/api/chat"
    said = Said(edge=IDS[0], to=IDS[1], mark="m", asked=digest("http", "POST", path.encode(), host.encode()))
    headers = {HEADER.decode(): two.edge.inner.node_tickets.write(said, principal)}
    async with aiohttp.ClientSession(two.urls[1]) as http:
        answer = await ask(http, "POST", path, {"message": "hi"}, headers=headers)
    assert (answer.status, answer.code) == (403, "forbidden")


async def test_a_stream_ends_with_the_key_that_opened_it(two: Pair) -> None:
    key, session_id = await two.edge.mint("carol", tenant="acme"), at_owner(two)
    async with two.edge.caller(key) as carol:
        await ask(carol, "POST", "/api/chat?wait=20", {"session_id": session_id, "message": "/echo a"})
        async with open_stream(carol, session_id) as stream:
            await stream.until_event("turn_ended")
            await stream.until_event("session_state")
            async with two.edge.operator() as operator:
                await operator.revoke_key(key.split("_")[1])
            assert await stream.to_end(seconds=5)


async def test_a_visitor_is_made_once(two: Pair) -> None:
    session_id = at_owner(two)
    async with two.edge.caller() as visitor:
        async with visitor.post(
            "/api/chat?wait=20",
            json={"session_id": session_id, "message": "/echo apple"},
            headers={"Origin": two.edge.url},
        ) as answer:
            assert answer.status == 200
            visitors = [line for line in answer.headers.getall("Set-Cookie") if "visitor" in line]
            assert len(visitors) == 1
        state = await ask(visitor, "GET", f"/api/state?session_id={session_id}")
        assert len(state.body["messages"]) == 2
    async with two.edge.caller() as stranger:
        state = await ask(stranger, "GET", f"/api/state?session_id={session_id}")
        assert state.body["messages"] == []


async def test_the_operator_acts_for_somebody_there(two: Pair) -> None:
    session_id = at_owner(two)
    async with two.edge.operator(owner="acme/dave") as operator:
        await operator.chat(session_id, "/echo apple")
    assert two.owner.inner.manager.get("acme/dave", session_id) is not None


async def test_a_page_of_another_site_is_refused_before(two: Pair) -> None:
    session_id, before = at_owner(two), two.forwarded("verb")
    async with two.edge.caller() as visitor:
        answer = await ask(
            visitor,
            "POST",
            "/api/chat",
            {"session_id": session_id, "message": "x"},
            headers={"Origin": "http://evil.example"},
        )
    assert answer.status == 403
    assert two.forwarded("verb") == before


# -- servers of agents, and WebSockets ----------------------------------------------------------------------


@contextlib.asynccontextmanager
async def served(two: Pair) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """A caller at the edge, and the address of a server that the owner's agent has started."""
    key, session_id, port = await two.edge.mint("erin", tenant="acme"), at_owner(two), free_port()
    async with two.edge.caller(key) as erin:
        body = {"session_id": session_id, "agent": "served", "message": f"127.0.0.1 {port}"}
        answer = await ask(erin, "POST", "/api/chat?wait=20", body)
        assert answer.body["messages"][-1]["content"] == "listening"
        yield erin, f"/api/sessions/{session_id}/ports/{port}/"


async def test_a_server_of_an_agent_is_reached(two: Pair) -> None:
    async with served(two) as (erin, at):
        async with erin.post(at + "a%2Fb?x=1&y", data=b"body", headers={"X-Agw-Elsewhere": "x"}) as answer:
            line, head, body = await answer.json(content_type=None)
        assert (line, body) == ("POST /a%2Fb?x=1&y HTTP/1.1", "body")
        assert "agw_" not in head
        assert "x-agw" not in head.lower()
        before = two.forwarded("stream")
        async with erin.get(at + "stream") as stream:
            assert await stream.content.readline() == b"data: 0\n"
        assert two.forwarded("stream") == before  # an agent's own: nobody knows how to go on with it


async def test_a_websocket_goes_there(two: Pair) -> None:
    async with served(two) as (erin, at), erin.ws_connect(at + "socket", protocols=("vite-hmr",)) as socket:
        assert socket.protocol == "vite-hmr"
        for text in ("words" * 100, "x" * 60_000):
            await socket.send_str(text)
            assert await socket.receive_str() == text
        await socket.send_bytes(b"\0\1")
        assert await socket.receive_bytes() == b"\0\1"
        assert two.forwarded("socket") >= 1
        two.cut_owner()
        closed = await socket.receive()
        assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, 1012)


async def test_a_refused_handshake_says_why(two: Pair) -> None:
    session_id = at_owner(two)
    key = await two.edge.mint("frank", tenant="acme")
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    async with two.edge.caller(key) as frank:
        answer = await ask(frank, "GET", f"/api/sessions/{session_id}/ports/1234/socket", headers=upgrade)
    assert (answer.status, answer.code) == (404, "session_not_found")


async def test_a_socket_ends_with_the_key_that_opened_it(two: Pair) -> None:
    async with served(two) as (erin, at), erin.ws_connect(at + "socket") as socket:
        await socket.send_str("x")
        assert await socket.receive_str() == "x"
        key = erin.headers["Authorization"].split("_")[1]
        async with two.edge.operator() as operator:
            await operator.revoke_key(key)
        closed = await asyncio.wait_for(socket.receive(), 5)
        assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, 1008)
