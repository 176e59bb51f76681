"""Long updates: whatever is long in them, the same events as from a short one, bit by bit."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from gateway.agents import long_updates
from gateway.agents.long_updates import NAME_BYTES, pieces
from gateway.agents.translate import Translator
from gateway.events import facts as ev
from tests.handlers import KeptLine
from worker import acp, foreign

TEXTS = st.text(st.sampled_from('ab "\\\n\t\x01é€🙂\u2028'), max_size=60)


LONG = "x" * 300_000


def raw(value: Any, *, ascii_only: bool = False) -> Raw:
    return Raw(json.dumps(value, ensure_ascii=ascii_only).encode())


def long(update: dict[str, Any]) -> list[ev.EventData]:
    translator = Translator()
    translator.begin_turn("t")
    return [event for events, _ in translator.long(raw(update)) for event in events]


def short(update: dict[str, Any]) -> list[ev.EventData]:
    translator = Translator()
    translator.begin_turn("t")
    return translator.events([raw(update)])


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(13, 40), st.booleans())
def test_the_pieces_of_a_text_are_the_text(text: str, size: int, ascii_only: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_updates, "PIECE_BYTES", size)
        line = raw(text, ascii_only=ascii_only)
        found = list(pieces(line))
    assert "".join(piece for piece, _ in found) == text
    assert all(len(json.dumps(piece, ensure_ascii=ascii_only)) <= size + 2 for piece, _ in found)
    assert [done for _, done in found] == sorted(done for _, done in found)
    assert found[-1][1] == memoryview(line).nbytes - 1 if text else not found


def test_text_that_is_all_escapes_or_all_backslashes_is_cut_rightly() -> None:
    for text in ("\n" * 200_000, "\\" * 200_000, "🙂" * 60_000):
        for ascii_only in (False, True):
            assert "".join(piece for piece, _ in pieces(raw(text, ascii_only=ascii_only))) == text


@pytest.mark.parametrize("kind", ["agent_message_chunk", "agent_thought_chunk"])
def test_long_text_becomes_deltas_of_one_message(kind: str) -> None:
    text = "word 🙂 " * 50_000
    events = long({"sessionUpdate": kind, "content": {"type": "text", "text": text}, "messageId": "x"})
    assert len(events) > 2
    deltas = [e for e in events if isinstance(e, ev.TextDelta | ev.ThoughtDelta)]
    assert deltas == events
    assert "".join(delta.text for delta in deltas) == text
    names = {d.message_id if isinstance(d, ev.TextDelta) else d.thought_id for d in deltas}
    assert len(names) == 1


@pytest.mark.parametrize(
    "update",
    [
        {"sessionUpdate": "agent_message_chunk", "content": {"type": "image", "data": LONG}},
        {"sessionUpdate": "tool_call", "toolCallId": "c", "title": "t", "rawOutput": {"x": LONG}},
        {"sessionUpdate": "tool_call_update", "toolCallId": "c", "content": [{"t": LONG}]},
        {"sessionUpdate": "tool_call", "toolCallId": "c", "kind": "edit", "locations": [{"path": LONG}]},
        {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "short"}, "z": LONG},
        {"sessionUpdate": "never_heard_of", "x": LONG},
        {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": ""}},
    ],
)  # fmt: skip
def test_other_long_updates_become_the_events_of_short_ones(update: dict[str, Any]) -> None:
    assert long(update) == short(update)


def test_a_long_title_counts_as_absent_and_a_long_id_is_no_tool_call() -> None:
    [named] = long({"sessionUpdate": "tool_call", "toolCallId": "c", "title": "t" * (NAME_BYTES + 1)})
    assert isinstance(named, ev.ToolCall)
    assert named.title == "c"
    [unnamed] = long({"sessionUpdate": "tool_call", "toolCallId": "c" * (NAME_BYTES + 1)})
    assert isinstance(unnamed, ev.AgentUpdate)


@pytest.mark.parametrize("body", [b'{"sessionUpdate":"tool_call"}', b"[]", b"7", b'{"sessionUpdate":[1]}'])
def test_a_long_update_of_another_shape_is_passed_on(body: bytes) -> None:
    assert [event for events, _ in Translator().long(Raw(body)) for event in events] == [
        ev.AgentUpdate(Raw(body))
    ]


def test_text_that_is_not_well_formed_ends_where_it_is_not() -> None:
    body = b'{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"good \\q bad"}}'
    events = [event for found, _ in Translator().long(Raw(body)) for event in found]
    assert all(isinstance(event, ev.AgentUpdate) for event in events)


# -- the line itself --------------------------------------------------------------------------------------


class Full(KeptLine):
    def write(self, data: bytes) -> None:
        raise OSError(28, "No space left on device")


def decoded(messages: list[acp.AcpMessage]) -> list[Any]:
    whole = [m.decode() if isinstance(m, acp.Spooled) else m for m in messages]
    return [
        (m.id, m.method, bytes(acp.raw(m.params)), bytes(acp.raw(m.result)), m.error)
        if isinstance(m, acp.Envelope)
        else type(m)
        for m in whole
    ]


LINES = st.one_of(
    st.builds(
        lambda text, method: msgspec.json.encode({"method": method, "params": {"t": text}}),
        TEXTS,
        st.sampled_from(["m", "session/update"]),
    ),
    st.builds(lambda text: json.dumps({"id": 1, "error": {"code": 2, "message": text}}).encode(), TEXTS),
    st.builds(lambda text: json.dumps({"id": text[:5], "result": {"t": text}}).encode(), TEXTS),
    st.binary(max_size=80).map(lambda data: data.replace(b"\n", b"")),
    st.just(b'{"method":"m","params":"\\ud83d \\\\ud83d \\ud83d\\ude00"}'),
    st.just('{"method":"m","params":"é'.encode()[:-1] + b' broken"}'),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(LINES, max_size=4), st.lists(st.integers(0, 500), max_size=12))
def test_spooled_lines_are_the_messages_that_lines_in_memory_are(lines: list[bytes], cuts: list[int]) -> None:
    data = b"".join(line + b"\n" for line in lines)
    expected = decoded(acp.Lines().feed(data))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(acp, "SPOOL_ABOVE_BYTES", 10)
        spooled = acp.Lines(spool=KeptLine)
        found: list[acp.AcpMessage] = []
        at = 0
        for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
            found += spooled.feed(data[at:cut])
            at = cut
        assert decoded(found) == expected


def test_a_spool_that_cannot_be_written_is_said_and_reading_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acp, "SPOOL_ABOVE_BYTES", 10)
    lines = acp.Lines(spool=Full)
    found = lines.feed(b"x" * 11) + lines.feed(b"y\n" + b'{"method":"m"}'[:9] + b"\n7\n")
    assert found[0] == acp.Unspoolable("No space left on device")
    assert len(found) == 3
    assert all(isinstance(message, acp.Garbage) for message in found[1:])


def test_a_line_past_the_limit_leaves_its_spool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acp, "SPOOL_ABOVE_BYTES", 10)
    made: list[KeptLine] = []

    def spool() -> KeptLine:
        made.append(KeptLine())
        return made[-1]

    lines = acp.Lines(limit_bytes=100, spool=spool)
    found = [message for _ in range(11) for message in lines.feed(b"x" * 10)]
    assert found == [acp.Oversize(100)]
    assert [spool.is_dropped for spool in made] == [True]
    lines.feed(b"\n" + b"x" * 20)
    lines.close()
    assert made[-1].is_dropped


def test_words_of_an_error_that_are_too_long_are_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = acp.Lines(spool=KeptLine)
    body = b'{"id":1,"error":{"code":1,"message":"x","data":[' + b"[]," * acp.ERROR_BYTES + b"0]}}\n"
    [message] = lines.feed(body)
    assert isinstance(message, acp.Spooled)
    envelope = message.decode()
    assert isinstance(envelope, acp.Envelope)
    assert isinstance(envelope.error, acp.RpcError)
    assert "too long" in envelope.error.message


def test_what_is_nested_too_deep_in_a_long_line_is_found_slice_by_slice() -> None:
    filling = b'"' + b"\\\\" * 150_000 + b'\\"' + b"[" * 300_000 + b'",'
    for depth, is_deep in ((150, False), (400, True)):
        nested = b"[" * depth + b"]" * depth
        for text in (nested, filling * 3 + nested, b"[" + filling * 3 + nested + b"]"):
            assert foreign.is_deep(text) is is_deep
    assert not foreign.is_deep(b"[]," * 300_000)
    assert not foreign.is_deep(b'{"a":[{"b":"]"}]},' * 50_000)


def test_more_halves_of_pairs_than_anybody_means_are_garbage() -> None:
    line = b'{"method":"m","params":"' + b"\\ud83d " * (acp.LONE_SURROGATES + 1) + b'"}'
    lines = acp.Lines(spool=KeptLine)
    [message] = lines.feed(line * 4 + b"\n")
    assert isinstance(message, acp.Spooled)
    assert isinstance(message.decode(), acp.Garbage)
