"""Pieces of text, read all at once, say what they say line by line."""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Sequence
from typing import Any, Final, cast

import pytest
from msgspec import Raw

from gateway.agents import connection as agents
from gateway.agents.connection import AcpConnection, _Reader
from gateway.agents.spool import Intake
from gateway.agents.text_chunks import TextChunk, text_chunks
from gateway.agents.translate import Translator
from gateway.events.facts import EventData
from tests.handlers import Unbounded, said
from worker import acp

PLAIN: Final = (
    *(said("one "), said("two "), said(""), said("smile \N{GRINNING FACE} \u2028")),
    *(said("a thought", kind="agent_thought_chunk"), said("of another", messageId="m7")),
    *(said("more of it", messageId="m7"), said("noted", _meta={"n": [1, {"deep": True}]})),
    *(said("null", messageId=None), said('escaped " \\ \n \t')),
)
ODD: Final = (
    *(b"\n", b"  \r\n", b"a banner\n", b"[]\n", b"{}\n", b"{} {}\n", said("x")[:-1] + b"\r\n"),
    *(said(None), said(7), said("x", messageId=7), said("x", kind="of no kind")),
    said("x", kind="tool_call", toolCallId="t"),
    acp.notification("session/update", {"update": {"sessionUpdate": "agent_message_chunk"}}),
    acp.notification("session/update", {"update": {"sessionUpdate": "plan", "entries": []}}),
    acp.notification("session/update", None),
    said("x").replace(b'"text","text"', b'"image","data"'),
    *(said("lone \\ud800").replace(b"\\\\u", b"\\u"), said("broken").replace(b"ok", b"\xff\xfe")),
    *(b"\xef\xbb\xbf" + said("marked"), said("NaN").replace(b'"s"', b"NaN")),
    *(said("x").replace(b"{", b'{"id":5,', 1), said("x").replace(b"{", b'{"id":[],', 1)),
    *(said("x").replace(b"{", b'{"error":{"code":"x"},', 1), said("x").replace(b"{", b'{"id":null,', 1)),
    said("deep", _meta=json.loads("[" * 300 + "]" * 300)),
    said("x" * 3_000),
    said("x").replace(b",", b",\n", 1),
    said("x")[:-1] + said("y"),
    said("x")[:-1] + said("y").replace(b",", b",\n", 1),
)


class Listening(Unbounded):
    """Makes events of what it hears."""

    def __init__(self) -> None:
        self.translator = Translator()
        self.translator.begin_turn("t1")
        self.events: list[EventData] = []
        self.reads_of_text = 0

    def on_updates(self, updates: Sequence[Raw]) -> None:
        self.events += self.translator.events(updates)

    def on_texts(self, chunks: list[TextChunk]) -> None:
        self.reads_of_text += 1
        self.events += self.translator.texts(chunks)

    def on_request(self, message: acp.Envelope) -> bool:
        return False

    def on_notification(self, message: acp.Envelope) -> None:
        """Nothing."""


def connected(listening: Listening, *, is_quick: bool) -> AcpConnection:
    return AcpConnection(
        cast("Any", type("Nobody", (), {"pid": -1})),
        listening,
        line_bytes=2_500,
        spool_dir=tempfile.gettempdir(),
        intake=Intake(),
        on_texts=listening.on_texts if is_quick else None,
    )


def cut(stream: bytes, chance: random.Random) -> list[bytes]:
    places = sorted(chance.sample(range(len(stream)), min(len(stream), chance.randrange(6))))
    return [stream[start:stop] for start, stop in zip([0, *places], [*places, len(stream)], strict=True)]


@pytest.mark.parametrize("seed", range(20))
async def test_however_it_is_read_an_agent_says_the_same(seed: int) -> None:
    chance = random.Random(seed)
    listeners = [Listening(), Listening()]
    connections = [connected(one, is_quick=bool(number)) for number, one in enumerate(listeners)]
    for _ in range(40):
        lines = chance.choices(PLAIN, k=chance.randrange(1, 8))
        if chance.random() < 0.5:
            lines.insert(chance.randrange(len(lines) + 1), chance.choice(ODD))
        for chunk in cut(b"".join(lines), chance):
            for connection in connections:
                connection.feed(chunk)
            assert listeners[1].events == listeners[0].events, chunk
            ends = [str(connection.end) for connection in connections]
            assert ends[0] == ends[1]
        if connections[0].end is not None:
            connections = [connected(one, is_quick=bool(number)) for number, one in enumerate(listeners)]
    assert listeners[0].reads_of_text == 0 < listeners[1].reads_of_text


@pytest.mark.parametrize("line", ODD)
def test_a_line_that_is_odd_leaves_its_whole_read_to_others(line: bytes) -> None:
    chunks = text_chunks(PLAIN[0] + line + PLAIN[1])
    assert chunks is None or len(chunks) == 3


@pytest.mark.parametrize(("seconds", "most"), [(0.000_01, 1), (0.01, 10)])
async def test_a_full_pipe_of_what_costs_little_is_one_piece_of_text_and_what_costs_much_is_many(
    monkeypatch: pytest.MonkeyPatch, seconds: float, most: int
) -> None:
    listening, now = Listening(), 0.0
    reader = _Reader(connected(listening, is_quick=True))
    pipe = (said("x" * 40) * 1_000)[: 64 * 1024]
    pipe = pipe[: pipe.rindex(b"\n") + 1]

    def passing() -> float:
        nonlocal now
        now += seconds
        return now

    monkeypatch.setattr(time, "perf_counter", passing)
    monkeypatch.setattr(agents, "OUTPUT_BURST_SECONDS", 1e9)
    for _ in range(8):
        listening.events.clear()
        reader.data_received(pipe)
        reader.eof_received()
        reader._connection = connected(listening, is_quick=True)
    assert (len(listening.events) == 1) == (most == 1)
    assert len(listening.events) <= most
