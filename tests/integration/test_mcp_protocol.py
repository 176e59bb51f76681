"""`/mcp` as a protocol: eras, media types, malformed messages, who may call, what is announced."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import aiohttp
import psutil
import pytest

from tests.gateways import RunningGateway, running_gateway
from tests.mcp_clients import LINE_ENDS, call, post, result
from tests.shared import SHARED, fresh_id, shared_gateway

gateway = shared_gateway("[server]\nhosts = ['shop.example.com']\nbody_limit_bytes = 65536\n")
pytestmark = SHARED

MODERN = "2026-07-28"
TOOLS = {
    "list_stores",
    "search_products",
    "add_to_cart",
    "view_cart",
    "remove_from_cart",
    "clear_cart",
    "debug_session",
}


def message(method: str, params: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}, **fields}


def modern(method: str, params: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, str]]:
    """A message of the era without sessions, and its headers."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        **(params or {}).pop("_meta", {}),
    }
    headers = {"MCP_Protocol_Version": MODERN, "Mcp_Method": method}
    if "name" in (params or {}):
        headers["Mcp_Name"] = (params or {})["name"]
    return message(method, {**(params or {}), "_meta": meta}), headers


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_initialize_echoes_a_known_version(gateway: RunningGateway, version: str) -> None:
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    answer = await result(gateway.http, message("initialize", params))
    assert answer["protocolVersion"] == version
    assert answer["serverInfo"]["name"] == "agent-gateway-shop"
    assert answer["capabilities"].keys() == {"tools", "resources"}


async def test_initialize_answers_an_unknown_version_with_one_it_speaks(gateway: RunningGateway) -> None:
    params = {
        "protocolVersion": "1999-01-01",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    assert (await result(gateway.http, message("initialize", params)))["protocolVersion"] == "2025-11-25"


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "application/json, text/event-stream"])
async def test_json_is_answered_without_initialize(gateway: RunningGateway, accept: str | None) -> None:
    headers = {"Accept": accept} if accept else {}
    skip = () if accept else ("Accept",)
    async with (
        aiohttp.ClientSession(gateway.url, skip_auto_headers=skip) as http,
        http.post("/mcp", json=message("tools/list"), headers=headers) as response,
    ):
        assert (response.status, response.content_type) == (200, "application/json")
        assert {tool["name"] for tool in (await response.json())["result"]["tools"]} == TOOLS


@pytest.mark.parametrize("accept", ["text/event-stream", "text/*;q=0.5", "text/html, text/event-stream"])
async def test_a_client_that_takes_events_alone_gets_one(gateway: RunningGateway, accept: str) -> None:
    async with gateway.http.post("/mcp", json=message("tools/list"), headers={"Accept": accept}) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream"), await response.text()
        lines = (await response.text()).split("\n")
    assert (lines[0], lines[2:]) == ("event: message", ["", ""])
    answer = json.loads(lines[1].removeprefix("data: "))
    assert {tool["name"] for tool in answer["result"]["tools"]} == TOOLS
    started = message("notifications/initialized")
    del started["id"]
    async with gateway.http.post("/mcp", json=started, headers={"Accept": accept}) as response:
        assert (response.status, await response.read()) == (202, b"")


async def test_an_event_is_one_line_to_clients_that_split_by_unicodes_rules(gateway: RunningGateway) -> None:
    body = message("tools/call", {"name": f"no {LINE_ENDS} tool", "arguments": {}})
    async with gateway.http.post("/mcp", json=body, headers={"Accept": "text/event-stream"}) as response:
        lines = (await response.text()).splitlines()
    assert (lines[0], lines[2:]) == ("event: message", [""])
    assert LINE_ENDS in json.loads(lines[1].removeprefix("data: "))["error"]["message"]


async def test_the_era_without_sessions_is_served_on_the_same_address(gateway: RunningGateway) -> None:
    body, headers = modern("server/discover")
    status, sent, answer = await post(gateway.http, body, **headers)
    assert status == 200, answer
    assert MODERN in answer["result"]["supportedVersions"]
    assert "Mcp-Session-Id" not in sent
    body, headers = modern(
        "tools/call", {"name": "add_to_cart", "arguments": {"product_id": "nitzat-haduvdevan:3"}}
    )
    _, _, answer = await post(gateway.http, body, **headers)
    handle = answer["result"]["_meta"]["_sessionId"]
    assert handle in answer["result"]["content"][0]["text"]
    body, headers = modern("tools/call", {"name": "view_cart", "arguments": {"_sessionId": handle}})
    _, _, answer = await post(gateway.http, body, **headers)
    assert answer["result"]["structuredContent"]["total"] == 16.5
    assert answer["result"]["resultType"] == "complete"


async def test_a_version_that_nobody_speaks_is_refused(gateway: RunningGateway) -> None:
    for body, headers in ((message("tools/list"), {}), modern("tools/list")):
        status, _, answer = await post(
            gateway.http, body, **{**headers, "MCP_Protocol_Version": "1999-01-01"}
        )
        assert (status, "error" in answer) == (400, True)


async def test_a_notification_is_accepted_without_a_word(gateway: RunningGateway) -> None:
    notification = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    status, _, body = await post(gateway.http, notification)
    assert (status, body or None) == (202, None)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"nonsense", -32700),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"a": "\xff"}}', -32700),
        (b"[" * 100, -32700),
        (b'{"a":' * 100 + b"1" + b"}" * 100, -32700),
        (b"[]", -32600),
        (b"3", -32600),
        (b'"text"', -32600),
        (b'{"jsonrpc": "2.0", "id": 1}', -32602),
        (b'{"jsonrpc": "1.0", "id": 1, "method": "tools/list"}', -32602),
    ],
)
async def test_what_is_no_message_is_refused(gateway: RunningGateway, body: bytes, code: int) -> None:
    status, _, answer = await post(gateway.http, body)
    assert (status, answer["error"]["code"]) == (400, code), answer
    assert (await post(gateway.http, message("ping")))[0] == 200


async def test_a_lone_surrogate_is_refused_and_nothing_breaks(gateway: RunningGateway) -> None:
    for text in ('"\\ud800"', '"a\\udfffb"'):
        raw = json.dumps(call("view_cart", {"_sessionId": "ID"})).replace('"ID"', text)
        status, _, _ = await post(gateway.http, raw.encode())
        assert status in (200, 400)
    assert "Traceback" not in gateway.log()


async def test_an_unknown_method_tool_or_resource_is_an_error_of_the_protocol(
    gateway: RunningGateway,
) -> None:
    for body, code in (
        (message("nothing/here"), -32601),
        (message("prompts/list"), -32601),
        (call("launch_rockets"), -32602),
        (message("resources/read", {"uri": "ui://widget/other.html"}), -32602),
        (message("resources/read", {"uri": "file:///etc/passwd"}), -32602),
        (message("tools/call", {"name": "view_cart", "arguments": "alice"}), -32602),
    ):
        status, _, answer = await post(gateway.http, body)
        assert (status, answer["error"]["code"]) == (200, code), answer


async def test_only_json_is_taken_and_only_so_much(gateway: RunningGateway) -> None:
    status, _, body = await post(gateway.http, b"{}", Content_Type="text/plain")
    assert (status, body["error"]["code"]) == (415, "wrong_media_type")
    status, _, body = await post(gateway.http, b"{" + b" " * 65536 + b"}")
    assert (status, body["error"]["code"]) == (413, "body_too_large")
    for method in ("GET", "DELETE", "PUT"):
        async with gateway.http.request(method, "/mcp") as response:
            assert response.status == 405


async def test_hosts_and_origins_are_those_of_the_gateway(gateway: RunningGateway) -> None:
    assert (await post(gateway.http, message("ping"), Host="evil.example"))[0] == 403
    assert (await post(gateway.http, message("ping"), Host="shop.example.com"))[0] == 200
    assert (await post(gateway.http, message("ping"), Origin="https://evil.example"))[0] == 403
    status, headers, _ = await post(gateway.http, message("ping"), Origin="http://localhost:6274")
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, "http://localhost:6274")
    asked = {"Origin": "http://localhost:6274", "Access-Control-Request-Method": "POST"}
    async with gateway.http.options("/mcp", headers=asked) as response:
        assert "MCP-Protocol-Version" in response.headers["Access-Control-Allow-Headers"]


async def test_tools_announce_schemas_hints_and_widgets(gateway: RunningGateway) -> None:
    tools = {tool["name"]: tool for tool in (await result(gateway.http, message("tools/list")))["tools"]}
    assert tools.keys() == TOOLS
    for name, tool in tools.items():
        assert tool["inputSchema"]["type"] == "object"
        assert "$ref" not in json.dumps(tool)
        assert {"locale", "_sessionId"} <= tool["inputSchema"]["properties"].keys()
        assert tool["annotations"]["openWorldHint"] is False
        assert tool["_meta"]["openai/widgetAccessible"] is True
        has_widget = name in ("search_products", "view_cart")
        assert ("openai/outputTemplate" in tool["_meta"]) == has_widget
        assert tool["annotations"]["readOnlyHint"] == (
            name in ("list_stores", "search_products", "view_cart", "debug_session")
        )
    assert tools["add_to_cart"]["inputSchema"]["required"] == ["product_id"]
    assert tools["add_to_cart"]["inputSchema"]["properties"]["quantity"]["maximum"] == 999
    assert tools["view_cart"]["_meta"]["openai/outputTemplate"] == "ui://widget/cart.html"
    assert tools["view_cart"]["_meta"]["openai/resultCanProduceWidget"] is True


async def test_widgets_are_resources(gateway: RunningGateway) -> None:
    found = (await result(gateway.http, message("resources/list")))["resources"]
    assert {resource["uri"] for resource in found} == {"ui://widget/products.html", "ui://widget/cart.html"}
    for resource in found:
        assert resource["mimeType"] == "text/html+skybridge"
        read = await result(gateway.http, message("resources/read", {"uri": resource["uri"]}))
        (contents,) = read["contents"]
        assert contents["mimeType"] == "text/html+skybridge"
        assert "window.openai" in contents["text"]
        assert "http://" not in contents["text"]
    templates = await result(gateway.http, message("resources/templates/list"))
    assert templates["resourceTemplates"] == []


async def test_what_was_searched_is_in_no_log(gateway: RunningGateway) -> None:
    canary = "canarysearch"
    await result(
        gateway.http, call("search_products", {"search": canary}, meta={"sessionId": fresh_id(canary)})
    )
    assert canary not in gateway.log()


@pytest.mark.asyncio(loop_scope="function")
async def test_the_sdk_is_loaded_by_the_first_request_alone(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path, prefix=("env",)) as running:
        before = psutil.Process(running.pid).memory_info().rss
        assert not _maps_pydantic(running.pid)
        await result(running.http, message("tools/list"))
        assert _maps_pydantic(running.pid)
        assert psutil.Process(running.pid).memory_info().rss - before < 80 * 2**20
        assert await running.stop() == 0


def _maps_pydantic(pid: int) -> bool:
    return any("pydantic_core" in mapped.path for mapped in psutil.Process(pid).memory_maps())
