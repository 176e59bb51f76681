"""What agents that nobody here wrote can do behind the gateway, tried out: one row an agent, one column each
thing that a person or an operator does with it.

    python -m tests.agent_matrix                       # all agents; rewrites the table of docs/agents.md
    python -m tests.agent_matrix --only codex kimi     # these rows
    python -m tests.agent_matrix --columns image file  # these columns; the others stay

Guarantees: agents, processes, files and the gateway are real, the agents are as their registries have them,
and their models are mocks behind the gateway's own providers. A cell is green only if the gateway showed what
it claims. Every other cell says in words what was seen.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import json
import pathlib
import re
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from tests import agent_files
from tests.agent_trials import (
    CASES,
    SECOND,
    TURN_SECONDS,
    Case,
    Red,
    Trial,
    answers,
    last_words,
    model_of,
    offered,
)
from tests.fake_model import Behaviour, fake_model
from tests.gateways import ROOT
from tests.real_agents import AGENTS, PINS, AgentUnavailable

BLIND: Final = "blind"
"""How the reason begins if a person was asked without being shown what for."""
MODELS: Final = 4
"""So many of an agent's models are chosen, until one of them is called."""
HEADINGS: Final = {
    "permission": "permission, its body seen first",
    "question": "question",
    "mode": "mode",
    "model": "model, seen in the next call",
    "deny": "denied by rule, without a prompt",
    "interrupt": "interrupt",
    "revive": "revived after a kill",
    "image": "image in, seen in the next call",
    "file": "file out, byte for byte",
    "fork": "fork, both branches with other files",
}
COLUMNS: Final = tuple(HEADINGS)
DOCUMENT: Final = ROOT / "docs" / "agents.md"
BEGIN, END = "<!-- agents: begin -->", "<!-- agents: end -->"
"""The table is between them; this module writes it."""
ASKS: Final = re.compile(r"ask_?user|question|user_input|elicit", re.IGNORECASE)
"""How tools are called by which a model asks its user."""


# -- the columns ---------------------------------------------------------------------------------------------


async def permission(trial: Trial) -> str:
    """A person is asked before a command runs, and sees the command before the answer."""
    state = await trial.say("asks", trial.command("touch made-by-agent"))
    pending = state.get("pending_permission")
    if pending is None:
        if trial.made("made-by-agent"):
            raise Red("runs commands without asking anyone")
        raise Red(f"asked nobody and ran nothing; it said: {last_words(state)}")
    if trial.made("made-by-agent"):
        raise Red("asked after the command had run")
    shown = [
        frame.data
        for frame in await trial.events("asks")
        if frame.event == "tool_call" and frame.data["tool_call_id"] == pending.get("tool_call_id")
    ]
    body = [(call.get("raw_input"), call.get("content")) for call in shown]
    if "touch made-by-agent" not in json.dumps([pending["title"], *body]):
        raise Red(f"{BLIND}: neither the request nor what came before it says which command it is")
    await trial.allow("asks", pending)
    state = await trial.finish("asks")
    if not trial.made("made-by-agent"):
        raise Red(f"was allowed and did not run the command; it said: {last_words(state)}")
    return "seen, then allowed"


async def question(trial: Trial) -> str:
    """A question of the agent's reaches its user, and the answer its model."""
    tools = {name for request in trial.model.requests for name in offered(request)}
    asking = sorted(name for name in tools if ASKS.search(name))
    if not asking:
        raise Red("gives its model no tool to ask with, over ACP")
    if trial.case.asks_in is not None:
        await trial.say("questions", "hello there")
        name, value = trial.case.asks_in
        await trial.choose("questions", {"option_id": name}, value)
    state = await trial.say("questions", f"call {asking[0]} {json.dumps(trial.case.question)}")
    permissions = 0
    while (pending := state.get("pending_permission")) is not None:
        permissions += 1
        if any("Postgres" in option["name"] for option in pending["options"]):
            return await _question_by_permission(trial, pending)
        await trial.allow("questions", pending)
        state = await trial.goes_on("questions", pending)
    if not state["questions"] and permissions:
        raise Red(f"`{asking[0]}` asks for a permission, which has no place for the answer")
    if not state["questions"]:
        raise Red(f"`{asking[0]}` asked nobody; it said: {last_words(state)}")
    found = state["questions"][0]
    content = {
        one["name"]: ["Postgres"] if one["kind"] == "choices" else "Postgres"
        for one in found["fields"]
        if any(choice["value"] == "Postgres" for choice in one.get("choices", ()))
    }
    path = f"/api/sessions/questions/questions/{found['question_id']}"
    trial.model.requests.clear()
    await trial.gateway.post(path, {"action": "accept", "content": content})
    await trial.finish("questions")
    heard = [json.dumps(request.body) for request in trial.model.requests]
    if not any(text.count("Postgres") > text.count("SQLite") for text in heard):
        raise Red("the answer did not reach its model")
    return "asked as a form, answered"


async def _question_by_permission(trial: Trial, pending: Any) -> str:
    """Some agents ask in a permission request whose options are the answers."""
    chosen = next(o for o in pending["options"] if "Postgres" in o["name"])
    body = {"permission_id": pending["permission_id"], "option_id": chosen["option_id"]}
    await trial.gateway.post("/api/sessions/questions/permission", body)
    await trial.finish("questions")
    return "asked as a permission, answered"


async def mode(trial: Trial) -> str:
    """A person chooses another mode, and the agent is in it."""
    await trial.say("modes", "hello there")
    option = (await trial.options("modes")).get("mode")
    others = [c["value"] for c in option["choices"] if c["value"] != option["value"]] if option else []
    if option is None or not others:
        raise Red("has one mode")
    await trial.choose("modes", option, others[0])
    state = await trial.say("modes", "hello again")
    if state["options"][option["option_id"]] != others[0]:
        raise Red(f"left the mode {others[0]} by itself")
    await trial.choose("modes", option, option["value"])
    return f"{option['value']} to {others[0]}"


async def model(trial: Trial) -> str:
    """A person chooses another model, and the next call upstream is for it."""
    await trial.say("models", "hello there")
    before = model_of(trial.model.requests[-1])
    option = (await trial.options("models")).get("model")
    others = [c["value"] for c in option["choices"] if c["value"] != option["value"]] if option else []
    if option is None or not others:
        raise Red("offers one model: it takes the list from its maker's service or from its own settings")
    tried = others[:MODELS]
    for number, value in enumerate(tried):
        session_id = f"models-{number}"
        with contextlib.suppress(Red):
            await trial.say(session_id, "hello there")
            await trial.choose(session_id, option, value)
            trial.model.requests.clear()
            await trial.say(session_id, "hello again")
        called = {model_of(request) for request in trial.model.requests}
        if called and before not in called:
            return f"{before} to {sorted(called)[0]}"
    raise Red(f"chose {', '.join(tried)}; it went on calling {before}")


async def deny(trial: Trial) -> str:
    """A rule of the operator denies a command without asking anyone."""
    state = await trial.say("denied", trial.command("touch forbidden"))
    if state.get("pending_permission") is not None:
        raise Red("says its command in prose only, which no rule reads: a person is asked")
    if trial.made("forbidden"):
        raise Red("runs commands without asking, so no rule is read")
    ruled = [
        frame.data["rule"]["rule_id"]
        for frame in await trial.events("denied")
        if frame.event == "permission_answered" and frame.data.get("rule")
    ]
    if ruled != ["permissions.deny.1"]:
        raise Red(f"no rule answered; it said: {last_words(state)}")
    return "denied, nobody asked"


async def interrupt(trial: Trial) -> str:
    """A turn is cut while the model is silent, and the next one works."""
    trial.model.behaviour = Behaviour(silent_after=1)
    trial.model.requests.clear()
    try:
        await trial.gateway.send("cut", "hello there", agent="real")
        await asyncio.wait_for(_answering(trial), TURN_SECONDS)
        began = asyncio.get_running_loop().time()
        await trial.gateway.post("/api/interrupt", {"session_id": "cut"})
        await trial.finish("cut")
        seconds = asyncio.get_running_loop().time() - began
    finally:
        trial.model.behaviour = Behaviour()
    ended = [f.event for f in await trial.events("cut") if f.event in ("turn_ended", "turn_interrupted")]
    if ended[-1:] != ["turn_ended"]:
        raise Red("did not stop when it was told to; its process was ended")
    state = await trial.say("cut", "hello once more")
    if "hello once more" not in json.dumps(trial.model.requests[-1].body):
        raise Red(f"did nothing after it was interrupted; it said: {last_words(state)}")
    return f"{seconds:.1f} s"


async def _answering(trial: Trial) -> None:
    """Until the agent has asked its model for the answer, not for a title alone."""
    while all(model_of(request) == SECOND for request in trial.model.requests):
        trial.model.received.clear()
        await trial.model.received.wait()


async def revive(trial: Trial) -> str:
    """After a kill of the gateway the conversation goes on, with the options that were chosen."""
    await trial.say("revived", "remember the word xylophone")
    chosen: dict[str, str] = {}
    listed = await trial.options("revived")
    for option in listed.values():
        others = [c["value"] for c in option.get("choices", ()) if c["value"] != option["value"]]
        if option["category"] == "mode" and others and not option.get("is_locked"):
            await trial.choose("revived", option, others[0])
            chosen[option["option_id"]] = others[0]
    await trial.stop(signal.SIGKILL)
    await trial.start()
    trial.model.requests.clear()
    state = await trial.say("revived", "hello again")
    if not any("xylophone" in json.dumps(request.body) for request in trial.model.requests):
        raise Red(f"forgot the conversation; it said: {last_words(state)}")
    left = {name: state["options"].get(name) for name in chosen}
    if left != chosen:
        raise Red(f"{chosen} was chosen, {left} came back")
    for option in listed.values():  # for its person's next sessions
        if option["option_id"] in chosen:
            await trial.choose("revived", option, option["value"])
    how = [f.data["how"] for f in await trial.events("revived") if f.event == "agent_started"]
    return f"{how[-1]}{', with its mode' if chosen else ''}"


# In this order: what is chosen in one session is remembered for the next.
TRIALS: Final[dict[str, Callable[[Trial], Awaitable[str]]]] = {
    "permission": permission,
    "deny": deny,
    "interrupt": interrupt,
    "image": agent_files.image,
    "file": agent_files.file,
    "fork": agent_files.fork,
    "mode": mode,
    "question": question,
    "revive": revive,
    "model": model,
}


# -- the table -----------------------------------------------------------------------------------------------


@dataclass
class Row:
    """What came of one agent: a cell a column, green or the words of why not."""

    case: Case
    cells: dict[str, tuple[bool, str]] = field(default_factory=dict)
    missing: str = ""
    """Why it cannot be had; empty: it was tried."""


async def tried(case: Case, directory: pathlib.Path, columns: Sequence[str] = COLUMNS) -> Row:
    """One agent through these columns."""
    row = Row(case)
    try:
        launch = await asyncio.to_thread(AGENTS[case.name], "http://127.0.0.1:9/v1")
    except AgentUnavailable as error:
        row.missing = str(error)
        return row
    async with fake_model() as model:
        model.script = answers
        trial = Trial(case, launch, model, directory)
        await trial.start()
        try:
            for column in (name for name in TRIALS if name in columns):
                row.cells[column] = await cell(trial, column)
                sys.stderr.write(f"{case.name} {column}: {row.cells[column][1]}\n")
        finally:
            await trial.stop()
    return row


async def cell(trial: Trial, column: str) -> tuple[bool, str]:
    """Whether it is green, and the words in it."""
    try:
        return True, await TRIALS[column](trial)
    except Red as red:
        return False, str(red)
    except (TimeoutError, AssertionError, aiohttp.ClientError) as error:
        return False, f"failed: {' '.join(str(error).split())[:200] or type(error).__name__}"


def line_of(row: Row, today: str, before: str = "") -> str:
    """The row in the table, with the cells of columns that were not tried now as they were `before`; what
    cannot be had says why in its first cell.
    """
    old = [cell.strip() for cell in before.strip("|").split(" | ")[3:]]
    cells = dict(zip(COLUMNS, old, strict=False))
    cells |= {column: _written(*row.cells[column]) for column in COLUMNS if column in row.cells}
    if row.missing:
        cells = {COLUMNS[0]: f"not tried: {row.missing}"}
    told = " | ".join(cells.get(column, "") for column in COLUMNS)
    return f"| {row.case.title} | `{PINS[row.case.name]}` | {today} | {told} |"


def _written(is_green: bool, words: str) -> str:
    return f"{'yes' if is_green else '**no**'}: {words}".replace("|", "\\|")


def rewritten(text: str, lines: Mapping[str, str]) -> str:
    """The document with these rows in its table, by the agents' titles, and the counts below it."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    old = lines_of(text)
    rows = [lines.get(case.title) or old.get(case.title, "") for case in CASES]
    rows = [row for row in rows if row]
    head = f"| agent | version | tried | {' | '.join(HEADINGS[column] for column in COLUMNS)} |"
    counts = (
        f"{blind(rows)} Green: {sum(row.count('| yes: ') for row in rows)} of {len(rows) * len(COLUMNS)}."
    )
    table = "\n".join((head, f"|{'---|' * (len(COLUMNS) + 3)}", *rows, "", counts))
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def lines_of(text: str) -> dict[str, str]:
    """The rows of the document's table, by the agents' titles."""
    table = text.partition(BEGIN)[2].partition(END)[0]
    return {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("| ")}


def blind(rows: Sequence[str]) -> str:
    """How many agents have a person approve what is not shown, in words."""
    return f"Blind approvals: {sum(f'**no**: {BLIND}' in row for row in rows)} of {len(rows)}."


async def main(names: Sequence[str], columns: Sequence[str]) -> None:
    """Tries these agents, and writes their rows."""
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    for case in CASES:
        if names and case.name not in names:
            continue
        with tempfile.TemporaryDirectory() as directory:
            row = await tried(case, pathlib.Path(directory), columns or COLUMNS)
        text = DOCUMENT.read_text()
        line = line_of(row, today, lines_of(text).get(case.title, "") if columns else "")
        sys.stdout.write(f"{line}\n")
        DOCUMENT.write_text(rewritten(text, {case.title: line}))
    found = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("Blind approvals")]
    sys.stdout.write(f"{found[0]}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Tries agents behind the gateway; writes docs/agents.md.")
    parser.add_argument("--only", nargs="+", default=[], choices=sorted(AGENTS), metavar="AGENT")
    parser.add_argument("--columns", nargs="+", default=[], choices=COLUMNS, metavar="COLUMN")
    given = parser.parse_args()
    asyncio.run(main(given.only, given.columns))
