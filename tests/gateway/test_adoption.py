"""Signing in takes along what a visitor made: what was open for the visitor ends before it shows more."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any, Final

import aiohttp
import pytest

from gateway.api.sessions import _jsonl
from gateway.events import facts as ev
from gateway.events.fold import ChatState, Outside
from gateway.sessions.log import EventLog
from gateway.sessions.reader import Shelf
from gateway.stores.contract import SessionRecord
from gateway.stores.memory.logs import MemoryLogs
from tests.gateways import RunningGateway
from tests.patience import soon
from tests.shared import SHARED, ask, fresh_id, shared_gateway
from tests.streams import StreamReader, open_stream

pytestmark = SHARED

CONFIG = '[auth]\nmodes = ["anonymous", "keys"]\n[visitors]\ncommands = true\n[tenants.acme]\n'
TELLS: Final[Any] = {
    "new": {"result": {"modes": {"currentModeId": "ask", "availableModes": [{"id": "ask"}, {"id": "plan"}]}}},
    "turns": [[{"say": "$OPTIONS"}]],
    "repeat": True,
}
gateway = shared_gateway(CONFIG, agents={"asking": "asks_permission", "tells": TELLS})


async def say(http: aiohttp.ClientSession, name: str, text: str) -> Any:
    """A whole turn of the built-in agent; State."""
    answer = await ask(http, "POST", "/api/chat?wait=240", {"session_id": name, "message": f"/echo {text}"})
    assert answer.status == 200, answer.body
    return answer.body


async def sign_in(gateway: RunningGateway, http: aiohttp.ClientSession, **body: Any) -> None:
    """Signs a browser in as somebody new."""
    key = await gateway.mint(fresh_id("ann"), tenant="acme")
    answer = await ask(http, "POST", "/api/auth/sign-in", {"key": key, **body})
    assert answer.status == 200, answer.body


def cookies_of(http: aiohttp.ClientSession) -> dict[str, str]:
    """What this browser would send: for a client that keeps it whatever comes."""
    return {"Cookie": "; ".join(f"{cookie.key}={cookie.value}" for cookie in http.cookie_jar)}


def seqs_of(stream: StreamReader) -> list[int]:
    return [int(frame.id) for frame in stream.frames if frame.id]


async def test_open_streams_end_before_they_show_what_the_person_says(gateway: RunningGateway) -> None:
    name = fresh_id()
    origin = {"Origin": gateway.url}
    async with AsyncExitStack() as stack:
        browser = await stack.enter_async_context(gateway.caller(**origin))
        stranger = await stack.enter_async_context(gateway.caller())
        await say(browser, name, "before")
        kept = cookies_of(browser)
        share = (await ask(browser, "POST", f"/api/sessions/{name}/shares", {})).body
        shared = f"/api/shared/{share['token']}/stream"
        opened = [
            (None, "events", kept, "/api/chat/stream"),
            (name, "events", kept, "/api/chat/stream"),
            (name, "state", kept, "/api/chat/stream"),
            (None, "state", kept, "/api/chat/stream"),
            (fresh_id("not-there"), "events", kept, "/api/chat/stream"),
            (None, "events", {}, shared),
            (None, "state", {}, shared),
        ]
        streams = []
        for session_id, view, headers, path in opened:
            stream = await stack.enter_async_context(
                open_stream(stranger, session_id, view=view, headers=headers, path=path)
            )
            await stream.next()
            streams.append(stream)
        assert (await ask(browser, "GET", "/api/auth")).body["shared_links"] == 1
        await sign_in(gateway, browser)
        state = await say(browser, name, "SECRET")
        assert [m["content"] for m in state["messages"]][1::2] == ["before", "SECRET"]
        for stream, (_, view, _, _) in zip(streams, opened, strict=True):
            frames = await stream.to_end(seconds=5)
            assert "SECRET" not in str(frames)
            assert frames[-1].event == ("moved" if view == "events" else ":")
            assert frames[-1].id is None
        assert (await ask(stranger, "GET", f"/api/shared/{share['token']}")).status == 404
        assert (await ask(browser, "GET", f"/api/sessions/{name}/shares")).body == {"shares": []}
        again = await ask(stranger, "GET", f"/api/state?session_id={name}", headers=kept)
        assert again.body["messages"] == []


async def test_what_a_visitor_chose_of_an_agent_is_chosen_after_the_sign_in(gateway: RunningGateway) -> None:
    first, second = fresh_id(), fresh_id()
    async with gateway.caller(Origin=gateway.url) as browser:
        path, turn = "/api/chat?wait=240", {"session_id": first, "message": "go", "agent": "tells"}
        assert (await ask(browser, "POST", path, turn)).body["options"] == {"mode": "ask"}
        chosen = {"option_id": "mode", "value": "plan"}
        assert (await ask(browser, "POST", f"/api/sessions/{first}/options", chosen)).status == 200
        await sign_in(gateway, browser)
        made = {"session_id": second, "agent": "tells"}
        assert (await ask(browser, "POST", "/api/sessions", made)).status == 201
        listed = (await ask(browser, "GET", f"/api/sessions/{second}/options")).body["options"]
        assert [option["value"] for option in listed] == ["plan"], "before its agent has started"
        state = (await ask(browser, "POST", path, turn | {"session_id": second})).body
        assert state["messages"][-1]["content"] == '{"mode":"plan"}'


async def test_who_signed_in_goes_on_from_the_cursor_without_loss_or_repeat(gateway: RunningGateway) -> None:
    name = fresh_id()
    async with gateway.caller(Origin=gateway.url) as browser:
        await say(browser, name, "one")
        async with open_stream(browser, name) as first:
            await first.until_event("turn_ended")
            await sign_in(gateway, browser)
            await first.to_end(seconds=5)
        cursor = max(seqs_of(first))
        assert first.frames[-1].data == {"seq": cursor, "type": "moved"}
        await say(browser, name, "two")
        headers = {"Last-Event-ID": str(cursor)}
        async with (
            open_stream(browser, name, headers=headers) as second,
            open_stream(browser, name) as whole,
        ):
            for stream in (second, whole):
                await stream.until(lambda frame: frame.event == "text_delta" and frame.data["text"] == "two")
                await stream.until_event("turn_ended")
        both = seqs_of(first) + seqs_of(second)
        assert both == sorted(set(both))
        assert both == seqs_of(whole)


async def test_links_are_kept_by_choice_and_their_readers_go_on(gateway: RunningGateway) -> None:
    name = fresh_id()
    async with gateway.caller(Origin=gateway.url) as browser, gateway.caller() as reader:
        await say(browser, name, "before")
        share = (await ask(browser, "POST", f"/api/sessions/{name}/shares", {})).body
        shared = f"/api/shared/{share['token']}/stream"
        async with open_stream(reader, None, path=shared) as first:
            await first.until_event("turn_ended")
            await sign_in(gateway, browser, keep_shares=True)
            await first.to_end(seconds=5)
        async with open_stream(reader, None, path=shared, after=max(seqs_of(first))) as second:
            await say(browser, name, "after")
            await second.until_event("turn_ended")
            assert second.text == "after"
        listed = (await ask(browser, "GET", f"/api/sessions/{name}/shares")).body["shares"]
        assert [one["share_id"] for one in listed] == [share["share_id"]]


@pytest.mark.parametrize("keeps", [False, True])
async def test_a_claimed_link_takes_the_choice_as_well(gateway: RunningGateway, keeps: bool) -> None:
    origin = {"Origin": gateway.url}
    async with gateway.caller(**origin) as old, gateway.caller(**origin) as new:
        name = fresh_id()
        await say(old, fresh_id(), "elsewhere")
        await say(new, name, "here")
        share = (await ask(new, "POST", f"/api/sessions/{name}/shares", {})).body
        token = (await ask(old, "POST", "/api/auth/handover", {})).body["token"]
        body = {"token": token, "keep_shares": keeps}
        assert (await ask(new, "POST", "/api/auth/handover/claim", body)).status == 200
        status = (await ask(old, "GET", f"/api/shared/{share['token']}")).status
        assert status == (200 if keeps else 404)


async def test_an_answer_that_a_visitor_waits_for_is_not_the_persons(gateway: RunningGateway) -> None:
    name = fresh_id()
    async with gateway.caller(Origin=gateway.url) as browser, gateway.caller() as waiting:
        said = {"session_id": name, "message": "go", "agent": "asking"}
        me = (await ask(browser, "GET", "/api/me")).body
        headers = {**cookies_of(browser), "X-CSRF-Token": me["csrf_token"]}
        answer = asyncio.ensure_future(ask(waiting, "POST", "/api/chat?wait=240", said, headers=headers))
        async with open_stream(browser, name) as stream:
            asked = await stream.until_event("permission_asked")
        await sign_in(gateway, browser)
        chosen = {
            "permission_id": asked.data["permission_id"],
            "option_id": asked.data["options"][0]["option_id"],
        }
        done = await ask(browser, "POST", f"/api/sessions/{name}/permission", chosen)
        assert done.status == 200, done.body
        late = await soon(answer, 20)
        assert (late.status, late.body["messages"]) == (200, [])
        state = (await ask(browser, "GET", f"/api/state?session_id={name}")).body
        assert len(state["messages"]) == 2


async def test_an_export_ends_where_the_log_stood_when_it_began() -> None:
    store = MemoryLogs(max_events=100, max_bytes=100_000)
    log = EventLog(
        "key",
        store=store,
        wall_ms=lambda: 1,
        max_events=100,
        max_bytes=100_000,
    )
    await log.load()
    log.append(ev.TextDelta("m", "t", "before"))
    record = SessionRecord(key="key", owner="o", session_id="s", agent="a", created_at=1, last_active_at=1)
    lines = _jsonl(Shelf(record, ChatState("s"), log, Outside()), log.visible_seq)
    log.append(ev.TextDelta("m", "t", "SECRET"))
    written = b"".join([part async for part in lines])
    assert b"before" in written
    assert b"SECRET" not in written
    log.close()
