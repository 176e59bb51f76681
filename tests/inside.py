"""A real gateway in the test's own loop: `async with gateway_inside(directory) as gateway`.

The same parts behind the same kind of socket as `tests.gateways.running_gateway` starts as a process, with
real workers, but without a start of an interpreter, and with a clock that a test can move. What a process
has of its own (signals, exit codes, the command line, its memory) is tested with a process.
"""

from __future__ import annotations

import contextlib
import logging
import pathlib
import time
from collections.abc import AsyncIterator, Iterator, Mapping

import aiohttp
import psutil

from gateway.app import Gateway
from gateway.config.file import load
from gateway.config.tables import Config
from gateway.server.server import Server, listen, own_url, running
from gateway.sessions.session import Session
from gateway.telemetry.logs import JsonFormatter, LineFormatter
from tests.gateways import RunningGateway, Scenario, processes_of_agents, quiet, with_agents
from tests.stored import store_in, with_store


class Clock:
    """Real time, which `advance` moves on; what waits in the loop waits as long as ever."""

    def __init__(self, *, at_ms: int | None = None) -> None:
        """`at_ms`: the wall clock begins there, in milliseconds since 1970 UTC."""
        self._ahead = 0.0
        self._shift_ms = 0 if at_ms is None else at_ms - time.time_ns() // 1_000_000

    def advance(self, seconds: float) -> None:
        """So many seconds pass at once."""
        self._ahead += seconds

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self._shift_ms + round(self._ahead * 1000)


class GatewayInside(RunningGateway):
    """A gateway in this process: what it is made of, its clock, its URL, a client, and its log."""

    def __init__(self, inner: Gateway, server: Server, clock: Clock, url: str, log: pathlib.Path) -> None:
        self.inner = inner
        self.server = server
        self.clock = clock
        self.url = url
        self.log_path = log
        self.data_path = inner.config.data_path
        self.http = aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0))

    @property
    def pid(self) -> int:
        raise AttributeError(
            "this gateway is no process: a test that needs one starts it with running_gateway"
        )

    def workers(self) -> list[psutil.Process]:
        server = self.inner.spawner.server_pid
        return processes_of_agents([psutil.Process(server)]) if server else []

    def session(self, name: str, owner: str = "default/local") -> Session:
        """One that is in memory."""
        found = self.inner.manager.get(owner, name)
        assert found is not None
        return found

    async def stop(self, number: int = 0) -> int:
        raise AssertionError("it ends with its block; a test that stops one starts it with running_gateway")


@contextlib.asynccontextmanager
async def gateway_inside(
    directory: pathlib.Path,
    *,
    config: str = "",
    environ: Mapping[str, str] | None = None,
    agents: Mapping[str, Scenario] | None = None,
    at_ms: int | None = None,
) -> AsyncIterator[GatewayInside]:
    """Opens a gateway on a free port with its data below `directory`, and ends it with the block.

    `agents` are scripted ones: name → scenario. `at_ms`: what its wall clock shows at first.
    """
    path, data = directory / "config.toml", directory / "data"
    stored = store_in(data, config, environ)
    path.write_text(with_store(with_agents(directory, config, agents or {}), stored))

    def read() -> Config:
        given = {"data_dir": str(data), "server.port": 0}
        return load(path, environ={**stored, **quiet(config, environ)}, overrides=given)

    clock, settings = Clock(at_ms=at_ms), read()
    with _logging(directory / "gateway.log", settings):
        inner = Gateway(settings, reread=read, monotonic=clock.monotonic, wall_ms=clock.wall_ms)
        server = settings.server
        listener = listen(server.host, server.port, half_open_seconds=server.half_open_seconds)
        async with running(inner, listener) as serving:
            url = own_url(listener)
            inner.lock.inform(url)
            gateway = GatewayInside(inner, serving, clock, url, directory / "gateway.log")
            try:
                yield gateway
            finally:
                await gateway.http.close()
                await inner.manager.drain(grace_seconds=0)


@contextlib.contextmanager
def _logging(path: pathlib.Path, config: Config) -> Iterator[None]:
    """Writes what this process logs meanwhile to a file, in the form that the configuration says."""
    handler = logging.FileHandler(path)
    line = LineFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if config.server.log_format == "json" else line)
    level = config.server.log_level.upper()
    handler.setLevel(level)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield
    finally:
        root.setLevel(before)
        root.removeHandler(handler)
        handler.close()
