"""What agents that nobody here wrote can do behind the gateway, tried out: one row an agent, one column each
thing that a person or an operator does with it.

    python -m tests.agent_matrix                       # all agents; rewrites the table of docs/agents.md
    python -m tests.agent_matrix --only codex kimi     # these rows

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

from tests.fake_model import Behaviour, FakeModel, Request, fake_model, reply
from tests.gateways import ROOT, RunningGateway, running_gateway
from tests.real_agents import AGENTS, OPENHANDS_ENV, PINS, AgentUnavailable, Launch, openhands_settings
from tests.streams import open_stream, state_when

TURN_SECONDS: Final = 90
KEY: Final = "sk-for-the-mock-only"
FIRST, SECOND = "fake-large", "fake-mini"
"""Models of the provider, for agents that have no list of their own."""
BLIND: Final = "blind"
"""How the reason begins if a person was asked without being shown what for."""
MODELS: Final = 4
"""So many of an agent's models are chosen, until one of them is called."""
COLUMNS: Final = ("permission", "question", "mode", "model", "deny", "interrupt", "revive")
HEADINGS: Final = {
    "permission": "permission, its body seen first",
    "question": "question",
    "mode": "mode",
    "model": "model, seen in the next call",
    "deny": "denied by rule, without a prompt",
    "interrupt": "interrupt",
    "revive": "revived after a kill",
}
DOCUMENT: Final = ROOT / "docs" / "agents.md"
BEGIN, END = "<!-- agents: begin -->", "<!-- agents: end -->"
"""The table is between them; this module writes it."""
ASKS: Final = re.compile(r"ask_?user|question|user_input|elicit", re.IGNORECASE)
"""How tools are called by which a model asks its user."""
_SHELL: Final = ("/bin/sh", "-c")


class Red(Exception):
    """A cell that is not green; the text says what was seen."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """How one agent is set up, and what its tools are called."""

    name: str
    title: str
    dialect: str
    tool: str
    """Runs a command."""
    command: str = "command"
    """The argument that holds it."""
    more: dict[str, Any] = field(default_factory=dict)
    """Further arguments that the tool wants."""
    settings: str = ""
    """Of `[agents.real]`."""
    question: dict[str, Any] = field(default_factory=dict)
    """The arguments of its question tool."""
    asks_in: tuple[str, str] | None = None
    """The option and its value with which it asks; None: with any."""


ASKED: Final = {
    "question": "Which database shall I use?",
    "header": "Database",
    "options": [
        {"label": "Postgres", "description": "on a server"},
        {"label": "SQLite", "description": "in a file"},
    ],
}
QUESTIONS: Final[dict[str, Any]] = {"questions": [ASKED]}
_OPENHANDS: Final = (
    "env = { " + ", ".join(f'{name} = "{value}"' for name, value in OPENHANDS_ENV.items()) + " }\n"
    'home_files = { ".openhands/agent_settings.json" = '
    f"'{openhands_settings('{model}', '{base}/openai/v1', '{token}')}' }}"
)
CASES: Final = (
    Case(
        name="claude", title="Claude", dialect="messages", tool="Bash", more={"description": "d"},
        settings='preset = "claude"', question={"questions": [ASKED | {"multiSelect": False}]},
    ),
    Case(
        name="codex", title="Codex", dialect="responses", tool="exec_command", command="cmd",
        more={"sandbox_permissions": "require_escalated", "justification": "d"},
        settings='preset = "codex"', question={"questions": [ASKED | {"id": "database"}]},
        asks_in=("collaboration_mode", "plan"),
    ),
    Case(
        name="gemini", title="Gemini CLI", dialect="gemini", tool="run_shell_command",
        more={"description": "d"}, settings='preset = "gemini"',
        question={"questions": [ASKED | {"type": "choice"}]},
    ),
    Case(
        name="opencode", title="opencode", dialect="chat", tool="bash", more={"description": "d"},
        settings='preset = "opencode"', question=QUESTIONS,
    ),
    Case(
        name="qwen", title="Qwen Code", dialect="chat", tool="run_shell_command",
        more={"description": "d", "is_background": False}, settings='preset = "qwen"', question=QUESTIONS,
    ),
    Case(
        name="kimi", title="Kimi Code", dialect="chat", tool="Bash", more={"description": "d"},
        settings='preset = "kimi"',
        question=QUESTIONS,
    ),
    Case(
        name="vibe", title="Mistral Vibe", dialect="chat", tool="bash", settings='preset = "vibe"',
        question=QUESTIONS,
    ),
    Case(
        name="fast-agent", title="fast-agent", dialect="chat", tool="bash",
        settings='env = { GENERIC_BASE_URL = "{base}/openai/v1", GENERIC_API_KEY = "{token}" }',
        question=QUESTIONS,
    ),
    Case(
        name="openhands", title="OpenHands", dialect="chat", tool="terminal",
        more={"security_risk": "MEDIUM", "summary": "d"},
        settings=_OPENHANDS,
        question=QUESTIONS,
    ),
)  # fmt: skip


def config_of(case: Case, launch: Launch, model: FakeModel) -> str:
    """A gateway with this agent as `real`, its model at a provider, and a rule against one command."""
    base = model.url if case.dialect in ("chat", "responses") else model.url.removesuffix("/v1")
    command = [word for word in launch.command if word not in _SHELL and "$" not in word]
    command = [word.replace("fake-model", FIRST) for word in command]
    return f"""
[providers.fake]
dialect = "{case.dialect}"
url = "{base}"
key = "{KEY}"
models = ["{FIRST}", "{SECOND}", "*"]
[sessions]
interrupt_timeout_seconds = 20
[permissions]
deny = [{{command = ["touch", "forbidden"]}}]
[agents.real]
provider = "fake"
command = {json.dumps(command)}
readable = {json.dumps([str(path) for path in launch.readable])}
{case.settings}
"""


# -- the model --------------------------------------------------------------------------------------------


def answers(body: dict[str, Any]) -> dict[str, Any]:
    """As `reply`, but what some agents put behind the user's message does not hide it."""
    messages = body.get("messages") or []
    last = max(
        (at for at, one in enumerate(messages) if one.get("role") in ("assistant", "tool")), default=-1
    )
    since = messages[last + 1 :]
    calls = [one for one in since if "call " in json.dumps(one.get("content", ""))]
    return reply({**body, "messages": [*messages[: last + 1], *(calls or since)]})


def offered(request: Request) -> list[str]:
    """The names of the tools that an agent gave its model."""
    tools = request.body.get("tools") or ()
    return re.findall(r'"name": "([\w.-]+)"', json.dumps(tools))


def model_of(request: Request) -> str:
    """The model that a call is for."""
    found = re.search(r"/models/([^:/]+):", request.path)
    return found[1] if found else str(request.body.get("model"))


# -- one agent ----------------------------------------------------------------------------------------------


class Trial:
    """One agent, on a gateway of its own."""

    def __init__(self, case: Case, launch: Launch, model: FakeModel, directory: pathlib.Path) -> None:
        self.case = case
        self.model = model
        self._directory = directory
        self._config = config_of(case, launch, model)
        self._open: contextlib.AsyncExitStack | None = None
        self.gateway: RunningGateway

    async def start(self) -> None:
        """Starts the gateway, or another one with the same data."""
        self._open = contextlib.AsyncExitStack()
        serving = running_gateway(self._directory, config=self._config)
        self.gateway = await self._open.enter_async_context(serving)

    async def stop(self, number: int = signal.SIGTERM) -> None:
        """Ends the gateway."""
        if self._open is not None:
            await self.gateway.stop(number)
            await self._open.aclose()

    async def say(self, session_id: str, text: str) -> Any:
        """Sends a message; State when the turn is over or waits for a person."""
        await self.gateway.send(session_id, text, agent="real")
        return await self._until(session_id, lambda s: bool(asked(s)) or not s["is_processing"])

    async def finish(self, session_id: str) -> Any:
        """State when the turn is over."""
        return await self._until(session_id, lambda s: not s["is_processing"])

    async def _until(self, session_id: str, fits: Callable[[Any], bool]) -> Any:
        try:
            return await state_when(self.gateway.http, session_id, fits, seconds=TURN_SECONDS)
        except TimeoutError:
            raise Red(f"the turn did not end within {TURN_SECONDS} seconds") from None

    def command(self, text: str) -> str:
        """A message upon which the model wants this command run."""
        arguments = {self.case.command: text, **self.case.more}
        return f"call {self.case.tool} {json.dumps(arguments)}"

    def made(self, name: str) -> bool:
        """Whether the agent made a file of this name."""
        return any((self._directory / "data").rglob(name))

    async def events(self, session_id: str) -> list[Any]:
        """All events so far."""
        state = await self.gateway.state(session_id)
        async with open_stream(self.gateway.http, session_id, after=0) as stream:
            found: list[Any] = []
            while not found or found[-1].data is None or found[-1].data.get("seq", 0) < state["seq"]:
                frame = await asyncio.wait_for(stream.next(), TURN_SECONDS)
                if frame is None:
                    break
                found.append(frame)
        return found

    async def options(self, session_id: str) -> dict[str, Any]:
        """What can be chosen, by the kind of it."""
        listed = (await self.gateway.get(f"/api/sessions/{session_id}/options"))["options"]
        return {option["category"] or option["option_id"]: option for option in listed}

    async def choose(self, session_id: str, option: Any, value: str) -> None:
        """Chooses a value. Raises Red with the agent's words if it does not take it."""
        path = f"/api/sessions/{session_id}/options"
        body = {"option_id": option["option_id"], "value": value}
        async with self.gateway.http.post(path, json=body) as response:
            if response.status != 200:
                raise Red(f"the agent refused: {(await response.json())['error']['message']}")

    async def allow(self, session_id: str, pending: Any) -> None:
        """Answers a permission request with yes, once."""
        chosen = next((o for o in pending["options"] if o["kind"] == "allow_once"), pending["options"][0])
        body = {"permission_id": pending["permission_id"], "option_id": chosen["option_id"]}
        await self.gateway.post(f"/api/sessions/{session_id}/permission", body)


def asked(state: Any) -> Any:
    """The request or the question that waits, or None."""
    return state.get("pending_permission") or next(iter(state["questions"]), None)


def last_words(state: Any) -> str:
    """What the agent said last, for a reason."""
    said = [message["content"] for message in state["messages"] if message["sender"] != "user"]
    return " ".join(said[-1].split())[:160] if said else "nothing"


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
        state = await trial._until(
            "questions", lambda s: asked(s) not in (None, pending) or not s["is_processing"]
        )
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


def line_of(row: Row, today: str) -> str:
    """The row in the table; what cannot be had says why in its first cell."""
    cells = [_written(*row.cells[column]) for column in COLUMNS if column in row.cells]
    cells = cells or [f"not tried: {row.missing}", *[""] * (len(COLUMNS) - 1)]
    return f"| {row.case.title} | `{PINS[row.case.name]}` | {today} | {' | '.join(cells)} |"


def _written(is_green: bool, words: str) -> str:
    return f"{'yes' if is_green else '**no**'}: {words}".replace("|", "\\|")


def rewritten(text: str, lines: Mapping[str, str]) -> str:
    """The document with these rows in its table, by the agents' titles, and the counts below it."""
    before, _, rest = text.partition(BEGIN)
    table, _, after = rest.partition(END)
    old = {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("| ")}
    rows = [lines.get(case.title) or old.get(case.title, "") for case in CASES]
    rows = [row for row in rows if row]
    head = f"| agent | version | tried | {' | '.join(HEADINGS[column] for column in COLUMNS)} |"
    counts = (
        f"{blind(rows)} Green: {sum(row.count('| yes: ') for row in rows)} of {len(rows) * len(COLUMNS)}."
    )
    table = "\n".join((head, f"|{'---|' * (len(COLUMNS) + 3)}", *rows, "", counts))
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def blind(rows: Sequence[str]) -> str:
    """How many agents have a person approve what is not shown, in words."""
    return f"Blind approvals: {sum(f'**no**: {BLIND}' in row for row in rows)} of {len(rows)}."


async def main(names: Sequence[str]) -> None:
    """Tries these agents, and writes their rows."""
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    for case in CASES:
        if names and case.name not in names:
            continue
        with tempfile.TemporaryDirectory() as directory:
            row = await tried(case, pathlib.Path(directory))
        line = line_of(row, today)
        sys.stdout.write(f"{line}\n")
        DOCUMENT.write_text(rewritten(DOCUMENT.read_text(), {case.title: line}))
    found = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("Blind approvals")]
    sys.stdout.write(f"{found[0]}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Tries agents behind the gateway; writes docs/agents.md.")
    parser.add_argument("--only", nargs="+", default=[], choices=sorted(AGENTS), metavar="AGENT")
    asyncio.run(main(parser.parse_args().only))
