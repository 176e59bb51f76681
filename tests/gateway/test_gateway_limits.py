"""Bounds: workers, sessions, rates, streams, lengths. Past one, the answer says which, and when to return."""

from __future__ import annotations

import asyncio
import json
import pathlib
from typing import Any

from tests.gateways import RunningGateway
from tests.inside import gateway_inside
from tests.patience import within
from tests.streams import open_stream, state_when


async def refused(gateway: RunningGateway, body: Any, path: str = "/api/chat") -> tuple[int, str, int]:
    """(status, code, Retry-After) of a request that is refused."""
    async with gateway.http.post(path, json=body) as response:
        answer = await response.json()
        assert response.status in (413, 429, 503), answer
        return response.status, answer["error"]["code"], int(response.headers.get("Retry-After", "0"))


async def live(gateway: RunningGateway) -> int:
    return int((await gateway.get("/api/sessions/count"))["live"])


async def test_past_the_last_worker_a_chat_is_503_where_none_may_wait(tmp_path: pathlib.Path) -> None:
    config = "[limits]\nmax_live_workers = 2\nwaiting_turns = 0\n"
    async with gateway_inside(tmp_path, config=config) as gateway:
        for name in ("a", "b"):
            await gateway.send(name, "/count 1000 20")
        body = {"message": "/echo three", "session_id": "c"}
        for _ in range(3):
            status, code, seconds = await refused(gateway, body)
            assert (status, code, seconds > 0) == (503, "worker_limit", True)
        assert (await gateway.state("c"))["messages"] == [], "what was refused was not taken"
        system = await gateway.post("/api/system", {"message": "no worker needed", "session_id": "c"})
        assert system["messages"][-1]["content"] == "no worker needed"
        await gateway.post("/api/interrupt", {"session_id": "a"})
        await gateway.delete("a")
        assert (await gateway.chat("c", "/echo three"))["messages"][-1]["content"] == "three"
        assert await live(gateway) == 2
        await gateway.post("/api/interrupt", {"session_id": "b"})


async def test_past_the_last_worker_an_idle_one_makes_room(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config="[limits]\nmax_live_workers = 2\n") as gateway:
        for round_ in range(3):
            for name in ("a", "b", "c", "d"):
                await gateway.chat(name, f"/echo {name}{round_}")
                assert len(gateway.workers()) <= 2
        for name in ("a", "b", "c", "d"):
            said = [m["content"] for m in (await gateway.state(name))["messages"] if m["sender"] == "agent"]
            assert said == [f"{name}0", f"{name}1", f"{name}2"]


async def test_slots_come_back_however_a_turn_ends(tmp_path: pathlib.Path) -> None:
    agents = {"crash": "crash_mid_answer", "exits": "exits_at_start"}
    config = "[limits]\nmax_live_workers = 1\n[sessions]\nstop_grace_seconds = 0.2\n"
    async with gateway_inside(tmp_path, config=config, agents=agents) as gateway:
        for number, agent in enumerate(("crash", "exits", "built-in", "built-in")):
            name = f"s{number}"
            await gateway.send(name, "/count 1000 20", agent=agent)
            if agent == "built-in":
                state = await gateway.post("/api/interrupt", {"session_id": name})
                assert state["is_processing"] is False
                await gateway.delete(name)
                continue
            await state_when(gateway.http, name, lambda s: not s["is_processing"])
            async with open_stream(gateway.http, name) as events:
                await events.until(lambda f: f.event == "session_state" and f.data["state"] == "parked")
        assert (await gateway.chat("last", "/echo free"))["messages"][-1]["content"] == "free"


async def test_past_the_last_session_a_new_one_is_503_and_a_deletion_makes_room(
    tmp_path: pathlib.Path,
) -> None:
    async with gateway_inside(tmp_path, config="[limits]\nmax_sessions = 3\n") as gateway:
        for name in ("a", "b", "c"):
            await gateway.post("/api/sessions", {"session_id": name}, status=201)
        for path, body in (
            ("/api/chat", {"message": "hi", "session_id": "d"}),
            ("/api/chat", {"message": "hi"}),
            ("/api/system", {"message": "hi", "session_id": "d"}),
            ("/api/sessions", {}),
        ):
            status, code, seconds = await refused(gateway, body, path)
            assert (status, code, seconds > 0) == (503, "session_limit", True)
        assert await gateway.count() == 3
        assert (await gateway.state("d"))["messages"] == [], "reading needs no room"
        assert (await gateway.chat("a", "/echo old"))["messages"][-1]["content"] == "old"
        async with gateway.http.delete("/api/sessions/nobody") as response:
            assert response.status == 404
        await gateway.delete("b")
        assert (await gateway.chat("d", "/echo new"))["messages"][-1]["content"] == "new"


async def test_too_many_requests_to_one_session_are_429_and_others_go_on(tmp_path: pathlib.Path) -> None:
    config = "[limits]\nsession_requests_per_second = 0.02\nsession_burst = 3\n"
    async with gateway_inside(tmp_path, config=config) as gateway:
        for _ in range(3):
            await gateway.post("/api/system", {"message": "note", "session_id": "a"})
        for path in ("/api/chat", "/api/system", "/api/interrupt"):
            status, code, seconds = await refused(gateway, {"message": "x", "session_id": "a"}, path)
            assert (status, code) == (429, "rate_limited")
            assert 1 <= seconds <= 51
        await gateway.post("/api/system", {"message": "note", "session_id": "b"})
        assert len((await gateway.state("a"))["messages"]) == 3


async def test_too_many_requests_from_one_address_are_429(tmp_path: pathlib.Path) -> None:
    config = "[limits]\naddress_requests_per_second = 0.1\naddress_burst = 10\n"
    async with gateway_inside(tmp_path, config=config) as gateway:

        async def status() -> int:
            async with gateway.http.get("/api/state", params={"session_id": "a"}) as response:
                return response.status

        statuses = await asyncio.gather(*(status() for _ in range(30)))
        assert set(statuses) == {200, 429}
        assert statuses.count(200) <= 12


async def test_streams_are_bounded(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config="[limits]\nstreams_per_owner = 2\n") as gateway:
        await gateway.chat("a", "/echo hi")
        async with open_stream(gateway.http, "a"), open_stream(gateway.http, "a", view="state"):
            async with gateway.http.get("/api/chat/stream", params={"session_id": "a"}) as response:
                assert response.status == 429
                assert (await response.json())["error"]["code"] == "too_many_streams"
            assert (await gateway.chat("a", "/echo still"))["messages"][-1]["content"] == "still"


async def test_lengths_and_depths_follow_the_configuration(tmp_path: pathlib.Path) -> None:
    config = "[limits]\nmessage_bytes = 20\nqueued_messages = 1\njson_depth = 3\n"
    config += "[server]\nbody_limit_bytes = 500\n"
    async with gateway_inside(tmp_path, config=config) as gateway:
        assert await refused(gateway, {"message": "x" * 21}) == (413, "message_too_long", 0)
        assert (await refused(gateway, {"message": "x" * 500}))[:2] == (413, "body_too_large")
        deep = json.loads("[" * 4 + "]" * 4)
        async with gateway.http.post("/api/mcp-command", json={"command": "x", "args": deep}) as response:
            assert response.status == 400
        await gateway.send("a", "/count 1000 20")
        await gateway.send("a", "/echo waits")
        assert (await refused(gateway, {"message": "/echo x", "session_id": "a"}))[:2] == (429, "queue_full")
        await gateway.delete("a")


async def test_a_body_that_never_ends_is_cut_at_its_deadline(tmp_path: pathlib.Path) -> None:
    config = "[server]\nbody_deadline_seconds = 0.5\n"
    async with gateway_inside(tmp_path, config=config) as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /api/chat HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        head += "Content-Length: 90\r\n\r\n"
        writer.write(head.encode() + b'{"mess')
        async with within(5):
            answer = await reader.read()
        assert b"408" in answer.splitlines()[0]
        assert b"request_timeout" in answer
        writer.close()
        await writer.wait_closed()
