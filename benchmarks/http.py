"""What a request costs: `GET /health` and `GET /api/state` of the gateway, beside a bare Starlette
application that answers the same bytes with the same uvicorn, uvloop and httptools, in the same run.

    python -m benchmarks.http [--seconds N] [--rounds N]

Both are processes on one core, asked in turn over 16 connections from another. The CPU time of a request is
that of all threads of the process, so a busy machine changes it little; quote the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import os
import pathlib
import re
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from typing import Final

import uvicorn
import uvloop
from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.gateways import ROOT, running_gateway

CONNECTIONS: Final = 16
LIMITS: Final = """
[limits]
session_requests_per_second = 1000000
session_burst = 1000000
address_requests_per_second = 1000000
address_burst = 1000000
"""
PATHS: Final = ("/health", "/api/state?session_id=bench")
MESSAGES: Final = 12


class Cost(Struct, frozen=True):
    """Requests a second, and the CPU time of one in microseconds."""

    rate: float
    cpu: float


class Asking(asyncio.Protocol):
    """A connection that asks again as soon as it was answered."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._left = b""
        self.count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        data = self._left + data
        head, found, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if not found or length is None or len(body) < int(length[1]):
            self._left = data
            return
        self._left = b""
        self.count += 1
        self._transport.write(self._request)

    def close(self) -> None:
        """No more."""
        self._transport.abort()


async def asked(url: str, path: str, pid: int, seconds: float) -> Cost:
    """What a server does for so long."""
    host, _, port = url.removeprefix("http://").partition(":")
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: application/json\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    ask = functools.partial(Asking, request)
    asking = [(await loop.create_connection(ask, host, int(port)))[1] for _ in range(CONNECTIONS)]
    cpu, count, began = cpu_ns(pid), sum(one.count for one in asking), time.monotonic()
    await asyncio.sleep(seconds)
    spent, done = cpu_ns(pid) - cpu, sum(one.count for one in asking) - count
    took = time.monotonic() - began
    for one in asking:
        one.close()
    return Cost(done / took, spent / max(1, done) / 1000)


def cpu_ns(pid: int) -> int:
    """The CPU time of all threads of a process."""
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


@contextlib.asynccontextmanager
async def bare(bodies: dict[str, bytes]) -> AsyncIterator[tuple[str, int]]:
    """The bare application as a process: its URL and pid."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"\0".join(part for name, body in bodies.items() for part in (name.encode(), body)))
        file.flush()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.http", "--bare", file.name), cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            yield (await process.stdout.readline()).decode().strip(), process.pid
        finally:
            process.terminate()
            await process.wait()


def serve_bare(path: str) -> None:
    """Answers every path with its bytes."""
    parts = pathlib.Path(path).read_bytes().split(b"\0")
    bodies = {
        name.decode().partition("?")[0]: body for name, body in zip(parts[::2], parts[1::2], strict=True)
    }

    async def answer(request: Request) -> Response:
        return Response(bodies[request.url.path], media_type="application/json")

    app = Starlette(routes=[Route(name, answer) for name in bodies])
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(app, loop="none", http="httptools", access_log=False, log_level="warning")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(uvicorn.Server(config).serve(sockets=[listener]))


def pin(pid: int, core: int) -> None:
    """Keeps a process and its threads on one core."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            os.sched_setaffinity(int(task.name), {core})


async def compared(seconds: float, rounds: int) -> dict[str, float]:
    """Prints the rows; requests per second of the gateway for one of the bare application, by path."""
    ratios = {}
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as directory:
        async with running_gateway(pathlib.Path(directory), config=LIMITS) as gateway:
            for number in range(MESSAGES):
                await gateway.post("/api/system", {"session_id": "bench", "message": f"message {number}"})
            bodies = {}
            for path in PATHS:
                async with gateway.http.get(path, headers={"Accept": "application/json"}) as response:
                    bodies[path] = await response.read()
            async with bare(bodies) as (url, pid):
                pin(gateway.pid, cores[0])
                pin(pid, cores[0])
                pin(os.getpid(), cores[-1])
                for path in PATHS:
                    ours, theirs = [], []
                    for _ in range(rounds):
                        theirs.append(await asked(url, path, pid, seconds))
                        ours.append(await asked(gateway.url, path, gateway.pid, seconds))
                    ratios[path.partition("?")[0]] = row(path, len(bodies[path]), ours, theirs)
    return ratios


def row(path: str, size: int, ours: list[Cost], theirs: list[Cost]) -> float:
    """One line of the table: medians; how many times the bare one's requests per second."""
    rate, cpu = (
        [statistics.median(getattr(cost, name) for cost in costs) for costs in (theirs, ours)]
        for name in ("rate", "cpu")
    )
    words = f"GET {path.partition('?')[0]:12} {size:6} B"
    rates = f"requests/s {rate[0]:8,.0f} bare {rate[1]:8,.0f} gateway {rate[1] / rate[0]:5.2f} x"
    costs = f"CPU µs {cpu[0]:6.1f} bare {cpu[1]:6.1f} gateway {cpu[0] / cpu[1]:5.2f} x"
    print(f"{words}   {rates}   {costs}", flush=True)
    return float(rate[1] / rate[0])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bare", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        serve_bare(options.bare)
    else:
        asyncio.run(compared(options.seconds, options.rounds))


if __name__ == "__main__":
    main()
