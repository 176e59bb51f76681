"""One way to a session for every face: its rate holds across them, and each refusal is counted."""

from __future__ import annotations

import pathlib
import re

from gateway.config.tables import LimitsConfig
from tests.unserved import Inside, inside_gateway

SLOW = LimitsConfig(session_requests_per_second=0.001, session_burst=3)


async def counted(inside: Inside) -> int:
    """How many requests were refused for the rate of a session, as a scrape says."""
    text = (await inside.ask("GET", "/metrics")).text
    found = re.search(
        r'agent_gateway_rejections_total\{limit="session_requests_per_second"\} ([0-9.]+)', text
    )
    return int(float(found[1])) if found else 0


async def test_the_rate_of_a_session_holds_across_faces_and_each_refusal_is_counted(
    tmp_path: pathlib.Path,
) -> None:
    async with inside_gateway(tmp_path, limits=SLOW) as inside:
        statuses = []
        for _ in range(3):
            for path, body in (
                ("/api/system", {"message": "note", "session_id": "a"}),
                ("/api/v1/shopping/query", {"q": "rice", "sessionId": "a"}),
            ):
                statuses.append((await inside.ask("POST", path, body)).status)
        assert statuses == [200, 200, 200, 429, 429, 429]
        assert await counted(inside) == 3
        for method, path, body in (
            ("POST", "/api/chat", {"message": "x", "session_id": "a"}),
            ("POST", "/api/interrupt", {"session_id": "a"}),
            ("POST", "/api/mcp-command", {"command": "list_servers", "session_id": "a"}),
            ("POST", "/api/mcp-command", {"command": "set_network", "args": "n", "session_id": "a"}),
            ("PATCH", "/api/sessions/a", {"title": "t"}),
            ("POST", "/api/sessions/a/queue", {"action": "send"}),
        ):
            assert (await inside.ask(method, path, body)).status == 429, path
        assert await counted(inside) == 9
        other = {"message": "note", "session_id": "b"}
        assert (await inside.ask("POST", "/api/system", other)).status == 200
        assert (await inside.ask("DELETE", "/api/sessions/a")).status == 200, "one may always leave"
