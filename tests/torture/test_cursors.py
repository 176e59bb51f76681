"""For every cursor: the state at it, plus the frames after it, is the whole fold. Against a real gateway,
with every kind of event, before and after compaction, over a restart and over a kill -9 that burns numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec
import pytest

from gateway.events.facts import Event
from gateway.events.fold import ChatState
from tests.gateways import RunningGateway, running_gateway
from tests.patience import within
from tests.streams import Frame, open_stream, state_when
from tests.unit.test_chat import event_of, fold_of

SESSION = "s1"
AT_ONCE = 16
CONFIG = """
[sessions]
park_after_seconds = 0.3
[limits]
streams_per_owner = 1000
address_requests_per_second = 100000
address_burst = 100000
session_requests_per_second = 100000
session_burst = 100000
"""
SAID = (
    "hello there, who are you?", "/think about this and about that", "/plan", "/count 40 1", "/tool get_time",
    "/wallet {\"to\": \"0x1\", \"value\": \"2\"}", "/echo " + "many words " * 60,
)  # fmt: skip


def shown(fold: ChatState) -> Any:
    """The whole fold as a client could draw it."""
    return json.loads(msgspec.json.encode(fold.snapshot()))


async def log_after(gateway: RunningGateway, cursor: int, *, upto: int) -> list[Frame]:
    """Every frame after a cursor, up to a number or a resync that stands there."""
    async with open_stream(gateway.http, SESSION, after=cursor) as stream:
        if cursor < upto:
            await stream.until(lambda frame: int(frame.id or 0) >= upto)
    return [frame for frame in stream.frames if frame.id]


def facts(frames: list[Frame]) -> list[Event]:
    return [event_of(frame.data) for frame in frames]


async def exported(gateway: RunningGateway) -> list[Event]:
    """Every event as it was appended, nothing merged."""
    async with gateway.http.get(f"/api/sessions/{SESSION}/export") as response:
        return [event_of(json.loads(line)) async for line in response.content]


async def check(gateway: RunningGateway, seen: list[Event], *, live: Sequence[Event] = ()) -> None:
    """Holds the property for every number of the events that were `seen`, those before them, those of frames
    that a client got `live` (a crash may have taken them since), and two past the end.
    """
    state = await gateway.state(SESSION)
    whole = shown(fold_of(facts(await log_after(gateway, 0, upto=state["seq"]))))
    gate = asyncio.Semaphore(AT_ONCE)

    async def from_cursor(cursor: int) -> None:
        async with gate:
            fold = fold_of([event for event in (*seen, *live) if event.seq <= cursor])
            frames = await log_after(gateway, cursor, upto=state["seq"])
            if frames and frames[0].event == "resync":
                assert frames[0].data["chat"] == whole, cursor
                return
            for event in facts(frames):
                assert event.seq > cursor
                fold.apply(event)
            assert shown(fold) == whole, cursor

    cursors = {event.seq - back for event in seen for back in (0, 1)} | {event.seq for event in live}
    await asyncio.gather(*(from_cursor(cursor) for cursor in sorted(cursors) if cursor <= state["seq"]))
    async with open_stream(gateway.http, SESSION, after=state["seq"] + 2) as stream:
        assert (await stream.until_event("resync")).data["chat"] == whole


async def compact(gateway: RunningGateway, text: str) -> list[Event]:
    """One more turn; its events, when its worker has gone and the log is small."""
    async with open_stream(gateway.http, SESSION, after=(await gateway.state(SESSION))["seq"]) as stream:
        await gateway.send(SESSION, text)
        await stream.until_event("worker_ended")
        await stream.until(lambda frame: bool(frame.data) and frame.data.get("state") == "parked")

    def has_deltas(frames: list[Frame]) -> bool:
        return any(frame.event == "text_delta" for frame in frames)

    upto = (await gateway.state(SESSION))["seq"]
    async with within(10):
        while has_deltas(await log_after(gateway, 0, upto=upto)):
            await asyncio.sleep(0.05)
    return facts([frame for frame in stream.frames if frame.id])


@pytest.mark.timeout(180)
async def test_the_state_at_every_cursor_and_the_frames_after_it_are_the_whole(
    tmp_path: pathlib.Path,
) -> None:
    async with running_gateway(tmp_path, config=CONFIG.replace("0.3", "0")) as gateway:
        for text in SAID:
            await gateway.chat(SESSION, text)
        seen = await exported(gateway)
        assert len(seen) > 50, "a busy gateway stores several words as one"
        await check(gateway, seen)
    async with running_gateway(tmp_path, config=CONFIG) as gateway:
        await check(gateway, seen)
        live = await compact(gateway, "/count 20 10")
        await check(gateway, seen, live=live)
        async with open_stream(gateway.http, SESSION, after=(await gateway.state(SESSION))["seq"]) as stream:
            await gateway.send(SESSION, "/count 300 5")
            await stream.until(lambda frame: " 40" in stream.text)
            gateway.process.kill()
            with contextlib.suppress(aiohttp.ClientError):
                await stream.to_end()
        live += facts([frame for frame in stream.frames if frame.id])
    async with running_gateway(tmp_path, config=CONFIG) as gateway:
        await check(gateway, seen, live=live)
        await compact(gateway, "/echo and on")
        await check(gateway, seen, live=live)


async def test_a_slow_reader_gets_merged_deltas_and_no_gap(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path, config=CONFIG) as gateway:
        async with open_stream(gateway.http, SESSION) as live:
            await gateway.send(SESSION, "/count 2000 0")
            await live.until_event("turn_ended")
        upto = (await state_when(gateway.http, SESSION, lambda s: not s["is_processing"]))["seq"]
        late = await log_after(gateway, 0, upto=upto)
        text = "".join(frame.data["text"] for frame in late if frame.event == "text_delta")
        assert text == live.text == " ".join(str(n) for n in range(1, 2001))
        assert len(late) < len([frame for frame in live.frames if frame.id])
