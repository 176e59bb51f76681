"""An unedited client of the original six-verb backend, as a page of another origin: an EventSource that hears
unnamed events only, and plain fetches; with an id of its own, and in the generation that knows no ids."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from tests.gateways import RunningGateway
from tests.inside import gateway_inside
from tests.patience import within
from tests.shared import SHARED, fresh_id, shared_gateway

pytestmark = SHARED
gateway = shared_gateway()

ORIGIN = {"Origin": "http://localhost:3000"}
FIELDS = {"messages", "is_processing", "pending_wallet_tx", "readiness", "missing_api_key", "is_loading"}


class OriginalClient:
    """What the page did: one EventSource, JSON posts, and the last State it saw. It keeps no cookies."""

    def __init__(self, url: str, session_id: str | None = None) -> None:
        self.session_id = session_id
        self.state: Any = None
        self.errors: list[str] = []
        self.shown: list[list[str]] = []
        self._changed = asyncio.Condition()
        self._http = aiohttp.ClientSession(url, headers=ORIGIN, cookie_jar=aiohttp.DummyCookieJar())

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[OriginalClient]:
        """The page is open."""
        listening = asyncio.create_task(self._listen(), name="EventSource")
        try:
            await self.until(lambda state: state["readiness"]["phase"] == "ready")
            yield self
        finally:
            listening.cancel()
            await asyncio.wait([listening])
            await self._http.close()
        assert self.errors == []

    async def _listen(self) -> None:
        """An EventSource of the standard: a named event is not heard by onmessage, `error` is."""
        params = {"session_id": self.session_id} if self.session_id else {}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._http.get("/api/chat/stream", params=params, timeout=timeout) as response:
            assert response.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
            name, data = "", ""
            async for raw in response.content:
                line = raw.decode().rstrip("\n")
                if line.startswith("event:"):
                    name = line.removeprefix("event:").strip()
                elif line.startswith("data:"):
                    data += line.removeprefix("data:").strip()
                elif not line:
                    await self._dispatch(name, data)
                    name, data = "", ""

    async def _dispatch(self, name: str, data: str) -> None:
        if name == "error":
            self.errors.append(data)
        if name not in ("", "message") or not data:
            return
        async with self._changed:
            self.state = json.loads(data)
            self.shown.append([message["content"] for message in self.state["messages"]])
            self._changed.notify_all()

    async def until(self, fits: Callable[[Any], bool]) -> Any:
        async with within(15), self._changed:
            await self._changed.wait_for(lambda: self.state is not None and fits(self.state))
        return self.state

    async def post(self, path: str, **body: Any) -> Any:
        """A fetch as the page made it: every non-2xx is an error shown to the user."""
        if self.session_id is not None:
            body["session_id"] = self.session_id
        async with self._http.post(path, json=body) as response:
            assert response.status == 200, await response.text()
            assert response.headers["Access-Control-Allow-Origin"] == ORIGIN["Origin"]
            return await response.json()

    async def answered(self, text: str) -> Any:
        """Sends a message and waits for the whole answer on the stream."""
        state = await self.post("/api/chat", message=text)
        assert state["messages"][-2]["content"] == text
        return await self.until(
            lambda s: not s["is_processing"] and any(m["content"] == text for m in s["messages"])
        )


def said(state: Any, sender: str = "agent") -> list[str]:
    return [message["content"] for message in state["messages"] if message["sender"] == sender]


async def a_visit(client: OriginalClient) -> None:
    """Everything that the page could do, once."""
    assert set(client.state) >= FIELDS
    assert said(await client.answered("/echo hello there"))[-1] == "hello there"

    await client.post("/api/chat", message="/count 1000 20")
    await client.until(lambda s: "1 2 3" in said(s)[-1])
    cut = await client.post("/api/interrupt")
    assert (cut["is_processing"], said(cut, "system")[-1]) == (False, "Interrupted by user")
    await client.until(lambda s: not s["is_processing"])

    answer = await client.post("/api/system", message="Transaction rejected by user")
    assert answer["res"]["content"] == "Transaction rejected by user"
    assert answer["res"]["sender"] == "system"

    command = await client.post("/api/mcp-command", command="set_network", args={"network": "mainnet"})
    assert (command["success"], command["data"]["network"]) == (True, "mainnet")
    unknown = await client.post("/api/mcp-command", command="fly", args={})
    assert unknown["success"] is False
    assert "fly" in unknown["message"]

    state = await client.answered('/wallet {"to": "0x1", "value": "5"}')
    assert json.loads(state["pending_wallet_tx"]) == {"to": "0x1", "value": "5"}
    await client.post("/api/system", message="Transaction sent: 0xabc")
    await client.until(lambda s: s["pending_wallet_tx"] is None)


def never_shrinks(shown: list[list[str]]) -> bool:
    """Whether what the page showed was only ever appended to, and grew at its end."""
    return all(
        len(before) <= len(after) and all(b.startswith(a) for a, b in zip(before, after, strict=False))
        for before, after in itertools.pairwise(shown)
    )


async def test_a_client_with_an_id_works(gateway: RunningGateway) -> None:
    async with OriginalClient(gateway.url, fresh_id("client")).connected() as client:
        assert client.state["messages"] == []
        await a_visit(client)
        assert never_shrinks(client.shown)


async def test_a_client_that_knows_no_ids_works(tmp_path: Any) -> None:
    async with gateway_inside(tmp_path) as running:
        async with OriginalClient(running.url).connected() as client:
            await a_visit(client)
            assert await running.count() == 1, "one page, one session"
            assert never_shrinks(client.shown)
            before = client.state["messages"]
        async with OriginalClient(running.url).connected() as client:
            assert client.state["messages"] == before, "a reload shows the same conversation"
            await client.answered("/echo after the reload")
            assert await running.count() == 1


async def test_two_clients_with_ids_of_their_own_are_isolated(gateway: RunningGateway) -> None:
    async with (
        OriginalClient(gateway.url, fresh_id("left")).connected() as left,
        OriginalClient(gateway.url, fresh_id("right")).connected() as right,
    ):
        await asyncio.gather(left.answered("/echo canary-left"), right.answered("/echo canary-right"))
        assert "canary-right" not in str(left.shown)
        assert "canary-left" not in str(right.shown)


async def test_two_clients_of_one_session_see_the_same(gateway: RunningGateway) -> None:
    session_id = fresh_id("shared")
    async with (
        OriginalClient(gateway.url, session_id).connected() as one,
        OriginalClient(gateway.url, session_id).connected() as other,
    ):
        await one.answered("/echo from one")
        await other.until(lambda s: said(s) == ["from one"])
        await other.answered("/echo from the other")
        await one.until(lambda s: said(s) == ["from one", "from the other"])


@pytest.mark.parametrize("fault", ["/api/chat", "/api/system", "/api/interrupt", "/api/mcp-command"])
async def test_what_its_browser_asks_before_a_post_is_allowed(gateway: RunningGateway, fault: str) -> None:
    headers = {
        **ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    async with gateway.http.options(fault, headers=headers) as response:
        assert response.status == 204
        assert "content-type" in response.headers["Access-Control-Allow-Headers"].lower()


async def test_its_probe_of_the_backend_is_plain_text(gateway: RunningGateway) -> None:
    async with gateway.http.get("/health", headers=ORIGIN) as response:
        assert (response.status, await response.text()) == (200, "OK")
    async with gateway.http.get("/health", headers={"Accept": "application/json"}) as response:
        health = await response.json()
    assert (health["status"], set(health)) == ("ok", {"status", "timestamp", "uptime_seconds", "version"})
