"""Claude's adapter asks its user, and offers modes and models, against a mock of Anthropic's endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest
from aiohttp import web

from tests import real_agents
from tests.gateways import RunningGateway, running_gateway
from tests.streams import state_when

pytestmark = [pytest.mark.real_agent, pytest.mark.timeout(600)]

ASK: Final = "AskUserQuestion"
QUESTION: Final = {
    "question": "Which database shall I use?",
    "header": "Database",
    "multiSelect": False,
    "options": [
        {"label": "Postgres", "description": "on a server"},
        {"label": "SQLite", "description": "in a file"},
    ],
}


def _content(body: Any) -> list[dict[str, Any]]:
    """The model's answer: a question to whoever says "ask me", and what was chosen to whoever answered it."""
    said = json.dumps(next((m for m in reversed(body["messages"]) if m["role"] == "user"), {}))
    if "Postgres" in said:
        return [{"type": "text", "text": "I use Postgres."}]
    if "ask me" in said and any(tool.get("name") == ASK for tool in body.get("tools") or ()):
        return [{"type": "tool_use", "id": "toolu_1", "name": ASK, "input": {"questions": [QUESTION]}}]
    return [{"type": "text", "text": "Well."}]


def _stream(content: list[dict[str, Any]], model: str) -> bytes:
    """As Anthropic streams a message."""
    reason = "tool_use" if content[0]["type"] == "tool_use" else "end_turn"
    message = {
        **{"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": []},
        **{"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}},
    }
    events: list[dict[str, Any]] = [{"type": "message_start", "message": message}]
    for index, block in enumerate(content):
        if block["type"] == "text":
            start, delta = block | {"text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            start = block | {"input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        events += [
            {"type": "content_block_start", "index": index, "content_block": start},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    end = {"stop_reason": reason, "stop_sequence": None}
    events += [
        {"type": "message_delta", "delta": end, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    return b"".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events)


@contextlib.asynccontextmanager
async def anthropic_model() -> AsyncIterator[tuple[str, list[Any]]]:
    """An endpoint that speaks as much of Anthropic's messages as the adapter needs; its URL, its requests."""
    requests: list[Any] = []

    async def messages(request: web.Request) -> web.Response:
        body = await request.json()
        requests.append(body)
        content = _content(body)
        if body.get("stream"):
            return web.Response(body=_stream(content, body["model"]), content_type="text/event-stream")
        usage = {"input_tokens": 1, "output_tokens": 1}
        known = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"]}
        return web.json_response(known | {"content": content, "stop_reason": "end_turn", "usage": usage})

    async def other(request: web.Request) -> web.Response:
        return web.json_response({"input_tokens": 1})

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/messages", messages)
    app.router.add_route("*", "/{path:.*}", other)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}", requests
    finally:
        await runner.cleanup()


def config_of(launch: real_agents.Launch, preset: str, **env: str) -> str:
    """The agent, as one who takes the preset has it."""
    readable = json.dumps([str(path) for path in launch.readable])
    variables = ", ".join(f"{key} = {json.dumps(value)}" for key, value in {**launch.env, **env}.items())
    return (
        f"\n[agents.real]\npreset = {json.dumps(preset)}\ncommand = {json.dumps(launch.command)}\n"
        f'readable = {readable}\nnetwork = "shared"\nenv = {{ {variables} }}\n'
    )


async def launched(install: Callable[[str], real_agents.Launch], url: str) -> real_agents.Launch:
    try:
        return await asyncio.to_thread(install, url)
    except real_agents.AgentUnavailable as error:
        pytest.skip(f"NOT TESTED, {install.__name__} cannot be had: {error}")


async def asked(gateway: RunningGateway, session_id: str) -> Any:
    await gateway.send(session_id, "ask me", agent="real")
    state = await state_when(gateway.http, session_id, lambda s: s["questions"] or not s["is_processing"])
    assert state["questions"], state["messages"]
    return state["questions"][0]


async def answer(gateway: RunningGateway, session_id: str, question: Any) -> str:
    """Chooses Postgres; what the agent says in the end."""
    path = f"/api/sessions/{session_id}/questions/{question['question_id']}"
    content = {question["fields"][0]["name"]: "Postgres"}
    await gateway.post(path, {"action": "accept", "content": content})
    state = await state_when(gateway.http, session_id, lambda s: not s["is_processing"])
    return str(state["messages"][-1]["content"])


async def test_claudes_question_reaches_its_user_and_outlives_a_kill_of_the_gateway(
    tmp_path: pathlib.Path,
) -> None:
    async with anthropic_model() as (url, _requests):
        launch = await launched(real_agents.claude, url)
        config = config_of(launch, "claude", ANTHROPIC_API_KEY="none")
        async with running_gateway(tmp_path, config=config) as gateway:
            question = await asked(gateway, "answered")
            assert question["message"] == QUESTION["question"]
            assert [one["title"] for one in question["fields"][0]["choices"]] == ["Postgres", "SQLite"]
            assert (await answer(gateway, "answered", question)).endswith("I use Postgres.")
            question = await asked(gateway, "killed")
            await gateway.stop(signal.SIGKILL)
        async with running_gateway(tmp_path, config=config) as gateway:
            assert (await gateway.state("killed"))["questions"] == [question]
            assert (await answer(gateway, "killed", question)).endswith("I use Postgres.")


async def test_a_model_that_was_chosen_for_claude_is_the_one_that_is_called(tmp_path: pathlib.Path) -> None:
    async with anthropic_model() as (url, requests):
        launch = await launched(real_agents.claude, url)
        config = config_of(launch, "claude", ANTHROPIC_API_KEY="none")
        async with running_gateway(tmp_path, config=config) as gateway:
            await gateway.send("s", "hello", agent="real")
            state = await state_when(gateway.http, "s", lambda s: not s["is_processing"])
            assert state["options"]["mode"] == "default"  # a person approves
            for option, value in (("model", "haiku"), ("mode", "acceptEdits")):
                await gateway.post("/api/sessions/s/options", {"option_id": option, "value": value})
        async with running_gateway(tmp_path, config=config) as gateway:
            requests.clear()
            state = await gateway.chat("s", "hello again")
            assert (state["options"]["model"], state["options"]["mode"]) == (
                "haiku",
                "acceptEdits",
            )  # in `plan` it plans with another model
            assert any("haiku" in body["model"] for body in requests)
