"""The commands of the built-in agent: they work with or without a model, and show every kind of ACP update.

Guarantees: a command's mistake is answered in plain words, never by an error; a command can be cancelled
between any two words; numbers are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from worker.agent import tour
from worker.agent.loop import Cancelled, RequestFailed
from worker.agent.tools import TOOLS
from worker.agent.turn import BuiltInTurn
from worker.agent.updates import new_call_id

COUNT_LIMIT: Final = 100_000
COUNT_MILLISECONDS: Final = 100
PAUSE_LIMIT_MILLISECONDS: Final = 60_000
BIG_LIMIT_BYTES: Final = 15 * 1024 * 1024
"""A line may have 16 MiB; the rest is for the envelope."""

PLAN_STEP_SECONDS: Final = 0.02

_COMMAND: Final = re.compile(r"\s*/([A-Za-z][\w-]*)(?:\s|$)")
_WORDS: Final = re.compile(r"\S+\s*|\s+")


class SlashCommand(msgspec.Struct, frozen=True):
    """One slash command; `hint` names its argument, empty if it takes none."""

    name: str
    hint: str
    description: str
    run: Callable[[BuiltInTurn, str], Awaitable[None]]


def find(text: str) -> tuple[str, str] | None:
    """A command's name and its argument, exactly as typed; None if `text` is no command."""
    match = _COMMAND.match(text)
    return (match[1], text[match.end() :]) if match else None


def available() -> list[dict[str, Any]]:
    """The commands as `available_commands_update` lists them."""
    return [
        {"name": c.name, "description": c.description} | ({"input": {"hint": c.hint}} if c.hint else {})
        for c in COMMANDS.values()
    ]


async def unknown(turn: BuiltInTurn, name: str) -> None:
    turn.updates.say(f"There is no command /{name}. /help lists the commands.")


async def _echo(turn: BuiltInTurn, text: str) -> None:
    if not text:
        turn.updates.say("Nothing to echo. Usage: /echo TEXT")
    for word in _WORDS.findall(text):
        turn.updates.say(word)
        await turn.io.sleep(0)


async def _count(turn: BuiltInTurn, text: str) -> None:
    numbers = [int(word) for word in text.split() if word.isdecimal() and len(word) < 10]
    if len(numbers) != len(text.split()) or len(numbers) not in (1, 2) or numbers[0] > COUNT_LIMIT:
        turn.updates.say(f"Usage: /count N [MS], with N from 0 to {COUNT_LIMIT}.")
        return
    pause = min([*numbers[1:], COUNT_MILLISECONDS][0], PAUSE_LIMIT_MILLISECONDS) / 1000
    for number in range(1, numbers[0] + 1):
        turn.updates.say(str(number) if number == 1 else f" {number}")
        if number < numbers[0]:
            await turn.io.sleep(pause)


async def _think(turn: BuiltInTurn, text: str) -> None:
    for word in _WORDS.findall(text or "The user wants to see me think. I am thinking."):
        turn.updates.think(word)
        await turn.io.sleep(0)
    turn.updates.say("I have thought about it.")


async def _plan(turn: BuiltInTurn, text: str) -> None:
    steps = ["Read the request", "Do the work", "Report the result"]
    for done in range(len(steps) + 1):
        for current in ("pending", "in_progress") if done < len(steps) else ("",):
            later = ["completed"] * done + [current] + ["pending"] * len(steps)
            turn.updates.plan(list(zip(steps, later, strict=False)))
            await turn.io.sleep(PLAN_STEP_SECONDS)
    turn.updates.say("The plan is done.")


async def _tool(turn: BuiltInTurn, text: str) -> None:
    name, argument = (*text.split(maxsplit=1), "", "")[:2]
    offered = {*TOOLS, *await turn.remote.all()}
    if name not in offered:
        known = ", ".join(sorted(offered))
        turn.updates.say(f"There is no tool {name}. Tools: {known}." if name else f"Tools: {known}.")
        return
    arguments = _json_object(argument or "{}")
    if arguments is None:
        turn.updates.say(f"That is not a JSON object. Usage: /tool {name} " + '{"name": "value"}')
        return
    turn.updates.say(await turn.run_tool(name, arguments))


async def _permission(turn: BuiltInTurn, text: str) -> None:
    title = text.strip() or "May I?"
    tool_call = {"toolCallId": new_call_id(), "title": title, "kind": "other", "status": "pending"}
    try:
        choice = await turn.updates.ask(tool_call)
    except RequestFailed as error:
        turn.updates.say(f"The question could not be asked: {error.message}")
        return
    turn.updates.say(_CHOICES[choice])
    if choice == "cancelled":
        raise Cancelled


async def _question(turn: BuiltInTurn, text: str) -> None:
    try:
        action, answer = await turn.updates.ask_question(text.strip() or "What is your answer?", "Answer")
    except RequestFailed as error:
        turn.updates.say(f"The question could not be asked: {error.message}")
        return
    if action == "cancel":
        turn.updates.say("The question was cancelled.")
        raise Cancelled
    turn.updates.say(f"You answered: {answer}" if action == "accept" else "You declined to answer.")


async def _big(turn: BuiltInTurn, text: str) -> None:
    size = text.strip()
    if not size.isdecimal() or len(size) > 12 or not 0 < int(size) <= BIG_LIMIT_BYTES:
        turn.updates.say(f"Usage: /big BYTES, with BYTES from 1 to {BIG_LIMIT_BYTES}.")
        return
    turn.updates.say("x" * int(size))
    await turn.io.sleep(0)


async def _wallet(turn: BuiltInTurn, text: str) -> None:
    transaction = _json_object(text)
    if transaction is None:
        turn.updates.say('That is not a transaction. Usage: /wallet {"to": "…", "value": "…"}')
        return
    turn.io.notify("_session/wallet", {"sessionId": turn.session.id, "transaction": transaction})
    turn.updates.say("I sent the transaction to your wallet and wait for its result.")


async def _tour(turn: BuiltInTurn, text: str) -> None:
    await tour.play(turn)


async def _help(turn: BuiltInTurn, text: str) -> None:
    lines = [f"- `/{f'{c.name} {c.hint}'.strip()}`: {c.description}" for c in COMMANDS.values()]
    turn.updates.say("Commands of the built-in agent:\n\n" + "\n".join(lines))


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(text.encode(), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None


_CHOICES: Final = {
    "allow_once": "You allowed it once (allow_once).",
    "allow_always": "You allowed it for good (allow_always).",
    "reject_once": "You rejected it (reject_once).",
    "reject_always": "You rejected it for good (reject_always).",
    "cancelled": "The question was cancelled.",
}

COMMANDS: Final[dict[str, SlashCommand]] = {
    command.name: command
    for command in (
        SlashCommand("help", "", "lists the commands", _help),
        SlashCommand("tour", "", "shows what a session can do, in fifteen seconds", _tour),
        SlashCommand("echo", "TEXT", "streams TEXT back, word by word", _echo),
        SlashCommand("count", "N [MS]", "counts to N, a number every MS milliseconds", _count),
        SlashCommand("think", "[TEXT]", "thinks aloud, then answers", _think),
        SlashCommand("plan", "", "shows a plan and works through it", _plan),
        SlashCommand("tool", "NAME JSON", f"runs a tool: {', '.join(TOOLS)}", _tool),
        SlashCommand("permission", "QUESTION", "asks for your permission and tells your choice", _permission),
        SlashCommand("question", "QUESTION", "asks you a question and tells your answer", _question),
        SlashCommand("big", "BYTES", "answers with one message of BYTES bytes", _big),
        SlashCommand("wallet", "JSON", "sends a transaction to your wallet", _wallet),
    )
}
