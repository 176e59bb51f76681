"""Agents that do not start, start too slowly or start again and again; and who a worker runs as."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

import pytest

from tests.gateways import SCENARIOS, RunningGateway
from tests.shared import SHARED, crowding, eventually, fresh_id, shared_gateway
from tests.streams import open_stream, state_when

pytestmark = SHARED


def authenticating(name: str, scenario: str, method: str) -> str:
    """The table of a scripted agent that is asked to authenticate."""
    command = [sys.executable, "-m", "worker.scripted", str(SCENARIOS / f"{scenario}.json")]
    return f'[agents.{name}]\ncommand = {json.dumps(command)}\nauth_method = "{method}"\n'


gateway = shared_gateway(
    authenticating("unlocked", "wants_authenticate", "key")
    + authenticating("astray", "wants_authenticate", "nowhere")
    + authenticating("refusing", "refuses_to_authenticate", "key")
    + """
[sessions]
start_timeout_seconds = 2
stop_grace_seconds = 0.3
[agents.missing]
command = "/no/such/agent --flag"
[agents.uninstalled]
command = "/no/such/claude-agent-acp"
[agents.forbidden]
command = "/etc/passwd"
[agents.tells]
command = ["/bin/sh", "-c", "id -u >&2; touch $HOME/a && pwd -P >&2; cd $PWD/. && echo works >&2; exit 3"]
""",
    agents={
        "exits": "exits_at_start",
        "initialize": "crashes_on_initialize",
        "hangs": "never_initializes",
        "auth": "auth_required",
        "locked": "wants_authenticate",
        "expiring": "credentials_expire",
        "stubborn": "ignores_eof_and_sigterm",
    },
)


async def first_words(gateway: RunningGateway, session_id: str, agent: str) -> str:
    """What the user reads after a first message to an agent that does not start."""
    await gateway.send(session_id, "go", agent=agent)
    state = await state_when(
        gateway.http, session_id, lambda s: bool(s["messages"]) and not s["is_processing"]
    )
    assert [m["sender"] for m in state["messages"]] == ["user", "system"]
    return str(state["messages"][-1]["content"])


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ("missing", ["The agent's command is not there: /no/such/agent", "give its full path"]),
        ("uninstalled", ["npm install -g @agentclientprotocol/claude-agent-acp", "Node 22"]),
        ("forbidden", ["The agent's command cannot be run: Permission denied"]),
        (
            "exits",
            ["(exit code 3)", "error: no licence found in $HOME", '[agents.exits] pass_env = ["NAME"]'],
        ),
        ("initialize", ["(exit code 101)", "panic: initialize"]),
        ("auth", ["The agent wants credentials", "run `agent login` first", "`--agent-env NAME`"]),
        ("auth", ["`login` (Log in, Run the agent once by hand)", '[agents.auth] auth_method = "login"']),
        ("locked", ["`login` (Log in, In a terminal): run `", "--login` in a terminal"]),
        ("locked", ["`key` (A key): set SCRIPTED_KEY; `7`.", '[agents.locked] auth_method = "key"']),
        ("astray", ["auth_method: the agent has no method 'nowhere'. It offers: `login`"]),
        ("refusing", ["could not authenticate by 'key': The key is not valid. Give it the variable"]),
    ],
)
async def test_an_agent_that_does_not_start_says_why_and_can_be_deleted(
    gateway: RunningGateway, agent: str, words: list[str]
) -> None:
    session_id, before = fresh_id(agent), {worker.pid for worker in gateway.workers()}
    said = await first_words(gateway, session_id, agent)
    for part in words:
        assert part in said
    await until_parked(gateway, session_id)
    assert {worker.pid for worker in gateway.workers()} <= before
    assert (await gateway.delete(session_id))["deleted"] is True


async def whole_turn(gateway: RunningGateway, agent: str) -> Any:
    """State after a message to an agent."""
    session_id = fresh_id(agent)
    await gateway.send(session_id, "go", agent=agent)
    return await state_when(
        gateway.http, session_id, lambda s: bool(s["messages"]) and not s["is_processing"]
    )


async def test_an_agent_that_wants_authenticate_gets_the_method_that_is_named(
    gateway: RunningGateway,
) -> None:
    assert (await whole_turn(gateway, "unlocked"))["messages"][-1]["content"] == "unlocked"


async def test_credentials_that_are_wanted_in_a_turn_are_named_too(gateway: RunningGateway) -> None:
    messages = (await whole_turn(gateway, "expiring"))["messages"]
    assert messages[1]["content"] == "so far"
    assert '[agents.expiring] pass_env = ["NAME"]' in messages[-1]["content"]


async def test_an_agent_that_hangs_at_its_start_is_given_up(gateway: RunningGateway) -> None:
    session_id, began = fresh_id("hangs"), time.monotonic()
    assert await first_words(gateway, session_id, "hangs") == "The agent did not start within 2 seconds."
    assert time.monotonic() - began < 4 * crowding()
    await until_parked(gateway, session_id)


async def test_while_an_agent_starts_state_says_loading(gateway: RunningGateway) -> None:
    session_id = fresh_id("loading")
    await gateway.send(session_id, "go", agent="hangs")
    state = await state_when(gateway.http, session_id, lambda s: s["readiness"]["phase"] == "loading")
    assert (state["is_loading"], state["is_processing"]) == (True, True)
    await gateway.delete(session_id)


async def test_an_interrupt_while_the_agent_starts_answers_at_once(gateway: RunningGateway) -> None:
    session_id = fresh_id("impatient")
    await gateway.send(session_id, "go", agent="hangs")
    await state_when(gateway.http, session_id, lambda s: s["is_loading"])
    began = time.monotonic()
    state = await gateway.post("/api/interrupt", {"session_id": session_id})
    assert time.monotonic() - began < 1 * crowding()
    assert (state["is_processing"], state["messages"][-1]["content"]) == (False, "Interrupted by user")
    assert (await gateway.delete(session_id))["receipt"]["survivors"] == 0


async def test_an_interrupted_start_leaves_an_agent_that_takes_the_next_message(
    gateway: RunningGateway,
) -> None:
    session_id = fresh_id("again")
    await gateway.send(session_id, "/echo never")
    state = await gateway.post("/api/interrupt", {"session_id": session_id})
    assert state["is_processing"] is False
    state = await gateway.chat(session_id, "/echo now")
    assert state["messages"][-1]["content"] == "now"
    assert (await gateway.delete(session_id))["receipt"]["survivors"] == 0


async def test_deleting_while_an_agent_starts_leaves_no_process(gateway: RunningGateway) -> None:
    before = {worker.pid for worker in gateway.workers()}
    for pause in (0.0, 0.002, 0.004, 0.008, 0.016, 0.03):
        session_id = fresh_id("early")
        await gateway.send(session_id, "go", agent="stubborn")
        await asyncio.sleep(pause)  # any moment of the start may be the one that goes wrong
        assert (await gateway.delete(session_id))["receipt"]["survivors"] == 0

    async def none_is_left() -> bool:  # one that was just killed may still be listed
        return {worker.pid for worker in gateway.workers()} <= before

    await eventually(none_is_left)


async def test_a_crash_loop_is_refused_after_three_starts_and_restarted_by_hand(
    gateway: RunningGateway,
) -> None:
    session_id = fresh_id("loop")
    for _ in range(3):
        await first_or_next(gateway, session_id)
    state = await gateway.chat(session_id, "go")
    assert state["readiness"] == {
        "phase": "error",
        "detail": "The agent died 3 times in a short while. Try again in 60 seconds.",
    }
    assert state["messages"][-1]["content"] == state["readiness"]["detail"]
    assert (await gateway.chat(fresh_id("fine"), "/echo fine"))["messages"][-1]["content"] == "fine"
    await gateway.post(f"/api/sessions/{session_id}/restart", None)
    assert (await gateway.state(session_id))["readiness"]["phase"] == "ready"
    assert "no licence" in (await gateway.chat(session_id, "go"))["messages"][-1]["content"]
    assert await starts(gateway, session_id) == 4


async def first_or_next(gateway: RunningGateway, session_id: str) -> None:
    await gateway.post("/api/chat?wait=240", {"message": "go", "session_id": session_id, "agent": "exits"})


async def starts(gateway: RunningGateway, session_id: str) -> int:
    """How often the session's agent was started."""
    async with gateway.http.get(f"/api/sessions/{session_id}/export") as response:
        return (await response.text()).count('"state":"starting"')


async def until_parked(gateway: RunningGateway, session_id: str) -> None:
    """Waits until the failed worker has been cleared away."""
    async with open_stream(gateway.http, session_id) as stream:
        ended = await stream.until_event("worker_ended")
        assert ended.data["survivors"] == 0
    await state_when(gateway.http, session_id, lambda state: state["readiness"]["phase"] == "ready")


async def test_each_session_has_a_home_of_its_own_that_its_worker_can_use(gateway: RunningGateway) -> None:
    said: list[list[str]] = []
    for session_id in (fresh_id("who"), fresh_id("who")):
        words = await first_words(gateway, session_id, "tells")
        said.append(words.partition("Its last words: ")[2].split("\n"))
    for uid, work, works in said:
        assert (work, works) == ("/session/work", "works")
        assert int(uid) == 1000
    touched = [path.stat() for path in gateway.data_path.glob("sessions/*/home/a")]
    assert len(touched) == 2
    if os.geteuid() == 0:
        assert len({file.st_uid for file in touched}) == 2
        assert all(file.st_uid >= 200_000 for file in touched)


async def test_the_agents_to_choose_from_are_listed(gateway: RunningGateway) -> None:
    listed: Any = (await gateway.get("/api/agents"))["agents"]
    names = {agent["name"] for agent in listed}
    assert names == {
        *("built-in", "missing", "forbidden", "tells", "exits", "initialize", "hangs", "auth", "stubborn"),
        *("uninstalled", "locked", "unlocked", "astray", "refusing", "expiring"),
    }
    assert [agent["name"] for agent in listed if agent["is_default"]] == ["built-in"]
    assert {agent["name"]: agent["missing_api_key"] for agent in listed}["built-in"] is True


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: only root sees the namespaces of a worker")
async def test_neither_the_built_in_agent_nor_a_command_has_the_machines_network(
    gateway: RunningGateway,
) -> None:
    found = {}
    for agent in ("built-in", "stubborn"):
        session_id, before = fresh_id(agent), {worker.pid for worker in gateway.workers()}
        await gateway.send(session_id, "/echo hello", agent=agent)
        state = await state_when(gateway.http, session_id, lambda s: not s["is_processing"])
        assert state["messages"][-1]["sender"] == "agent", state
        new = {worker.pid for worker in gateway.workers()} - before
        [found[agent]] = {os.readlink(f"/proc/{pid}/ns/net") for pid in new}
    assert len({*found.values(), os.readlink("/proc/self/ns/net")}) == 3
