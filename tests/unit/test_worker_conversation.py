"""The history stays bounded and well-formed; prompts are sorted into what the user and the gateway said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.agent.conversation import (
    CHARACTERS_PER_TOKEN,
    HISTORY_MESSAGES,
    HISTORY_TOKENS,
    History,
    ModelMessage,
    read_prompt,
)

HISTORY_CHARACTERS = HISTORY_TOKENS * CHARACTERS_PER_TOKEN


def user(text: str) -> ModelMessage:
    return {"role": "user", "content": text}


def tool_round(call_id: str, output: str) -> list[ModelMessage]:
    function = {"name": "calculate", "arguments": "{}"}
    calls = [{"id": call_id, "type": "function", "function": function}]
    called: ModelMessage = {"role": "assistant", "content": None, "tool_calls": calls}
    return [called, {"role": "tool", "tool_call_id": call_id, "content": output}]


def test_the_number_of_messages_is_bounded_and_the_oldest_go_first() -> None:
    history = History()
    for number in range(HISTORY_MESSAGES + 50):
        history.add(user(str(number)))
    assert len(history.messages) == HISTORY_MESSAGES
    assert history.messages[-1] == user(str(HISTORY_MESSAGES + 49))
    assert history.messages[0] == user("50")


def test_characters_are_bounded_and_system_messages_stay() -> None:
    history = History()
    history.add({"role": "system", "content": "rule"})
    for _ in range(10):
        history.add(user("x" * (HISTORY_CHARACTERS // 4)))
    assert sum(len(message["content"]) for message in history.messages) <= HISTORY_CHARACTERS
    assert history.messages[0]["content"] == "rule"


def test_a_question_larger_than_the_bound_is_still_asked() -> None:
    history = History()
    history.add({"role": "system", "content": "rule"})
    history.add(user("x" * HISTORY_CHARACTERS * 2))
    assert [message["role"] for message in history.messages] == ["user"]


def test_a_models_context_bounds_the_history_and_what_no_longer_fits_is_counted() -> None:
    history = History(context_tokens=100)
    for number in range(10):
        history.add(user(f"{number}" * 40))
    assert [message["content"][0] for message in history.messages] == list("3456789")
    assert history.forgotten == 3
    assert len("ש" * 40) == 40
    history.add(user("ש" * 40))
    assert [message["content"][0] for message in history.messages] == list("56789ש")


@given(st.lists(st.tuples(st.sampled_from(["user", "tools"]), st.integers(0, 200_000)), max_size=30))
def test_a_tools_answer_never_stays_without_its_call(steps: list[tuple[str, int]]) -> None:
    history = History()
    for number, (kind, size) in enumerate(steps):
        if kind == "user":
            history.add(user("x" * size))
        else:
            history.add(*tool_round(str(number), "x" * size))
        called = {c["id"] for message in history.messages for c in message.get("tool_calls", ())}
        answered = {m["tool_call_id"] for m in history.messages if m["role"] == "tool"}
        assert called == answered


@pytest.mark.parametrize(
    ("answer", "keep", "expected"),
    [("half", True, ["q", "half"]), ("", True, ["q"]), ("", False, []), ("half", False, ["q", "half"])],
)
def test_a_cut_turn_keeps_what_was_shown(answer: str, keep: bool, expected: list[str]) -> None:
    history = History()
    question = user("q")
    history.add(question)
    history.add(*tool_round("c", "output"))
    history.settle(question, answer, keep_question=keep)
    assert [message["content"] for message in history.messages] == expected


def test_blocks_are_sorted() -> None:
    meta = {"_meta": {"agent-gateway": {"kind": "system"}}}
    transcript = '{"role": "user", "content": "a"}\nbroken\n{"role": "tool", "content": "b"}\n'
    prompt = read_prompt(
        [
            {"type": "text", "text": "rule", **meta},
            {
                "type": "text",
                "text": transcript,
                "_meta": {"agent-gateway": {"kind": "transcript"}},
            },
            {"type": "text", "text": "see "},
            {"type": "resource_link", "name": "n", "uri": "file:///n"},
            {"type": "image", "data": "", "mimeType": "image/png"},
            {"type": "resource", "resource": {"uri": "file:///r", "text": "inside"}},
        ]
    )
    assert prompt.system == ("rule",)
    assert prompt.transcript is not None
    assert [(said.role, said.content) for said in prompt.transcript] == [("user", "a")]
    assert prompt.text.startswith("see \n[n](file:///n)\n[image")
    assert "inside" in prompt.text


@pytest.mark.parametrize(
    "block", [{}, {"type": None}, {"type": "text", "_meta": 7}, {"type": "resource", "resource": None}]
)
def test_odd_blocks_do_not_raise(block: dict[str, Any]) -> None:
    assert read_prompt([block]).system == ()
