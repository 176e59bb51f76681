"""What this machine holds, from measured memory: `agent-gateway doctor --sizing`.

A gateway of its own, on a directory of its own, starts a few real workers of every agent, gives each a turn,
and looks at what they use; then it makes sessions without a worker. Nothing of another gateway is touched.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from typing import Final

import msgspec
from msgspec import Struct

from gateway.agents.catalogue import Agent
from gateway.app import Gateway
from gateway.client import GatewayClient, Refused
from gateway.config.tables import Config, SessionsConfig
from gateway.principal import LOCAL
from gateway.server.operators_socket import address, read_token
from gateway.server.server import listen, running
from gateway.workers.memory import machine_bytes, tree_bytes

WORKERS: Final = 4
"""Of each agent, at the same time: what they share is then shared."""
PARKED: Final = 1_000
TURN_SECONDS: Final = 60
KEPT_SHARE: Final = 0.2
"""Of the memory, for the system, its caches and the agents' peaks."""
_NEVER_PARKED: Final = SessionsConfig(park_after_seconds=0)
_NO_SPARES: Final = {"spares": 0}
"""A spare would count as the gateway's own memory."""


class AgentSize(Struct, frozen=True):
    """A worker of an agent after a turn; `problem` says why there is no figure."""

    name: str
    bytes: int = 0
    problem: str = ""


class Sizing(Struct, frozen=True, kw_only=True):
    """What was measured, in bytes."""

    machine: int
    base: int
    """The gateway with its fork server, and no session."""
    parked: int
    """A session in memory without a worker."""
    agents: list[AgentSize]

    def sessions(self, size: int, memory: int) -> int:
        """How many of a size fit into so much memory beside the base, with something kept free."""
        return max(0, int((memory * (1 - KEPT_SHARE) - self.base) / max(size, 1)))


async def measure(config: Config) -> Sizing:
    """Measures with the agents, model and walls of a configuration. Raises StoreFailed, OSError."""
    with tempfile.TemporaryDirectory(prefix="agent-gateway-sizing-") as directory:
        workers = msgspec.structs.replace(config.workers, **_NO_SPARES)
        known = {name: msgspec.structs.replace(one, **_NO_SPARES) for name, one in config.agents.items()}
        alone = msgspec.structs.replace(
            config,
            data_dir=directory,
            store="",
            sessions=_NEVER_PARKED,
            tenants={},
            workers=workers,
            agents=known,
        )
        gateway, data = Gateway(alone), pathlib.Path(directory)
        async with running(gateway, listen("127.0.0.1", 0)):
            with address(data) as path:
                async with GatewayClient(
                    "http://localhost", token=read_token(data), unix_path=path
                ) as client:
                    base = tree_bytes(os.getpid())
                    agents = [await _agent(client, agent) for agent in gateway.services.agents.all()]
            return Sizing(machine=machine_bytes(), base=base, parked=await _parked(gateway), agents=agents)


async def _agent(client: GatewayClient, agent: Agent) -> AgentSize:
    if shutil.which(agent.argv[0]) is None:
        return AgentSize(agent.name, problem=f"{agent.argv[0]} is not installed")
    names = [f"{agent.name}-{number}" for number in range(WORKERS)]
    try:
        for name in names:
            await client.chat(name, "hello", agent=agent.name, wait_seconds=TURN_SECONDS)
    except Refused as error:
        return AgentSize(agent.name, problem=str(error))
    sizes = [s.memory_bytes for s in (await client.watched_sessions()).sessions if s.agent == agent.name]
    for name in names:
        await client.delete(name)
    if not any(sizes):
        return AgentSize(agent.name, problem="its worker did not start: try a session, which says why")
    return AgentSize(agent.name, sum(sizes) // len([size for size in sizes if size]))


async def _parked(gateway: Gateway) -> int:
    before = tree_bytes(os.getpid())
    for number in range(PARKED):
        await gateway.manager.get_or_create(LOCAL.owner, f"parked-{number}")
    return max(1, tree_bytes(os.getpid()) - before) // PARKED


def table(sizing: Sizing, *, memory: int) -> list[str]:
    """The figures as lines, for so much memory."""
    kept = f"memory {memory / 1e9:.1f} GB, of which {KEPT_SHARE:.0%} is kept free"
    lines = [f"{kept}; the gateway itself uses {sizing.base / 1e6:.0f} MB"]
    lines.append(f"{'':24} {'MB EACH':>9} {'THIS MACHINE HOLDS':>19}")
    for agent in sizing.agents:
        held = sizing.sessions(agent.bytes, memory)
        figures = f"{agent.bytes / 1e6:9.1f} {held:19,}"
        lines.append(f"{agent.name:24} {agent.problem or figures}")
    parked = sizing.sessions(sizing.parked, memory)
    lines.append(f"{'parked, any agent':24} {sizing.parked / 1e6:9.3f} {parked:19,}")
    return lines
