"""Any node takes any request: gateways as processes on one PostgreSQL, each asked for what another has. The
clocks of their machines are an hour apart.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import pathlib
import sys
import time
from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio

from tests.nodes import LEASE_SECONDS, Nodes, ahead, running_nodes
from tests.shared import SHARED, ask, free_port, fresh_id
from tests.streams import Frame, StreamReader, open_stream

pytestmark = SHARED
SERVED: Final = pathlib.Path(__file__).parent.parent / "served.py"
HOUR_SECONDS: Final = 3600
CONFIG: Final = f"""
[server]
ports_host = "none"
[agents.served]
command = {json.dumps([sys.executable, "-I", str(SERVED)])}
readable = ["{SERVED}"]
network = "shared"
[sessions]
park_after_seconds = 0
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nodes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nodes]:
    directory = tmp_path_factory.mktemp("nodes")
    environ = ahead(directory, 1, seconds=HOUR_SECONDS)
    async with running_nodes(directory, 2, config=CONFIG, environ=environ) as running:
        async with running[1].http.get("/livez") as response:
            there = email.utils.parsedate_to_datetime(response.headers["Date"]).timestamp()
        assert there - time.time() > HOUR_SECONDS - 60
        yield running


def assert_whole(stream: StreamReader) -> None:
    """Nothing came twice. Text that died with its node is taken back by a `resync`."""
    lives: list[list[int]] = [[]]
    for frame in stream.frames:
        if frame.event == "resync":
            lives.append([])
        if frame.id:
            lives[-1].append(int(frame.id))
    assert all(ids == sorted(set(ids)) for ids in lives)
    assert len(lives) <= 2


def says_that_it_was_cut(frame: Frame) -> bool:
    """The event; or the conversation with it, for who was shown more than the dead node had stored."""
    if frame.event == "resync":
        return any("before the answer was complete" in m["content"] for m in frame.data["state"]["messages"])
    return frame.event == "turn_interrupted"


async def test_every_request_may_go_to_any_node(nodes: Nodes) -> None:
    session_id = fresh_id()
    async with (
        open_stream(nodes[0].http, session_id) as first,
        open_stream(nodes[1].http, session_id) as other,
    ):
        for number in range(6):
            state = await nodes[number % 2].chat(session_id, f"/echo {number}")
            assert [m["content"] for m in state["messages"][-2:]] == [f"/echo {number}", str(number)]
            await first.until_event("turn_ended")
            await other.until_event("turn_ended")
        assert first.text == other.text == "012345"
        assert_whole(first)
        assert_whole(other)
    for number in (0, 1):
        assert len((await nodes[number].state(session_id))["messages"]) == 12
    await nodes[1].delete(session_id)
    for number in (0, 1):
        answer = await ask(nodes[number].http, "DELETE", f"/api/sessions/{session_id}")
        assert answer.status == 404


async def test_a_preview_of_an_agents_server_opens_at_any_node(nodes: Nodes) -> None:
    """Its address is a secret that one node knows."""
    session_id, port = fresh_id(), free_port()
    await nodes[0].post("/api/sessions", {"session_id": session_id, "agent": "served"}, status=201)
    await nodes[0].chat(session_id, f"127.0.0.1 {port}")
    navigating = {"Sec-Fetch-Mode": "navigate"}
    asked = f"/api/sessions/{session_id}/ports/{port}/page"
    async with nodes[1].http.get(asked, headers=navigating, allow_redirects=False) as answer:
        at = answer.headers["Location"]
    for number in (0, 1):
        async with nodes[number].http.get(at, headers={"Origin": "null"}) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.headers.getall("Access-Control-Allow-Origin") == ["*"]
        async with nodes[number].http.get(at[:-8] + "00000000/page") as answer:
            assert answer.status == 404
        async with nodes[number].http.ws_connect(at.replace("/page", "/socket")) as socket:
            await socket.send_str("x")
            assert await socket.receive_str() == "x"


async def test_who_asks_hardly_notices_that_a_node_is_dead(tmp_path: pathlib.Path) -> None:
    """A stream goes on within its connection; a request waits until the node is known to be dead, also if its
    machine takes every request and answers none.
    """
    within, stream_id, killed_id, paused_id = LEASE_SECONDS + 3, "stream", "killed", "paused"
    async with running_nodes(tmp_path, 2) as nodes:
        await nodes[0].chat(stream_id, "/echo before")
        await nodes[0].chat(killed_id, "/echo before")
        async with open_stream(nodes[1].http, stream_id) as stream:
            await stream.until_event("turn_ended")
            await nodes[0].send(stream_id, "/count 2000 10")
            await stream.until_event("text_delta")
            killed = time.monotonic()
            await nodes.kill(0)
            state = await nodes[1].chat(killed_id, "/echo after")
            assert state["messages"][-1]["content"] == "after"
            await stream.until(says_that_it_was_cut)
            assert time.monotonic() - killed < within
            await nodes[1].chat(stream_id, "/echo after")
            await stream.until_event("turn_ended")
            assert stream.text.endswith("after")
            assert_whole(stream)
        await nodes.start(0)
        assert (await nodes[0].chat(stream_id, "/echo again"))["messages"][-1]["content"] == "again"
        await nodes[1].chat(paused_id, "/echo before")
        async with nodes.paused(1):
            state = await asyncio.wait_for(nodes[0].state(paused_id), within)
            assert len(state["messages"]) == 2
