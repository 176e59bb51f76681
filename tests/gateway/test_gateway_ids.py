"""Which session a request means: named, in the cookie, absent, unknown; and two that make one at once."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.gateways import RunningGateway
from tests.inside import gateway_inside
from tests.shared import SHARED, eventually, fresh_id, shared_gateway
from tests.streams import open_stream

pytestmark = SHARED
gateway = shared_gateway()


def own_name(gateway: RunningGateway) -> str:
    """What the cookie that keeps the session is called."""
    return f"agw_session_{urlsplit(gateway.url).port}"


EMPTY = {
    "seq": 0,
    "messages": [],
    "is_processing": False,
    "is_loading": False,
    "is_connecting_mcp": False,
    "missing_api_key": True,
    "readiness": {"phase": "ready", "detail": None},
    "pending_wallet_tx": None,
    "pending_permission": None,
    "questions": [],
    "options": {},
    "queued": 0,
    "start_position": None,
    "ended": None,
    "egress": None,
}


async def test_reading_an_unknown_session_is_empty_and_has_no_effect(gateway: RunningGateway) -> None:
    before, workers = await gateway.count(), len(gateway.workers())
    unknown = fresh_id("unknown")
    assert await gateway.state(unknown) == {"session_id": unknown, **EMPTY}
    async with open_stream(gateway.http, unknown, view="state") as stream:
        frame = await stream.next()
        assert frame is not None
        assert frame.data == {"session_id": unknown, **EMPTY}
    async with open_stream(gateway.http, unknown, view="events") as stream:
        await stream.until_event("retry")
    answer = await gateway.post("/api/interrupt", {"session_id": unknown})
    assert answer == {"session_id": unknown, **EMPTY}
    assert (await gateway.count(), len(gateway.workers())) == (before, workers)


async def test_writing_to_an_unknown_session_makes_it_and_spawns_nothing_but_for_a_turn(
    gateway: RunningGateway,
) -> None:
    before, workers = await gateway.count(), len(gateway.workers())
    unknown = fresh_id("unknown")
    state = await gateway.post("/api/system", {"message": "be kind", "session_id": unknown})
    assert [m["content"] for m in state["messages"]] == ["be kind"]
    other = fresh_id("unknown")
    command = {"command": "set_network", "args": {"network": "sepolia"}, "session_id": other}
    assert (await gateway.post("/api/mcp-command", command))["success"] is True
    assert (await gateway.count(), len(gateway.workers())) == (before + 2, workers)
    assert (await gateway.chat(unknown, "/echo hi"))["messages"][-1]["content"] == "hi"
    assert len(gateway.workers()) == workers + 1


async def test_commands_that_change_nothing_make_no_session(gateway: RunningGateway) -> None:
    before = await gateway.count()
    for command in ("list_servers", "no_such_command"):
        body: dict[str, Any] = {"command": command, "args": {}, "session_id": fresh_id("unknown")}
        await gateway.post("/api/mcp-command", body)
    assert await gateway.count() == before


@pytest.mark.parametrize("place", ["body", "query", "header"])
async def test_the_id_may_travel_in_body_query_or_header(gateway: RunningGateway, place: str) -> None:
    session_id = fresh_id("place")
    body: dict[str, Any] = {"message": "/echo hi"}
    params, headers = {}, {}
    if place == "body":
        body["session_id"] = session_id
    elif place == "query":
        params = {"session_id": session_id}
    else:
        headers = {"X-Session-Id": session_id}
    async with gateway.http.post("/api/chat", json=body, params=params, headers=headers) as response:
        assert (await response.json())["session_id"] == session_id
        assert response.headers["X-Session-Id"] == session_id
    async with gateway.http.get("/api/state", params=params or {"session_id": session_id}) as response:
        assert (await response.json())["messages"][0]["content"] == "/echo hi"


async def test_the_same_id_is_the_same_session_and_worker(gateway: RunningGateway) -> None:
    session_id = fresh_id("same")
    await gateway.chat(session_id, "/echo one")
    workers = {worker.pid for worker in gateway.workers()}
    state = await gateway.chat(session_id, "/echo two")
    assert [m["content"] for m in state["messages"]] == ["/echo one", "one", "/echo two", "two"]
    assert {worker.pid for worker in gateway.workers()} == workers


async def test_two_requests_at_once_with_one_new_id_make_one_session_and_one_worker(
    gateway: RunningGateway,
) -> None:
    before, workers = await gateway.count(), len(gateway.workers())
    session_id = fresh_id("race")
    await asyncio.gather(*(gateway.send(session_id, f"/echo {n}") for n in range(5)))
    state = await gateway.chat(session_id, "/echo last")
    said = sorted(m["content"] for m in state["messages"] if m["sender"] == "agent")
    assert said == ["0", "1", "2", "3", "4", "last"]
    assert (await gateway.count(), len(gateway.workers())) == (before + 1, workers + 1)


async def test_without_id_a_chat_makes_a_session_and_the_cookie_keeps_it(gateway: RunningGateway) -> None:
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(gateway.url, cookie_jar=jar) as http:
        async with http.post("/api/chat?wait=240", json={"message": "/echo first"}) as response:
            made = await response.json()
            assert response.headers["X-Session-Id"] == made["session_id"]
            cookie = response.cookies[own_name(gateway)]
            assert cookie.value == made["session_id"]
            assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/")
        async with http.post("/api/chat?wait=240", json={"message": "/echo second"}) as response:
            again = await response.json()
            assert not response.cookies
        async with http.get("/api/state") as response:
            assert (await response.json())["session_id"] == made["session_id"]
    assert again["session_id"] == made["session_id"]
    assert [m["content"] for m in again["messages"] if m["sender"] == "agent"] == ["first", "second"]


async def test_two_chats_without_id_and_cookie_are_two_sessions(gateway: RunningGateway) -> None:
    states = [await gateway.post("/api/chat", {"message": "/echo hi"}) for _ in range(2)]
    assert states[0]["session_id"] != states[1]["session_id"]
    assert len(states[0]["session_id"]) >= 20


async def test_an_id_wins_over_the_cookie_and_a_malformed_cookie_is_none(gateway: RunningGateway) -> None:
    session_id = fresh_id("named")
    headers = {"Cookie": "agw_session=other"}
    body = {"message": "/echo hi", "session_id": session_id}
    state = await gateway.post("/api/chat", body, headers=headers)
    assert state["session_id"] == session_id
    state = await gateway.post("/api/chat", {"message": "/echo hi"}, headers={"Cookie": "agw_session=a/../b"})
    assert state["session_id"] != "a/../b"


async def test_an_empty_id_counts_as_none(gateway: RunningGateway) -> None:
    state = await gateway.post("/api/chat", {"message": "/echo hi", "session_id": ""})
    assert state["session_id"]


async def test_the_other_verbs_without_id_use_the_newest_session(gateway: RunningGateway) -> None:
    session_id = fresh_id("newest")
    await gateway.chat(session_id, "/echo hi")
    assert (await gateway.get("/api/state"))["session_id"] == session_id
    assert (await gateway.post("/api/interrupt", {}))["session_id"] == session_id
    assert (await gateway.post("/api/system", {"message": "note"}))["session_id"] == session_id
    async with open_stream(gateway.http, None, view="state") as stream:
        frame = await stream.next()
        assert frame is not None
        assert frame.data["session_id"] == session_id

    async def is_closed() -> bool:  # until then a chat without an id is about what the stream shows
        return bool((await gateway.post("/api/chat", {"message": "/echo hi"}))["session_id"] != session_id)

    await eventually(is_closed)


async def test_on_a_gateway_without_sessions_the_verbs_without_id_show_an_empty_one(tmp_path: Any) -> None:
    async with gateway_inside(tmp_path) as running:
        for state in (await running.get("/api/state"), await running.post("/api/interrupt", {})):
            assert state == {"session_id": state["session_id"], **EMPTY}
        assert await running.get("/api/sessions") == {"sessions": []}
        assert await running.get("/api/sessions/count") == {"active_sessions": 0, "live": 0, "parked": 0}


async def test_what_one_session_is_told_is_in_no_other(gateway: RunningGateway) -> None:
    names = [fresh_id("canary") for _ in range(4)]
    await asyncio.gather(*(gateway.chat(name, f"/echo secret of {name}.") for name in names))
    for name in names:
        text = str(await gateway.state(name))
        assert [other for other in names if f"secret of {other}." in text] == [name]
