"""What `benchmarks.streams` compares, as processes on a core of their own, and its programs in C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import aiohttp
import psutil

from tests.gateways import ROOT, running_gateway

SOURCES: Final = pathlib.Path(__file__).parent / "compiled"
NO_COMPILER: Final = (
    "This benchmark needs a C compiler, `cc`, for an agent and a client that cost next to nothing."
)
CONFIG: Final = """
[sessions]
park_after_seconds = 0
[limits]
session_requests_per_second = 100000
session_burst = 100000
address_requests_per_second = 100000
address_burst = 100000
"""


def compiled(directory: pathlib.Path) -> None:
    """Compiles `agent` and `client` into a directory. Ends the program if there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit(NO_COMPILER)
    for name in ("agent", "client"):
        subprocess.run([compiler, "-O2", "-o", directory / name, SOURCES / f"{name}.c"], check=True)


class System:
    """One of the two: where it listens, and what it costs."""

    def __init__(self, name: str, pid: int, url: str, http: aiohttp.ClientSession) -> None:
        self.name = name
        self.pid = pid
        self.url = url
        self._http = http

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def say(self, session_id: str, message: str, *, wait: bool = False) -> None:
        """A message for the agent of a session, which starts if it does not run."""
        body = {"session_id": session_id, "message": message, "agent": "stream"}
        query = "?wait=60" if wait else ""
        async with self._http.post(f"{self.url}/api/chat{query}", json=body) as response:
            assert response.status == 200, await response.text()
            await response.read()

    async def path(self, session_id: str) -> str:
        """Where what the session says from now on is read."""
        return f"/api/chat/stream?session_id={session_id}&view=events"

    def cpu_seconds(self) -> float:
        """What all its threads have used, by the scheduler's own count."""
        total = 0
        for task in _threads(self.pid):
            with contextlib.suppress(OSError):
                file = pathlib.Path(f"/proc/{self.pid}/task/{task}/schedstat")
                total += int(file.read_text().split()[0])
        return total / 1e9

    def pss(self) -> int:
        """Memory in bytes, shared pages shared out."""
        return int(psutil.Process(self.pid).memory_full_info().pss)


class GatewaySystem(System):
    """The product, as it ships."""

    async def path(self, session_id: str) -> str:
        async with self._http.get(f"{self.url}/api/state", params={"session_id": session_id}) as response:
            seq = (await response.json())["seq"]
        return f"/api/chat/stream?session_id={session_id}&view=events&after={seq}"


@contextlib.asynccontextmanager
async def gateway(
    directory: pathlib.Path, programs: pathlib.Path, cores: tuple[int, int]
) -> AsyncIterator[System]:
    """The gateway on the first of two cores, its fork server and workers on the second."""
    _make(directory)
    agent = f"[agents.stream]\ncommand = ['{programs / 'agent'}']\nreadable = ['{programs}']\n"
    async with running_gateway(directory, config=CONFIG + agent) as running:
        pin(running.pid, cores[0])
        for child in psutil.Process(running.pid).children(recursive=True):
            pin(child.pid, cores[1])
        yield GatewaySystem("gateway", running.pid, running.url, running.http)


@contextlib.asynccontextmanager
async def bare(
    directory: pathlib.Path, programs: pathlib.Path, cores: tuple[int, int], synchronous: str
) -> AsyncIterator[System]:
    """The bare durable relay."""
    _make(directory)
    command = [sys.executable, "-m", "benchmarks.bare_relay", str(programs / "agent"), str(cores[1])]
    process = await asyncio.create_subprocess_exec(
        *command, str(directory / "events.db"), synchronous, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        pin(process.pid, cores[0])
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            yield System(f"bare {synchronous}", process.pid, f"http://127.0.0.1:{port}", http)
    finally:
        process.terminate()
        await process.wait()


def _make(directory: pathlib.Path) -> None:
    directory.mkdir()


def pin(pid: int, core: int) -> None:
    """Every thread of a process, and what these start, runs on one core."""
    for task in _threads(pid):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(task, {core})


def _threads(pid: int) -> list[int]:
    return [int(task.name) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()]


class Client:
    """The C client, with its streams open."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def measure(self, start: int, stop: int, end: int, count: int) -> bytes:
        """What it saw, as JSON (compiled/client.c)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{start} {stop} {end} {count}\n".encode())
        return await self._process.stdout.readline()


@contextlib.asynccontextmanager
async def client(programs: pathlib.Path, system: System, session_ids: list[str]) -> AsyncIterator[Client]:
    """Readers of these sessions, on the core of this process."""
    paths = [await system.path(session_id) for session_id in session_ids]
    process = await asyncio.create_subprocess_exec(
        programs / "client", str(system.port), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write("".join(f"{path}\n" for path in (*paths, "")).encode())
        assert await process.stdout.readline() == b"ready\n"
        yield Client(process)
    finally:
        process.stdin.close()
        await process.wait()


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """This process on one core; where it was before, afterwards."""
    before: Any = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
