"""The fold, against the golden logs that the page's fold reads too."""

from __future__ import annotations

import datetime
import itertools
import json
import pathlib
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import events as ev
from gateway.chat import ChatState, Outside, State

GOLDEN: Final = sorted((pathlib.Path(__file__).parent.parent / "golden").glob("*.json"))


def event_of(flat: dict[str, Any]) -> ev.Event:
    """An event from its flat JSON form."""
    body = {name: value for name, value in flat.items() if name not in ("seq", "at")}
    moment = msgspec.convert(flat["at"], datetime.datetime)
    return ev.Event.stored(flat["seq"], round(moment.timestamp() * 1000), msgspec.json.encode(body))


def fold_of(events: list[ev.Event]) -> ChatState:
    fold = ChatState("s1")
    for event in events:
        fold.apply(event)
    return fold


def test_there_are_golden_logs() -> None:
    assert len(GOLDEN) >= 15


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_log_folds_to_its_state(path: pathlib.Path) -> None:
    golden = json.loads(path.read_text())
    fold = fold_of([event_of(flat) for flat in golden["events"]])
    assert json.loads(fold.state_json(Outside())) == golden["state"]
    assert json.loads(msgspec.json.encode(fold.snapshot())) == golden["snapshot"]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_an_event_is_the_same_after_it_was_stored(path: pathlib.Path) -> None:
    for flat in json.loads(path.read_text())["events"]:
        assert json.loads(event_of(flat).json) == flat


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_history_never_shrinks_and_every_state_has_every_field(path: pathlib.Path) -> None:
    fold = ChatState("s1")
    shown: list[tuple[Any, ...]] = []
    for flat in json.loads(path.read_text())["events"]:
        fold.apply(event_of(flat))
        state = msgspec.json.decode(fold.state_json(Outside()), type=State)
        assert set(json.loads(fold.state_json(Outside()))) == set(State.__struct_fields__)
        now = [(message.sender, message.timestamp, message.content) for message in state.messages]
        assert len(now) >= len(shown)
        for old, new in zip(shown, now, strict=False):
            assert old[:2] == new[:2]
            assert new[2].startswith(old[2])
        shown = now


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
