"""Compact logs: the same fold, from every cursor."""

from __future__ import annotations

import gc
import json
import sys

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.events import facts as ev
from gateway.events.compaction import Survey, compacted
from gateway.events.facts import Event, merged
from gateway.events.fold import ChatState
from tests.unit.test_chat import GOLDEN, event_of, fold_of

NAMES = st.sampled_from(["m1", "m2", "m3"])
WORDS = st.text(min_size=1, max_size=4)
DATA = st.one_of(
    st.builds(ev.TextDelta, NAMES, st.just("t1"), WORDS),
    st.builds(ev.ThoughtDelta, st.sampled_from(["h1", "h2"]), st.just("t1"), WORDS),
    st.builds(
        ev.ToolCall, st.sampled_from(["c1", "c2"]), st.just("t1"),
        title=st.one_of(st.just(msgspec.UNSET), WORDS), status=st.one_of(st.just(msgspec.UNSET), WORDS),
    ),
    st.builds(ev.Usage, used=st.integers(0, 9)),
    st.builds(ev.MessageAdded, st.sampled_from(["u8", "u9"]), st.just("user"), WORDS, st.just("t2")),
    st.builds(ev.Notice, st.just("n"), st.just("info"), st.just("c"), WORDS),
)  # fmt: skip


def log_of(data: list[ev.EventData]) -> list[Event]:
    whole = [ev.MessageAdded("u1", "user", "hi", "t1"), ev.TurnStarted("t1", "u1", "r1"), *data]
    whole.append(ev.TurnEnded("t1", "end_turn"))
    return [Event(3 * n, 1000 + n, item) for n, item in enumerate(whole, 1)]


def shown(fold: ChatState) -> object:
    return json.loads(msgspec.json.encode(fold.snapshot()))


@settings(max_examples=300, deadline=None)
@given(st.lists(DATA, max_size=14))
def test_from_every_cursor_the_compact_form_leads_to_the_whole(data: list[ev.EventData]) -> None:
    log = log_of(data)
    small = compacted(log)
    whole = shown(fold_of(log))
    assert shown(fold_of(small)) == whole
    for cut in range(len(log) + 1):
        fold = fold_of(log[:cut])
        cursor = log[cut - 1].seq if cut else 0
        for event in small:
            if event.seq > cursor:
                fold.apply(event)
        assert shown(fold) == whole


@settings(max_examples=100, deadline=None)
@given(st.lists(DATA, max_size=14))
def test_from_every_cursor_merged_frames_lead_to_the_whole(data: list[ev.EventData]) -> None:
    log = log_of(data)
    whole = shown(fold_of(log))
    for cut in range(len(log) + 1):
        fold = fold_of(log[:cut])
        for event in merged(log[cut:]):
            fold.apply(event)
        assert shown(fold) == whole


@settings(max_examples=100, deadline=None)
@given(st.lists(DATA, max_size=14))
def test_compacting_twice_changes_nothing(data: list[ev.EventData]) -> None:
    once = compacted(log_of(data))
    assert [event.json for event in compacted(once)] == [event.json for event in once]


def test_golden_logs_compact_to_the_same_fold() -> None:
    for path in GOLDEN:
        log = [event_of(flat) for flat in json.loads(path.read_text())["events"]]
        if log[-1].type == "session_state" and fold_of(log).turn_id is None:
            assert shown(fold_of(compacted(log))) == shown(fold_of(log)), path.stem


def test_a_thousand_deltas_become_one_message() -> None:
    log = log_of([ev.TextDelta("m1", "t1", "x")] * 1000)
    assert len(compacted(log)) == 4


def test_a_survey_keeps_nothing_of_tool_calls() -> None:
    survey = Survey()
    calls = [ev.Event(seq, 0, ev.ToolCall(f"c{seq // 2}", "t", title="ls")) for seq in range(2, 20_002)]
    gc.collect()
    before = sys.getallocatedblocks()
    for event in calls:
        survey.add(event)
    assert sys.getallocatedblocks() - before < 100
    assert survey.saved == 10_000, "the second change of each call"


@settings(max_examples=40, deadline=None)
@given(st.lists(DATA, max_size=16))
def test_a_survey_counts_what_will_be_saved(data: list[ev.EventData]) -> None:
    survey, events = Survey(), log_of(data)
    for event in events:
        survey.add(event)
    assert survey.saved == len(events) - len(compacted(events))
