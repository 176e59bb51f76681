"""The offline model: answers by rules, and says so.

Guarantees: it never pretends to be a language model; it answers without a network and in the shape of every
other model, a stream of deltas; a word takes at most `WORD_SECONDS`. What it remembers, it reads from the
conversation, so it survives a revival. If it has the shop's tools, it understands shopping sentences
(`worker.agent.shopping`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from time import localtime, strftime
from typing import Final

import msgspec

from worker.agent.arithmetic import NotArithmetic, evaluate
from worker.agent.conversation import ModelMessage
from worker.agent.loop import Io
from worker.agent.model import Delta, EndpointRequest, Finish, OnDelta, ToolFragment
from worker.agent.shopping import ShoppingStep, next_step

WORD_SECONDS: Final = 0.004
"""Slow enough to look like a stream, fast enough for nobody to wait."""

QUOTED_CHARACTERS: Final = 300

CONNECT: Final = (
    "To connect a language model set `AGENT_MODEL_URL` and `AGENT_MODEL` (and `AGENT_MODEL_KEY` or "
    "`OPENAI_API_KEY` if it wants a key), or run another agent with `--agent`."
)
ABOUT: Final = (
    "I am the built-in agent of Agent Gateway, with the **offline model**: a few rules, no language model. "
)
CAPABILITIES: Final = (
    ABOUT
    + "I can talk a little, do arithmetic, tell the time, remember your name in this conversation, and run "
    "the commands that `/help` lists: echo, count, think, plan, tools, permissions. " + CONNECT
)

_HEBREW: Final = re.compile("[\u0590-\u05ff]")
_WORDS: Final = re.compile(r"\s*\S+\s*")
_NAME: Final = re.compile(r"\bmy name is ([^\s.,!?;:]+(?: [A-Z][^\s.,!?;:]*)*)", re.IGNORECASE)
_EXPRESSION: Final = re.compile(
    r"(?:what(?:'s| is)|calculate|compute|how much is)?\s*([-+*/%().\d\s]+?)\s*[=?]*"
)

Rule = Callable[[str, list[ModelMessage]], str]


class OfflineModel:
    """Answers when no model is connected."""

    understands_language = False
    takes_images = False
    context_tokens: int | None = None

    def __init__(self, io: Io) -> None:
        self._io = io

    async def stream(self, request: EndpointRequest, on_delta: OnDelta) -> Finish:
        step = next_step(request.messages) if request.tools else None
        if isinstance(step, ShoppingStep):
            arguments = msgspec.json.encode(step.arguments).decode()
            on_delta(Delta(tool_calls=(ToolFragment(0, None, step.name, arguments),)))
            return Finish("tool_calls")
        for word in _WORDS.findall(step or answer(request.messages)):
            on_delta(Delta(text=word))
            await self._io.sleep(WORD_SECONDS)
        return Finish("stop")


def answer(messages: list[ModelMessage]) -> str:
    """The answer to the last user message of a conversation."""
    said = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "").strip()
    if _HEBREW.search(said):
        return _hebrew(said)
    for pattern, rule in _RULES:
        if pattern.search(said):
            return rule(said, messages)
    return _arithmetic(said) or _plain(said)


def _plain(said: str) -> str:
    quoted = said if len(said) <= QUOTED_CHARACTERS else said[:QUOTED_CHARACTERS] + "…"
    return (
        "I am the offline model: no language model is connected, so I cannot really answer this. "
        f"I understood: “{quoted}”. The commands I know are listed by `/help`. {CONNECT}"
    )


def _hebrew(said: str) -> str:
    return (
        "אני המודל הלא־מקוון של Agent Gateway: לא מחובר כאן מודל שפה, ולכן אינני יכול לענות באמת. "
        f"קיבלתי: „{said[:QUOTED_CHARACTERS]}”. הפקודה `/help` מציגה מה אני יודע לעשות; "
        "כדי לחבר מודל יש להגדיר `AGENT_MODEL_URL` ו־`AGENT_MODEL`."
    )


def _arithmetic(said: str) -> str | None:
    match = _EXPRESSION.fullmatch(said.lower())
    if match is None or not re.search(r"\d\s*[-+*/%]", match[1]):
        return None
    try:
        return f"{match[1].strip()} = **{evaluate(match[1])}**"
    except NotArithmetic as error:
        return str(error)


def _name(messages: list[ModelMessage]) -> str | None:
    found = (_NAME.search(m["content"]) for m in reversed(messages) if m["role"] == "user")
    return next((match[1] for match in found if match), None)


def _greet(said: str, messages: list[ModelMessage]) -> str:
    name = _name(messages)
    return f"Hello{', ' + name if name else ''}! {ABOUT}Try `/help`."


def _recall_name(said: str, messages: list[ModelMessage]) -> str:
    name = _name(messages)
    return f"Your name is {name}." if name else "You have not told me your name in this conversation."


def _learn_name(said: str, messages: list[ModelMessage]) -> str:
    return f"Nice to meet you, {_name(messages)}. I will remember that in this conversation."


def _notes(said: str, messages: list[ModelMessage]) -> str:
    notes = [m["content"] for m in messages[1:] if m["role"] == "system"]
    if not notes:
        return "I was given no system messages in this conversation."
    return "System messages in this conversation:\n\n" + "\n".join(f"- {note}" for note in notes)


def _fixed(text: str) -> Rule:
    return lambda said, messages: text


def _rules(*rules: tuple[str, Rule]) -> list[tuple[re.Pattern[str], Rule]]:
    return [(re.compile(pattern, re.IGNORECASE), rule) for pattern, rule in rules]


_RULES: Final = _rules(
    (r"^$", _fixed("The message was empty. Type something, or `/help`.")),
    (r"\b(what('s| is)|do you (know|remember)) my name\b", _recall_name),
    (r"\bmy name is \w", _learn_name),
    (r"\bsystem (messages?|notes?|prompt)\b|\bwhat were you told\b", _notes),
    (r"\bhow are you\b|\bhow('s| is) it going\b", _fixed("Fine, thank you. I am a few rules, and all hold.")),
    (r"\b(what|who) are you\b|\bare you (a |an )?(human|robot|bot|real|ai)\b", _fixed(ABOUT + CONNECT)),
    (r"\bwhat('s| is) your name\b", _fixed(ABOUT)),
    (r"\bwhat can you do\b|^help\W*$|\bhow do you work\b|\babout yourself\b", _fixed(CAPABILITIES)),
    (
        r"\b(connect|configure|set up|use) (a|the|your|my)? ?(language )?model\b|\bwhich model\b",
        _fixed(CONNECT),
    ),
    (
        r"\bwhat time\b|\bwhat('s| is) the time\b",
        lambda said, _: f"It is {strftime('%H:%M:%S %Z', localtime())}.",
    ),
    (
        r"\bwhat('s| is) the date\b|\bwhat day\b",
        lambda said, _: f"It is {strftime('%A, %d %B %Y', localtime())}.",
    ),
    (r"^(ok |okay )?(many )?thank(s| you)\b", _fixed("You are welcome.")),
    (
        r"^(good)?bye\b|^see you\b|^good night\b",
        _fixed("Goodbye! The conversation stays here if you come back."),
    ),
    (r"^(hello|hi|hey|shalom|good (morning|afternoon|evening))(\W+\w+){0,2}\W*$", _greet),
)
