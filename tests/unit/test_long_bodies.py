"""Bodies of events with long JSON of an agent's inside."""

from __future__ import annotations

import tempfile

import msgspec
import pytest
from msgspec import Raw

from gateway.agents.spool import FileSpool
from gateway.agents.translate import Translator
from gateway.events import facts as ev
from gateway.events.facts import LARGE_BYTES, Event
from worker import acp

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
    event = Event.said(1, 2, data)
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
