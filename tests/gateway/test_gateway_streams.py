"""Streams: State whole and unnamed, the log by cursor, resuming, late and early readers, heartbeats."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from typing import Any

import pytest

from tests.gateways import RunningGateway
from tests.patience import counting
from tests.shared import SHARED, crowding, eventually, fresh_id, shared_gateway
from tests.streams import Frame, StreamReader, open_stream

pytestmark = SHARED
gateway = shared_gateway(
    "[limits]\nwaiting_streams_per_owner = 5\nevents_per_session = 200",
    agents={"fast": "streams_fast", "all": "thinks_plans_tools"},
)


def seqs(frames: list[Frame]) -> list[int]:
    return [int(frame.id) for frame in frames if frame.id is not None]


async def idle(stream: StreamReader) -> Frame:
    """Reads up to the end of a turn's last event."""
    await stream.until_event("turn_ended")
    return await stream.until(lambda f: f.event == "session_state" and f.data["state"] == "idle")


async def test_state_frames_are_unnamed_whole_and_the_first_comes_at_once(gateway: RunningGateway) -> None:
    session_id = fresh_id("state")
    await gateway.chat(session_id, "/echo hello")
    began = time.monotonic()
    async with open_stream(gateway.http, session_id, view="state") as stream:
        first = await stream.next()
        assert time.monotonic() - began < 1 * crowding()
        assert first is not None
        assert first.event == "message", "an unnamed event is what onmessage hears"
        assert first.data == await gateway.state(session_id)
        assert stream.response.headers["Content-Type"].startswith("text/event-stream")
        assert stream.response.headers["X-Accel-Buffering"] == "no"
        assert stream.response.headers["Cache-Control"] == "no-store"


async def test_state_frames_are_merged_to_about_ten_a_second(gateway: RunningGateway) -> None:
    session_id = fresh_id("merged")
    await gateway.chat(session_id, "/echo warm")
    async with open_stream(gateway.http, session_id, view="state") as stream:
        await stream.next()
        began = time.monotonic()
        await gateway.send(session_id, "/count 200 5")
        last = await stream.until(
            lambda f: not f.data["is_processing"] and f.data["messages"][-1]["content"].endswith("200")
        )
        seconds = time.monotonic() - began
    assert 2 < len(stream.frames) <= seconds * 11 + 3
    lengths = [len(f.data["messages"][-1]["content"]) for f in stream.frames if len(f.data["messages"]) == 4]
    assert lengths == sorted(lengths), "text only ever grows"
    assert last.data["messages"][-1]["content"] == " ".join(map(str, range(1, 201)))


async def test_the_first_word_of_an_answer_waits_for_no_interval(gateway: RunningGateway) -> None:
    """The best of several turns: a busy machine makes one late, never one early."""
    session_id = fresh_id("first-word")
    await gateway.chat(session_id, "/echo warm")
    delays = []
    async with open_stream(gateway.http, session_id, view="state") as stream:
        await stream.next()
        for number in range(round(8 * crowding())):
            began = time.monotonic()
            await gateway.send(session_id, f"/echo {number} is said")
            await stream.until(functools.partial(begins, f"{number} "))
            delays.append(time.monotonic() - began)
            if (await gateway.state(session_id))["is_processing"]:
                await stream.until(lambda frame: frame.data is not None and not frame.data["is_processing"])
    assert min(delays) < 0.09, delays


def begins(word: str, frame: Frame) -> bool:
    """Whether the last message of the agent in a State begins so."""
    messages = frame.data["messages"] if frame.data is not None else []
    return next((m["content"] for m in reversed(messages) if m["sender"] == "agent"), "").startswith(word)


async def test_the_log_has_ids_that_grow_and_every_event_of_a_turn(gateway: RunningGateway) -> None:
    session_id = fresh_id("log")
    await gateway.post("/api/sessions", {"session_id": session_id, "agent": "all"}, status=201)
    async with open_stream(gateway.http, session_id) as stream:
        await gateway.send(session_id, "go")
        await idle(stream)
    frames = [frame for frame in stream.frames if frame.id is not None]
    assert seqs(frames) == sorted(set(seqs(frames)))
    for frame in frames:
        assert (frame.data["type"], str(frame.data["seq"])) == (frame.event, frame.id)
        assert frame.data["at"].endswith("Z")
    kinds = {frame.event for frame in frames}
    assert kinds >= {
        *("session_created", "message", "turn_started", "session_state", "agent_started", "thought_delta"),
        *("plan", "text_delta", "tool_call", "usage", "session_info", "turn_ended"),
    }
    ids = {frame.data["message_id"] for frame in frames if frame.event == "text_delta"}
    assert len(ids) == 2, "a tool call ends the message"


@pytest.mark.parametrize("how", ["Last-Event-ID", "after"])
async def test_a_reader_resumes_without_gap_and_without_repeat(gateway: RunningGateway, how: str) -> None:
    session_id = fresh_id("resume")
    await gateway.send(session_id, counting(40, 0.8))
    seen: list[Frame] = []
    for part in range(4):
        cursor = seen[-1].id if seen else "0"
        given: dict[str, Any] = {"headers": {how: cursor}} if how == "Last-Event-ID" else {"after": cursor}
        async with open_stream(gateway.http, session_id, **given) as stream:
            if part == 3:
                await idle(stream)
            else:
                await stream.until_event("text_delta")
                await stream.until_event("text_delta")
        seen += [frame for frame in stream.frames if frame.id is not None]
    assert seqs(seen) == sorted(set(seqs(seen)))
    text = "".join(frame.data["text"] for frame in seen if frame.event == "text_delta")
    assert text == " ".join(map(str, range(1, 41)))
    async with open_stream(gateway.http, session_id, after=0) as whole:
        await idle(whole)
    assert [f.event for f in seen if f.event != "text_delta"] == [
        f.event for f in whole.frames if f.event not in ("text_delta", "retry")
    ]


async def test_two_readers_see_the_same(gateway: RunningGateway) -> None:
    session_id = fresh_id("two")
    async with (
        open_stream(gateway.http, session_id) as one,
        open_stream(gateway.http, session_id) as two,
    ):
        await gateway.send(session_id, "/count 20 5")
        await asyncio.gather(idle(one), idle(two))
    assert one.text == two.text == " ".join(map(str, range(1, 21)))
    assert seqs(one.frames)[-1] == seqs(two.frames)[-1]


@pytest.mark.parametrize("cursor", ["999999999", "123456789012345", "garbage", "-1", "1.5", "9" * 40])
async def test_an_unknown_cursor_gets_one_resync_and_goes_on_from_there(
    gateway: RunningGateway, cursor: str
) -> None:
    session_id = fresh_id("resync")
    state = await gateway.chat(session_id, "/echo before")
    async with open_stream(gateway.http, session_id, headers={"Last-Event-ID": cursor}) as stream:
        frame = await stream.until_event("resync")
        assert frame.data["state"] == state
        assert frame.data["seq"] == int(frame.id or 0) == state["seq"]
        assert frame.data["chat"]["items"]
        await gateway.send(session_id, "/echo after")
        await idle(stream)
    assert [f.event for f in stream.frames].count("resync") == 1
    assert stream.text == "after"
    assert all(seq > state["seq"] for seq in seqs(stream.frames)[1:])


async def test_a_cursor_that_is_no_longer_kept_is_served_or_resynced_never_skipped(
    gateway: RunningGateway,
) -> None:
    session_id = fresh_id("old")
    await gateway.post("/api/sessions", {"session_id": session_id, "agent": "fast"}, status=201)
    await gateway.send(session_id, "go")
    async with open_stream(gateway.http, session_id, after=0) as stream:
        await stream.until(
            lambda f: (
                f.event == "turn_ended" or (f.event == "resync" and not f.data["state"]["is_processing"])
            )
        )
    await gateway.chat(session_id, "again")
    whole = " ".join(str(number) for number in range(1, 2001))
    async with open_stream(gateway.http, session_id, after=1) as late:
        await late.until(lambda f: f.event in ("turn_ended", "resync"))
    state = await gateway.state(session_id)
    answers = [m["content"].strip() for m in state["messages"] if m["sender"] == "agent"]
    assert answers == [whole, whole]
    if late.frames[-1].event == "resync":
        assert late.frames[-1].data["state"]["messages"] == state["messages"]
    else:
        assert late.text.strip() == whole


async def test_a_stream_that_was_open_before_its_session_comes_alive(gateway: RunningGateway) -> None:
    session_id = fresh_id("early")
    async with (
        open_stream(gateway.http, session_id, view="state") as states,
        open_stream(gateway.http, session_id) as events,
    ):
        first = await states.next()
        assert first is not None
        assert first.data["messages"] == []
        await gateway.send(session_id, "/echo alive")
        await idle(events)
        last = await states.until(lambda f: bool(f.data["messages"]) and not f.data["is_processing"])
    assert last.data["messages"][-1]["content"] == "alive"
    assert events.frames[1].event == "session_created"
    assert events.text == "alive"


async def test_streams_that_wait_for_nobody_are_bounded(gateway: RunningGateway) -> None:
    params = {"session_id": "nobody-there"}
    async with (
        open_stream(gateway.http, "nobody-1"),
        open_stream(gateway.http, "nobody-2"),
        open_stream(gateway.http, "nobody-3"),
        open_stream(gateway.http, "nobody-4"),
        open_stream(gateway.http, "nobody-5"),
        gateway.http.get("/api/chat/stream", params=params) as response,
    ):
        assert response.status == 429
        assert (await response.json())["error"]["code"] == "too_many_streams"
        assert "Retry-After" in response.headers

    async def is_admitted() -> bool:
        async with gateway.http.get("/api/chat/stream", params=params) as response:
            return response.status == 200

    await eventually(is_admitted)


async def test_a_quiet_stream_has_a_heartbeat_every_ten_seconds(gateway: RunningGateway) -> None:
    session_id = fresh_id("quiet")
    await gateway.chat(session_id, "/echo hi")

    async def beat(name: str, view: str) -> float:
        began = time.monotonic()
        async with open_stream(gateway.http, name, view=view) as stream:
            await stream.until_event(":", seconds=12)
        return time.monotonic() - began

    beats = await asyncio.gather(
        beat(session_id, "state"), beat(session_id, "events"), beat(fresh_id("absent"), "state")
    )
    assert max(beats) < 10 + 0.9 * crowding()


async def test_a_client_that_leaves_cancels_nothing(gateway: RunningGateway) -> None:
    session_id = fresh_id("leaves")
    await gateway.send(session_id, "/count 30 10")
    async with open_stream(gateway.http, session_id) as stream:
        await stream.until_event("text_delta")
    state = await gateway.chat(session_id, "/echo end")
    assert state["messages"][1]["content"].endswith(" 30")


async def test_a_large_answer_arrives_whole(gateway: RunningGateway) -> None:
    session_id = fresh_id("large")
    async with open_stream(gateway.http, session_id) as stream:
        await gateway.send(session_id, "/big 3000000")
        await idle(stream)
    assert stream.text == "x" * 3_000_000


async def test_an_export_has_every_event_and_reads_as_markdown(gateway: RunningGateway) -> None:
    session_id = fresh_id("export")
    await gateway.chat(session_id, "/echo *kept*")
    async with gateway.http.get(f"/api/sessions/{session_id}/export") as response:
        assert response.headers["Content-Disposition"].endswith('.jsonl"')
        lines = (await response.text()).splitlines()
    async with open_stream(gateway.http, session_id, after=0) as stream:
        await idle(stream)
    assert len(lines) == len(seqs(stream.frames))
    async with gateway.http.get(f"/api/sessions/{session_id}/export?format=markdown") as response:
        assert "*kept*" in await response.text()
    async with gateway.http.get(f"/api/sessions/{session_id}/export?format=docx") as response:
        assert response.status == 422


async def test_a_cursor_in_the_address_is_one_however_it_is_spelt(gateway: RunningGateway) -> None:
    session_id = fresh_id("spelt")
    await gateway.chat(session_id, "/echo hello")
    async with open_stream(gateway.http, session_id) as stream:
        last = await idle(stream)
        seen = seqs(stream.frames)
    for name in ("lastEventId", "last_event_id", "after"):
        path = f"/api/chat/stream?{name}={seen[2]}"
        async with open_stream(gateway.http, session_id, path=path) as stream:
            await stream.until(lambda frame: frame.id == last.id)
            assert seqs(stream.frames) == seen[3:], name


async def test_no_value_is_cut_by_clients_that_split_at_unicodes_line_ends(gateway: RunningGateway) -> None:
    session_id = fresh_id("lines")
    text = "one\u2028two\u2029three\u0085four"
    state = await gateway.chat(session_id, f"/echo {text}")
    assert state["messages"][-1]["content"] == text
    for view in ("events", "state"):
        async with gateway.http.get(f"/api/chat/stream?session_id={session_id}&view={view}") as response:
            received = ""
            while "four" not in received or not received.endswith("\n\n"):
                received += (await response.content.readany()).decode()
        assert received.splitlines() == received.replace("\r", "").split("\n")[: len(received.splitlines())]
    async with gateway.http.get(f"/api/sessions/{session_id}/export") as response:
        for line in (await response.text()).splitlines():
            json.loads(line)


@pytest.mark.parametrize("half", [rb"\ud83d", rb"\uDE00", b"\xed\xa0\xbd"])
async def test_half_an_emoji_in_a_message_is_mended(gateway: RunningGateway, half: bytes) -> None:
    name = fresh_id("half")
    said = b'{"session_id": "%b", "message": "/echo hi %b"}' % (name.encode(), half)
    headers = {"Content-Type": "application/json"}
    for path in ("/api/chat?wait=240", "/api/system"):
        async with gateway.http.post(path, data=said, headers=headers) as response:
            assert response.status == 200, await response.text()
            state = await response.json()
    assert "hi \ufffd" in [message["content"] for message in state["messages"]]
