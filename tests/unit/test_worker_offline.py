"""The offline model's words, and the arithmetic behind them."""

from __future__ import annotations

import pytest

from worker.agent.arithmetic import NotArithmetic, evaluate
from worker.agent.offline import answer


def say(*lines: str) -> str:
    return answer(
        [{"role": "system", "content": "built in"}, *({"role": "user", "content": t} for t in lines)]
    )


@pytest.mark.parametrize(
    ("said", "part"),
    [
        ("hello", "Hello!"),
        ("Hi there!", "Hello!"),
        ("How are you?", "Fine"),
        ("what can you do", "/help"),
        ("Who are you?", "offline model"),
        ("are you a robot?", "offline model"),
        ("thanks!", "welcome"),
        ("bye", "Goodbye"),
        ("what time is it?", ":"),
        ("2+2", "**4**"),
        ("What is (2 + 3) * 4?", "**20**"),
        ("1/0", "zero"),
        ("which model is this", "AGENT_MODEL_URL"),
        ("", "empty"),
        ("hello, explain the theory of relativity to me", "no language model is connected"),
        ("2026", "no language model is connected"),
        ("מה שלומך?", "AGENT_MODEL_URL"),
    ],
)
def test_small_talk(said: str, part: str) -> None:
    assert part in say(said)


def test_a_name_is_remembered_within_the_conversation() -> None:
    assert "not told" in say("what is my name?")
    assert "Ada" in say("My name is Ada.")
    assert say("my name is Ada", "what's my name?") == "Your name is Ada."
    assert say("my name is Ada", "no, my name is Grace Hopper", "do you know my name") == (
        "Your name is Grace Hopper."
    )


def test_a_long_message_is_quoted_in_part() -> None:
    assert len(say("why " * 10_000)) < 1_000


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", "7"),
        ("-(2 ** 10)", "-1024"),
        ("7 // 2", "3"),
        ("7 % 4", "3"),
        ("1 / 4", "0.25"),
        ("0**9", "0"),
    ],
)
def test_arithmetic(expression: str, value: str) -> None:
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9",
        "2**4097",
        "10.0**1000",
        "(-8)**0.5",
        "1/0",
        "__import__('os')",
        "a",
        "'a'*9",
        "True+1",
        "1j",
        "[1]",
        "(" * 400 + "1" + ")" * 90,
        "1" * 501,
        "",
        "1;2",
        "2**4000 * 2**4000",
    ],
)
def test_what_is_not_arithmetic_is_refused_in_words(expression: str) -> None:
    with pytest.raises(NotArithmetic, match=r"\.$"):
        evaluate(expression)
