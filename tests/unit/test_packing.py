"""Items that are not kept in memory: the same conversation, for whoever reads it, at a bounded cost."""

from __future__ import annotations

import gc
import json
import pathlib
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from gateway.events import facts as ev
from gateway.events import fold as chat
from gateway.events.fold import ChatState, Elsewhere, Outside
from gateway.events.packing import PackedItem, Packs
from gateway.events.state_json import StateJson
from tests.unit.test_chat import GOLDEN, PARTS, FullDisk, Kept, event_of
from tests.unit.test_compaction import DATA, log_of


def folds() -> tuple[ChatState, ChatState]:
    """One that packs, and one that does not."""
    packing = ChatState("s1", overflow=Kept(), parts=tuple(part() for part in PARTS))
    return packing, ChatState("s1", parts=tuple(part() for part in PARTS))


def shown(fold: ChatState) -> Any:
    """What is drawn of a conversation."""
    return drawn(msgspec.json.encode(fold.snapshot()))


def drawn(snapshot: bytes) -> Any:
    """A snapshot without the empty answer, which may stand anywhere in it, since it is not drawn."""
    whole = json.loads(snapshot)
    whole["items"] = [item for item in whole["items"] if not item.get("is_placeholder")]
    return whole


def read(fold: ChatState, *, is_guest: bool = False) -> bytes:
    """The snapshot as it is sent, with a mark in the place of what is read from the log."""
    parts = fold.snapshot_parts(is_guest=is_guest)
    known = (msgspec.json.encode(part) if isinstance(part, Elsewhere) else part for part in parts)
    return b"".join(part if isinstance(part, bytes) else b"".join(part) for part in known)


@pytest.fixture(autouse=True)
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "HERE_ITEMS", 2)
    monkeypatch.setattr(chat, "RUN_ITEMS", 2)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_log_is_the_same_after_each_event(path: pathlib.Path) -> None:
    packing, plain = folds()
    for flat in json.loads(path.read_text())["events"]:
        for fold in (packing, plain):
            fold.apply(event_of(flat))
        assert shown(packing) == shown(plain)
        assert StateJson(packing).json(Outside()) == StateJson(plain).json(Outside())
    assert drawn(read(packing)) == drawn(read(plain))
    assert drawn(read(packing, is_guest=True)) == drawn(read(plain, is_guest=True))


@settings(max_examples=40, deadline=None)
@given(st.lists(DATA, max_size=16))
def test_what_changes_after_it_was_packed_keeps_its_place(data: list[ev.EventData]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat, "HERE_ITEMS", 2)
        patch.setattr(chat, "RUN_ITEMS", 2)
        packing, plain = folds()
        for event in log_of(data):
            packing.apply(event)
            plain.apply(event)
            assert shown(packing) == shown(plain)


def calls(fold: ChatState, count: int) -> None:
    fold.apply(ev.Event(1, 0, ev.TurnStarted("t", "u", "r")))
    for seq in range(2, count + 2):
        call = ev.ToolCall(f"c{seq}", "t", title="ls", status="completed", raw_output=Raw(b'{"n": 1.50}'))
        fold.apply(ev.Event.stored(seq, seq, ev.Event(seq, seq, call).body))


def allocated(count: int) -> int:
    """How many blocks of memory Python has more for so many calls."""
    fold = ChatState("s", overflow=Kept())
    gc.collect()
    before = sys.getallocatedblocks()
    calls(fold, count)
    gc.collect()
    return sys.getallocatedblocks() - before


def test_a_call_costs_no_object_once_it_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "HERE_ITEMS", 1_024)
    monkeypatch.setattr(chat, "RUN_ITEMS", 512)
    few, many = allocated(1_100), allocated(1_100 + 40 * 512)
    assert many - few < 2_000, (few, many)


def test_what_is_held_is_counted_down_and_up_again() -> None:
    packing, plain = folds()
    for fold in (packing, plain):
        calls(fold, 100)
    assert packing.held_bytes < plain.held_bytes
    before = packing.held_bytes
    packing.apply(ev.Event(200, 200, ev.ToolCall("c5", "t", status="failed")))
    assert packing.held_bytes > before
    assert packing.title_of_call("c5") == "ls"
    assert (packing.turn_of_call("c6"), packing.turn_of_call("c999")) == ("t", None)
    [call] = [item for item in packing.snapshot()["items"] if item["id"] == "c5"]
    assert json.loads(msgspec.json.encode(call))["status"] == "failed"
    assert bytes(call["raw_output"]) == b'{"n": 1.50}', "what an agent said is not decoded and encoded again"


def test_asking_about_a_packed_call_brings_nothing_back_into_memory() -> None:
    packing, plain = folds()
    for fold in (packing, plain):
        calls(fold, 100)
    held, before = packing.held_bytes, sys.getallocatedblocks()
    for seq in range(2, 102):
        for fold in (packing, plain):
            assert (fold.title_of_call(f"c{seq}"), fold.turn_of_call(f"c{seq}")) == ("ls", "t")
    assert packing.held_bytes == held
    assert sys.getallocatedblocks() - before < 200, "a call is ten objects"


def test_with_a_full_disk_everything_stays() -> None:
    full, plain = ChatState("s", overflow=FullDisk()), ChatState("s")
    for fold in (full, plain):
        calls(fold, 50)
    assert (full.held_bytes, shown(full)) == (plain.held_bytes, shown(plain))


def test_an_id_is_found_in_every_run_and_only_there() -> None:
    packs = Packs(Kept())
    for run in range(40):
        packs.add([PackedItem("tool_call", f"{run}.{n}", n, {"n": Raw(b"%d" % n)}) for n in range(5)])
    for run in range(40):
        found = packs.find("tool_call", f"{run}.3")
        assert found is not None
        assert (found.id, bytes(found.fields["n"])) == (f"{run}.3", b"3")
    assert packs.find("tool_call", "40.0") is None
    assert packs.find("notice", "0.0") is None
    assert [item.id for item in packs] == [f"{run}.{n}" for run in range(40) for n in range(5)]
