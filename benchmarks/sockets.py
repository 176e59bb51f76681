"""WebSockets: how long until the last of many sockets has a message, and what an idle one costs.

`python -m benchmarks.sockets [SOCKETS] [MESSAGES] [IDLE]`. Our messages are on disk before anybody sees them.
Beside ours, in the same run, a bare Starlette and a bare `websockets` server that store nothing. Then many
idle sockets, each in a chat of its own as visitors are. Memory is the server's PSS; the clients are bare
sockets of this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

import psutil

from tests.gateways import ROOT, RunningGateway, running_gateway

SOCKETS: Final = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
MESSAGES: Final = int(sys.argv[2]) if len(sys.argv) > 2 else 50
IDLE: Final = int(sys.argv[3]) if len(sys.argv) > 3 else 10_000
IDLE_SECONDS: Final = 5.0
BATCH: Final = 100
WAIT_SECONDS: Final = 60
SETTLE_SECONDS: Final = 1.0
CONFIG: Final = """
[server]
max_connections_per_address = 100000
[limits]
max_sessions = 100000
address_requests_per_second = 1000000
address_burst = 1000000
[products]
visitor_rate = 1000000
address_rate = 1000000
product_rate = 1000000
sockets_per_visitor = 100000
sockets_per_session = 100000
sockets_per_address = 100000
socket_frames_per_second = 100000
"""
SID: Final = "session_1_bench_x"


class Client(asyncio.Protocol):
    """A socket that notes when a mark arrives."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._mark = b""
        self._arrival: asyncio.Future[float] | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not self.ready.done():
            self._buffer += data
            if b"\r\n\r\n" in self._buffer:
                assert self._buffer.startswith(b"HTTP/1.1 101"), self._buffer
                self.ready.set_result(None)
        if self._mark and self._arrival is not None and not self._arrival.done() and self._mark in data:
            self._arrival.set_result(time.perf_counter())

    def expect(self, mark: bytes) -> asyncio.Future[float]:
        """When the mark arrives."""
        self._mark = mark
        self._arrival = asyncio.get_running_loop().create_future()
        return self._arrival

    def send(self, text: bytes) -> None:
        """A text frame, masked with zeros."""
        assert self.transport is not None
        assert len(text) < 126
        self.transport.write(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)


async def opened(port: int, paths: Sequence[str]) -> list[Client]:
    """A socket for each path."""
    loop, clients = asyncio.get_running_loop(), []
    for start in range(0, len(paths), BATCH):
        batch = []
        for path in paths[start : start + BATCH]:
            transport, client = await loop.create_connection(Client, "127.0.0.1", port)
            transport.write(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            batch.append(client)
        await asyncio.wait_for(asyncio.gather(*(client.ready for client in batch)), WAIT_SECONDS)
        clients += batch
    return clients


async def measured(
    name: str, pid: int, port: int, path: str, acts: dict[str, Callable[[Client, str], Awaitable[None]]]
) -> None:
    """The rows of one server."""
    process = psutil.Process(pid)
    before = process.memory_full_info().pss
    clients = await opened(port, [path] * SOCKETS)
    await asyncio.sleep(SETTLE_SECONDS)
    kib = (process.memory_full_info().pss - before) / len(clients) / 1024
    print(f"  {name:38s} {kib:7.1f} KiB an idle socket")
    for what, act in acts.items():
        each: list[float] = []
        last: list[float] = []
        for number in range(MESSAGES):
            mark = f"mark-{what[:3]}-{number}-"
            arrivals = [client.expect(mark.encode()) for client in clients[1:]]
            began = time.perf_counter()
            await act(clients[0], mark)
            times = [at - began for at in await asyncio.wait_for(asyncio.gather(*arrivals), WAIT_SECONDS)]
            each += times
            last.append(max(times))
        each.sort()
        last.sort()
        p50, p99 = (each[int(len(each) * share)] * 1000 for share in (0.5, 0.99))
        middle = last[len(last) // 2] * 1000
        print(f"    {what:36s} p50 {p50:7.2f} ms  p99 {p99:7.2f} ms  the last, p50 {middle:7.2f} ms")
    for client in clients:
        if client.transport is not None:
            client.transport.abort()


async def idle(gateway: RunningGateway) -> None:
    """The row of many visitors who say nothing."""
    process, gate = psutil.Process(gateway.pid), asyncio.Semaphore(32)

    async def begun(number: int) -> str:
        name = f"session_1_bench_{number}"
        async with gate:
            await gateway.post("/api/products/1/chat/sessions", {"session_id": name})
        return f"/ws/chat/customer/1/{name}"

    before = process.memory_full_info().pss
    paths = await asyncio.gather(*(begun(number) for number in range(IDLE)))
    chats = process.memory_full_info().pss
    began = time.perf_counter()
    clients = await opened(int(gateway.url.rpartition(":")[2]), paths)
    seconds = time.perf_counter() - began
    await asyncio.sleep(SETTLE_SECONDS)
    sockets = process.memory_full_info().pss
    busy = sum(process.cpu_times()[:2])
    await asyncio.sleep(IDLE_SECONDS)
    busy = 100 * (sum(process.cpu_times()[:2]) - busy) / IDLE_SECONDS
    print(f"{IDLE} idle sockets, each in a chat of its own, opened in {seconds:.1f} s")
    each = [memory / IDLE / 1024 for memory in (chats - before, sockets - chats)]
    print(f"  a chat {each[0]:.1f} KiB, its socket {each[1]:.1f} KiB")
    print(f"  the gateway {sockets / 2**20:.0f} MB, idle {busy:.1f} % of a core")
    for client in clients:
        if client.transport is not None:
            client.transport.abort()


@contextlib.asynccontextmanager
async def peer(name: str) -> AsyncIterator[tuple[int, int]]:
    """A bare server: its pid and port."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.socket_peers", name), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process.pid, int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


async def shout(client: Client, mark: str) -> None:
    client.send(mark.encode())


async def main() -> None:
    print(f"fan-out to {SOCKETS} sockets of one room, {MESSAGES} messages")
    with tempfile.TemporaryDirectory() as directory:
        async with running_gateway(pathlib.Path(directory), config=CONFIG) as gateway:
            path = "/api/products/1/chat/sessions"
            await gateway.post(path, {"session_id": SID})

            async def respond(_client: Client, mark: str) -> None:
                await gateway.post(f"/api/admin/chat/sessions/{SID}/respond", {"message_text": mark})

            async def system(_client: Client, mark: str) -> None:
                body = {"message_text": mark, "sender_type": "system"}
                await gateway.post(f"{path}/{SID}/messages", body)

            port = int(gateway.url.rpartition(":")[2])
            acts = {"a person's answer, stored first": respond, "a notice, stored first": system}
            await measured("ours", gateway.pid, port, f"/ws/chat/customer/1/{SID}", acts)
    for name in ("starlette", "websockets"):
        async with peer(name) as (pid, port):
            await measured(f"bare {name}", pid, port, "/room", {"a message, stored nowhere": shout})
    with tempfile.TemporaryDirectory() as directory:
        async with running_gateway(pathlib.Path(directory), config=CONFIG) as gateway:
            await idle(gateway)


if __name__ == "__main__":
    asyncio.run(main())
