"""The lives of a session: reaped, revived, parked, deleted, made anew; numbers go on, nothing comes back."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from gateway.sessions.seat import Wish
from gateway.sessions.session import Session
from tests.gateways import RunningGateway
from tests.inside import GatewayInside, gateway_inside
from tests.patience import counting, soon
from tests.shared import SHARED, eventually, fresh_id, shared_gateway
from tests.streams import Frame, StreamReader, open_stream, state_when

pytestmark = SHARED
IDLE_SECONDS = 60
gateway = shared_gateway(
    f"""
[sessions]
idle_timeout_seconds = {IDLE_SECONDS}
sweep_interval_seconds = 0.1
park_after_seconds = 0
""",
    agents={"asks": "asks_permission"},
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parking(tmp_path_factory: Any) -> AsyncIterator[RunningGateway]:
    """A gateway that parks idle workers after half a second."""
    agents = {
        "loads": "replays_on_load",
        "resumes": "resumes",
        "forgets": "refuses_to_load",
        "plain": "echoes",
    }
    config = "[sessions]\npark_after_seconds = 0.5\n"
    directory = tmp_path_factory.mktemp("parking")
    async with gateway_inside(directory, config=config, agents=agents) as running:
        yield running


def said(state: Any) -> list[str]:
    return [message["content"] for message in state["messages"] if message["sender"] == "agent"]


def last_seq(frames: list[Frame]) -> int:
    return max(int(frame.id) for frame in frames if frame.id is not None)


async def until_reaped(gateway: GatewayInside, stream: StreamReader) -> Frame:
    gateway.clock.advance(IDLE_SECONDS + 1)
    return await has_closed(stream)


async def has_closed(stream: StreamReader) -> Frame:
    return await stream.until(lambda f: f.event == "session_state" and f.data["state"] == "closed")


async def has_left(gateway: GatewayInside, session_id: str) -> bool:
    """Whether a reaped session is out of the map."""
    return bool((await gateway.get(f"/api/sessions/{session_id}"))["state"] == "parked")


async def test_an_open_stream_does_not_keep_a_session_alive(gateway: GatewayInside) -> None:
    session_id = fresh_id("reaped")
    async with (
        open_stream(gateway.http, session_id, view="state") as states,
        open_stream(gateway.http, session_id) as events,
    ):
        await states.next()
        await gateway.chat(session_id, "/echo hello")
        closed = await until_reaped(gateway, events)
        assert closed.data["reason"] == "idle"
        await eventually(lambda: has_left(gateway, session_id))
        assert events.response.connection is not None, "the stream stays open"


async def test_a_reaped_session_shows_its_messages_and_spawns_nothing(gateway: GatewayInside) -> None:
    session_id = fresh_id("shelf")
    async with open_stream(gateway.http, session_id) as events:
        before = await gateway.chat(session_id, "/echo kept")
        await until_reaped(gateway, events)
    await eventually(lambda: has_left(gateway, session_id))
    count, workers = await gateway.count(), len(gateway.workers())
    state = await gateway.state(session_id)
    assert (state["messages"], state["ended"]) == (before["messages"], None)
    assert state["seq"] >= before["seq"]
    async with open_stream(gateway.http, session_id, view="state") as states:
        first = await states.next()
        assert first is not None
        assert first.data == state
    async with open_stream(gateway.http, session_id, after=0) as events:
        assert (await events.until_event("text_delta")).data["text"] == "kept"
    answer = await gateway.post("/api/interrupt", {"session_id": session_id})
    assert answer["messages"] == before["messages"]
    async with gateway.http.get(f"/api/sessions/{session_id}/export") as response:
        assert "kept" in await response.text()
    listed = await gateway.get(f"/api/sessions/{session_id}")
    assert (listed["state"], listed["messages"], listed["title"]) == ("parked", 2, "/echo kept")
    assert (await gateway.count(), len(gateway.workers())) == (count, workers)


async def test_a_reaped_session_revives_its_numbers_go_on_and_its_streams_carry_it(
    gateway: GatewayInside,
) -> None:
    session_id = fresh_id("revived")
    async with (
        open_stream(gateway.http, session_id) as events,
        open_stream(gateway.http, session_id, view="state") as states,
    ):
        await gateway.chat(session_id, "/echo one")
        await until_reaped(gateway, events)
        seq = last_seq(events.frames)
        state = await gateway.chat(session_id, "/echo two")
        assert said(state) == ["one", "two"]
        delta = await events.until_event("text_delta")
        assert (delta.data["text"], int(delta.id or 0) > seq) == ("two", True)
        shown = await states.until(lambda f: f.data is not None and said(f.data) == ["one", "two"])
        assert shown.data["session_id"] == session_id
    frames = [frame for frame in events.frames if frame.id is not None]
    numbers = [int(frame.id or 0) for frame in frames]
    assert numbers == sorted(set(numbers))
    assert "resync" not in {frame.event for frame in frames}
    assert events.text == "onetwo"


async def test_a_cursor_from_before_the_reaping_resumes_without_gap(gateway: GatewayInside) -> None:
    session_id = fresh_id("cursor")
    async with open_stream(gateway.http, session_id) as events:
        await gateway.chat(session_id, "/echo one")
        cursor = last_seq([await events.until_event("text_delta")])
        await until_reaped(gateway, events)
    await gateway.chat(session_id, "/echo two")
    async with open_stream(gateway.http, session_id, after=cursor) as events:
        await events.until_event("text_delta")
    assert events.text == "two"
    assert "resync" not in {frame.event for frame in events.frames}


async def test_a_busy_session_is_never_reaped(gateway: GatewayInside) -> None:
    session_id, other = fresh_id("busy"), fresh_id("clock")
    async with open_stream(gateway.http, other) as others, open_stream(gateway.http, session_id) as events:
        await gateway.chat(other, "/echo tick")
        await gateway.send(session_id, counting(30, 0.5))
        await events.until_event("text_delta")
        await until_reaped(gateway, others)
    state = await state_when(gateway.http, session_id, lambda s: not s["is_processing"])
    assert said(state) == [" ".join(map(str, range(1, 31)))]


async def test_a_session_that_waits_for_its_user_is_never_reaped(gateway: GatewayInside) -> None:
    session_id = fresh_id("patient")
    await gateway.send(session_id, "go", agent="asks")
    state = await state_when(gateway.http, session_id, lambda s: s["pending_permission"] is not None)
    other = fresh_id("clock")
    async with open_stream(gateway.http, other) as events:
        await gateway.chat(other, "/echo tick")
        await until_reaped(gateway, events)
    pending = (await gateway.state(session_id))["pending_permission"]
    assert pending == state["pending_permission"]
    answer = {"permission_id": pending["permission_id"], "option_id": "allow_once"}
    await gateway.post(f"/api/sessions/{session_id}/permission", answer)
    state = await state_when(gateway.http, session_id, lambda s: not s["is_processing"])
    assert said(state) == ["deleted once"]


async def test_using_a_session_keeps_it(gateway: GatewayInside) -> None:
    session_id, other = fresh_id("used"), fresh_id("clock")
    async with open_stream(gateway.http, session_id) as events, open_stream(gateway.http, other) as others:
        await gateway.chat(other, "/echo tick")
        await gateway.chat(session_id, "/echo first")
        gateway.clock.advance(IDLE_SECONDS * 0.6)
        await gateway.chat(session_id, "/echo second")
        gateway.clock.advance(IDLE_SECONDS * 0.6)
        await has_closed(others)
        await gateway.chat(session_id, "/echo end")
        await events.until(lambda frame: frame.event == "text_delta" and "end" in frame.data["text"])
        states = [f.data["state"] for f in events.frames if f.event == "session_state"]
        assert "closed" not in states
        await until_reaped(gateway, events)
    assert [f.event for f in events.frames].count("agent_started") == 1


async def test_a_deleted_session_ends_its_streams_and_is_204_after(gateway: GatewayInside) -> None:
    session_id = fresh_id("deleted")
    await gateway.chat(session_id, "/echo secret words")
    async with (
        open_stream(gateway.http, session_id) as events,
        open_stream(gateway.http, session_id, view="state") as states,
    ):
        await gateway.delete(session_id)
        frames, shown = await events.to_end(), await states.to_end()
    assert (frames[-1].event, frames[-1].data["reason"]) == ("session_closed", "deleted")
    assert shown[-1].data["ended"]["reason"] == "deleted"
    for view in ("events", "state"):
        params = {"session_id": session_id, "view": view}
        headers = {"Last-Event-ID": str(frames[-1].id)}
        async with gateway.http.get("/api/chat/stream", params=params, headers=headers) as response:
            assert response.status == 204
    state = await gateway.state(session_id)
    assert (state["messages"], state["ended"]["reason"]) == ([], "deleted")
    assert state["ended"]["at"].endswith("Z")
    assert state["seq"] == last_seq(frames)
    assert "secret" not in str(state)
    async with gateway.http.get(f"/api/sessions/{session_id}") as response:
        assert response.status == 404


async def test_an_id_made_anew_is_empty_and_goes_on_above_the_old_numbers(gateway: GatewayInside) -> None:
    session_id = fresh_id("anew")
    await gateway.chat(session_id, "/echo old")
    await gateway.delete(session_id)
    seq = (await gateway.state(session_id))["seq"]
    async with open_stream(gateway.http, session_id, view="state") as states:
        first = await states.next()
        assert first is not None
        assert first.data["ended"]["reason"] == "deleted"
        state = await gateway.chat(session_id, "/echo new")
        shown = await states.until(lambda f: f.data is not None and said(f.data) == ["new"])
        assert shown.data["ended"] is None
    assert (said(state), state["ended"], state["seq"] > seq) == (["new"], None, True)
    async with open_stream(gateway.http, session_id, after=0) as events:
        frame = await events.until_event("text_delta")
        assert int(events.frames[1].id or 0) > seq
    assert frame.data["text"] == "new"


async def test_a_reaped_session_can_be_deleted(gateway: GatewayInside) -> None:
    session_id = fresh_id("both")
    async with open_stream(gateway.http, session_id) as events:
        await gateway.chat(session_id, "/echo hi")
        await until_reaped(gateway, events)
        assert (await gateway.delete(session_id))["receipt"]["survivors"] == 0
        assert (await events.to_end())[-1].event == "session_closed"
    assert (await gateway.state(session_id))["ended"]["reason"] == "deleted"


async def test_a_chat_in_the_moment_of_a_deletion_is_answered_by_one_life_or_the_next(
    gateway: GatewayInside,
) -> None:
    for _ in range(5):
        session_id = fresh_id("moment")
        await gateway.chat(session_id, "/echo old")
        _, state = await asyncio.gather(gateway.delete(session_id), gateway.chat(session_id, "/echo new"))
        assert state["is_processing"] is False


async def parked(gateway: RunningGateway, session_id: str) -> None:
    """Waits until the session's worker has been let go."""
    async with open_stream(gateway.http, session_id, after=0) as events:
        ended = await events.until_event("worker_ended")
        assert (ended.data["reason"], ended.data["survivors"]) == ("parked", 0)
        await events.until(lambda f: f.event == "session_state" and f.data["state"] == "parked")


async def how_it_came_back(gateway: RunningGateway, session_id: str) -> list[str]:
    async with gateway.http.get(f"/api/sessions/{session_id}/export") as response:
        lines = (await response.text()).splitlines()
    return [line.split('"how":"')[1].split('"')[0] for line in lines if '"how":"' in line]


async def test_an_idle_worker_is_parked_and_the_next_message_brings_its_memory_back(
    parking: RunningGateway,
) -> None:
    session_id = fresh_id("parked")
    before = await parking.chat(session_id, "/echo one")
    await parked(parking, session_id)
    assert await parking.get("/api/sessions/count") != {"active_sessions": 0}
    state = await parking.state(session_id)
    assert (state["messages"], state["readiness"]["phase"]) == (before["messages"], "ready")
    assert said(await parking.chat(session_id, "/echo two")) == ["one", "two"]
    assert await how_it_came_back(parking, session_id) == ["new", "transcript"]


async def test_agents_come_back_by_load_or_resume_and_their_replay_is_not_said_twice(
    parking: RunningGateway,
) -> None:
    for agent, how in (("loads", "loaded"), ("resumes", "resumed"), ("forgets", "transcript")):
        session_id = fresh_id(agent)
        await parking.post("/api/sessions", {"session_id": session_id, "agent": agent}, status=201)
        await parking.chat(session_id, "one")
        await parked(parking, session_id)
        state = await parking.chat(session_id, "two")
        assert len(said(state)) == 2
        assert said(state)[1].endswith("two") or agent == "forgets"
        assert "earlier answer" not in str(state)
        assert await how_it_came_back(parking, session_id) == ["new", how]


async def test_an_agent_that_cannot_come_back_keeps_its_worker(parking: RunningGateway) -> None:
    plain, other = fresh_id("plain"), fresh_id("clock")
    await parking.send(plain, "one", agent="plain")
    await parking.chat(other, "/echo tick")
    await parked(parking, other)
    assert (await parking.get(f"/api/sessions/{plain}"))["state"] == "idle"


async def test_the_files_of_a_session_outlive_its_worker_and_end_with_it(parking: RunningGateway) -> None:
    session_id = fresh_id("files")
    note = '/tool write_file {"path": "note.txt", "content": "remember me"}'
    await parking.send(session_id, note)
    state = await state_when(parking.http, session_id, lambda s: s["pending_permission"] is not None)
    answer = {"permission_id": state["pending_permission"]["permission_id"], "option_id": "allow_once"}
    await parking.post(f"/api/sessions/{session_id}/permission", answer)
    await state_when(parking.http, session_id, lambda s: not s["is_processing"])
    files = list(pathlib.Path(parking.data_path).glob("sessions/*/work/note.txt"))
    assert [path.read_text() for path in files] == ["remember me"]
    assert session_id not in str(files[0])
    await parked(parking, session_id)
    state = await parking.chat(session_id, '/tool read_file {"path": "note.txt"}')
    assert "remember me" in said(state)[-1]
    await parking.delete(session_id)
    assert not files[0].parent.parent.exists()


async def test_the_list_shows_own_sessions_last_active_first(parking: RunningGateway) -> None:
    older, newer = fresh_id("list"), fresh_id("list")
    await parking.chat(older, "/echo a")
    await parking.chat(newer, "/echo b")
    async with parking.http.patch(f"/api/sessions/{older}", json={"title": "Renamed"}) as response:
        assert response.status == 200
    listed = (await parking.get("/api/sessions"))["sessions"]
    assert [(s["session_id"], s["title"]) for s in listed][:2] == [(older, "Renamed"), (newer, "/echo b")]
    assert len((await parking.get("/api/sessions", limit=1))["sessions"]) == 1
    async with aiohttp.ClientSession(parking.url) as http:
        async with http.get("/api/sessions", params={"limit": "0"}) as response:
            assert response.status == 422


@pytest.mark.parametrize("how", ["deleted", "killed"])
async def test_a_session_that_has_to_end_while_a_turn_waits_for_its_files_ends(
    gateway: GatewayInside, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Its agent, which would ask a question and wait for ever, hears nothing of that turn."""
    session_id, waits, may_go_on = fresh_id("early"), asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        waits.set()
        await may_go_on.wait()

    await gateway.send(session_id, "go", agent="asks")
    await state_when(gateway.http, session_id, lambda state: state["pending_permission"] is not None)
    await gateway.post("/api/interrupt", {"session_id": session_id})
    session = gateway.session(session_id)
    monkeypatch.setattr(session.files, "before_turn", hold)
    async with open_stream(gateway.http, session_id) as stream:
        await gateway.send(session_id, "go on")
        await soon(waits.wait(), 10)
        ending = asyncio.ensure_future(gateway.delete(session_id) if how == "deleted" else session.kill())
        await eventually(lambda: _is_to_end(session))
        may_go_on.set()
        await soon(ending, 10)
        await stream.until_event("worker_ended")
    assert [frame.event for frame in stream.frames].count("permission_asked") == 1
    assert session.is_ending is (how == "deleted")


async def _is_to_end(session: Session) -> bool:
    return session._seat.wish >= Wish.KILL
