"""A whole gateway on PostgreSQL, while that is restarted, and when another one takes its database."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator
from typing import Final

import pytest_asyncio

from tests.inside import GatewayInside, gateway_inside
from tests.patience import counting, within
from tests.postgres import Server, connected, needed, postgres
from tests.shared import SHARED
from tests.streams import open_stream

pytestmark = SHARED
DOWN_SECONDS: Final = 3
SESSIONS: Final = ("one", "two", "three")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Server]:
    needed()
    async with postgres(is_durable=True) as running:
        yield running


@contextlib.asynccontextmanager
async def _running(directory: pathlib.Path, database: str) -> AsyncIterator[GatewayInside]:
    async with gateway_inside(directory, environ={"AGENT_GATEWAY_STORE": database}) as running:
        yield running


async def _ask(gateway: GatewayInside, session_id: str, text: str) -> tuple[int, str | None]:
    """The status of a message, and when to come again."""
    body = {"message": text, "session_id": session_id}
    async with gateway.http.post("/api/chat", json=body) as response:
        await response.read()
        return response.status, response.headers.get("Retry-After")


async def _talk(gateway: GatewayInside, session_id: str, is_over: asyncio.Event) -> list[str]:
    """Messages one after the other until it is over; those that were taken."""
    taken: list[str] = []
    number = 0
    while not is_over.is_set():
        text = f"message {number} of {session_id}"
        number += 1
        status, again = await _ask(gateway, session_id, text)
        if status == 200:
            taken.append(text)
        else:
            assert status == 429 or (status == 503 and again is not None), status
        await asyncio.sleep(0.2)
    return taken


async def test_a_restart_of_postgresql_costs_nothing_that_was_acknowledged(
    server: Server, tmp_path: pathlib.Path
) -> None:
    async with _running(tmp_path, await server.database()) as gateway:
        await _restart_costs_nothing(gateway, server)


async def _restart_costs_nothing(gateway: GatewayInside, server: Server) -> None:
    is_over = asyncio.Event()
    await gateway.send("watched", counting(20, 2))
    async with open_stream(gateway.http, "watched") as stream:
        talks = [asyncio.create_task(_talk(gateway, name, is_over)) for name in SESSIONS]
        await stream.until(lambda frame: frame.event == "text_delta")
        await server.kill()
        await asyncio.sleep(DOWN_SECONDS)  # the time that is under test
        await server.start_again()
        await stream.until(lambda frame: frame.event == "turn_ended")
        async with within(10):  # what waited may be committed before the next beat is answered
            while (await _ask(gateway, "other", "still there?"))[0] == 503:
                await asyncio.sleep(0.05)
        assert await gateway.chat("watched", "still there?")
        is_over.set()
        taken = await asyncio.gather(*talks)
        seqs = [int(frame.id) for frame in stream.frames if frame.id is not None]
    assert all(taken)
    assert seqs == sorted(set(seqs))
    for name, texts in zip(SESSIONS, taken, strict=True):
        said = [one["content"] for one in (await gateway.state(name))["messages"] if one["sender"] == "user"]
        assert [text for text in said if text in texts] == texts
        assert len(set(said)) == len(said)


async def test_a_gateway_ends_when_another_takes_its_database(server: Server, tmp_path: pathlib.Path) -> None:
    database = await server.database()
    async with _running(tmp_path, database) as gateway:
        await gateway.send("one", "/echo in time")
        async with connected(database) as connection:
            await connection.execute("DELETE FROM nodes")
        async with within(10):
            await gateway.inner.failed.wait()
        status, _ = await _ask(gateway, "one", "too late")
        assert status == 503
