"""The fold, against the golden logs that the page's fold reads too."""

from __future__ import annotations

import datetime
import itertools
import json
import pathlib
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from gateway.apps.product_chat.facts import ChatOpened, ChatPost
from gateway.apps.product_chat.posting import posting_of
from gateway.config.applications import installed
from gateway.events import facts as ev
from gateway.events import fold as chat
from gateway.events.fold import ChatState, Outside, State

PARTS: Final = [one.fold for one in installed().values() if one.fold is not None]
REQUIRED: Final = {one.name for one in msgspec.structs.fields(State) if one.default is not UNSET}
"""What State always says."""
FOLDER: Final = pathlib.Path(__file__).parent.parent / "golden"
GOLDEN: Final = sorted(FOLDER.glob("*.json"))

LATER: Final = json.loads((FOLDER / "later" / "fields.json").read_text())
"""Fields that were added after most of the files were written, as they are where nothing was said of them."""


def event_of(flat: dict[str, Any]) -> ev.Event:
    """An event from its flat JSON form."""
    body = {name: value for name, value in flat.items() if name not in ("seq", "at")}
    moment = msgspec.convert(flat["at"], datetime.datetime)
    return ev.Event.stored(flat["seq"], round(moment.timestamp() * 1000), msgspec.json.encode(body))


def fold_of(events: list[ev.Event]) -> ChatState:
    fold = ChatState("s1", parts=tuple(part() for part in PARTS))
    for event in events:
        fold.apply(event)
    return fold


def test_there_are_golden_logs() -> None:
    assert len(GOLDEN) >= 15


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_log_folds_to_its_state(path: pathlib.Path) -> None:
    golden = json.loads(path.read_text())
    fold = fold_of([event_of(flat) for flat in golden["events"]])
    state = json.loads(fold.state_json(Outside(**golden.get("outside", {}))))
    assert state == LATER["state"] | golden["state"]
    assert json.loads(msgspec.json.encode(fold.snapshot())) == LATER["snapshot"] | golden["snapshot"]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_an_event_is_the_same_after_it_was_stored(path: pathlib.Path) -> None:
    for flat in json.loads(path.read_text())["events"]:
        assert json.loads(event_of(flat).json) == flat


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_history_never_shrinks_and_every_state_has_every_field(path: pathlib.Path) -> None:
    fold = ChatState("s1", parts=tuple(part() for part in PARTS))
    shown: list[tuple[Any, ...]] = []
    for flat in json.loads(path.read_text())["events"]:
        fold.apply(event_of(flat))
        state = msgspec.json.decode(fold.state_json(Outside()), type=State)
        assert REQUIRED <= set(json.loads(fold.state_json(Outside()))) <= set(State.__struct_fields__)
        now = [(message.sender, message.timestamp, message.content) for message in state.messages]
        places = {message[:2] for message in now}
        gone = [message for message in shown if message[:2] not in places]
        if flat["type"] not in ("turn_started", "turn_ended", "turn_interrupted"):
            assert not gone
        assert all(sender == "agent" and not text.strip() for sender, _, text in gone)
        left = [message for message in shown if message[:2] in places]
        assert len(now) >= len(left)
        for old, new in zip(left, now, strict=False):
            assert old[:2] == new[:2]
            assert new[2].startswith(old[2])
        shown = now


def test_an_empty_answer_that_goes_moves_no_message_past_its_number() -> None:
    fold = fold_of([ev.Event(1, 0, ChatOpened(1, "Tea", "shop"))])
    posting, numbered = posting_of(fold), []
    assert posting is not None
    told: list[ev.EventData] = [
        ev.TextDelta("m", "t", " \n"),
        ev.ToolCall("c", "t"),
        ev.MessageAdded("u2", "user", "more", "t2"),
    ]
    turn: list[ev.EventData] = [ev.MessageAdded("u1", "user", "hi", "t"), ev.TurnStarted("t", "u1", "r")]
    end: list[ev.EventData] = [ev.TurnEnded("t", "error"), ev.MessageAdded("t.error", "system", "It failed.")]
    for seq, data in enumerate([*turn, *told, *end], 2):
        fold.apply(ev.Event(seq, seq, data))
        for message in list(posting.unposted(fold.messages)):
            numbered.append(message.id)
            fold.apply(ev.Event(seq, seq, ChatPost(len(numbered), message.id, "customer", "", "")))
    assert numbered == ["u1", "u2", "t.error"]


def test_merged_deltas_fold_to_the_same_state() -> None:
    for path in GOLDEN:
        events = [event_of(flat) for flat in json.loads(path.read_text())["events"]]
        merged = ev.merged(events)
        assert merged[-1].seq == events[-1].seq
        both = [msgspec.json.encode(fold_of(log).snapshot()) for log in (merged, events)]
        assert both[0] == both[1]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.text(max_size=5)), max_size=30))
def test_merging_joins_neighbours_of_one_message_only(deltas: list[tuple[str, str]]) -> None:
    events = [ev.Event(n, 0, ev.TextDelta(name, "t", text)) for n, (name, text) in enumerate(deltas, 1)]
    merged = ev.merged(events)
    assert "".join(e.data.text for e in merged if isinstance(e.data, ev.TextDelta)) == "".join(
        t for _, t in deltas
    )
    names = [e.data.message_id for e in merged if isinstance(e.data, ev.TextDelta)]
    assert all(left != right for left, right in itertools.pairwise(names))


def test_ten_thousand_deltas_cost_no_quadratic_copy() -> None:
    fold = ChatState("s")
    fold.apply(ev.Event(1, 0, ev.TurnStarted("t", "u", "r")))
    for n in range(2, 10_002):
        fold.apply(ev.Event(n, 0, ev.TextDelta("m", "t", "x")))
    assert str(fold.messages[0].text) == "x" * 10_000


def test_a_timestamp_is_iso_8601_in_utc_with_milliseconds() -> None:
    assert ev.iso(1_769_852_000_007) == "2026-01-31T09:33:20.007Z"


# -- long conversations -----------------------------------------------------------------------------------


class Kept:
    """An overflow in memory."""

    def __init__(self) -> None:
        self.data = bytearray()

    def put(self, data: bytes) -> int:
        self.data += data
        return len(self.data) - len(data)

    def get(self, start: int, size: int) -> bytes:
        return bytes(self.data[start : start + size])


class FullDisk(Kept):
    def put(self, data: bytes) -> int:
        raise OSError(28, "No space left on device")


def long_log() -> list[ev.Event]:
    data: list[ev.EventData] = [ev.MessageAdded("u", "user", "hi", "t"), ev.TurnStarted("t", "u", "r")]
    for number in range(30):
        data.append(ev.TextDelta(f"m{number // 10}", "t", f"{number} é🙂\n" * (number * 17 % 40)))
        data.append(ev.ThoughtDelta(f"h{number // 15}", "t", "hm é " * number))
    tool = ev.ToolCall("c", "t", title="x", raw_output=msgspec.Raw(b'{"x": "' + b"y" * 5000 + b'"}'))
    data += [tool, ev.MessageAdded("w", "user", "whole 🙂 " * 100), ev.TurnEnded("t", "end_turn")]
    return [ev.Event(seq, 1000 + seq, item) for seq, item in enumerate(data, 1)]


@pytest.mark.parametrize("overflow", [Kept(), FullDisk()])
def test_a_long_conversation_reads_the_same_part_by_part(
    monkeypatch: pytest.MonkeyPatch, overflow: Kept
) -> None:
    monkeypatch.setattr(chat, "KEPT_TEXT_BYTES", 50)
    monkeypatch.setattr(chat, "PIECE_BYTES", 7)
    short, long = ChatState("s"), ChatState("s", overflow=overflow)
    log = long_log()
    outside = Outside()
    for event in log:
        short.apply(event)
        long.apply(event)
        assert b"".join(long.state_parts(outside)) == long.state_json(outside)
        assert json.loads(long.state_json(outside)) == json.loads(short.state_json(outside))
    assert long.is_long == (not isinstance(overflow, FullDisk))
    assert long.characters == short.characters
    if long.is_long:
        assert long.held_bytes < short.held_bytes
    by_seq = {event.seq: event for event in log}

    def value(part: bytes | chat.Elsewhere | Iterator[bytes]) -> bytes:
        if isinstance(part, chat.Elsewhere):
            return bytes(getattr(by_seq[part.seq].data, part.name))
        return part if isinstance(part, bytes) else b"".join(part)

    parts = b"".join(value(part) for part in long.snapshot_parts())
    whole = msgspec.json.decode(parts)
    [tool] = [item for item in whole["items"] if item["kind"] == "tool_call"]
    assert tool["raw_output"] == {"x": "y" * 5000}
    for mine, theirs in zip(whole["items"], short.snapshot()["items"], strict=True):
        if mine["kind"] != "tool_call":
            assert mine == json.loads(msgspec.json.encode(theirs))


def test_state_that_is_read_slowly_is_the_state_of_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "KEPT_TEXT_BYTES", 50)
    fold = ChatState("s", overflow=Kept())
    log = long_log()
    for event in log[:40]:
        fold.apply(event)
    then = fold.state_json(Outside())
    parts = fold.state_parts(Outside())
    first = next(parts)
    for event in log[40:]:
        fold.apply(event)
    assert first + b"".join(parts) == then


def test_what_is_long_in_a_tool_call_is_not_kept_and_what_is_short_keeps_nothing_long() -> None:
    line = b'{"short":{"a":1},"long":"' + b"x" * 100_000 + b'"}'
    parts = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    event = ev.Event.said(1, 1, ev.ToolCall("c", "t", raw_input=parts["short"], raw_output=parts["long"]))
    fold = ChatState("s")
    fold.apply(event)
    [block] = fold.items
    assert isinstance(block, chat.Block)
    assert block.fields["raw_output"] == chat.Elsewhere(1, "raw_output")
    assert bytes(block.fields["raw_input"]) == b'{"a":1}'
    assert fold.held_bytes < 2_000
