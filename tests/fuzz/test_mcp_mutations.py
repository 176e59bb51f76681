"""Every member of what an MCP server answers, mistaken in every way: an answer or words.

Through real sockets. A mistake in a member that nobody needs costs nothing: the tools are listed anyway.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from gateway.egress.addresses import AddressRules
from gateway.egress.caller import CallFailed, HttpCaller
from gateway.egress.mcp_client import McpClient
from tests.fuzz import mutations
from tests.fuzz.mutations import Mutation
from tests.mcp_servers import OddServer, odd_server
from tests.shared import SHARED

pytestmark = SHARED
SEED: Final = int(os.environ.get("FUZZ_SEED", "1"))
CASES: Final = int(os.environ.get("FUZZ_CASES", "100"))
SECONDS: Final = 10
SCHEMA: Final = {"type": "object", "properties": {"a": {"type": "integer", "default": 1}}, "required": ["a"]}
TOOL: Final = {
    "name": "add",
    "description": "Adds.",
    "inputSchema": SCHEMA,
    "annotations": {"readOnlyHint": True},
}
HELLO: Final[dict[str, Any]] = {
    "jsonrpc": "2.0",
    "id": 1,
    "result": {
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {"listChanged": True}},
        "serverInfo": {"name": "x", "version": "1"},
        "instructions": "Add things.",
    },
}
LISTED: Final[dict[str, Any]] = {
    "jsonrpc": "2.0",
    "id": 2,
    "result": {"tools": [TOOL], "nextCursor": "c", "_meta": {"progress": 0.5}},
}
REFUSED: Final[dict[str, Any]] = {
    "jsonrpc": "2.0",
    "id": 2,
    "error": {"code": -32602, "message": "no", "data": [1]},
}
NOTED: Final[dict[str, Any]] = {
    "jsonrpc": "2.0",
    "method": "notifications/progress",
    "params": {"progressToken": 7, "progress": 1, "total": 2, "message": "soon"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[OddServer]:
    async with odd_server() as running:
        yield running


def client_of(odd: list[str]) -> McpClient:
    caller = HttpCaller(AddressRules(private_hosts=lambda: ("127.0.0.1",)), seconds=SECONDS)
    return McpClient(caller, on_odd=odd.append)


def saying(bodies: dict[int, bytes], *, is_stream: bool) -> Any:
    """A server that answers the request of each number with these bytes."""

    async def route(_request: web.Request, message: Any) -> web.StreamResponse:
        if "id" not in message:
            return web.Response(status=202)
        body = bodies[message["id"]]
        return web.Response(body=body, content_type="text/event-stream" if is_stream else "application/json")

    return route


def encoded(message: Any) -> bytes:
    return json.dumps(message).encode()


def event(text: bytes) -> bytes:
    return b"event: message\ndata: " + text + b"\n\n"


async def listed(server: OddServer, bodies: dict[int, bytes], *, is_stream: bool) -> Any:
    """What a session gets of such a server."""
    server.routes["/mcp"] = saying(bodies, is_stream=is_stream)
    odd: list[str] = []
    url = server.url(host="127.0.0.1")
    result = await client_of(odd).ask(url, "tools/list", {}, session="s", owner="o")
    msgspec.json.encode(result)
    return result


async def answer_or_words(
    server: OddServer, mutation: Mutation, bodies: dict[int, bytes], *, is_stream: bool, may_fail: bool
) -> None:
    try:
        await listed(server, bodies, is_stream=is_stream)
    except CallFailed as refused:
        words = str(refused)
        assert may_fail, f"FUZZ_SEED={SEED} {mutation.name}: {words}"
        assert 0 < len(words) < 500, mutation.name
    except Exception as error:
        raise AssertionError(f"FUZZ_SEED={SEED} {mutation.name}: {type(error).__name__}: {error}") from error


def is_needed(mutation: Mutation) -> bool:
    """Whether a reader may miss it: the number of the request, and what it asked for."""
    path, _, kind = mutation.name.rpartition(": ")
    is_whole = path in ("the whole", "id") or (path == "result" and kind == "missing")
    return is_whole or path == "method"


@pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("number", [1, 2], ids=["hello", "listed"])
async def test_an_answer_is_one_or_words(server: OddServer, number: int, is_stream: bool) -> None:
    message = {1: HELLO, 2: LISTED}[number]
    for mutation in mutations.some(message, count=CASES, seed=SEED):
        bodies = {1: encoded(HELLO), 2: encoded(LISTED), number: mutation.text}
        if is_stream:
            bodies = {key: event(body) for key, body in bodies.items()}
        await answer_or_words(server, mutation, bodies, is_stream=is_stream, may_fail=is_needed(mutation))


async def test_a_refusal_is_one_in_words(server: OddServer) -> None:
    for mutation in mutations.some(REFUSED, count=CASES, seed=SEED):
        bodies = {1: encoded(HELLO), 2: mutation.text}
        await answer_or_words(server, mutation, bodies, is_stream=False, may_fail=True)


async def test_what_comes_before_an_answer_does_not_cost_it(server: OddServer) -> None:
    for mutation in mutations.some(NOTED, count=CASES, seed=SEED):
        bodies = {1: event(encoded(HELLO)), 2: event(mutation.text) + event(encoded(LISTED))}
        await answer_or_words(server, mutation, bodies, is_stream=True, may_fail=False)


async def test_what_is_left_out_is_counted(server: OddServer) -> None:
    odd: list[str] = []
    hello = HELLO | {"result": HELLO["result"] | {"protocolVersion": 7}}
    bodies = {1: event(encoded(hello)), 2: event(b"ping") + event(encoded(LISTED).replace(b"0.5", b"NaN"))}
    server.routes["/mcp"] = saying(bodies, is_stream=True)
    url = server.url(host="127.0.0.1")
    result = await client_of(odd).ask(url, "tools/list", {}, session="s", owner="o")
    assert result["tools"] == [TOOL]
    assert odd == ["protocolVersion", "event", "number"]
