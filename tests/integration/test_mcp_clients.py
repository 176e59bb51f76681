"""MCP clients that nobody here wrote, against a real gateway: Python and TypeScript in both eras, the
inspector, the conformance suite; and the same server over stdio.
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp_types import CallToolResult, TextContent

from tests.gateways import RunningGateway
from tests.inside import gateway_inside
from tests.mcp_clients import LINE_ENDS, PRODUCT, cart
from tests.patience import crowding, soon
from tests.shared import SHARED, fresh_id, shared_gateway
from tests.stored import store_in

gateway = shared_gateway()
pytestmark = SHARED

CLIENTS: Final = pathlib.Path(__file__).parent.parent / "mcp"
NODE: Final = CLIENTS / "node_modules" / "node" / "bin" / "node"
WAIT_SECONDS: Final = 60
RICE: Final = PRODUCT.format(3)
ERAS: Final = ("legacy", "2026-07-28")


def text(answer: CallToolResult) -> str:
    (content,) = answer.content
    assert isinstance(content, TextContent)
    return content.text


@pytest.fixture(scope="module")
def node() -> pathlib.Path:
    """Node 22, which the tools below need, beside them."""
    if not NODE.exists():
        words = "MCP clients are NOT tested: `npm ci` in tests/mcp"
        if os.environ.get("CI"):
            pytest.fail(words)
        pytest.skip(words)
    return NODE


async def ran(*command: object, code: int = 0) -> str:
    """What a command wrote; it must end with this code."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=CLIENTS, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await soon(process.communicate(), WAIT_SECONDS)
    assert process.returncode == code, (output.decode(), errors.decode())
    return output.decode()


@pytest.mark.parametrize("mode", [*ERAS, "auto"])
async def test_the_python_client_works(gateway: RunningGateway, mode: str) -> None:
    meta: Any = {"sessionId": fresh_id("python")}
    async with Client(f"{gateway.url}/mcp", mode=mode) as client:
        assert len((await client.list_tools()).tools) == 7
        assert len((await client.list_resources()).resources) == 2
        await client.call_tool("add_to_cart", {"product_id": RICE, "quantity": 2}, meta=meta)
        seen = await client.call_tool("view_cart", {}, meta=meta)
        assert seen.structured_content["total"] == 33.0
        refused = await client.call_tool("add_to_cart", {"product_id": "../x:0"}, meta=meta)
        assert refused.is_error
        assert text(refused).startswith("❌")


async def test_a_client_without_ids_keeps_its_cart_by_the_transports_session(gateway: RunningGateway) -> None:
    async with (
        Client(f"{gateway.url}/mcp", mode="legacy") as one,
        Client(f"{gateway.url}/mcp", mode="legacy") as two,
    ):
        await one.call_tool("add_to_cart", {"product_id": RICE, "quantity": 2})
        assert "33.00 ₪" in text(await one.call_tool("view_cart", {}))
        assert text(await two.call_tool("view_cart", {})) == "העגלה ריקה 🛒"


async def test_many_clients_fill_one_cart(gateway: RunningGateway) -> None:
    me = fresh_id("many")
    meta: Any = {"sessionId": me}

    async def shop(mode: str) -> None:
        async with Client(f"{gateway.url}/mcp", mode=mode) as client:
            for _ in range(10):
                await client.call_tool("add_to_cart", {"product_id": RICE}, meta=meta)

    await asyncio.gather(*(shop(mode) for mode in ERAS * 2))
    assert (await cart(gateway.http, me))["items"][0]["quantity"] == 40


@pytest.mark.parametrize("era", ERAS)
async def test_the_typescript_client_works(gateway: RunningGateway, node: pathlib.Path, era: str) -> None:
    found = json.loads(await ran(node, "client.mjs", era, f"{gateway.url}/mcp"))
    assert len(found["tools"]) == 7
    assert found["resources"] == ["ui://widget/products.html", "ui://widget/cart.html"]
    assert found["widget"] == "text/html+skybridge"
    assert (found["total"], found["refused"]) == (33.0, True)
    assert found["source"] == ("transport" if era == "legacy" else "arguments._sessionId")


async def test_the_inspector_works(gateway: RunningGateway, node: pathlib.Path) -> None:
    inspector = CLIENTS / "node_modules" / ".bin" / "mcp-inspector"

    async def inspect(*arguments: str) -> Any:
        return json.loads(await ran(node, inspector, "--cli", f"{gateway.url}/mcp", *arguments))

    listed = await inspect("--method", "tools/list")
    assert len(listed["tools"]) == 7
    session = f"_sessionId={fresh_id('inspector')}"
    adding = ("--tool-name", "add_to_cart", "--tool-arg", f"product_id={RICE}", "quantity=2", session)
    assert "33.00 ₪" in (await inspect("--method", "tools/call", *adding))["content"][0]["text"]
    viewing = ("--tool-name", "view_cart", "--tool-arg", session)
    assert (await inspect("--method", "tools/call", *viewing))["structuredContent"]["total"] == 33.0
    read = await inspect("--method", "resources/read", "--uri", "ui://widget/products.html")
    assert read["contents"][0]["mimeType"] == "text/html+skybridge"


async def test_the_conformance_suite_passes_what_applies(
    gateway: RunningGateway, node: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    suite = CLIENTS / "node_modules" / ".bin" / "conformance"
    output = await ran(
        *(node, suite, "server", "--url", f"{gateway.url}/mcp", "--output-dir", tmp_path),
        *("--expected-failures", CLIENTS / "conformance.yml"),
    )
    for scenario in ("server-initialize", "ping", "tools-list", "resources-list", "dns-rebinding-protection"):
        assert f"✓ {scenario}:" in output


def stdio(directory: pathlib.Path, *arguments: str) -> StdioServerParameters:
    command = ["-m", "gateway", "mcp", "--stdio", "--data-dir", str(directory), *arguments]
    environment = dict(store_in(directory, "", None))
    return StdioServerParameters(
        command=sys.executable, args=command, cwd=CLIENTS.parent.parent, env=environment
    )


Transport = Callable[[pathlib.Path], StdioServerParameters]


@pytest.mark.asyncio(loop_scope="function")
@pytest.mark.parametrize("mode", ERAS)
async def test_the_same_server_speaks_over_stdio(tmp_path: pathlib.Path, mode: str) -> None:
    async with Client(stdio(tmp_path), mode=mode) as client:
        assert len((await client.list_tools()).tools) == 7
        await client.call_tool("add_to_cart", {"product_id": RICE})
        answer = await client.call_tool("debug_session", {})
        assert answer.structured_content["source"] == "transport"
        assert answer.structured_content["items"] == 1


def answers(server: StdioServerParameters, sent: list[dict[str, Any]], *, count: int) -> list[str]:
    """So many lines of a server, after all of these messages."""
    command = [server.command, *server.args]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=server.cwd, stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"".join(json.dumps(message).encode() + b"\n" for message in sent))
        process.stdin.flush()
        said = [process.stdout.readline().decode() for _ in range(count)]
        assert process.communicate(timeout=WAIT_SECONDS * crowding())[0] == b""
    assert process.returncode == 0
    return said


@pytest.mark.asyncio(loop_scope="function")
async def test_over_stdio_a_message_is_one_line_to_clients_that_split_by_unicodes_rules(
    tmp_path: pathlib.Path,
) -> None:
    about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    call = {"name": f"no {LINE_ENDS} tool", "arguments": {}}
    sent: list[dict[str, Any]] = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": about},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
    ]
    said = await asyncio.to_thread(answers, stdio(tmp_path), sent, count=2)
    assert [len(line.splitlines()) for line in said] == [1, 1]
    assert LINE_ENDS in json.loads(said[1])["error"]["message"]


@pytest.mark.asyncio(loop_scope="function")
async def test_over_stdio_the_carts_are_those_of_the_gateway(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path) as running:
        for quantity in (1, 2):
            async with Client(stdio(running.data_path, "--session", "desk"), mode="legacy") as client:
                answer = await client.call_tool("add_to_cart", {"product_id": RICE})
                assert f"סכום כולל: {quantity * 16.5:.2f} ₪" in text(answer)
        assert (await cart(running.http, "desk"))["items"][0]["quantity"] == 2


@pytest.mark.asyncio(loop_scope="function")
async def test_over_stdio_a_bad_session_is_named() -> None:
    await ran(sys.executable, "-m", "gateway", "mcp", "--stdio", "--session", "a\nb", code=2)
