"""Less than everything: verbs that answer little, the last messages of a conversation, paging back."""

from __future__ import annotations

from typing import Any, Final

import pytest

from gateway.events.lifecycle import CloseReason
from tests.gateways import RunningGateway
from tests.inside import GatewayInside
from tests.shared import SHARED, ask, fresh_id, shared_gateway
from tests.streams import Frame, open_stream

pytestmark = SHARED
gateway = shared_gateway(agents={"all": "thinks_plans_tools"})

MINIMAL: Final = {"Prefer": "respond-async, return=minimal; foo"}
FIELDS: Final = {"session_id", "seq", "is_processing", "queued", "start_position", "missing_api_key"}


async def talked(gateway: RunningGateway, turns: int) -> str:
    """A conversation of so many turns, two messages each."""
    session_id = fresh_id("talked")
    for number in range(turns):
        await gateway.chat(session_id, f"/echo answer {number}")
    return session_id


def contents(state: Any) -> list[str]:
    return [message["content"] for message in state["messages"]]


# -- Prefer: return=minimal -------------------------------------------------------------------------------


async def test_who_prefers_little_gets_where_the_session_is(gateway: RunningGateway) -> None:
    session_id = fresh_id("little")
    for path, body in (
        ("/api/interrupt", {}),
        ("/api/chat?wait=20", {"message": "/echo hi"}),
        ("/api/system", {"message": "noted"}),
        ("/api/interrupt", {}),
    ):
        answer = await ask(gateway.http, "POST", path, {"session_id": session_id, **body}, headers=MINIMAL)
        assert answer.status == 200
        assert answer.headers["Preference-Applied"] == "return=minimal"
        assert set(answer.body) == FIELDS
        state = await gateway.state(session_id)
        assert {name: answer.body[name] for name in FIELDS} == {name: state[name] for name in FIELDS}
    assert contents(state) == ["/echo hi", "hi", "noted"]


async def test_a_session_that_is_not_in_memory_says_what_its_own_agent_lacks(gateway: GatewayInside) -> None:
    for agent, lacks in (("all", False), ("built-in", True)):
        session_id = fresh_id("stored")
        await gateway.post("/api/sessions", {"session_id": session_id, "agent": agent}, status=201)
        await gateway.inner.manager.close_all("default/local", CloseReason.IDLE)
        answer = await gateway.post("/api/interrupt", {"session_id": session_id}, headers=MINIMAL)
        state = await gateway.state(session_id)
        assert (answer["missing_api_key"], state["missing_api_key"]) == (lacks, lacks)


@pytest.mark.parametrize("prefer", ["return=representation, return=minimal", "return=minimalist", "x", ""])
async def test_who_prefers_something_else_gets_state(gateway: RunningGateway, prefer: str) -> None:
    body = {"session_id": fresh_id("whole"), "message": "hello"}
    answer = await ask(gateway.http, "POST", "/api/system", body, headers={"Prefer": prefer})
    assert answer.body["res"]["content"] == "hello"
    assert "Preference-Applied" not in answer.headers


async def test_pages_of_other_origins_may_prefer_it_too(gateway: RunningGateway) -> None:
    headers = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    answer = await ask(gateway.http, "OPTIONS", "/api/chat", headers=headers)
    assert "Prefer" in answer.headers["Access-Control-Allow-Headers"].split(", ")


async def test_by_a_link_too(gateway: RunningGateway) -> None:
    session_id = await talked(gateway, 4)
    share = await gateway.post(f"/api/sessions/{session_id}/shares", {"kind": "drive"}, status=201)
    path, who = f"/api/shared/{share['token']}", "guest=aaaaaaaaaaaaaaaaaaaa&name=Ann"
    said = await ask(gateway.http, "POST", f"{path}/chat?{who}", {"message": "/echo by Ann"}, headers=MINIMAL)
    assert set(said.body) == FIELDS
    shown = (await ask(gateway.http, "GET", f"{path}?last=3")).body
    assert (shown["earlier"], len(shown["messages"])) == (7, 3)
    page = (await ask(gateway.http, "GET", f"{path}/history?last=2&before=7")).body
    assert [item["text"] for item in page["items"] if item["kind"] == "message"] == [
        "answer 2",
        "/echo answer 3",
    ]
    async with open_stream(gateway.http, session_id, path=f"{path}/stream?view=events&last=2") as stream:
        frame = await stream.until_event("resync")
    assert frame.data["chat"]["earlier"] == 8
    assert "spending" not in frame.data["chat"]["usage"]


# -- ?last=N ----------------------------------------------------------------------------------------------


async def test_the_last_messages_and_those_before_them(gateway: RunningGateway) -> None:
    session_id = await talked(gateway, 5)
    whole = await gateway.state(session_id)
    last = await gateway.get("/api/state", session_id=session_id, last="3")
    assert {**last, "messages": whole["messages"]} == {**whole, "earlier": 7}
    before = await gateway.get("/api/state", session_id=session_id, last="100", before=str(last["earlier"]))
    assert contents(before) + contents(last) == contents(whole)
    assert before["earlier"] == 0
    absent = await gateway.get("/api/state", session_id=fresh_id("absent"), last="3")
    assert (absent["messages"], absent["earlier"]) == ([], 0)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("last=1001", "last is a whole number from 0 to 1000."),
        ("last=-1", "last is a whole number from 0 to 1000."),
        ("last=some", "last is a whole number from 0 to 1000."),
        ("last=3&before=x", "before is a whole number from 0 to 1000000000."),
        ("before=3", "before wants last, too: how many messages."),
    ],
)
async def test_what_cannot_be_asked_for_is_said(gateway: RunningGateway, query: str, words: str) -> None:
    for path in ("/api/state", "/api/chat/stream", "/api/sessions/x/history"):
        answer = await ask(gateway.http, "GET", f"{path}?session_id=x&{query}")
        assert (answer.status, answer.body["error"]["message"]) == (422, words)
    async with gateway.http.get("/api/chat/stream?last=3&before=9") as response:
        assert response.status == 422


async def test_a_stream_begins_with_the_last_messages_and_goes_on_by_cursor(gateway: RunningGateway) -> None:
    session_id = await talked(gateway, 5)
    whole = await gateway.state(session_id)
    async with open_stream(gateway.http, session_id, last="3") as stream:
        frame = await stream.until_event("resync")
        assert frame.data["seq"] == int(frame.id or 0) == whole["seq"]
        assert frame.data["state"]["messages"] == whole["messages"][-3:]
        chat = frame.data["chat"]
        assert (chat["earlier"], chat["apart"]) == (7, 0)
        messages = [item for item in chat["items"] if item["kind"] == "message"]
        assert [item["index"] for item in messages] == [7, 8, 9]
        await gateway.send(session_id, "/echo more")
        delta = await stream.until_event("text_delta")
    async with open_stream(
        gateway.http, session_id, last="3", headers={"Last-Event-ID": delta.id or ""}
    ) as again:
        await again.until_event("turn_ended")
    assert [f.event for f in stream.frames if f.id is not None].count("resync") == 1
    assert "resync" not in [f.event for f in again.frames]
    async with open_stream(gateway.http, session_id, after=str(whole["seq"])) as tail:
        await tail.until_event("turn_ended")
    told = [f.id for f in [*stream.frames, *again.frames] if f.id is not None]
    assert told[1:] == [f.id for f in tail.frames if f.id is not None], "each event once"


async def test_a_stream_of_events_that_prefers_little_says_nothing_twice(gateway: RunningGateway) -> None:
    session_id = await talked(gateway, 4)
    async with open_stream(gateway.http, session_id, last="6") as stream:
        whole = (await stream.until_event("resync")).data
    async with open_stream(gateway.http, session_id, last="6", headers=MINIMAL) as stream:
        brief = (await stream.until_event("resync")).data
    assert brief["chat"] == whole["chat"]
    assert set(brief["state"]) == FIELDS
    assert brief["state"] == {name: whole["state"][name] for name in FIELDS}
    async with open_stream(gateway.http, session_id, view="state", last="6", headers=MINIMAL) as states:
        assert contents((await first(states)).data) == contents(whole["state"])


async def test_an_unknown_cursor_gets_the_last_messages(gateway: RunningGateway) -> None:
    session_id = await talked(gateway, 3)
    async with open_stream(gateway.http, session_id, last="1", after="999999999") as stream:
        frame = await stream.until_event("resync")
    assert frame.data["chat"]["earlier"] == 5


async def test_a_stream_of_the_last_messages_waits_for_a_session(gateway: RunningGateway) -> None:
    session_id = fresh_id("coming")
    async with (
        open_stream(gateway.http, session_id, last="1") as events,
        open_stream(gateway.http, session_id, last="1", view="state") as states,
    ):
        assert (await first(states)).data["earlier"] == 0
        await gateway.send(session_id, "/echo here")
        await events.until(lambda f: f.event == "session_state" and f.data["state"] == "idle")
        last = await states.until(
            lambda f: bool(f.data["messages"]) and not f.data["is_processing"] and f.data["earlier"] == 1
        )
    assert contents(last.data) == ["here"]
    assert events.text == "here" or events.frames[1].event == "resync"


async def first(stream: Any) -> Frame:
    frame = await stream.next()
    assert isinstance(frame, Frame)
    return frame


async def test_history_has_what_was_done_between_the_messages(gateway: RunningGateway) -> None:
    session_id = fresh_id("done")
    await gateway.post("/api/sessions", {"session_id": session_id, "agent": "all"}, status=201)
    await gateway.chat(session_id, "go")
    await gateway.chat(session_id, "again")
    async with open_stream(gateway.http, session_id, after="999999999") as stream:
        whole = (await stream.until_event("resync")).data["chat"]["items"]
    path = f"/api/sessions/{session_id}/history"
    seen: list[Any] = []
    before: int | None = None
    while before != 0:
        page = await gateway.get(path, last="2", **({} if before is None else {"before": str(before)}))
        assert set(page) == {"session_id", "seq", "earlier", "items"}
        seen, before = page["items"] + seen, page["earlier"]
    assert seen == whole
    assert {item["kind"] for item in seen} >= {"message", "thought", "tool_call", "plan"}
    assert (await ask(gateway.http, "GET", "/api/sessions/nobody/history")).status == 404
