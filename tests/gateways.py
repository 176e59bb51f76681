"""A real gateway as a child process, for tests and benchmarks: `async with running_gateway() as gateway`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import aiohttp
import psutil

from gateway.client import GatewayClient
from gateway.server.operators_socket import address, read_token
from tests.clones import Clone, cloned
from tests.patience import soon, within
from tests.stored import store_in, with_store

ROOT: Final = pathlib.Path(__file__).parent.parent
SCENARIOS: Final = ROOT / "tests" / "scenarios"
START_SECONDS: Final = 30
STOP_SECONDS: Final = 60
"""Bounds where nothing else runs."""
WAIT_SECONDS: Final = 240
"""How long a request waits for the end of its turn: longer than any takes on a busy machine, and shorter than
a client waits for an answer.
"""
Scenario = str | Mapping[str, object]
"""What a scripted agent plays: the name of a file in tests/scenarios, or the scenario itself."""
SETTINGS: Final = "AGENT_GATEWAY_"
"""What an environment says of settings is read when a gateway starts: a clone reads it, too."""
_URL: Final = re.compile(r"http://\S+")


class RunningGateway:
    """A gateway process: its URL, its pid, a client, and its log."""

    def __init__(
        self, process: asyncio.subprocess.Process | Clone, url: str, log: pathlib.Path, data: pathlib.Path
    ) -> None:
        self.process = process
        self.url = url
        self.log_path = log
        self.data_path = data
        self.http = aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0))

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        """What the gateway wrote so far."""
        return self.log_path.read_text()

    async def get(self, path: str, **params: Any) -> Any:
        """The JSON of a GET that must answer 200."""
        async with self.http.get(path, params=params) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def post(self, path: str, body: object, *, status: int = 200, **kwargs: Any) -> Any:
        """The JSON of a POST that must answer `status`."""
        async with self.http.post(path, json=body, **kwargs) as response:
            assert response.status == status, f"{response.status} {await response.text()}"
            return await response.json()

    async def chat(self, session_id: str, message: str, *, wait: int = WAIT_SECONDS) -> Any:
        """State after a whole turn."""
        return await self.post(f"/api/chat?wait={wait}", {"message": message, "session_id": session_id})

    async def send(self, session_id: str, message: str, **body: Any) -> Any:
        """State at once; the answer comes later."""
        return await self.post("/api/chat", {"message": message, "session_id": session_id, **body})

    async def state(self, session_id: str) -> Any:
        """State of a session."""
        return await self.get("/api/state", session_id=session_id)

    async def count(self) -> int:
        """How many sessions are active."""
        return int((await self.get("/api/sessions/count"))["active_sessions"])

    async def delete(self, session_id: str) -> Any:
        """Deletes a session; the answer with the receipt."""
        async with self.http.delete(f"/api/sessions/{session_id}") as response:
            assert response.status == 200, await response.text()
            return await response.json()

    @contextlib.asynccontextmanager
    async def operator(self, *, owner: str | None = None) -> AsyncIterator[GatewayClient]:
        """The operator's client, over the socket in the data directory."""
        headers = {"X-On-Behalf-Of": owner} if owner else None
        token = read_token(self.data_path)
        with address(self.data_path) as path:
            async with GatewayClient(
                "http://localhost", token=token, unix_path=path, headers=headers
            ) as client:
                yield client

    async def mint(self, name: str, *, tenant: str = "default", **rights: Any) -> str:
        """The text of a new API key."""
        async with self.operator() as operator:
            return (await operator.mint_key(name, tenant=tenant, **rights)).key

    def caller(self, key: str | None = None, **headers: str) -> aiohttp.ClientSession:
        """A client with a credential of its own, or with none, and a cookie jar of its own."""
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        jar = aiohttp.CookieJar(unsafe=True)
        return aiohttp.ClientSession(self.url, headers=headers, cookie_jar=jar)

    def workers(self) -> list[psutil.Process]:
        """Every process of the agents: what descends from the fork server, but for the inits."""
        return processes_of_agents(_children(psutil.Process(self.pid)))

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and waits for the end; the exit code."""
        await self.http.close()
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await soon(self.process.wait(), STOP_SECONDS)


def processes_of_agents(servers: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Every process of the agents below fork servers, but for the inits."""
    firsts = [first for server in servers for first in _children(server)]
    found = [member for first in firsts for member in _children(first, recursive=True) or [first]]
    return [process for process in found if is_running(process)]


def _children(process: psutil.Process, *, recursive: bool = False) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.children(recursive=recursive)
    return []


def is_running(process: psutil.Process) -> bool:
    """Whether it does anything still: a dead one that nobody has reaped yet does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


@contextlib.asynccontextmanager
async def running_gateway(
    directory: pathlib.Path,
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    config: str = "",
    prefix: Sequence[str] = (),
    agents: Mapping[str, Scenario] | None = None,
    listener: socket.socket | None = None,
) -> AsyncIterator[RunningGateway]:
    """Starts a gateway on a free port with its data below `directory`, and ends it however the block ends.

    `agents` are scripted ones: name → scenario. `listener`: passed to it, as systemd passes a socket.
    """
    log = directory / "gateway.log"
    data = directory / "data"
    stored = store_in(data, config, environ)
    config = with_store(with_agents(directory, config, agents or {}), stored)
    if config:
        (directory / "config.toml").write_text(config)
        arguments = (*arguments, "--config", str(directory / "config.toml"))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_KEPT_OUT)}
    own = {**clean, **stored, **quiet(config, environ)}
    words = ("serve", "--port", "0", "--data-dir", str(data), *arguments)
    kept = [] if listener is None else [listener.fileno()]
    if listener is not None:
        passing = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&{listener.fileno()}'
        prefix = ("bash", "-c", passing, "bash", *prefix)
    with log.open("ab") as stream:
        is_own = bool(prefix) or not all(name.startswith(SETTINGS) for name in environ or {})
        clone = None if is_own else await cloned(words, environ=own, cwd=ROOT, stderr=stream)
        process = clone or await asyncio.create_subprocess_exec(
            *(*prefix, sys.executable, "-m", "gateway", *words),
            cwd=ROOT,
            env=own,
            stdout=asyncio.subprocess.PIPE,
            stderr=stream,
            pass_fds=kept,
        )
    async with serving(process, log, data) as gateway:
        await _until_healthy(gateway)
        yield gateway


@contextlib.asynccontextmanager
async def serving(
    process: asyncio.subprocess.Process | Clone,
    log: pathlib.Path,
    data: pathlib.Path,
    *,
    start_seconds: float = START_SECONDS,
) -> AsyncIterator[RunningGateway]:
    """The gateway that this process becomes, which says its URL on stdout; ended however the block ends."""
    try:
        assert process.stdout is not None
        line = (await soon(process.stdout.readline(), start_seconds)).decode()
        found = _URL.search(line)
        assert found, f"the gateway did not start: {line!r} {log.read_text()}"
        gateway = RunningGateway(process, found[0], log, data)
        try:
            yield gateway
        finally:
            await gateway.stop()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def quiet(config: str, environ: Mapping[str, str] | None) -> Mapping[str, str]:
    """The environment of a gateway whose workers are counted: without spares, unless its test speaks of them.
    Benchmarks run what ships.
    """
    is_test = "PYTEST_CURRENT_TEST" in os.environ and "spares" not in config
    return {"AGENT_GATEWAY_WORKERS_SPARES": "0", **(environ or {})} if is_test else environ or {}


def with_agents(directory: pathlib.Path, config: str, agents: Mapping[str, Scenario]) -> str:
    """A configuration with scripted agents. If it says nothing of egress, no host is listed: asking this
    machine's tools for their registries takes more time than most tests.
    """
    config += agent_tables(directory, agents)
    return config if not config or "egress" in config else f"{config}\n[egress]\nhosts = []\n"


def agent_tables(directory: pathlib.Path, agents: Mapping[str, Scenario]) -> str:
    """The configuration of scripted agents; scenarios that are no files yet are written into `directory`."""
    return "".join(_agent_table(directory, name, scenario) for name, scenario in agents.items())


def add_to_agent(directory: pathlib.Path, name: str, setting: str) -> None:
    """Adds a line to the table of a scripted agent; a reload applies it."""
    path, table = directory / "config.toml", f"[agents.{name}]\n"
    path.write_text(path.read_text().replace(table, f"{table}{setting}\n"))


def _agent_table(directory: pathlib.Path, name: str, scenario: Scenario) -> str:
    path = SCENARIOS / f"{scenario}.json"
    if not isinstance(scenario, str):
        path = directory / f"{name}.json"
        path.write_text(json.dumps(scenario))
    command = [sys.executable, "-I", "-m", "worker.scripted", str(path)]
    return f"\n[agents.{name}]\ncommand = {json.dumps(command)}\n"


_KEPT_OUT: Final = ("AGENT_", "OPENAI_", "PYTHON")


async def _until_healthy(gateway: RunningGateway) -> None:
    try:
        async with within(START_SECONDS):
            while not await _is_healthy(gateway):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not healthy: {gateway.log()}") from None


async def _is_healthy(gateway: RunningGateway) -> bool:
    with contextlib.suppress(aiohttp.ClientError):
        async with gateway.http.get("/health") as response:
            return response.status == 200
    return False
