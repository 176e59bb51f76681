"""`mcp-command`: the gateway asks the MCP servers that people add to a session, whatever its agent is."""

from __future__ import annotations

import asyncio
import pathlib
import signal
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio
from aiohttp import web

from tests.certificates import Authority
from tests.gateways import RunningGateway, running_gateway
from tests.inside import gateway_inside
from tests.mcp_servers import odd_server, sdk_server
from tests.patience import soon
from tests.shared import SHARED, ask, eventually, fresh_id, shared_gateway

pytestmark = SHARED
gateway = shared_gateway(
    '[egress]\nprivate_hosts = ["localhost"]\n',
    agents={"other": {"repeat": True, "turns": [[{"say": "hello"}]]}},
)
PRIVATE: Final = (
    *("http://127.0.0.1:9/mcp", "http://localhost/mcp", "http://[::1]/", "http://10.0.0.1/"),
    *("http://169.254.169.254/latest/meta-data", "http://192.168.1.1/", "http://printer.local/"),
    *("http://[::ffff:127.0.0.1]/", "http://[fe80::1]/", "https://metadata.google.internal/"),
    *("http://2130706433/", "http://0x7f.1/"),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server_url() -> AsyncIterator[str]:
    """A real server, by a name."""
    async with sdk_server() as port:
        yield f"http://localhost:{port}/mcp"


async def command(gateway: RunningGateway, session_id: str, verb: str, /, **args: Any) -> Any:
    body = {"command": verb, "args": args, "session_id": session_id}
    return await gateway.post("/api/mcp-command", body)


async def added(gateway: RunningGateway, session_id: str, url: str, name: str = "calculator") -> None:
    answer = await command(gateway, session_id, "add_server", name=name, url=url)
    assert answer["success"], answer


async def test_a_server_that_was_added_is_asked_without_a_worker(
    gateway: RunningGateway, server_url: str
) -> None:
    session_id, before = fresh_id("client"), {worker.pid for worker in gateway.workers()}
    await added(gateway, session_id, server_url)
    tools = await command(gateway, session_id, "list_tools")
    assert (tools["success"], tools["message"]) == (True, "2 tools."), tools
    assert [tool["name"] for tool in tools["data"]["tools"]] == ["add", "fail"]
    put = {"server": "calculator", "name": "add", "arguments": {"a": 2, "b": 3}}
    called = await command(gateway, session_id, "call_tool", **put)
    assert called["success"], called
    assert called["data"]["content"][0]["text"] == "5"
    wrong = await command(gateway, session_id, "call_tool", name="fail")
    assert (wrong["success"], wrong["data"]["isError"]) == (False, True)
    resources = await command(gateway, session_id, "list_resources")
    uri = resources["data"]["resources"][0]["uri"]
    read = await command(gateway, session_id, "read_resource", uri=uri)
    assert read["data"]["contents"][0]["text"] == "remember the milk"
    prompts = await command(gateway, session_id, "list_prompts")
    assert prompts["message"] == "1 prompts."
    got = await command(gateway, session_id, "get_prompt", name="greet", arguments={"name": "Ada"})
    assert got["data"]["messages"][0]["content"]["text"] == "Say hello to Ada."
    refused = await command(gateway, session_id, "get_prompt", name="no such")
    assert (refused["success"], "refused prompts/get" in refused["message"]) == (False, True), refused
    assert {worker.pid for worker in gateway.workers()} <= before


async def test_servers_are_listed_and_removed(gateway: RunningGateway, server_url: str) -> None:
    session_id = fresh_id("list")
    assert (await command(gateway, session_id, "list_servers"))["data"] == {"servers": []}
    await added(gateway, session_id, server_url)
    listed = (await command(gateway, session_id, "list_servers"))["data"]["servers"]
    assert listed == [{"name": "calculator", "url": server_url}]
    assert not (await command(gateway, fresh_id("other"), "list_tools"))["success"]
    assert (await command(gateway, session_id, "remove_server", name="calculator"))["success"]
    gone = await command(gateway, session_id, "list_tools")
    assert (gone["success"], "add_server" in gone["message"]) == (False, True)


async def test_a_turn_goes_on_beside_a_question_to_a_server(gateway: RunningGateway, server_url: str) -> None:
    session_id = fresh_id("beside")
    await added(gateway, session_id, server_url)
    await gateway.send(session_id, "/count 1000 100")
    assert (await command(gateway, session_id, "list_tools"))["success"]
    state = await gateway.post("/api/interrupt", {"session_id": session_id})
    assert state["messages"][-1]["content"] == "Interrupted by user"


async def test_a_session_of_any_agent_has_servers(gateway: RunningGateway, server_url: str) -> None:
    session_id = fresh_id("other")
    await gateway.send(session_id, "hi", agent="other")
    await added(gateway, session_id, server_url)
    assert (await command(gateway, session_id, "list_tools"))["message"] == "2 tools."


async def test_an_odd_list_is_no_fault_of_the_gateway(gateway: RunningGateway) -> None:
    async def odd(request: Any, message: Any) -> Any:
        if "id" not in message:
            return web.Response(status=202)
        body = b'{"id":%d,"result":{"tools":7,"n":%s,"x":"\\ud83d"}}' % (message["id"], b"9" * 40)
        return web.Response(body=body, content_type="application/json")

    async with odd_server() as server:
        server.routes["/mcp"] = odd
        session_id = fresh_id("odd")
        await added(gateway, session_id, server.url())
        answer = await command(gateway, session_id, "list_tools")
    assert answer == {
        "success": True, "message": "0 tools.", "data": {"tools": 7, "n": 1e40, "x": "�"}
    }  # fmt: skip


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://x/", "python -m server", "", "http://", "http://u:p@example.com/",
     "http://x y/", "http://example.com:99999/", "stdio:whatever", "http://example.com:0/", "http://a..b/",
     "http://[::1", "http://exa\u202emple.com/", "https://" + "x" * 3000],
)  # fmt: skip
async def test_other_addresses_are_refused(gateway: RunningGateway, url: str) -> None:
    answer = await command(gateway, fresh_id("url"), "add_server", name="bad", url=url)
    assert answer["success"] is False, answer


@pytest.mark.parametrize("args", [{}, {"name": "../x", "url": "https://example.com"}, {"name": 1, "url": 2}])
async def test_bad_arguments_are_refused(gateway: RunningGateway, args: Any) -> None:
    assert not (await command(gateway, fresh_id("args"), "add_server", **args))["success"]


async def test_a_private_address_is_refused_with_the_line_to_add(gateway: RunningGateway) -> None:
    """The person at the machine is nobody special here."""
    for url in PRIVATE:
        if "localhost" not in url:
            answer = await command(gateway, fresh_id("private"), "add_server", name="x", url=url)
            assert answer["success"] is False, (url, answer)
    refused = await command(gateway, fresh_id("private"), "add_server", name="x", url="http://127.1:9/mcp")
    assert '[egress] private_hosts = ["127.0.0.1"]' in refused["message"]


async def test_the_gateway_is_no_server_of_its_own_sessions(gateway: RunningGateway) -> None:
    session_id, port = fresh_id("own"), gateway.url.rpartition(":")[2]
    await added(gateway, session_id, f"http://localhost:{port}/mcp")
    answer = await command(gateway, session_id, "list_tools")
    assert (answer["success"], "gateway itself" in answer["message"]) == (False, True)


@pytest.mark.asyncio(loop_scope="function")
async def test_nobody_else_may_name_addresses_that_are_not_public(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config='[auth]\nmodes = ["anonymous"]\n') as gateway:
        async with gateway.caller() as visitor:
            await ask(visitor, "GET", "/api/me")
            headers = {"X-CSRF-Token": (await ask(visitor, "GET", "/api/me")).body.get("csrf_token", "")}
            for url in PRIVATE:
                body = {"command": "add_server", "args": {"name": "x", "url": url}, "session_id": "s"}
                answer = await ask(visitor, "POST", "/api/mcp-command", body, headers=headers)
                assert (answer.status, answer.body["success"]) == (200, False), (url, answer.body)


@pytest.mark.asyncio(loop_scope="function")
async def test_a_server_by_name_and_certificate_until_its_host_is_named_no_more(
    tmp_path: pathlib.Path,
) -> None:
    """Behind the strictest walls that there are: no worker has a part in it."""
    (tmp_path / "authority").mkdir()
    authority = Authority(tmp_path / "authority")
    environ = {"SSL_CERT_FILE": str(authority.root_file)}
    named = '[egress]\nprivate_hosts = ["localhost"]\n'
    async with (
        odd_server(tls=authority.server("localhost")) as server,
        running_gateway(tmp_path, config=named, environ=environ) as gateway,
    ):
        await added(gateway, "s", server.url())
        answer = await command(gateway, "s", "list_tools")
        assert (answer["success"], answer["message"]) == (True, "0 tools."), answer
        (tmp_path / "config.toml").write_text("")
        gateway.process.send_signal(signal.SIGHUP)

        async def is_refused() -> bool:
            said = await command(gateway, "s", "list_tools")
            return '[egress] private_hosts = ["localhost"]' in said["message"]

        await eventually(is_refused)


@pytest.mark.asyncio(loop_scope="function")
async def test_a_gateway_ends_at_once_while_a_server_hangs(tmp_path: pathlib.Path) -> None:
    reached = asyncio.Event()

    async def hangs(_request: Any, _message: Any) -> Any:
        reached.set()
        await asyncio.sleep(60)

    config = '[server]\ndrain_seconds = 1\n[egress]\nprivate_hosts = ["localhost"]\n'
    async with odd_server() as server, running_gateway(tmp_path, config=config) as gateway:
        server.routes["/mcp"] = hangs
        await added(gateway, "s", server.url())
        asking = asyncio.ensure_future(command(gateway, "s", "list_tools"))
        await soon(reached.wait(), 5)
        gateway.process.send_signal(signal.SIGTERM)
        assert await soon(gateway.process.wait(), 30) == 0
        await asyncio.gather(asking, return_exceptions=True)
