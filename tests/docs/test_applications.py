"""What the documents of the applications promise besides their commands and configurations."""

from __future__ import annotations

import json
import pathlib
import re
import sqlite3
import sys
from typing import Final

from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters

from tests.docs.commands import outputs, ran, written
from tests.docs.documents import blocks
from tests.gateways import ROOT
from tests.products.shop import running_shop

DOCS: Final = ROOT / "docs"


def texts(name: str, language: str) -> list[str]:
    """A document's blocks in a language, in order."""
    return [block.text for block in blocks(DOCS / name) if block.language == language]


async def test_the_desktop_configuration_starts_a_server(tmp_path: pathlib.Path) -> None:
    desktop, editor = map(json.loads, texts("mcp-shop.md", "json"))
    server = desktop["mcpServers"]["shop"]
    assert server["command"] == "agent-gateway"
    arguments = ["-m", "gateway", *server["args"], "--data-dir", str(tmp_path)]
    parameters = StdioServerParameters(command=sys.executable, args=arguments, cwd=ROOT)
    async with Client(parameters, mode="legacy") as client:
        assert len((await client.list_tools()).tools) == 7
    assert editor["servers"]["shop"]["url"].endswith("/mcp")


async def test_the_query_over_the_rows_of_product_chat_counts(tmp_path: pathlib.Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    async with running_shop(tmp_path) as shop:
        script = written(DOCS / "product-chat.md", here, {"8080": int(shop.gateway.url.rpartition(":")[2])})
        assert len(outputs(await ran(script, here))) == 4
    database = sqlite3.connect(tmp_path / "data" / "gateway.db")
    name, count, by_people = database.execute(texts("product-chat.md", "sql")[0]).fetchone()
    database.close()
    assert (name, by_people) == ("Cedar birdhouse", 1)
    assert count >= 3


def test_every_route_of_the_shopping_assistant_is_there() -> None:
    described = (ROOT / "gateway" / "apps" / "shopping_assistant" / "face.py").read_text()
    page = (DOCS / "shopping-assistant.md").read_text()
    routes = re.findall(r"`(?:GET|POST|DELETE) (/[a-z/{}]+)", page)
    assert routes
    for route in routes:
        assert route.replace("{id}", "{session_id}") in described, route
