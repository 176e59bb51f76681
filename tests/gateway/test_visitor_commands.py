"""A visitor's text that begins with `/` is a text to the agent, however it comes; a person's is a command."""

from __future__ import annotations

import pathlib
from typing import Any, Final

import aiohttp
import pytest

from tests.gateways import RunningGateway
from tests.inside import gateway_inside
from tests.shared import SHARED, ask, fresh_id, shared_gateway
from tests.streams import open_stream, state_when

pytestmark = SHARED

CONFIG: Final = '[auth]\nmodes = ["anonymous", "keys"]\n[tenants.acme]\n'
COMMANDS: Final = [{"name": "compact", "description": "Makes the conversation short"}]
HAS_COMMANDS: Final[Any] = {
    "turns": [
        [
            {"update": {"sessionUpdate": "available_commands_update", "availableCommands": COMMANDS}},
            {"say": "heard $PROMPT"},
        ],
        [{"say": "heard $PROMPT"}],
    ],
    "repeat": True,
}
WAITS: Final[Any] = {"turns": [[{"say": "begun"}, {"hang": True}], [{"say": "heard $PROMPT"}]]}
AGENTS: Final = {"commanded": HAS_COMMANDS, "waits": WAITS}
gateway = shared_gateway(CONFIG, agents=AGENTS)


async def say(http: aiohttp.ClientSession, name: str, text: str, **body: Any) -> list[str]:
    """A whole turn; every text of the conversation."""
    given = {"session_id": name, "message": text, **body}
    answer = await ask(http, "POST", "/api/chat?wait=240", given)
    assert answer.status == 200, answer.body
    return texts(answer.body)


def texts(state: Any) -> list[str]:
    return [message["content"] for message in state["messages"]]


@pytest.mark.parametrize("text", ["/compact", " \n/compact now", "\ufeff/compact"])
async def test_a_visitors_slash_is_a_text(gateway: RunningGateway, text: str) -> None:
    name = fresh_id()
    async with gateway.caller(Origin=gateway.url) as visitor:
        said, answer = (await say(visitor, name, text, agent="commanded"))[-2:]
        assert said.strip("\ufeff \n") == text.strip("\ufeff \n"), "people read what was typed"
        assert answer.startswith("heard The visitor wrote: ")
        assert answer.endswith(text.strip()), "and so does the agent"
        assert (await say(visitor, name, "and/or"))[-1] == "heard and/or"
        assert (await ask(visitor, "GET", "/api/me")).body["may_command"] is False


async def test_a_person_with_a_key_commands(gateway: RunningGateway) -> None:
    key = await gateway.mint(fresh_id("ann"), tenant="acme")
    async with gateway.caller(Authorization=f"Bearer {key}") as person:
        assert (await say(person, fresh_id(), "/compact", agent="commanded"))[-1] == "heard /compact"
        assert "may_command" not in (await ask(person, "GET", "/api/me")).body


async def test_the_built_in_agent_does_not_obey_a_visitor(gateway: RunningGateway) -> None:
    async with gateway.caller(Origin=gateway.url) as visitor:
        answer = (await say(visitor, fresh_id(), "/echo obeyed", agent="built-in"))[-1]
        assert answer != "obeyed"


async def test_a_slash_that_waited_or_was_edited_is_a_text(gateway: RunningGateway) -> None:
    name = fresh_id()
    async with gateway.caller(Origin=gateway.url) as visitor:
        begun = {"session_id": name, "message": "first", "agent": "waits"}
        assert (await ask(visitor, "POST", "/api/chat", begun)).status == 200
        await state_when(visitor, name, lambda s: texts(s)[-1] == "begun")
        async with open_stream(visitor, name) as stream:
            queued = {"session_id": name, "message": "harmless"}
            assert (await ask(visitor, "POST", "/api/chat", queued)).status == 200
            queue = await stream.until(lambda frame: frame.event == "queue" and frame.data["waiting"])
        path = f"/api/sessions/{name}/queue/{queue.data['waiting'][0]['message_id']}"
        edited = await ask(visitor, "PATCH", path, {"message": "/compact"})
        assert edited.status == 200, edited.body
        assert (await ask(visitor, "POST", "/api/interrupt", {"session_id": name})).status == 200
        assert (await ask(visitor, "POST", f"/api/sessions/{name}/queue", {"action": "send"})).status == 200
        await state_when(visitor, name, lambda s: texts(s)[-1] == "heard The visitor wrote: /compact")


async def test_a_slash_in_a_fork_is_a_text(gateway: RunningGateway) -> None:
    name, fork = fresh_id(), fresh_id("fork")
    async with gateway.caller(Origin=gateway.url) as visitor:
        await say(visitor, name, "one", agent="commanded")
        body = {"session_id": fork}
        assert (await ask(visitor, "POST", f"/api/sessions/{name}/fork", body)).status == 201
        assert (await say(visitor, fork, "/compact"))[-1] == "heard The visitor wrote: /compact"


async def test_a_guest_of_a_visitor_does_not_command_either(gateway: RunningGateway) -> None:
    """Else a visitor would make a link to their own session, and come by it."""
    name = fresh_id()
    async with gateway.caller(Origin=gateway.url) as visitor, gateway.caller(Origin=gateway.url) as guest:
        await say(visitor, name, "one", agent="commanded")
        share = await ask(visitor, "POST", f"/api/sessions/{name}/shares", {"kind": "drive"})
        assert share.status in (200, 201), share.body
        path, who = f"/api/shared/{share.body['token']}/chat", {"name": "Bo", "guest": "bo-" * 5 + "bo"}
        answer = await ask(guest, "POST", path, {"message": "/compact"}, params=who)
        assert answer.status == 200, answer.body
        await state_when(visitor, name, lambda s: "The visitor wrote: /compact" in texts(s)[-1])


async def test_an_operator_lets_visitors_command(tmp_path: pathlib.Path) -> None:
    config = CONFIG + "[visitors]\ncommands = true\n"
    async with gateway_inside(tmp_path, config=config, agents=AGENTS) as own:
        async with own.caller(Origin=own.url) as visitor:
            assert (await say(visitor, fresh_id(), "/compact", agent="commanded"))[-1] == "heard /compact"
            assert "may_command" not in (await ask(visitor, "GET", "/api/me")).body
