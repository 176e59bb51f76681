"""`mcp-command`: a session's worker as the MCP client, and which addresses nobody may send it to."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import pytest

from tests.gateways import RunningGateway, running_gateway
from tests.mcp_clients import PRODUCT
from tests.shared import SHARED, ask, fresh_id, shared_gateway
from worker.mcp_http import Ask, ServerFailed, is_public
from worker.mcp_http import ask as ask_server

pytestmark = SHARED
gateway = shared_gateway(agents={"other": {"repeat": True, "turns": [[{"say": "hello"}]]}})
PRIVATE: Final = (
    *("http://127.0.0.1:9/mcp", "http://localhost/mcp", "http://[::1]/", "http://10.0.0.1/"),
    *("http://169.254.169.254/latest/meta-data", "http://192.168.1.1/", "http://printer.local/"),
    *("http://[::ffff:127.0.0.1]/", "http://[fe80::1]/", "https://metadata.google.internal/"),
)


async def command(gateway: RunningGateway, session_id: str, verb: str, /, **args: Any) -> Any:
    body = {"command": verb, "args": args, "session_id": session_id}
    return await gateway.post("/api/mcp-command", body)


async def added(gateway: RunningGateway, session_id: str) -> None:
    """The gateway's own shop as a server of the session: a real one is at hand."""
    answer = await command(gateway, session_id, "add_server", name="shop", url=f"{gateway.url}/mcp")
    assert answer["success"], answer


async def test_the_worker_asks_a_server_that_was_added(gateway: RunningGateway) -> None:
    session_id = fresh_id("client")
    await added(gateway, session_id)
    tools = await command(gateway, session_id, "list_tools")
    assert tools["success"], tools
    assert "search_products" in [tool["name"] for tool in tools["data"]["tools"]]
    arguments = {"product_id": PRODUCT.format(3), "_sessionId": session_id}
    put = {"server": "shop", "name": "add_to_cart", "arguments": arguments}
    called = await command(gateway, session_id, "call_tool", **put)
    assert called["success"], called
    assert called["data"]["isError"] is False
    resources = await command(gateway, session_id, "list_resources")
    uri = resources["data"]["resources"][0]["uri"]
    read = await command(gateway, session_id, "read_resource", uri=uri)
    assert read["data"]["contents"][0]["uri"] == uri
    absent = {"name": "add_to_cart", "arguments": {"product_id": "no:1"}}
    wrong = await command(gateway, session_id, "call_tool", **absent)
    assert (wrong["success"], wrong["data"]["isError"]) == (False, True)
    for name in ("list_prompts", "get_prompt"):
        refused = await command(gateway, session_id, name, name="x")
        assert (refused["success"], "refused prompts/" in refused["message"]) == (False, True), refused


async def test_servers_are_listed_and_removed(gateway: RunningGateway) -> None:
    session_id = fresh_id("list")
    assert (await command(gateway, session_id, "list_servers"))["data"] == {"servers": []}
    await added(gateway, session_id)
    assert [s["name"] for s in (await command(gateway, session_id, "list_servers"))["data"]["servers"]] == [
        "shop"
    ]
    assert not (await command(gateway, fresh_id("other"), "list_tools"))["success"]
    assert (await command(gateway, session_id, "remove_server", name="shop"))["success"]
    gone = await command(gateway, session_id, "list_tools")
    assert (gone["success"], "add_server" in gone["message"]) == (False, True)


async def test_a_turn_goes_on_beside_a_question_to_a_server(gateway: RunningGateway) -> None:
    session_id = fresh_id("beside")
    await added(gateway, session_id)
    await gateway.send(session_id, "/count 300 10")
    assert (await command(gateway, session_id, "list_tools"))["success"]
    state = await gateway.post("/api/interrupt", {"session_id": session_id})
    assert state["messages"][-1]["content"] == "Interrupted by user"


async def test_an_agent_without_a_client_says_so(gateway: RunningGateway) -> None:
    session_id = fresh_id("other")
    await gateway.send(session_id, "hi", agent="other")
    await added(gateway, session_id)
    answer = await command(gateway, session_id, "list_tools")
    assert answer["success"] is False
    assert "no MCP client" in answer["message"]


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://x/", "python -m server", "", "http://", "http://u:p@example.com/",
     "http://x y/", "http://example.com:99999/", "stdio:whatever"],
)  # fmt: skip
async def test_other_addresses_are_refused(gateway: RunningGateway, url: str) -> None:
    answer = await command(gateway, fresh_id("url"), "add_server", name="bad", url=url)
    assert answer["success"] is False, answer


@pytest.mark.parametrize("args", [{}, {"name": "../x", "url": "https://example.com"}, {"name": 1, "url": 2}])
async def test_bad_arguments_are_refused(gateway: RunningGateway, args: Any) -> None:
    assert not (await command(gateway, fresh_id("args"), "add_server", **args))["success"]


@pytest.mark.asyncio(loop_scope="function")
async def test_nobody_else_may_name_addresses_that_are_not_public(tmp_path: Any) -> None:
    async with running_gateway(tmp_path, config='[auth]\nmodes = ["anonymous"]\n') as gateway:
        async with gateway.caller() as visitor:
            await ask(visitor, "GET", "/api/me")
            headers = {"X-CSRF-Token": (await ask(visitor, "GET", "/api/me")).body.get("csrf_token", "")}
            for url in PRIVATE:
                body = {"command": "add_server", "args": {"name": "x", "url": url}, "session_id": "s"}
                answer = await ask(visitor, "POST", "/api/mcp-command", body, headers=headers)
                assert (answer.status, answer.body["success"]) == (200, False), (url, answer.body)


@pytest.mark.parametrize(
    ("address", "expected"),
    [("8.8.8.8", True), ("2606:4700::1111", True), ("127.0.0.1", False), ("10.1.2.3", False),
     ("169.254.169.254", False), ("::1", False), ("fe80::1%eth0", False), ("::ffff:10.0.0.1", False),
     ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False), ("224.0.0.1", False), ("100.64.0.1", False),
     ("0.0.0.0", False), ("nonsense", False)],  # noqa: S104
)  # fmt: skip
async def test_which_addresses_are_public(address: str, expected: bool) -> None:
    assert is_public(address) is expected


class _Odd(BaseHTTPRequestHandler):
    """A server that answers as its path says."""

    asked = 0

    def do_POST(self) -> None:
        type(self).asked += 1
        body = self.rfile.read(int(self.headers["Content-Length"]))
        match self.path:
            case "/redirect":
                self._send(302, b"", Location="http://169.254.169.254/")
            case "/huge":
                self._send(200, b'{"x": "' + b"x" * 2_000_000 + b'"}')
            case "/garbage":
                self._send(200, b"<html>")
            case "/drip":
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):
                    for _ in range(100):
                        self.wfile.write(b" ")
                        time.sleep(0.05)
            case "/stream" if b'"id":1' in body or b'"id":2' in body:
                number = b"1" if b'"id":1' in body else b"2"
                event = b'event: message\ndata: {"jsonrpc":"2.0","id":%b,"result":{"tools":[]}}\n\n' % number
                self._send(200, b": hello\n\n" + event, kind="text/event-stream")
            case _:
                self._send(202, b"")

    def _send(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def odd() -> Iterator[str]:
    _Odd.asked = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Odd)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_an_answer_as_an_event_stream_is_read(odd: str) -> None:
    answer = ask_server(Ask(f"{odd}/stream", "tools/list", may_reach_private=True))
    assert answer == {"result": {"tools": []}}


@pytest.mark.parametrize("path", ["redirect", "huge", "garbage", "nothing"])
async def test_odd_servers_are_a_failure_in_words(odd: str, path: str) -> None:
    with pytest.raises(ServerFailed):
        ask_server(Ask(f"{odd}/{path}", "tools/list", may_reach_private=True, seconds=5))


async def test_a_name_that_resolves_to_this_machine_is_not_connected_to(odd: str) -> None:
    named = odd.replace("127.0.0.1", socket.gethostname() or "localhost")
    others = [odd.replace("127.0.0.1", name) for name in ("localhost", "0", "2130706433", "0x7f.1")]
    for url in (odd, named, *others):
        with pytest.raises(ServerFailed):
            ask_server(Ask(f"{url}/stream", "tools/list"))
    assert _Odd.asked == 0


async def test_a_server_that_drips_is_given_up(odd: str) -> None:
    began = time.monotonic()
    with pytest.raises(ServerFailed):
        ask_server(Ask(f"{odd}/drip", "tools/list", may_reach_private=True, seconds=0.5))
    assert time.monotonic() - began < 4


async def test_a_silent_server_is_given_up(odd: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(ServerFailed):
            ask_server(Ask(url, "tools/list", may_reach_private=True, seconds=0.3))
