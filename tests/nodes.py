"""Several gateways that share one PostgreSQL: `async with running_nodes(directory, 3) as nodes`.

Each is a process with a data directory, a name (`node-0`, …) and an address for the others; they have one
secret and one database. `nodes[1]` is a RunningGateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import random
import secrets
import signal
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import asyncpg

from tests.contract.engines import migrated_database
from tests.gateways import RunningGateway, Scenario, running_gateway
from tests.postgres import connected
from tests.shared import Answer, ask, free_port

LEASE_SECONDS: Final = 1.5
BEAT_SECONDS: Final = 0.2
LEAVE_SECONDS: Final = 0.5
"""How long one that is stopped passes on what still comes, at least."""
PATIENT: Final = {"AGENT_GATEWAY_CLUSTER_LEASE_SECONDS": "15", "AGENT_GATEWAY_CLUSTER_BEAT_SECONDS": "0.5"}
"""The environment of those of which none dies: on a busy machine a beat may come late."""

_AHEAD: Final = """
import os, time
if os.environ.get("AGENT_GATEWAY_CLUSTER_NAME") == {name!r}:
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + {seconds}
    time.time_ns = lambda: now_ns() + {seconds} * 10**9
"""


class Nodes:
    """Those that run, by index; what was killed is not there until it is started again."""

    def __init__(
        self,
        directory: pathlib.Path,
        count: int,
        *,
        config: str,
        agents: Mapping[str, Scenario] | None,
        environ: Mapping[str, str],
    ) -> None:
        self.database = migrated_database()
        self.urls = [f"http://127.0.0.1:{free_port()}" for _ in range(count)]
        """Where the others reach each."""
        self._directory = directory
        self._config = config
        self._agents = agents
        self._environ = environ
        self._secret = directory / "secret"
        self._secret.write_bytes(secrets.token_bytes(32))
        self._random = random.Random(0)
        self._running: dict[int, tuple[RunningGateway, contextlib.AsyncExitStack]] = {}

    def __getitem__(self, index: int) -> RunningGateway:
        return self._running[index][0]

    def __len__(self) -> int:
        return len(self._running)

    @property
    def indexes(self) -> list[int]:
        """Of those that run."""
        return sorted(self._running)

    @property
    def any(self) -> RunningGateway:
        """One of those that run, another each time."""
        return self[self._random.choice(self.indexes)]

    async def ask(self, method: str, path: str, body: object = None, **kwargs: Any) -> Answer:
        """What one of them answers."""
        return await ask(self.any.http, method, path, body, **kwargs)

    @staticmethod
    def name(index: int) -> str:
        """What its operator calls it."""
        return f"node-{index}"

    def directory(self, index: int) -> pathlib.Path:
        """What it has of its own: `config.toml`, `gateway.log`, `data`."""
        return self._directory / self.name(index)

    def connected(self) -> contextlib.AbstractAsyncContextManager[asyncpg.Connection]:
        """To their database."""
        return connected(self.database)

    async def start(self, index: int, **environ: str) -> RunningGateway:
        """Starts one, again after it ended; with more in its environment."""
        directory = self.directory(index)
        directory.mkdir(exist_ok=True)
        ours = {
            "AGENT_GATEWAY_STORE": self.database,
            "AGENT_GATEWAY_AUTH_SECRET_FILE": str(self._secret),
            "AGENT_GATEWAY_CLUSTER_NAME": self.name(index),
            "AGENT_GATEWAY_CLUSTER_URL": self.urls[index],
            "AGENT_GATEWAY_CLUSTER_LEASE_SECONDS": str(LEASE_SECONDS),
            "AGENT_GATEWAY_CLUSTER_BEAT_SECONDS": str(BEAT_SECONDS),
            "AGENT_GATEWAY_CLUSTER_LEAVE_SECONDS": str(LEAVE_SECONDS),
            **self._environ,
            **environ,
        }
        stack = contextlib.AsyncExitStack()
        gateway = await stack.enter_async_context(
            running_gateway(directory, config=self._config, agents=self._agents, environ=ours)
        )
        self._running[index] = gateway, stack
        return gateway

    def has_ended(self, index: int) -> bool:
        """Whether it ended by itself."""
        return self[index].process.returncode is not None

    async def kill(self, index: int) -> None:
        """With SIGKILL: no word to anybody."""
        await self.stop(index, signal.SIGKILL)

    async def stop(self, index: int, number: int = signal.SIGTERM) -> int:
        """Ends one; its exit code."""
        gateway, stack = self._running.pop(index)
        code = await gateway.stop(number)
        await stack.aclose()
        return code

    @contextlib.asynccontextmanager
    async def paused(self, index: int) -> AsyncIterator[None]:
        """One stands still while the block runs."""
        pid = self[index].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    async def close(self) -> None:
        """Ends all."""
        await asyncio.gather(*(self.stop(index) for index in self.indexes))


def ahead(directory: pathlib.Path, index: int, *, seconds: int) -> dict[str, str]:
    """The environment of nodes of which one has a clock that is so far ahead."""
    (directory / "sitecustomize.py").write_text(_AHEAD.format(name=Nodes.name(index), seconds=seconds))
    return {"PYTHONPATH": str(directory)}


@contextlib.asynccontextmanager
async def running_nodes(
    directory: pathlib.Path,
    count: int,
    *,
    config: str = "",
    agents: Mapping[str, Scenario] | None = None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Nodes]:
    """Starts them at once and ends them however the block ends. The lease is short (`LEASE_SECONDS`), unless
    `environ` says otherwise; `config` and scripted `agents` are those of each.
    """
    nodes = Nodes(directory, count, config=config, agents=agents, environ=environ or {})
    try:
        await asyncio.gather(*(nodes.start(index) for index in range(count)))
        yield nodes
    finally:
        await nodes.close()
