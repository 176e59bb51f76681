"""Bodies of events with long JSON of an agent's inside."""

from __future__ import annotations

import tempfile
import tracemalloc

import msgspec
import pytest
from msgspec import Raw

from gateway.agents.spool import FileSpool
from gateway.agents.translate import Translator
from gateway.events import facts as ev
from gateway.events.facts import LARGE_BYTES, Event
from worker import acp
from worker.acp import in_one_line

LONG = Raw(b'["' + b"x" * (3 * LARGE_BYTES) + b'"]')


@pytest.mark.parametrize(
    "data",
    [
        ev.ContentBlock("b", "t", LONG),
        ev.AgentUpdate(LONG),
        ev.Plan("t", LONG),
        ev.ToolCall("c", "t", title="a \N{SNOWMAN}", content=LONG, raw_input=Raw(b"{}"), raw_output=LONG),
        ev.ToolCall("c", "t", raw_output=Raw(b"1")),
    ],
)
def test_a_long_body_is_spelt_as_a_short_one(data: ev.EventData) -> None:
    event = Event.said(1, 2, data, used=lambda _count: None)
    assert event.body == msgspec.json.encode(data)
    assert event.data == data


@pytest.mark.parametrize("filling", ["x", r"\ud83d "], ids=["as it came", "mended"])
def test_a_line_leaves_the_memory_as_it_becomes_an_event(filling: str) -> None:
    size = 16 * LARGE_BYTES // len(filling)
    count = size if filling == "x" else 5_000
    text = filling * count + "x" * (size - count)
    line = (
        '{"method":"session/update","params":{"update":{"sessionUpdate":"tool_call","toolCallId":"c",'
        f'"rawOutput":"{text}","rawInput":"{text}","title":"t"}}}}}}'
    )
    spool = FileSpool(tempfile.gettempdir())
    spool.write(line.encode())
    message = acp.Spooled(spool, len(line)).decode()
    assert isinstance(message, acp.Envelope)
    assert isinstance(message.params, Raw)
    update = msgspec.json.decode(message.params, type=dict[str, Raw])["update"]
    heard: list[int] = []

    def used(count: int) -> None:
        heard.append(count)
        spool.used(count)

    [[[data], _]] = Translator().long(update)
    event = Event.said(1, 2, data, used=used)
    assert isinstance(event.data, ev.ToolCall)
    whole = msgspec.json.encode(text.replace(r"\ud83d", "\N{REPLACEMENT CHARACTER}"))
    for value in (event.data.raw_input, event.data.raw_output):
        assert isinstance(value, Raw)
        assert msgspec.json.decode(value) == msgspec.json.decode(whole)
    assert heard == sorted(heard)
    assert heard[-1] > len(text) - 2 * LARGE_BYTES


@pytest.mark.parametrize("size", [4, 5, 6, 7, 8, 1000])
def test_slices_of_a_body_are_the_body_in_one_line(size: int) -> None:
    content = msgspec.json.encode({"text": "a\u2028\u2029b\x85\N{SNOWMAN}\U0001f642" * 20})
    event = Event.said(1, 2, ev.ContentBlock("b", "t", Raw(content)))
    assert b"".join(event.json_slices(size)) == event.json
    assert b"".join(event.frame_slices(size)) == event.frame
    assert in_one_line(event.json) == event.json


def test_who_has_a_slice_of_a_body_with_line_ends_of_unicode_holds_no_copy_of_it() -> None:
    content = msgspec.json.encode("\u2028" + "x" * 8 * LARGE_BYTES)
    event = Event.said(1, 2, ev.ContentBlock("b", "t", Raw(content)))
    tracemalloc.start()
    try:
        readers = [event.frame_slices(LARGE_BYTES // 8) for _ in range(10)]
        for reader in readers:
            assert next(reader)
            assert next(reader)
        assert tracemalloc.get_traced_memory()[1] < 2 * LARGE_BYTES
    finally:
        tracemalloc.stop()
