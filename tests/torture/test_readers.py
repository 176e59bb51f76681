"""A thousand readers that do not read: memory is bounded, nobody is thrown out, nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import socket
import statistics
import time
from typing import Final

import psutil
import pytest

from tests.gateways import RunningGateway, running_gateway
from tests.patience import within
from tests.streams import state_when

pytestmark = pytest.mark.alone


READERS: Final = 1000
CHECKED: Final = 10
"""Readers that begin to read in the end."""
BYTES_A_READER: Final = 256 * 1024
REPLY_BYTES: Final = 3_000_000
TURNS: Final = 15
CONFIG: Final = """
[limits]
streams_per_owner = 2000
address_requests_per_second = 100000
address_burst = 100000
session_requests_per_second = 100000
session_burst = 100000
"""


async def stalled(gateway: RunningGateway, session: str, view: str) -> socket.socket:
    """A client that asks for a stream and takes nothing of it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, (host, int(port)))
    request = f"GET /api/chat/stream?session_id={session}&view={view} HTTP/1.1\r\nHost: {host}\r\n\r\n"
    await loop.sock_sendall(client, request.encode())
    return client


async def turn_seconds(gateway: RunningGateway) -> float:
    """The middle time of a short turn of another session."""
    times = []
    for number in range(TURNS):
        began = time.monotonic()
        await gateway.chat("other", f"/echo {number}")
        times.append(time.monotonic() - began)
    return statistics.median(times)


async def read_until(client: socket.socket, end: bytes) -> bytes:
    """What a reader gets once it reads."""
    loop, data = asyncio.get_running_loop(), b""
    async with within(30):
        while end not in data[-100_000:]:
            chunk = await loop.sock_recv(client, 1 << 20)
            assert chunk, f"thrown out after {len(data)} bytes"
            data += chunk
    return data


@pytest.mark.timeout(180)
@pytest.mark.parametrize("view", ["events", "state"])
async def test_a_thousand_readers_that_do_not_read_cost_little_and_hurt_nobody(
    tmp_path: pathlib.Path, view: str
) -> None:
    async with running_gateway(tmp_path, config=CONFIG) as gateway, contextlib.AsyncExitStack() as stack:
        await gateway.chat("big", f"/big {REPLY_BYTES}")
        alone = await turn_seconds(gateway)
        process = psutil.Process(gateway.pid)
        before = process.memory_info().rss
        clients = [stack.enter_context(await stalled(gateway, "big", view)) for _ in range(READERS)]
        await gateway.chat("big", f"/big {REPLY_BYTES}")
        await gateway.send("big", "/echo the end")
        await state_when(gateway.http, "other", lambda state: not state["is_processing"])
        beside = await turn_seconds(gateway)
        grown = process.memory_info().rss - before
        assert grown < READERS * BYTES_A_READER, f"{grown / READERS / 1024:.0f} KiB a reader"
        assert beside < alone + 0.1, (alone, beside)
        for client in clients[:CHECKED]:
            data = await read_until(client, b"the end")
            assert data.count(b"x") >= 2 * REPLY_BYTES
