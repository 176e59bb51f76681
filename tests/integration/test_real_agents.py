"""Agents that nobody here wrote, through the whole gateway, against a model endpoint on loopback.

The endpoint is a mock (there is no network and no key here); agents, processes and ACP are real.
In CI a missing agent fails; elsewhere it is skipped, loudly.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pathlib
from collections.abc import Callable
from typing import Final

import pytest

from tests.fake_model import fake_model
from tests.gateways import RunningGateway, running_gateway
from tests.mcp_clients import PRODUCT, cart
from tests.real_agents import AgentUnavailable, Launch, gemini, opencode
from tests.streams import StreamReader, open_stream

pytestmark = [pytest.mark.real_agent, pytest.mark.timeout(600)]
TURN_SECONDS = 90
RED_SQUARE: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEUlEQVR4nGM4ISeHFTEMLQkAkL9BAbKfPiIAAAAASUVORK5CYII="
)
"""A PNG that every reader takes: some agents read it before they send it on."""


async def launched(install: Callable[[str], Launch], url: str) -> Launch:
    try:
        return await asyncio.to_thread(install, url)
    except AgentUnavailable as error:
        if os.environ.get("CI") and install in (opencode, gemini):
            raise
        pytest.skip(f"NOT TESTED, {install.__name__} cannot be had: {error}")


def config_of(launch: Launch) -> str:
    readable = json.dumps([str(path) for path in launch.readable])
    lines = ["[agents.real]", f"command = {json.dumps(list(launch.command))}", f"readable = {readable}"]
    lines += ['network = "shared"', "[agents.real.env]"]  # its model is on this machine's loopback
    return "\n".join([*lines, *(f"{name} = {json.dumps(value)}" for name, value in launch.env.items())])


async def _answers(gateway: RunningGateway, words: str) -> None:
    """In the session `r`; the fake model repeats what it hears."""
    state = await gateway.chat("r", words)
    answers = [message["content"] for message in state["messages"] if message["sender"] == "agent"]
    assert words in answers[-1], state
    assert state["is_processing"] is False
    summary = await gateway.get("/api/sessions/r")
    assert (summary["state"], summary["agent"]) == ("idle", "real")


async def _leaves_nothing(gateway: RunningGateway) -> None:
    """When its session is deleted."""
    assert (await gateway.delete("r"))["receipt"]["survivors"] == 0
    assert gateway.workers() == []


async def _sends_an_image(gateway: RunningGateway) -> None:
    """An agent that says it takes images gets one."""
    url = "/api/sessions/r/files/content?path=uploads/red.png"
    async with gateway.http.put(url, data=base64.b64decode(RED_SQUARE)) as response:
        assert response.status == 200, await response.text()
    body = {"message": "what is this?", "session_id": "r", "attachments": ["uploads/red.png"]}
    state = await gateway.post("/api/chat?wait=240", body)
    assert state["is_processing"] is False


async def test_a_real_agent_fills_the_cart_of_its_own_session(tmp_path: pathlib.Path) -> None:
    """Through the gateway's MCP server that it is given with its session; what it asks, a person allows. It
    names the session of somebody else, whose cart stays empty.
    """
    rice = PRODUCT.format(3)
    async with fake_model() as model:
        launch = await launched(opencode, model.url)
        config = config_of(launch).replace("[agents.real.env]", 'tools = ["shop"]\n[agents.real.env]')
        async with running_gateway(tmp_path, config=config) as gateway:
            for session_id in ("alice", "r"):
                await gateway.post("/api/sessions", {"agent": "real", "session_id": session_id}, status=201)
            await _answers(gateway, "hello there")  # on a busy machine it has its tools after a while
            order = json.dumps({"product_id": rice, "quantity": 5, "_sessionId": "alice"})
            allowing = asyncio.create_task(_allow_all(gateway, "r"))
            state = await gateway.chat("r", f"call add_to_cart {order}")
            allowing.cancel()
            await asyncio.wait([allowing])
            assert state["is_processing"] is False, state
            held = {name: (await cart(gateway.http, name))["items"] for name in ("alice", "r")}
            amounts = {
                name: [(item["id"], item["quantity"]) for item in items] for name, items in held.items()
            }
            assert amounts == {"alice": [], "r": [(rice, 5)]}, state
            await _leaves_nothing(gateway)


async def _allow_all(gateway: RunningGateway, session_id: str) -> None:
    async with open_stream(gateway.http, session_id, after=0) as stream:
        while True:
            asked = (await stream.until_event("permission_asked", seconds=TURN_SECONDS)).data
            option = next(o["option_id"] for o in asked["options"] if o["kind"].startswith("allow"))
            body = {"permission_id": asked["permission_id"], "option_id": option}
            await gateway.post(f"/api/sessions/{session_id}/permission", body)


async def test_an_agent_that_runs_in_node_works_behind_strict_walls(tmp_path: pathlib.Path) -> None:
    """The interpreter itself, not a program made of it: it maps far more memory than it uses, starts threads,
    and reaches its model through the shared network. It gets an image, too: the others' models are set up
    without images here.
    """
    async with fake_model() as model:
        launch = await launched(gemini, model.url)
        walls = "[workers]\nrequire = 'strict'\nsandbox = 'strict'\nnetwork = 'shared'\n"
        async with running_gateway(tmp_path, config=walls + config_of(launch)) as gateway:
            await gateway.post("/api/sessions", {"agent": "real", "session_id": "r"}, status=201)
            async with open_stream(gateway.http, "r") as stream:
                await gateway.post("/api/chat", {"message": "hello from strict", "session_id": "r"})
                started = (await stream.until_event("agent_started", seconds=TURN_SECONDS)).data
                ended = (await stream.until_event("turn_ended", seconds=TURN_SECONDS)).data
            assert (started["name"], started["walls"]) == ("Gemini CLI", "strict")
            assert ended["error"] is None
            [node] = [
                process
                for process in gateway.workers()
                if process.exe() == os.path.realpath(launch.command[0])
            ]
            status = pathlib.Path(f"/proc/{node.pid}/status").read_text()
            assert "Seccomp:\t2" in status
            assert "NoNewPrivs:\t1" in status
            state = await gateway.state("r")
            assert "hello from strict" in state["messages"][-1]["content"]
            await _answers(gateway, "hello there")
            await _sends_an_image(gateway)
            assert any(RED_SQUARE in call.raw.decode() for call in model.requests)
            await _leaves_nothing(gateway)


RULES: Final = """
[permissions]
allow = [{ command = "touch made-by-rule" }]
deny = [{ command = "mkdir" }]
"""


DECIDED: Final = (
    ("touch made-by-rule", "permissions.allow.1"),
    ("cd . && mkdir made-by-rule", "permissions.deny.1"),
    ("touch made-by-rule; true", None),
)
"""Commands, and the rule that answers; None: a person has to."""


async def test_a_real_agent_answers_asks_people_and_rules_and_remembers_after_its_process_was_killed(
    tmp_path: pathlib.Path,
) -> None:
    """One session, as each start of it takes seconds."""
    made = tmp_path / "data" / "sessions"
    async with fake_model() as model:
        launch = await launched(opencode, model.url)
        async with running_gateway(tmp_path, config=RULES + config_of(launch)) as gateway:
            await gateway.post("/api/sessions", {"agent": "real", "session_id": "r"}, status=201)
            await _answers(gateway, "the word is heliotrope")
            async with open_stream(gateway.http, "r") as stream:
                for option in ("allow_once", "reject_once"):
                    await _a_person_decides(gateway, stream, made, option)
                for command, rule in DECIDED:
                    await _a_rule_decides(gateway, stream, made, command, rule)
                before = await _people_said(gateway)
                for worker in gateway.workers():
                    worker.kill()
                await stream.until_event("worker_ended")
                await gateway.post("/api/chat", {"message": "and again", "session_id": "r"})
                started = (await stream.until_event("agent_started", seconds=TURN_SECONDS)).data
                assert started["how"] in ("resumed", "loaded")
                await stream.until_event("turn_ended", seconds=TURN_SECONDS)
            assert "heliotrope" in json.dumps(model.requests[-1].body)
            assert await _people_said(gateway) == [*before, "and again"]
            await _leaves_nothing(gateway)


async def _people_said(gateway: RunningGateway) -> list[str]:
    messages = (await gateway.state("r"))["messages"]
    return [message["content"] for message in messages if message["sender"] == "user"]


async def _run(gateway: RunningGateway, command: str) -> None:
    call = f"call bash {json.dumps({'command': command, 'description': 'd'})}"
    await gateway.post("/api/chat", {"message": call, "session_id": "r"})


async def _a_person_decides(
    gateway: RunningGateway, stream: StreamReader, made: pathlib.Path, option: str
) -> None:
    await _run(gateway, f"touch {option} && echo t-$((6*7))")
    asked = (await stream.until_event("permission_asked", seconds=TURN_SECONDS)).data
    assert not list(made.rglob(option)), "it acted before it was allowed to"
    options = {found["kind"]: found["option_id"] for found in asked["options"]}
    answer = {"permission_id": asked["permission_id"], "option_id": options[option]}
    await gateway.post("/api/sessions/r/permission", answer)
    ended = (await stream.until_event("turn_ended", seconds=TURN_SECONDS)).data
    assert ended["error"] is None
    assert bool(list(made.rglob(option))) is (option == "allow_once")


async def _a_rule_decides(
    gateway: RunningGateway, stream: StreamReader, made: pathlib.Path, command: str, rule: str | None
) -> None:
    await _run(gateway, command)
    asked = (await stream.until_event("permission_asked", seconds=TURN_SECONDS)).data
    if rule is None:
        assert "always" not in asked
        await gateway.post("/api/interrupt", {"session_id": "r"})
    answered = (await stream.until_event("permission_answered", seconds=TURN_SECONDS)).data
    await stream.until_event("turn_ended", seconds=TURN_SECONDS)
    assert answered.get("rule", {}).get("rule_id") == rule
    files = list(made.rglob("made-by-rule"))
    assert bool(files) is (rule == "permissions.allow.1")
    for file in files:
        file.unlink()
