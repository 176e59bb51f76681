"""What a worker asks the gateway through its door: its MCP server by its pass, and nothing else."""

from __future__ import annotations

import json
import pathlib
from collections.abc import AsyncIterator, Sequence

import pytest_asyncio

from gateway.egress.routes import RouteHandler, RouteRequest
from gateway.http.door_routes import by_path, through
from gateway.principal import ConversationKey
from tests.inside import GatewayInside, gateway_inside

CALL = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}).encode()


class Answer:
    """Keeps what a handler writes."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    def start(self, status: int, headers: Sequence[tuple[str, str]] = ()) -> None:
        self.status, self.headers = status, dict(headers)

    async def write(self, data: bytes) -> None:
        self.body += data


@pytest_asyncio.fixture
async def gateway(tmp_path: pathlib.Path) -> AsyncIterator[GatewayInside]:
    async with gateway_inside(tmp_path) as found:
        yield found


async def asked(gateway: GatewayInside, target: str, *, bearer: str, method: str = "POST") -> Answer:
    handler: RouteHandler = by_path({"/mcp": through(gateway.inner.app)})
    answer = Answer()
    headers = (
        ("host", "127.0.0.1:9000"),
        ("content-type", "application/json"),
        ("authorization", f"Bearer {bearer}"),
    )
    await handler(RouteRequest(method=method, target=target, headers=headers, body=CALL), answer)
    return answer


async def test_a_good_pass_lists_the_tools_of_its_agent(gateway: GatewayInside) -> None:
    passes = gateway.inner.services.workers.passes
    good = passes.issue(lambda: ConversationKey("default", "default/local", "s"), toolsets=("shop",))
    answer = await asked(gateway, "/mcp", bearer=good)
    assert answer.status == 200
    assert "content-length" not in answer.headers
    assert {tool["name"] for tool in json.loads(answer.body)["result"]["tools"]} >= {"search_products"}


async def test_an_agent_without_a_good_pass_is_refused(gateway: GatewayInside) -> None:
    answer = await asked(gateway, "/mcp", bearer="agp_wrong")
    assert answer.status in (401, 403)
    assert json.loads(answer.body)["error"]["message"]


async def test_a_door_leads_to_no_other_route(gateway: GatewayInside) -> None:
    for target in ("/api/sessions", "/mcpx", "/mcp/../api/sessions", "/"):
        answer = await asked(gateway, target, bearer="agp_wrong", method="GET")
        assert answer.status in (403, 404), target
        assert b"sessions" not in answer.body
