"""What a session costs at gateways that also give each session a process of its own, beside ours in one run.

`python -m benchmarks.peers [SESSIONS]`. Every one of them starts the same child, a bare Python program that
answers each line with one, but for Jupyter, which has its kernel; theirs run without walls, ours behind
`strict` ones. The time is from the request for a session to the child's first answer at the client; ours
answers a whole first turn in it (three messages, stored before they are answered). Memory is the growth of
the gateway's whole tree, shared pages by share.

Peers are installed below `.cache/peers`; one that cannot be is printed with the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import psutil

from tests.gateways import running_gateway
from tests.real_agents import AgentUnavailable, by_npm, by_pip, installed
from tests.shared import free_port
from tests.walls import PYTHON

SESSIONS: Final = int(sys.argv[1]) if len(sys.argv) > 1 else 50
KERNELS: Final = 10
"""Of Jupyter's, which take a third of a second and 38 MB each."""
START_SECONDS: Final = 30
SETTLE_SECONDS: Final = 0.5
MB: Final = 1_000_000
CACHE: Final = pathlib.Path(__file__).parents[1] / ".cache" / "peers"
CHILD: Final = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("id") is not None:
        params = message.get("params") or {}
        result = {"protocolVersion": params.get("protocolVersion"), "capabilities": {}, "sessionId": "s",
                  "serverInfo": {"name": "bare", "version": "1"}, "stopReason": "end_turn"}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""
OPENING: Final[dict[str, Any]] = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2024-11-05",
        "capabilities": {},
        "clientInfo": {"name": "bench", "version": "1"},
    },
}
Start = Callable[[int], Awaitable[None]]
"""Opens one more session and returns at its first answer."""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """A gateway that runs: its process, and how a session of it is started."""

    pid: int
    start: Start
    sessions: int = SESSIONS


Peer = Callable[[pathlib.Path], contextlib.AbstractAsyncContextManager[Serving]]


async def measured(name: str, peer: Peer) -> float | None:
    """One row; megabytes a session, None if the peer cannot be installed."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        place = pathlib.Path(directory)
        os.chmod(place, 0o755)  # noqa: S103 - a worker's own uid reads the child's program
        (place / "child.py").write_text(CHILD)
        try:
            async with peer(place) as serving:
                await serving.start(0)
                before, seconds = tree_bytes(serving.pid), []
                for number in range(1, serving.sessions + 1):
                    began = time.perf_counter()
                    await serving.start(number)
                    seconds.append(time.perf_counter() - began)
                await asyncio.sleep(SETTLE_SECONDS)
                each = (tree_bytes(serving.pid) - before) / serving.sessions / MB
        except AgentUnavailable as error:
            print(f"  {name:46s} not installed: {error}")
            return None
    p50, p99 = (sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * share))] for share in (0.5, 0.99))
    print(
        f"  {name:46s} p50 {p50 * 1000:7.1f} ms  p99 {p99 * 1000:7.1f} ms  {each:6.2f} MB  n {len(seconds)}"
    )
    return each


def tree_bytes(pid: int) -> int:
    """Of a process and all below it, shared pages by share."""
    total = 0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total


@contextlib.asynccontextmanager
async def served(command: list[str], port: int, place: pathlib.Path, **environ: str) -> AsyncIterator[int]:
    """A server of somebody else's, from its first open port to the end of its whole tree."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=place,
        env={"PATH": os.environ["PATH"], "HOME": str(place), **environ},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(START_SECONDS):
            while not listens(port):
                await asyncio.sleep(0.05)
        yield process.pid
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        await process.wait()
        for left in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()


def listens(port: int) -> bool:
    """Whether somebody answers there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def bare(place: pathlib.Path) -> list[str]:
    """The child's command."""
    return [PYTHON, "-I", "-S", str(place / "child.py")]


# -- ours ---------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def ours(place: pathlib.Path, *, agent: str) -> AsyncIterator[Serving]:
    """A whole gateway, behind strict walls."""
    config = f"[workers]\nrequire = 'strict'\n[agents.bare]\ncommand = {json.dumps(bare(place))}\n"
    async with running_gateway(place, config=config) as gateway:

        async def start(number: int) -> None:
            body = {"message": "/echo x", "session_id": f"s{number}", "agent": agent}
            await gateway.post("/api/chat?wait=30", body)

        yield Serving(pid=gateway.pid, start=start)


# -- peers --------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def supergateway(place: pathlib.Path) -> AsyncIterator[Serving]:
    """npm supergateway, stateful: MCP over streamable HTTP."""
    folder = installed("supergateway", "supergateway@4.0.0", by_npm, below=CACHE)
    program, port = folder / "node_modules" / ".bin" / "supergateway", free_port()
    options = ["--outputTransport", "streamableHttp", "--stateful", "--logLevel", "none"]
    command = [str(program), "--stdio", " ".join(bare(place)), *options, "--port", str(port)]
    headers = {"Accept": "application/json, text/event-stream"}
    async with served(command, port, place) as pid, aiohttp.ClientSession() as http:

        async def start(_number: int) -> None:
            url = f"http://127.0.0.1:{port}/mcp"
            async with http.post(url, json=OPENING, headers=headers) as response:
                assert "protocolVersion" in await response.text(), response.status

        yield Serving(pid=pid, start=start)


@contextlib.asynccontextmanager
async def sandbox_agent(place: pathlib.Path) -> AsyncIterator[Serving]:
    """npm @sandbox-agent/cli: ACP over HTTP; its agent "claude" is here the bare child."""
    folder = installed("sandbox-agent", "@sandbox-agent/cli@0.4.2", by_npm, below=CACHE)
    [program] = folder.glob("node_modules/@sandbox-agent/cli-linux-*/bin/sandbox-agent")
    program.chmod(0o755)
    for name in ("claude", "agent_processes/claude-acp"):
        path = place / ".local/share/sandbox-agent/bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\nexec {' '.join(bare(place))}\n")
        path.chmod(0o755)
    port = free_port()
    command = [str(program), "server", "--no-token", "--no-telemetry", "--port", str(port)]
    async with (
        served(command, port, place, SANDBOX_AGENT_REQUIRE_PREINSTALL="1") as pid,
        aiohttp.ClientSession() as http,
    ):

        async def start(number: int) -> None:
            url = f"http://127.0.0.1:{port}/v1/acp/s{number}?agent=claude"
            async with http.post(url, json=OPENING) as response:
                assert "protocolVersion" in await response.text(), response.status

        yield Serving(pid=pid, start=start)


@contextlib.asynccontextmanager
async def websocketd(place: pathlib.Path) -> AsyncIterator[Serving]:
    """Debian's websocketd: a process a WebSocket."""
    program, port = shutil.which("websocketd") or _debian("websocketd"), free_port()
    command = [program, "--address=127.0.0.1", f"--port={port}", "--loglevel=fatal", *bare(place)]
    async with served(command, port, place) as pid, aiohttp.ClientSession() as http:
        async with contextlib.AsyncExitStack() as held:

            async def start(_number: int) -> None:
                wire = await held.enter_async_context(http.ws_connect(f"ws://127.0.0.1:{port}/"))
                await wire.send_str(json.dumps(OPENING))
                assert "protocolVersion" in await wire.receive_str()

            yield Serving(pid=pid, start=start)


def _debian(package: str) -> str:
    """The program of a Debian package, unpacked."""

    def unpack(folder: pathlib.Path, pin: str) -> None:
        for command in (["apt-get", "download", pin], ["dpkg-deb", "-x", "DEB", "."]):
            found = [str(path) for path in folder.glob("*.deb")]
            words = [found[0] if word == "DEB" and found else word for word in command]
            try:
                done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60)
            except OSError as error:
                raise AgentUnavailable(f"{pin}: {error}") from None
            if done.returncode:
                raise AgentUnavailable(f"{pin}: {done.stderr.strip().splitlines()[-1][:200]}")

    return str(installed(package, package, unpack, below=CACHE) / "usr" / "bin" / package)


@contextlib.asynccontextmanager
async def jupyter(place: pathlib.Path) -> AsyncIterator[Serving]:
    """PyPI jupyter_kernel_gateway: a kernel a session; its first answer is that of `kernel_info_request`."""

    def install(folder: pathlib.Path, pin: str) -> None:
        by_pip(("3.11", "3.12", "3.13"), folder, pin)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", "ipykernel"], check=True)

    folder, port = installed("jupyter", "jupyter_kernel_gateway==3.0.1", install, below=CACHE), free_port()
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    command = [str(folder / "bin" / "jupyter-kernelgateway"), f"--KernelGatewayApp.port={port}"]
    async with served(command, port, place, PATH=path) as pid, aiohttp.ClientSession() as http:
        async with contextlib.AsyncExitStack() as held:

            async def start(number: int) -> None:
                async with http.post(f"http://127.0.0.1:{port}/api/kernels", json={}) as response:
                    kernel = (await response.json())["id"]
                url = f"ws://127.0.0.1:{port}/api/kernels/{kernel}/channels"
                wire = await held.enter_async_context(http.ws_connect(url))
                header = {"msg_id": f"m{number}", "msg_type": "kernel_info_request", "session": "s"}
                header |= {"username": "u", "version": "5.3", "date": "2020-01-01T00:00:00Z"}
                message = {"header": header, "parent_header": {}, "metadata": {}, "content": {}}
                await wire.send_json({**message, "channel": "shell", "buffers": []})
                while "kernel_info_reply" not in (await wire.receive()).data:
                    continue

            yield Serving(pid=pid, start=start, sessions=min(SESSIONS, KERNELS))


OURS: Final = "this gateway, strict walls, bare Python child"
WEBSOCKETD: Final = "websocketd 0.4.1, no walls"
PEERS: Final[dict[str, Peer]] = {
    OURS: functools.partial(ours, agent="bare"),
    "this gateway, strict walls, its own agent": functools.partial(ours, agent="built-in"),
    WEBSOCKETD: websocketd,
    "sandbox-agent 0.4.2, no walls": sandbox_agent,
    "supergateway 4.0.0 stateful, no walls": supergateway,
    "jupyter_kernel_gateway 3.0.1, no walls": jupyter,
}


async def main() -> None:
    """Prints every row."""
    print(f"Linux {os.uname().release}, Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    print("a session's start, and its memory while it lives")
    for name, peer in PEERS.items():
        await measured(name, peer)


if __name__ == "__main__":
    asyncio.run(main())
