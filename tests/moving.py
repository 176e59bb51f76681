"""Real agents that are moved: `python -m tests.moving opencode vibe`. A session goes from one gateway to
another three times, each with a data directory of its own at the same path, as on machines of their own.

Each time the agent must come back with what it knew (`agent_started`: resumed or loaded), its model must hear
of the first message again, and a file must be as it was. What a scripted agent does is in
`gateway/test_files_travel.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import pathlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from msgspec import Struct, field

from tests import real_agents
from tests.aims import Aim, row
from tests.contract.engines import migrated_database
from tests.fake_model import FakeModel, fake_model
from tests.gateway.test_forks import items
from tests.inside import GatewayInside, gateway_inside
from tests.integration.test_real_agents import config_of
from tests.real_agents import AgentUnavailable, Launch
from tests.shared import crowding, free_port

AGENTS: Final[dict[str, Callable[[str], Launch]]] = {
    name: getattr(real_agents, name) for name in ("opencode", "vibe", "codex", "claude", "gemini")
}
USUAL: Final = ("opencode", "vibe", "codex")
MOVES: Final = ("b", "a", "c")
"""After the gateway `a`; so it comes to one that has older files of it, too."""
WORD: Final = "heliotrope"
ID: Final = "trip"
CONTENT: Final = bytes(range(256)) * 64
TRIES: Final = 3
AGENT_SECONDS: Final = 300.0


class Moved(Struct):
    """What came of one agent."""

    how: list[str] = field(default_factory=list)
    """How it started, after each move."""
    remembered: int = 0
    equal: int = 0
    seconds: list[float] = field(default_factory=list)
    """From the message to the end of its turn, after each move."""


@contextlib.asynccontextmanager
async def at(directory: pathlib.Path, name: str, database: str, config: str) -> AsyncIterator[GatewayInside]:
    """A gateway while the block runs. Where it is belongs to it alone for so long."""
    here, away = directory / "here", directory / f"away-{name}"
    if away.exists():
        away.rename(here)
    here.mkdir(exist_ok=True)
    environ = {
        "AGENT_GATEWAY_STORE": database,
        "AGENT_GATEWAY_CLUSTER_NAME": name,
        "AGENT_GATEWAY_CLUSTER_URL": f"http://127.0.0.1:{free_port()}",
        "AGENT_GATEWAY_CLUSTER_FILES": "store",
    }
    try:
        async with gateway_inside(here, config=config, environ=environ) as gateway:
            yield gateway
    finally:
        here.rename(away)


async def move(directory: pathlib.Path, launch: Launch, model: FakeModel) -> Moved:
    """Moves a session of one agent. Raises TimeoutError, or AssertionError if it does not answer."""
    moved, database, config = Moved(), migrated_database(), config_of(launch)
    path = f"/api/sessions/{ID}/files/content?path=kept.bin"
    async with at(directory, "a", database, config) as gateway:
        await gateway.post("/api/sessions", {"agent": "real", "session_id": ID}, status=201)
        async with gateway.http.put(path, data=CONTENT) as response:
            assert response.status == 200, await response.text()
        for _ in range(TRIES):  # its first start may take too long on a busy machine
            state = await gateway.chat(ID, f"the word is {WORD}")
            answer = state["messages"][-1]
            if answer["sender"] == "agent" and WORD in answer["content"]:
                break
        else:
            raise AssertionError(f"the agent did not answer: {state['messages'][-1]['content'][:200]}")
    for name in MOVES:
        async with at(directory, name, database, config) as gateway:
            began = time.monotonic()
            await gateway.chat(ID, f"and again at {name}")
            moved.seconds.append(time.monotonic() - began)
            moved.how.append((await items(gateway, ID, "agent_started"))[-1]["how"])
            print(f"  at {name}: {moved.how[-1]}, {moved.seconds[-1]:.1f} s", flush=True)  # noqa: T201
            if moved.how[-1] == "new":
                print(await _why(gateway))  # noqa: T201
            moved.remembered += WORD.encode() in model.requests[-1].raw
            async with gateway.http.get(path) as response:
                moved.equal += await response.read() == CONTENT
    return moved


async def _why(gateway: GatewayInside) -> str:
    """What the people were told, and what the log says, of a session whose agent began anew."""
    told = [f"  notice: {one['text']}" for one in await items(gateway, ID, "notice")]
    return "\n".join((*told, *(f"  {line}" for line in gateway.log().splitlines() if " WARNING " in line)))


async def try_one(name: str) -> list[Aim]:
    """The aims of one agent."""
    async with fake_model() as model:
        launch = await asyncio.to_thread(AGENTS[name], model.url)
        with tempfile.TemporaryDirectory(prefix="moving-") as made:
            directory = pathlib.Path(made)
            directory.chmod(0o755)
            print(name, flush=True)  # noqa: T201
            async with asyncio.timeout(AGENT_SECONDS * crowding()):
                moved = await move(directory, launch, model)
    came_back = sum(how in ("resumed", "loaded") for how in moved.how)
    return [
        Aim(what=f"{name}: moves after which it was resumed or loaded", seen=came_back, least=len(MOVES)),
        Aim(what=f"{name}: its model heard of the first message", seen=moved.remembered, least=len(MOVES)),
        Aim(what=f"{name}: moves after which a file was equal", seen=moved.equal, least=len(MOVES)),
    ]


def main() -> int:
    """A line for each move, and row 9 of the acceptance; 1 if it is not met."""
    parser = argparse.ArgumentParser(prog="python -m tests.moving")
    parser.add_argument("agents", nargs="*", default=USUAL, help=f"of {', '.join(AGENTS)}")
    aims: list[Aim] = []
    for name in parser.parse_args().agents:
        try:
            aims += asyncio.run(try_one(name))
        except AgentUnavailable as error:
            print(f"{name}: NOT TESTED, it cannot be had: {error}")  # noqa: T201
        except (AssertionError, TimeoutError) as error:
            print(f"{name}: {error!r}"[:500])  # noqa: T201
            aims.append(Aim(what=f"{name}: moves", seen=0, least=len(MOVES)))
    print(f"load {os.getloadavg()[0]:.1f}")  # noqa: T201
    print(row(9, aims))  # noqa: T201
    return 0 if aims and all(aim.is_met for aim in aims) else 1


if __name__ == "__main__":
    raise SystemExit(main())
