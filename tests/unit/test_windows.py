"""Part of a conversation: which messages and items are in it, and that State costs what has changed."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any, Final

import pytest

from gateway.events import facts as ev
from gateway.events import fold as chat
from gateway.events import state_json
from gateway.events.fold import ChatState, Item, Message, Outside
from gateway.events.state_json import StateJson
from gateway.events.window import MessageWindow, bounds, part_of
from tests.unit.test_chat import Kept

OUTSIDE: Final = Outside()


def turn(number: int, *, ends: bool = True, calls: int = 1) -> list[ev.EventData]:
    """A message, a tool call, an answer."""
    name = f"t{number}"
    data: list[ev.EventData] = [
        ev.MessageAdded(f"u{number}", "user", f"question {number}", name),
        ev.TurnStarted(name, f"u{number}", f"r{number}"),
    ]
    data += [ev.ToolCall(f"c{number}.{n}", name, title="looks", status="pending") for n in range(calls)]
    if ends:
        data += [ev.ToolCall(f"c{number}.{n}", name, status="completed") for n in range(calls)]
        data += [ev.TextDelta(f"m{number}", name, f"answer {number}"), ev.TurnEnded(name, "end_turn")]
    return data


def fold_of(*data: ev.EventData) -> ChatState:
    fold = ChatState("s")
    for seq, item in enumerate(data, 1):
        fold.apply(ev.Event(seq, 1000 + seq, item))
    return fold


def say(fold: ChatState, *data: ev.EventData) -> None:
    for item in data:
        fold.apply(ev.Event(fold.seq + 1, 1000 + fold.seq, item))


def state(fold: ChatState, window: MessageWindow | None = None, encoded: StateJson | None = None) -> Any:
    made = (encoded or StateJson(fold)).json(OUTSIDE, window)
    return json.loads(made if isinstance(made, bytes) else b"".join(made))


def contents(shown: Any) -> list[str]:
    return [message["content"] for message in shown["messages"]]


def ids(items: list[Item]) -> list[str]:
    return [item.id for item in items]


def twenty() -> ChatState:
    return fold_of(*itertools.chain(*(turn(number) for number in range(10))))


def test_a_state_of_the_last_messages_says_how_many_come_before() -> None:
    fold, whole = twenty(), state(twenty())
    for last in range(25):
        part = state(fold, MessageWindow(last))
        assert contents(part) == contents(whole)[20 - min(last, 20) :]
        assert part.pop("earlier") == max(0, 20 - last)
        assert {**part, "messages": whole["messages"]} == whole
    assert "earlier" not in whole


def test_paging_back_comes_to_the_beginning_with_nothing_missing_and_nothing_twice() -> None:
    fold, whole = twenty(), state(twenty())
    for last in (1, 3, 7, 100):
        seen: list[str] = []
        before: int | None = None
        while before != 0:
            part = state(fold, MessageWindow(last, before))
            seen, before = contents(part) + seen, part["earlier"]
        assert seen == contents(whole)
    assert contents(state(fold, MessageWindow(5, 900))) == contents(whole)[-5:]


def test_the_items_of_pages_are_the_items_of_the_whole() -> None:
    """Also if their order is not that of the messages: a system message in the middle of a turn."""
    data = [*turn(0), *turn(1)[:3], ev.MessageAdded("sys", "system", "meanwhile"), *turn(1)[3:], *turn(2)]
    fold = fold_of(*data)
    for last in range(1, 8):
        first = part_of(fold, MessageWindow(last))
        assert first.earlier is not None
        assert {i.index for i in first.items if isinstance(i, Message)} >= set(range(first.earlier, 7))
        seen, before = ids(first.items), first.earlier
        while before:
            part = part_of(fold, MessageWindow(last, before))
            assert part.earlier is not None
            seen, before = ids(part.items) + seen, part.earlier
        assert seen == ids(fold.items)


def test_what_is_open_is_in_the_window_however_far_back() -> None:
    fold = fold_of(*turn(0), *turn(1, ends=False, calls=2))
    option = ev.PermissionOption("y", "Yes", "allow_once")
    say(
        fold,
        ev.ToolCall("c1.0", "t1", status="completed"),
        ev.PermissionAsked("p", "t1", "May I?", (option,), tool_call_id="c1.1"),
        *(ev.MessageAdded(f"w{number}", "user", "and this", f"t{number}") for number in range(2, 9)),
    )
    part = part_of(fold, MessageWindow(2))
    assert bounds(fold, MessageWindow(2)) == (3, 11), "the empty answer of the turn that runs is shown"
    assert part.earlier == 3
    assert ids(part.items)[: part.apart] == []
    say(fold, ev.TextDelta("m1", "t1", "I said"), ev.ToolCall("c1.2", "t1", title="x", status="in_progress"))
    say(fold, *(ev.MessageAdded(f"v{number}", "system", "hm") for number in range(5)))
    part = part_of(fold, MessageWindow(2))
    assert (part.earlier, ids(part.items)) == (14, ["c1.1", "c1.2", "p", "v3", "v4"])
    assert part.apart == 3
    assert [item["permission_id"] for item in [state(fold, MessageWindow(0))["pending_permission"]]] == ["p"]
    say(fold, ev.TurnEnded("t1", "end_turn"), ev.PermissionAnswered("p", "cancelled", None))
    assert part_of(fold, MessageWindow(2)).apart == 0


@pytest.mark.parametrize("overflow", [None, Kept()])
def test_a_call_that_runs_is_in_the_window_though_it_is_packed(overflow: Kept | None) -> None:
    fold = ChatState("s", overflow=overflow)
    say(fold, *turn(0, ends=False), ev.TextDelta("m0", "t0", "I look"))
    for number in range(300):
        say(fold, ev.ToolCall(f"d{number}", "t0", title="reads", status="completed"))
    say(fold, ev.TextDelta("n0", "t0", "and look"))
    part = part_of(fold, MessageWindow(1))
    assert (part.apart, ids(part.items)) == (1, ["c0.0", "n0"])


def test_state_from_blocks_is_state_after_every_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_json, "BLOCK_MESSAGES", 4)
    chance, fold = random.Random(7), ChatState("s")
    kept = StateJson(fold)
    for number in range(40):
        for item in turn(number):
            say(fold, item)
            if chance.random() < 0.3:
                say(fold, ev.MessageWithdrawn(f"u{chance.randrange(number + 1)}", "link_revoked"))
            if chance.random() < 0.3:
                changed = f"m{chance.randrange(number + 1)}"
                say(fold, ev.MessageAdded(changed, "agent", f"changed {fold.seq}", "t"))
            window = MessageWindow(chance.randrange(9)) if chance.random() < 0.3 else None
            now = state(fold, window, kept)
            assert now == state(fold, window)
    assert kept.kept_bytes > 0
    kept.forget()
    assert kept.kept_bytes == 0


def test_one_more_message_encodes_one_more_message(monkeypatch: pytest.MonkeyPatch) -> None:
    fold = fold_of(*itertools.chain(*(turn(number) for number in range(1000))))
    kept, count = StateJson(fold), 0
    state(fold, None, kept)
    whole = Message.json

    def counted(message: Message, *, keep: bool) -> bytes:
        nonlocal count
        count += 1
        return whole(message, keep=keep)

    monkeypatch.setattr(Message, "json", counted)
    say(fold, *turn(1000))
    assert len(state(fold, None, kept)["messages"]) == 2002
    assert count <= 2 * state_json.BLOCK_MESSAGES
    count = 0
    state(fold, MessageWindow(20), kept)
    assert count == 20


def test_what_is_kept_encoded_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_json, "KEPT_BYTES", 20_000)
    fold = fold_of(*itertools.chain(*(turn(number) for number in range(500))))
    kept = StateJson(fold)
    assert state(fold, None, kept) == state(fold)
    assert 10_000 < kept.kept_bytes <= 20_000


def test_items_that_are_not_in_memory_are_in_their_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "HERE_ITEMS", 8)
    monkeypatch.setattr(chat, "RUN_ITEMS", 4)
    data = list(itertools.chain(*(turn(number) for number in range(20))))
    whole, fold = fold_of(*data), ChatState("s", overflow=Kept())
    for seq, item in enumerate(data, 1):
        fold.apply(ev.Event(seq, 1000 + seq, item))
    assert len(fold.items) < 20 < len(whole.items)
    for last in (1, 3, 7):
        seen: list[str] = []
        before: int | None = None
        while before != 0:
            part = part_of(fold, MessageWindow(last, before))
            seen, before = ids(part.items) + seen, part.earlier
        assert seen == ids(whole.items)
