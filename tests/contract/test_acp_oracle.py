"""The official ACP package as oracle, both ways: it reads what our agents write, we read what it writes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import acp as official
import pytest
from acp.client.connection import ClientSideConnection
from acp.schema import (
    AllowedOutcome,
    DeniedOutcome,
    InitializeResponse,
    NewSessionResponse,
    PromptResponse,
    RequestPermissionRequest,
    RequestPermissionResponse,
    SessionNotification,
)
from pydantic import BaseModel

from tests.integration.worker_process import ROOT, SCENARIOS, AgentProcess, TurnLog
from tests.patience import soon
from worker import acp

NOTIFICATIONS: dict[str, type[BaseModel]] = {
    "session/update": SessionNotification,
    "session/request_permission": RequestPermissionRequest,
}
INVENTED = {"invented_update"}
"""Update kinds that a scenario invents on purpose."""

PLAYABLE = sorted(
    path.stem
    for path in SCENARIOS.glob("*.json")
    if path.stem
    not in {
        *("auth_required", "closes_stdout", "crashes_on_initialize", "endless_line", "exits_at_start"),
        *("ignores_cancel", "ignores_eof_and_sigterm", "never_answers", "never_initializes", "stops_itself"),
        *("credentials_expire", "refuses_to_authenticate", "wants_authenticate"),
        *("crash_mid_answer", "killed_mid_answer", "oversize_line", "streams_slowly"),
    }
)
PROMPTS = [
    "/help",
    "/echo one two",
    "/count 3 0",
    "/think",
    "/plan",
    '/tool calculate {"expression": "1+1"}',
    '/tool write_file {"path": "a.txt", "content": "x"}',
    '/tool read_file {"path": "../outside"}',
    "/permission Shall I?",
    "/wallet {}",
    "hello",
]


def check(model: type[BaseModel], value: Any) -> None:
    """Valid, and nothing was dropped or mended on the way: the package reads broken fields leniently."""
    read = model.model_validate(value)
    assert read.model_dump(mode="json", by_alias=True, exclude_unset=True) == value


def check_messages(log: TurnLog) -> None:
    for message in log.messages:
        if not isinstance(message, acp.Envelope) or message.method not in NOTIFICATIONS:
            continue
        params = acp.parse(message.params, dict[str, Any])
        if params.get("update", {}).get("sessionUpdate") not in INVENTED:
            check(NOTIFICATIONS[message.method], params)


def check_start(agent: AgentProcess, cwd: Path) -> None:
    check(InitializeResponse, agent.call("initialize", {"protocolVersion": 1}).result)
    created = agent.call("session/new", {"cwd": str(cwd), "mcpServers": []})
    check(NewSessionResponse, created.result)
    agent.session_id = created.result["sessionId"]


@pytest.mark.parametrize("option", ["allow_always", "reject_once"])
def test_everything_the_built_in_agent_says_is_in_the_schema(tmp_path: Path, option: str) -> None:
    with AgentProcess() as agent:
        check_start(agent, tmp_path)
        agent.answer_permissions(option)
        kinds: set[str] = set()
        for prompt in PROMPTS:
            log = agent.prompt(prompt)
            check_messages(log)
            check(PromptResponse, log.result)
            kinds |= {update["sessionUpdate"] for update in log.updates}
        assert kinds == {
            "available_commands_update",
            "agent_message_chunk",
            "agent_thought_chunk",
            "plan",
            "tool_call",
            "tool_call_update",
        }


def test_what_it_says_about_a_model_is_in_the_schema(tmp_path: Path) -> None:
    with AgentProcess() as agent:
        agent.start(cwd=tmp_path, model={"models": ["m"]})
        usage = {"inputTokens": 3, "outputTokens": 4}
        finish = acp.response(0, {"finishReason": "stop", "usage": usage})
        agent.on["_model/stream"] = lambda message, params: agent.send(finish)
        log = agent.prompt("hi")
        assert log.of("usage_update")
        check_messages(log)
        check(PromptResponse, log.result)


@pytest.mark.parametrize("name", PLAYABLE)
def test_the_scripted_agent_keeps_to_the_schema(tmp_path: Path, name: str) -> None:
    with AgentProcess("worker.scripted", str(SCENARIOS / f"{name}.json")) as agent:
        check_start(agent, tmp_path)
        agent.answer_permissions("allow_once")
        log = agent.prompt("one")
        check_messages(log)
        if log.error is None:
            check(PromptResponse, log.result)


class Client:
    """A client of the official package that writes down what it is told."""

    def __init__(self, option: str | None = "allow_once") -> None:
        self.option = option
        self.updates: list[Any] = []
        self.asked: list[str | None] = []
        self.extensions: list[tuple[str, dict[str, Any]]] = []
        self.arrived = asyncio.Event()

    async def session_update(self, session_id: str, update: Any, **extra: Any) -> None:
        self.updates.append(update)
        self.arrived.set()

    async def request_permission(
        self, session_id: str, tool_call: Any, options: list[Any], **extra: Any
    ) -> RequestPermissionResponse:
        self.asked.append(tool_call.title)
        self.arrived.set()
        if self.option is None:
            return RequestPermissionResponse(outcome=DeniedOutcome(outcome="cancelled"))
        outcome = AllowedOutcome(outcome="selected", option_id=self.option)
        return RequestPermissionResponse(outcome=outcome)

    async def ext_notification(self, method: str, params: dict[str, Any]) -> None:
        self.extensions.append((method, params))

    def on_connect(self, connection: Any) -> None:
        """Nothing to do: the tests hold the connection."""

    def text(self) -> str:
        chunks = [u for u in self.updates if u.session_update == "agent_message_chunk"]
        return "".join(chunk.content.text for chunk in chunks)

    async def until(self, text: str) -> None:
        while text not in self.text():
            self.arrived.clear()
            await soon(self.arrived.wait(), 10)


@asynccontextmanager
async def official_client(client: Any) -> AsyncIterator[ClientSideConnection]:
    command = (sys.executable, "-m", "worker")
    async with official.spawn_agent_process(client, *command, cwd=ROOT) as (connection, process):
        await connection.initialize(protocol_version=official.PROTOCOL_VERSION)
        yield connection
    assert process.returncode == 0


async def test_the_official_client_drives_the_built_in_agent(tmp_path: Path) -> None:
    client = Client()
    async with official_client(client) as connection:
        session = await connection.new_session(cwd=str(tmp_path), mcp_servers=[])
        answer = await connection.prompt(
            session_id=session.session_id, prompt=[official.text_block("/echo over the wire")]
        )
        assert answer.stop_reason == "end_turn"
        assert client.text() == "over the wire"
        assert client.updates[0].session_update == "available_commands_update"


@pytest.mark.parametrize(("option", "stop"), [("reject_always", "end_turn"), (None, "cancelled")])
async def test_the_official_client_answers_permissions(tmp_path: Path, option: str | None, stop: str) -> None:
    client = Client(option)
    async with official_client(client) as connection:
        session = await connection.new_session(cwd=str(tmp_path), mcp_servers=[])
        prompt: list[Any] = [official.text_block("/permission Delete it?")]
        answer = await connection.prompt(session_id=session.session_id, prompt=prompt)
        assert client.asked == ["Delete it?"]
        assert answer.stop_reason == stop


async def test_the_official_client_cancels(tmp_path: Path) -> None:
    client = Client()
    async with official_client(client) as connection:
        session = await connection.new_session(cwd=str(tmp_path), mcp_servers=[])
        prompt: list[Any] = [official.text_block("/count 100000 5")]
        turn = asyncio.create_task(
            connection.prompt(session_id=session.session_id, prompt=prompt), name="turn"
        )
        await client.until("3")
        await connection.cancel(session_id=session.session_id)
        assert (await turn).stop_reason == "cancelled"


async def test_the_official_client_gets_our_extensions_and_errors(tmp_path: Path) -> None:
    client = Client()
    async with official_client(client) as connection:
        session = await connection.new_session(cwd=str(tmp_path), mcp_servers=[])
        await connection.prompt(
            session_id=session.session_id, prompt=[official.text_block('/wallet {"to": "x"}')]
        )
        expected = {"sessionId": session.session_id, "transaction": {"to": "x"}}
        assert client.extensions == [("session/wallet", expected)]
        with pytest.raises(official.RequestError) as refused:
            await connection.load_session(cwd=str(tmp_path), session_id="x", mcp_servers=[])
        assert refused.value.code == acp.METHOD_NOT_FOUND


@asynccontextmanager
async def wire() -> AsyncIterator[tuple[ClientSideConnection, asyncio.StreamReader, asyncio.StreamWriter]]:
    """The official client at one end of a socket, bare streams at the other."""
    ours: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    server = await asyncio.start_server(lambda *streams: ours.put_nowait(streams), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    our_reader, our_writer = await ours.get()
    client: Any = Client()
    try:
        async with ClientSideConnection(client, writer, reader) as connection:
            yield connection, our_reader, our_writer
    finally:
        for each in (writer, our_writer):
            each.close()
            await each.wait_closed()
        server.close()
        await server.wait_closed()


async def test_our_codec_reads_what_the_official_client_writes() -> None:
    async with wire() as (connection, reader, writer):
        lines = acp.Lines()
        blocks: list[Any] = [
            official.text_block("שלום 🎉\nline"),
            official.resource_link_block("n", "file:///n"),
        ]
        call = asyncio.create_task(connection.prompt(session_id="s", prompt=blocks), name="prompt")
        [request] = lines.feed(await reader.readline())
        assert isinstance(request, acp.Envelope)
        assert (request.id, request.method) == (0, "session/prompt")
        params = acp.parse(request.params, dict[str, Any])
        assert [block["type"] for block in params["prompt"]] == ["text", "resource_link"]
        assert params["prompt"][0]["text"] == "שלום 🎉\nline"
        writer.write(acp.response(0, {"stopReason": "refusal"}))
        assert (await call).stop_reason == "refusal"

        await connection.cancel(session_id="s")
        [cancel] = lines.feed(await reader.readline())
        assert isinstance(cancel, acp.Envelope)
        assert cancel.is_notification
        assert cancel.method == "session/cancel"

        writer.write(acp.request(0, "session/elsewhere", {}))
        [answer] = lines.feed(await reader.readline())
        assert isinstance(answer, acp.Envelope)
        assert answer.is_response
        assert isinstance(answer.error, acp.RpcError)
        assert answer.error.code == acp.METHOD_NOT_FOUND


@pytest.mark.parametrize(
    "update",
    [
        official.update_agent_message_text("text"),
        official.update_agent_thought_text("thought"),
        official.update_user_message_text("said"),
        official.update_plan([official.plan_entry("step", priority="high", status="in_progress")]),
        official.start_tool_call("t1", "Title", kind="edit", status="pending", raw_input={"a": 1}),
        official.update_tool_call(
            "t1", status="completed", content=[official.tool_diff_content("/a", "new", "old")]
        ),
    ],
    ids=lambda update: str(update.session_update),
)
def test_our_codec_reads_what_the_official_package_serialises(update: Any) -> None:
    body = official.session_notification("s", update).model_dump(
        mode="json", by_alias=True, exclude_none=True
    )
    [message] = acp.Lines().feed(acp.notification("session/update", body))
    assert isinstance(message, acp.Envelope)
    assert acp.parse(message.params, dict[str, Any]) == body
    check(SessionNotification, body)
