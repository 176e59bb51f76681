"""A hundred sessions opened, chatted in and deleted leave no process, no open file, no file and no growth."""

from __future__ import annotations

import asyncio
import pathlib

import aiohttp
import psutil

from gateway.stores.postgresql.connections import READERS
from tests.gateways import RunningGateway, running_gateway
from tests.shared import eventually
from tests.stored import kind

SESSIONS = 100
AT_ONCE = 10
GROWTH_BYTES = 8 * 1024 * 1024
"""What allocators keep; a leaked session holds far more than an eightieth of it."""


async def visit(http: aiohttp.ClientSession, name: str) -> None:
    """One session's life, with a stream open to its end."""
    params = {"session_id": name, "view": "events"}
    async with http.get("/api/chat/stream", params=params) as stream:
        body = {"session_id": name, "message": f"/echo canary of {name}"}
        async with http.post("/api/chat?wait=240", json=body) as response:
            state = await response.json()
        assert state["messages"][-1]["content"] == f"canary of {name}"
        async with http.delete(f"/api/sessions/{name}") as response:
            answer = await response.json()
        assert (answer["deleted"], answer["receipt"]["survivors"]) == (True, 0)
        assert b"session_closed" in await stream.read()


async def visits(gateway: RunningGateway, prefix: str, number: int) -> None:
    """So many lives, some at once, over connections that are closed at the end."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> None:
        async with turn:
            await visit(http, name)

    async with aiohttp.ClientSession(gateway.url, connector=aiohttp.TCPConnector(limit=0)) as http:
        await asyncio.gather(*(one(f"{prefix}-{n}") for n in range(number)))


async def test_a_hundred_sessions_come_and_go(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        process, port = psutil.Process(gateway.pid), int(gateway.url.rpartition(":")[2])
        await visits(gateway, "warm", AT_ONCE)

        async def is_quiet() -> bool:
            held = [one for one in process.net_connections(kind="tcp") if one.laddr.port == port]
            return len(held) <= 2  # the listener, and this test's own

        await eventually(is_quiet)
        children = process.children(recursive=True)
        files, threads, memory = process.num_fds(), process.num_threads(), process.memory_info().rss
        await visits(gateway, "session", SESSIONS)
        await eventually(is_quiet)
        assert process.children(recursive=True) == children, "neither workers nor zombies"
        assert process.num_fds() <= files + (0 if kind() == "sqlite" else READERS)
        assert process.num_threads() <= threads + 2
        assert process.memory_info().rss - memory < GROWTH_BYTES
        assert list((gateway.data_path / "sessions").iterdir()) == []
        counts = await gateway.get("/api/sessions/count")
        assert counts == {"active_sessions": 0, "live": 0, "parked": 0}
        assert await gateway.get("/api/sessions") == {"sessions": []}
        assert "ERROR" not in gateway.log()
