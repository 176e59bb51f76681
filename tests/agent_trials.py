"""One unedited agent behind a gateway of its own, with a mock of its model: how it is set up, and what is
done with it in a trial.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.fake_model import FakeModel, Request, reply
from tests.gateways import RunningGateway, running_gateway
from tests.real_agents import OPENHANDS_ENV, Launch, openhands_settings
from tests.streams import open_stream, state_when

TURN_SECONDS: Final = 300
"""With the start of an agent, on a machine that is busy."""
KEY: Final = "sk-for-the-mock-only"
FIRST, SECOND = "fake-large", "fake-mini"
"""Models of the provider, for agents that have no list of their own."""
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
    model: str = FIRST
    """Its model: one that it knows by name, if it sends pictures to no other."""
    asks_in: tuple[str, str] | None = None
    """The option and its value with which it asks; None: with any."""
    writes: str = ""
    """The tool that writes a file; empty: its commands do."""
    writing: dict[str, Any] = field(default_factory=dict)
    """The arguments of that, with `{path}` and `{text}` to be filled in."""


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
        writes="Write", writing={"file_path": "{path}", "content": "{text}"},
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
        writes="write_file", writing={"file_path": "{path}", "content": "{text}"},
    ),
    Case(
        name="opencode", title="opencode", dialect="chat", tool="bash", more={"description": "d"},
        settings='preset = "opencode"', question=QUESTIONS,
        writes="write", writing={"filePath": "{path}", "content": "{text}"},
    ),
    Case(
        name="qwen", title="Qwen Code", dialect="chat", tool="run_shell_command",
        more={"description": "d", "is_background": False}, settings='preset = "qwen"', question=QUESTIONS,
        model="qwen3-vl-plus",
        writes="write_file", writing={"file_path": "{path}", "content": "{text}"},
    ),
    Case(
        name="kimi", title="Kimi Code", dialect="chat", tool="Bash", more={"description": "d"},
        settings='preset = "kimi"',
        question=QUESTIONS,
        writes="Write", writing={"path": "{path}", "content": "{text}"},
    ),
    Case(
        name="vibe", title="Mistral Vibe", dialect="chat", tool="bash", settings='preset = "vibe"',
        question=QUESTIONS,
        writes="write_file", writing={"file_path": "{path}", "content": "{text}"},
    ),
    Case(
        name="fast-agent", title="fast-agent", dialect="chat", tool="bash", model="gpt-4o",
        settings='env = { GENERIC_BASE_URL = "{base}/openai/v1", GENERIC_API_KEY = "{token}" }',
        question=QUESTIONS,
    ),
    Case(
        name="openhands", title="OpenHands", dialect="chat", tool="terminal", model="gpt-4o",
        more={"security_risk": "MEDIUM", "summary": "d"},
        settings=_OPENHANDS,
        question=QUESTIONS,
        writes="file_editor",
        writing={
            **{"command": "create", "path": "{path}", "file_text": "{text}"},
            **{"security_risk": "MEDIUM", "summary": "d"},
        },
    ),
)  # fmt: skip


def config_of(case: Case, launch: Launch, model: FakeModel) -> str:
    """A gateway with this agent as `real`, its model at a provider, and a rule against one command."""
    base = model.url if case.dialect in ("chat", "responses") else model.url.removesuffix("/v1")
    command = [word for word in launch.command if word not in _SHELL and "$" not in word]
    command = [word.replace("fake-model", case.model) for word in command]
    return f"""
[providers.fake]
dialect = "{case.dialect}"
url = "{base}"
key = "{KEY}"
models = ["{case.model}", "{SECOND}", "*"]
[sessions]
interrupt_timeout_seconds = 20
start_timeout_seconds = 200
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
        return await self.until(session_id, lambda s: bool(asked(s)) or not s["is_processing"])

    async def obeyed(self, session_id: str, text: str) -> Any:
        """Sends a message, and allows whatever the agent asks to do; State when the turn is over."""
        state = await self.say(session_id, text)
        while (pending := state.get("pending_permission")) is not None:
            await self.allow(session_id, pending)
            state = await self.goes_on(session_id, pending)
        return state

    async def goes_on(self, session_id: str, pending: Any) -> Any:
        """State when it is over, or asks for something else."""
        return await self.until(
            session_id, lambda s: asked(s) not in (None, pending) or not s["is_processing"]
        )

    async def finish(self, session_id: str) -> Any:
        """State when the turn is over."""
        return await self.until(session_id, lambda s: not s["is_processing"])

    async def until(self, session_id: str, fits: Callable[[Any], bool]) -> Any:
        """State when it fits."""
        try:
            return await state_when(self.gateway.http, session_id, fits, seconds=TURN_SECONDS)
        except TimeoutError:
            raise Red(f"the turn did not end within {TURN_SECONDS} seconds") from None

    def command(self, text: str) -> str:
        """A message upon which the model wants this command run."""
        arguments = {self.case.command: text, **self.case.more}
        return f"call {self.case.tool} {json.dumps(arguments)}"

    def writing(self, path: str, text: str) -> str:
        """A message upon which the model wants this file written."""
        if not self.case.writes:
            return self.command(f"cat > {path} <<'END'\n{text}END")
        values = {"{path}": path, "{text}": text}
        arguments = {name: values.get(value, value) for name, value in self.case.writing.items()}
        return f"call {self.case.writes} {json.dumps(arguments)}"

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
