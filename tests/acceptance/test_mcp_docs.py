"""Every command and configuration of docs/mcp-shop.md does what the page says."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import re
import shutil
import sys
from typing import Final

import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters

from gateway.config.file import load
from tests.gateways import ROOT, RunningGateway
from tests.shared import SHARED, shared_gateway

gateway = shared_gateway()
pytestmark = SHARED

PAGE: Final = (ROOT / "docs" / "mcp-shop.md").read_text()
CLIENTS: Final = ROOT / "tests" / "mcp"
INSPECTOR: Final = CLIENTS / "node_modules" / ".bin" / "mcp-inspector"


def blocks(language: str) -> list[str]:
    """The page's blocks in a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


async def run(command: str, url: str) -> str:
    """A command of the page, as it stands there but for the address and where things are installed."""
    command = command.replace("http://127.0.0.1:8080", url).replace(".venv/bin/python", sys.executable)
    node = CLIENTS / "node_modules" / "node" / "bin"
    command = command.replace("npx @modelcontextprotocol/inspector", str(INSPECTOR))
    process = await asyncio.create_subprocess_shell(
        command,
        cwd=ROOT,
        env={**os.environ, "PATH": f"{node}:{os.environ['PATH']}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, (command, output.decode(), errors.decode())
    return output.decode()


async def test_every_command_runs(gateway: RunningGateway) -> None:
    if shutil.which("curl") is None or not INSPECTOR.exists():
        words = "the page's commands are NOT tested: curl, and `npm ci` in tests/mcp"
        pytest.fail(words) if os.environ.get("CI") else pytest.skip(words)
    expected = (
        '"add_to_cart"',
        "33.00 ₪",
        "Total to pay: 33.00 ₪",
        "list_stores",
        "Found 2 products",
        "as the model",
    )
    commands = blocks("sh")
    assert len(commands) == len(expected)
    for command, words in zip(commands, expected, strict=True):
        assert words in await run(command, gateway.url)


async def test_every_configuration_is_one(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "config.toml"
    for block in blocks("toml"):
        path.write_text(block)
        load(path, environ={})


async def test_the_desktop_configuration_starts_a_server(tmp_path: pathlib.Path) -> None:
    server = json.loads(blocks("json")[0])["mcpServers"]["shop"]
    assert server["command"] == "agent-gateway"
    arguments = ["-m", "gateway", *server["args"], "--data-dir", str(tmp_path)]
    parameters = StdioServerParameters(command=sys.executable, args=arguments, cwd=ROOT)
    async with Client(parameters, mode="legacy") as client:
        assert len((await client.list_tools()).tools) == 7
    assert json.loads(blocks("json")[1])["servers"]["shop"]["url"].endswith("/mcp")
