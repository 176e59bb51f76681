"""Agents that nobody here wrote call their providers through the gateway, unedited: with a token and no key.

The endpoint is a mock; agents, processes, files and the gateway are real. In CI a missing agent fails;
elsewhere it is skipped, loudly.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.fake_model import FakeModel, fake_model
from tests.gateways import RunningGateway, running_gateway
from tests.ordinary import directory_of_its_own, launcher
from tests.real_agents import AgentUnavailable, Launch, claude, codex, gemini, opencode, qwen, vibe
from tests.streams import open_stream

pytestmark = [pytest.mark.real_agent, pytest.mark.timeout(600)]
TURN_SECONDS = 90
KEY = "sk-canary-5f1c9d2e7a60b834"
PROVIDERS = """
[providers.anthropic]
dialect = "messages"
url = "{base}"
key = "{key}"
models = ["claude-fake"]
[providers.openai]
dialect = ["chat", "responses"]
url = "{base}/v1"
key = "{key}"
models = ["gpt-fake"]
[providers.gemini]
dialect = "gemini"
url = "{base}"
key = "{key}"
models = ["gemini-2.5-flash"]
[agents.real]
preset = "{preset}"
provider = "{provider}"
command = {command}
{network}
readable = {readable}
{options}
"""
_SHELL = ("/bin/sh", "-c")
"""Which writes Vibe's file in other tests; here the gateway does."""
MADE = "made-by-agent"
COMMANDS = {
    "Bash": {"command": f"touch {MADE}", "description": "d"},
    "exec_command": {"cmd": f"touch {MADE}"},
    "run_shell_command": {"command": f"touch {MADE}", "description": "d"},
    "bash": {"command": f"touch {MADE}", "description": "d"},
}


async def launched(install: Callable[[str], Launch]) -> Launch:
    try:
        return await asyncio.to_thread(install, "http://127.0.0.1:9/v1")
    except AgentUnavailable as error:
        if os.environ.get("CI") and install in (opencode, gemini, claude, codex):
            raise
        pytest.skip(f"NOT TESTED, {install.__name__} cannot be had: {error}")


def config_of(launch: Launch, model: FakeModel, *, preset: str, provider: str, network: str) -> str:
    return PROVIDERS.format(
        base=model.url.removesuffix("/v1"),
        key=KEY,
        preset=preset,
        provider=provider,
        network='network = "shared"' if network == "shared" else "",
        options='options = {mode = "agent-full-access"}' if preset == "codex" else "",
        command=json.dumps([word for word in launch.command if word not in _SHELL and "$" not in word]),
        readable=json.dumps([str(path) for path in launch.readable]),
    )


KINDS: dict[str, tuple[Callable[[str], Launch], str, str]] = {
    "claude": (claude, "anthropic", "Bash"),
    "codex": (codex, "openai", "exec_command"),
    "gemini": (gemini, "gemini", "run_shell_command"),
    "opencode": (opencode, "openai", "bash"),
    "vibe": (vibe, "openai", "bash"),
    "qwen": (qwen, "openai", "run_shell_command"),
}
"""Preset → the agent, whose models it calls, and its tool."""
IS_WHOLE: Final = os.environ.get("AGENTS") == "all"
TRIED: Final = tuple(KINDS) if IS_WHOLE else ("claude", "codex", "gemini", "opencode")
"""With AGENTS=all, every one. `make agents` tries them behind the gateway, too."""


@pytest.mark.parametrize(
    ("preset", "network"),
    [*([("claude", "shared")] if IS_WHOLE else []), *((preset, "broker") for preset in TRIED)],
)
async def test_a_real_agent_finishes_a_turn_with_a_tool_and_never_sees_the_key(
    preset: str, network: str, tmp_path: pathlib.Path
) -> None:
    """`broker` is what nobody has to name."""
    await _finish_a_turn(preset, network, tmp_path, prefix=())


@pytest.mark.parametrize("preset", TRIED if IS_WHOLE else ["codex"])
async def test_a_real_agent_does_so_behind_the_gateway_of_an_ordinary_user(preset: str) -> None:
    with directory_of_its_own() as directory:
        await _finish_a_turn(preset, "broker", directory, prefix=launcher())


async def _finish_a_turn(
    preset: str, network: str, directory: pathlib.Path, *, prefix: tuple[str, ...]
) -> None:
    install, provider, tool = KINDS[preset]
    launch = await launched(install)
    async with fake_model() as model:
        config = config_of(launch, model, preset=preset, provider=provider, network=network)
        async with running_gateway(directory, config=config, prefix=prefix) as gateway:
            agents = (await gateway.get("/api/agents"))["agents"]
            assert [one["network"] for one in agents if one["name"] == "real"] == [network]
            await gateway.post("/api/sessions", {"agent": "real", "session_id": "r"}, status=201)
            state = await gateway.chat("r", "hello there")
            assert "hello there" in said(state), (state, gateway.log()[-3000:])
            allowing = asyncio.create_task(allow_all(gateway, "r"))
            state = await gateway.chat("r", f"call {tool} {json.dumps(COMMANDS[tool])}")
            allowing.cancel()
            await asyncio.wait([allowing])
            assert "The tool said" in said(state), (state, [r.body for r in model.requests][-1])
            files = directory / "data" / "sessions"
            assert list(files.rglob(MADE)), said(state)
            assert keys_in_processes(gateway) == (0, True)
            assert keys_in_files(files) == []
            assert {key_of(request.headers) for request in model.requests} == {KEY}
            assert model.strays == []
            async with open_stream(gateway.http, "r", after=0) as events:
                usage = await events.until(lambda f: f.event == "usage" and bool(f.data.get("provider")))
            assert (usage.data["provider"], usage.data["input_tokens"] > 0) == (provider, True)
            assert (await gateway.delete("r"))["receipt"]["survivors"] == 0


def said(state: Any) -> str:
    return " ".join(message["content"] for message in state["messages"] if message["sender"] == "agent")


def key_of(headers: dict[str, str]) -> str:
    names = ("Authorization", "x-api-key", "x-goog-api-key")
    return next(headers[name] for name in names if name in headers).removeprefix("Bearer ")


def keys_in_processes(gateway: RunningGateway) -> tuple[int, bool]:
    """In how many environments the key is, and whether a token is in any."""
    found, has_token = 0, False
    for process in gateway.workers():
        environment = pathlib.Path(f"/proc/{process.pid}/environ").read_bytes()
        found += KEY.encode() in environment
        has_token = has_token or b"agl_" in environment
    return found, has_token


def keys_in_files(below: pathlib.Path) -> list[pathlib.Path]:
    found = []
    for path in below.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a package manager's, gone again
            if path.is_file() and not path.is_symlink() and KEY.encode() in path.read_bytes():
                found.append(path)
    return found


async def allow_all(gateway: RunningGateway, session_id: str) -> None:
    async with open_stream(gateway.http, session_id) as stream:
        while True:
            asked = (await stream.until_event("permission_asked", seconds=TURN_SECONDS)).data
            option = next(o["option_id"] for o in asked["options"] if o["kind"].startswith("allow"))
            body = {"permission_id": asked["permission_id"], "option_id": option}
            await gateway.post(f"/api/sessions/{session_id}/permission", body)
