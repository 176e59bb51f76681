"""ACP updates → events."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw

from gateway.agents.translate import CALLS, ID_CHARACTERS, AskedToolCall, Translator
from gateway.events import facts as ev
from gateway.events.fold import ChatState
from worker import foreign


def raw(update: object) -> Raw:
    return Raw(json.dumps(update).encode())


def chunk(text: str, kind: str = "agent_message_chunk", **more: Any) -> Raw:
    return raw({"sessionUpdate": kind, "content": {"type": "text", "text": text}, **more})


@pytest.fixture
def translator() -> Translator:
    made = Translator()
    made.begin_turn("t1")
    return made


def test_neighbouring_text_becomes_one_delta(translator: Translator) -> None:
    assert translator.events([chunk("a"), chunk("b")]) == [ev.TextDelta("t1.m1", "t1", "ab")]


def test_the_same_message_goes_on_in_the_next_read(translator: Translator) -> None:
    first, second = translator.events([chunk("a")]), translator.events([chunk("b")])
    assert [first[0].message_id, second[0].message_id] == ["t1.m1", "t1.m1"]  # type: ignore[union-attr]


def test_a_tool_call_ends_the_message(translator: Translator) -> None:
    call = raw({"sessionUpdate": "tool_call", "toolCallId": "c", "title": "Look"})
    update = raw({"sessionUpdate": "tool_call_update", "toolCallId": "c", "status": "completed"})
    events = translator.events([chunk("a"), call, chunk("b"), update, chunk("c")])
    assert events == [
        ev.TextDelta("t1.m1", "t1", "a"),
        ev.ToolCall("c", "t1", title="Look", status="pending"),
        ev.TextDelta("t1.m2", "t1", "b"),
        ev.ToolCall("c", "t1", status="completed"),
        ev.TextDelta("t1.m2", "t1", "c"),
    ]


def test_a_call_that_took_a_second_or_more_says_so_when_it_ends() -> None:
    times = iter([10.0, 11.0, 12.9, 20.0, 20.9])
    translator = Translator(now=lambda: next(times))
    translator.begin_turn("t1")
    steps = [("a", "pending"), ("a", "in_progress"), ("a", "completed"), ("b", "pending"), ("b", "failed")]
    kinds = {"pending": "tool_call"}
    updates = [
        raw({"sessionUpdate": kinds.get(status, "tool_call_update"), "toolCallId": name, "status": status})
        for name, status in steps
    ]
    events = translator.events(updates)
    assert [event.seconds for event in events if isinstance(event, ev.ToolCall)] == [
        UNSET,
        UNSET,
        2,
        UNSET,
        UNSET,
    ]


def test_an_update_of_an_unseen_tool_call_makes_it(translator: Translator) -> None:
    update = raw({"sessionUpdate": "tool_call_update", "toolCallId": "c", "status": "in_progress"})
    assert translator.events([update]) == [ev.ToolCall("c", "t1", title="c", status="in_progress")]


def test_null_means_unchanged(translator: Translator) -> None:
    call = raw(
        {"sessionUpdate": "tool_call", "toolCallId": "c", "title": "T", "rawInput": None, "content": None}
    )
    (event,) = translator.events([call])
    assert isinstance(event, ev.ToolCall)
    assert event.raw_input is UNSET
    assert event.content is UNSET


def test_a_tool_call_id_used_again_in_a_later_turn_is_another_call(translator: Translator) -> None:
    call = raw({"sessionUpdate": "tool_call", "toolCallId": "c", "title": "T"})
    translator.events([call])
    translator.begin_turn("t2")
    (event,) = translator.events([call])
    assert isinstance(event, ev.ToolCall)
    assert (event.tool_call_id, translator.tool_call_id("c")) == ("c#t2", "c#t2")


DIFF = [{"type": "diff", "path": "/a.py", "oldText": "a", "newText": "b"}]
EDIT = {
    "toolCallId": "c",
    "title": "Edit a.py",
    "kind": "edit",
    "status": "pending",
    "content": DIFF,
    "locations": [{"path": "/a.py", "line": 3}],
    "rawInput": {"file_path": "/a.py"},
}


def asked(translator: Translator, call: object) -> dict[str, Any] | None:
    shown = translator.asked(foreign.decode(raw(call), AskedToolCall), stand_in="t1.p1")
    return None if shown is None else json.loads(msgspec.json.encode(shown))


def test_what_a_permission_request_says_of_its_call_is_a_tool_call(translator: Translator) -> None:
    shown = asked(translator, EDIT)
    assert shown == {
        "type": "tool_call",
        "tool_call_id": "c",
        "turn_id": "t1",
        "title": "Edit a.py",
        "kind": "edit",
        "status": "pending",
        "content": DIFF,
        "locations": EDIT["locations"],
        "raw_input": EDIT["rawInput"],
    }


def test_a_permission_request_adds_to_a_call_that_is_known(translator: Translator) -> None:
    translator.events([raw({"sessionUpdate": "tool_call", "toolCallId": "c", "title": "T", "kind": "edit"})])
    shown = asked(translator, {"toolCallId": "c", "title": "", "content": DIFF, "rawInput": None})
    assert shown == {"type": "tool_call", "tool_call_id": "c", "turn_id": "t1", "content": DIFF}
    assert asked(translator, {"toolCallId": "c"}) is None
    assert (asked(translator, {"toolCallId": "c", "title": "Now"}) or {})["title"] == "Now"


def test_a_call_asked_for_in_a_later_turn_under_a_used_id_is_another(translator: Translator) -> None:
    translator.events([raw({"sessionUpdate": "tool_call", "toolCallId": "c", "title": "T"})])
    translator.begin_turn("t2")
    assert (asked(translator, EDIT) or {})["tool_call_id"] == "c#t2"
    (update,) = translator.events([raw({"sessionUpdate": "tool_call_update", "toolCallId": "c"})])
    assert isinstance(update, ev.ToolCall)
    assert update.tool_call_id == "c#t2"


def test_odd_members_of_a_call_asked_for_count_as_absent(translator: Translator) -> None:
    assert asked(translator, {"toolCallId": "c", "title": "No more than a name"}) is None
    shown = asked(translator, {"toolCallId": None, "title": 7, "kind": {}, "status": 1, "content": DIFF})
    assert shown == {
        "type": "tool_call",
        "tool_call_id": "t1.p1",
        "turn_id": "t1",
        "title": "",
        "status": "pending",
        "content": DIFF,
    }


def test_thoughts_and_messages_do_not_mix(translator: Translator) -> None:
    events = translator.events(
        [chunk("x", "agent_thought_chunk"), chunk("a"), chunk("y", "agent_thought_chunk")]
    )
    assert [type(event) for event in events] == [ev.ThoughtDelta, ev.TextDelta, ev.ThoughtDelta]
    assert len({getattr(event, "thought_id", None) for event in events}) == 3


def test_an_agents_own_message_ids_tell_messages_apart(translator: Translator) -> None:
    events = translator.events([chunk("a", messageId="1"), chunk("b", messageId="2")])
    assert [event.message_id for event in events if isinstance(event, ev.TextDelta)] == ["t1.m1", "t1.m2"]


def test_content_that_is_no_text_is_kept(translator: Translator) -> None:
    image = {"type": "image", "mimeType": "image/png", "data": "AAAA"}
    (event,) = translator.events([raw({"sessionUpdate": "agent_message_chunk", "content": image})])
    assert isinstance(event, ev.ContentBlock)
    assert msgspec.json.decode(event.content) == image


@pytest.mark.parametrize(
    "update",
    [
        {"sessionUpdate": "compaction_update", "x": 1},
        {"sessionUpdate": "tool_call"},
        {"sessionUpdate": "agent_message_chunk", "content": "no block"},
        {"no": "kind"},
        ["a list"],
        "text",
        7,
    ],
)
def test_what_is_not_known_is_passed_on_as_it_is(translator: Translator, update: object) -> None:
    (event,) = translator.events([raw(update)])
    assert isinstance(event, ev.AgentUpdate)
    assert json.loads(msgspec.json.encode(event))["update"] == update


def test_facts_of_the_agent(translator: Translator) -> None:
    events = translator.events(
        [
            raw({"sessionUpdate": "plan", "entries": []}),
            raw({"sessionUpdate": "available_commands_update", "availableCommands": []}),
            raw({"sessionUpdate": "current_mode_update", "currentModeId": "code"}),
            raw({"sessionUpdate": "session_info_update", "title": "A title"}),
            raw({"sessionUpdate": "session_info_update", "title": None}),
            raw({"sessionUpdate": "usage_update", "used": 3, "size": 10}),
            raw({"sessionUpdate": "user_message_chunk", "content": {"type": "text", "text": "mine"}}),
        ]
    )
    kinds = [type(event) for event in events]
    assert kinds == [ev.Plan, ev.AgentCommands, ev.AgentOptions, ev.SessionInfo, ev.Usage]


BIG = 2**63


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"used": BIG, "size": 10}, ev.Usage(size=10)),
        ({"used": 5.0, "size": -1}, ev.Usage(used=5)),
        ({"used": "5", "size": True}, ev.Usage()),
        ({"used": 2**53, "size": 1.5, "cost": {"amount": 1e300}}, ev.Usage(used=2**53)),
        ({"cost": "much"}, ev.Usage()),
    ],
)
def test_numbers_out_of_bounds_count_as_absent(given: dict[str, Any], expected: ev.Usage) -> None:
    odd: list[str] = []
    [event] = Translator(odd.append).events([raw({"sessionUpdate": "usage_update", **given})])
    assert event == expected
    assert odd


def test_a_cost_is_passed_on_as_it_came() -> None:
    cost = {"amount": 0.25, "currency": "USD", "more": 1}
    [event] = Translator().events([raw({"sessionUpdate": "usage_update", "cost": cost})])
    assert isinstance(event, ev.Usage)
    assert json.loads(bytes(event.cost)) == cost  # type: ignore[arg-type]


def test_ids_of_another_type_are_their_text(translator: Translator) -> None:
    call = raw({"sessionUpdate": "tool_call", "toolCallId": 5, "title": 7, "status": "completed"})
    events = translator.events([chunk("a", messageId=7), chunk("b", messageId=7), call])
    assert events == [
        ev.TextDelta("t1.m1", "t1", "ab"),
        ev.ToolCall("5", "t1", title="5", status="completed"),
    ]


def test_an_update_without_what_it_needs_is_passed_on_as_it_is(translator: Translator) -> None:
    for update in ({"sessionUpdate": "tool_call"}, {"sessionUpdate": "tool_call", "toolCallId": None}):
        assert translator.events([raw(update)]) == [ev.AgentUpdate(raw(update))]


def test_a_tool_call_with_an_id_too_long_to_remember_is_passed_on() -> None:
    translator = Translator()
    translator.begin_turn("t")
    for length, kind in ((ID_CHARACTERS, ev.ToolCall), (ID_CHARACTERS + 1, ev.AgentUpdate)):
        update = {"sessionUpdate": "tool_call", "toolCallId": "c" * length, "title": "x"}
        [event] = translator.events([msgspec.Raw(msgspec.json.encode(update))])
        assert isinstance(event, kind)
    assert len(translator._tool_calls) == 1


def test_calls_past_those_that_are_remembered_are_found_in_the_conversation() -> None:
    fold = ChatState("s")
    translator, seq = Translator(turn_of_call=fold.turn_of_call), 0
    asked = AskedToolCall(tool_call_id="asks")

    def say(**update: str) -> list[ev.EventData]:
        nonlocal seq
        events = translator.events([msgspec.Raw(msgspec.json.encode(update))])
        for event in events:
            seq += 1
            fold.apply(ev.Event(seq, 0, event))
        return events

    translator.begin_turn("t1")
    for number in range(2 * CALLS):
        say(sessionUpdate="tool_call", toolCallId=f"c{number}", title="x", status="pending")
    assert len(translator._tool_calls) == len(translator._under_way) == CALLS
    for number in range(CALLS + 1, 2 * CALLS):
        say(sessionUpdate="tool_call_update", toolCallId=f"c{number}", status="completed")
    assert len(translator._under_way) == 1
    assert translator.sole_call(asked) is None, "others are under way that are no longer remembered"
    [ended] = say(sessionUpdate="tool_call_update", toolCallId="c0", status="completed")
    assert isinstance(ended, ev.ToolCall)
    assert (ended.tool_call_id, ended.turn_id, ended.title) == ("c0", "t1", UNSET)
    translator.begin_turn("t2")
    [anew] = say(sessionUpdate="tool_call", toolCallId="c1", title="y")
    assert isinstance(anew, ev.ToolCall)
    assert (anew.tool_call_id, anew.turn_id) == ("c1#t2", "t2"), "another call of the same id"
