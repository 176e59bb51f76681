"""Long work with an agent that nobody here wrote: `make campaign NAME=soak`, or `python -m tests.soak`.

Some sessions of opencode, on a fake model that calls its `bash`, each with many tool calls; in each round an
agent also leaves a server running, all sessions are parked, and the next round revives them. After each one:
memory and descriptors of the gateway and its fork server, processes of workers, bytes on the disk. Flat means
that the last round is no more than a tenth above the second; for the disk, above the first that began with as
many snapshots as are kept of a session.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pathlib
import sys
import tempfile
import time
from typing import Any, Final

import psutil

from gateway.config.files import FilesConfig
from gateway.workers.trees import Measure, walk
from tests.fake_model import fake_model
from tests.gateways import RunningGateway, running_gateway
from tests.patience import within
from tests.real_agents import opencode
from tests.streams import state_when

TURN_SECONDS: Final = 600
SERVER: Final = "setsid -f python3 -m http.server 0 >/dev/null 2>&1; echo served"
TENTH: Final = 1.1
SLACK: Final = {"memory MB": 8.0, "descriptors": 8.0, "disk MB": 200.0}
"""A difference that is no growth: what one round happens to leave in caches, and what agents write down."""


async def call(gateway: RunningGateway, session_id: str, command: str) -> None:
    """One turn with one tool call. Raises AssertionError if the tool's answer does not come back."""
    asked = {"command": command, "description": "work"}
    before = len((await gateway.state(session_id))["messages"])
    await gateway.send(session_id, f"call bash {json.dumps(asked)}", agent="real")
    state = await state_when(
        gateway.http, session_id, lambda state: is_over(state, before), seconds=TURN_SECONDS
    )
    said = state["messages"][-1]["content"]
    assert "The tool said" in said, said


def is_over(state: dict[str, Any], before: int) -> bool:
    """Whether the turn after so many messages has ended, also if only the gateway says why."""
    last = state["messages"][-1] if state["messages"] else None
    is_said = last is not None and last["sender"] != "user" and not last["is_streaming"]
    return len(state["messages"]) >= before + 2 and is_said


async def work(gateway: RunningGateway, session_id: str, calls: int) -> None:
    """One session's part of a round."""
    await call(gateway, session_id, SERVER)
    for number in range(calls - 1):
        await call(
            gateway, session_id, f"echo {number} >> log; mkdir -p d{number % 7}; date > d{number % 7}/f"
        )


async def park_all(gateway: RunningGateway) -> None:
    """Stops all workers; waits until no process is left."""
    for row in (await gateway.get("/api/admin/sessions"))["sessions"]:
        if row["state"] != "parked":
            await gateway.post(f"/api/admin/sessions/{row['key']}/park", {})
    async with within(30):
        while gateway.workers():
            await asyncio.sleep(0.1)


def figures(gateway: RunningGateway) -> dict[str, float]:
    """What the gateway and its fork server hold, and what lies on the disk."""
    own = [psutil.Process(gateway.pid), *psutil.Process(gateway.pid).children()]
    disk = Measure(sys.maxsize)
    walk(gateway.data_path, disk)
    return {
        "memory MB": sum(process.memory_info().rss for process in own) / 1e6,
        "descriptors": float(sum(process.num_fds() for process in own)),
        "disk MB": disk.allocated_bytes / 1e6,
    }


async def main(sessions: int, calls: int, rounds: int) -> int:
    """Prints a line for each round; 1 if something grew, or a call failed."""
    async with fake_model() as model:
        launch = await asyncio.to_thread(opencode, model.url)
        settings = json.loads(launch.env["OPENCODE_CONFIG_CONTENT"]) | {"permission": "allow"}
        env = launch.env | {"OPENCODE_CONFIG_CONTENT": json.dumps(settings)}
        config = (
            f"[sessions]\nstart_timeout_seconds = {TURN_SECONDS}\n[workers]\nspares = 0\n"
            f"[agents.real]\ncommand = {json.dumps(launch.command)}\nlimits_preset = 'coding'\n"
            f'network = "shared"\nreadable = {json.dumps([str(path) for path in launch.readable])}\n'
            "[agents.real.env]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in env.items())
        )
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder).chmod(0o755)
            async with running_gateway(pathlib.Path(folder), config=config) as gateway:
                seen = [
                    await one_round(gateway, sessions, calls // rounds, number) for number in range(rounds)
                ]
                left = len(gateway.workers())
    grown = what_grew(seen, calls // rounds)
    print(f"{sessions} sessions, {calls} calls each, {rounds} times parked; workers left {left}; "  # noqa: T201
          f"grown: {', '.join(grown) or 'nothing'}")  # fmt: skip
    return int(bool(grown or left))


def what_grew(seen: list[dict[str, float]], calls: int) -> list[str]:
    """Names of what is larger after the last of the rounds, of so many calls each, than it may be."""
    if len(seen) < 3:
        return []
    full = -(-FilesConfig().snapshots_kept // calls)
    since = {"disk MB": seen[full if full < len(seen) - 1 else 1]}
    return [
        name
        for name, last in seen[-1].items()
        if last > max((first := since.get(name, seen[1])[name]) * TENTH, first + SLACK[name])
    ]


async def one_round(gateway: RunningGateway, sessions: int, calls: int, number: int) -> dict[str, float]:
    """All sessions work, and are parked."""
    began = time.monotonic()
    await asyncio.gather(*(work(gateway, f"soak-{each}", calls) for each in range(sessions)))
    processes = len(psutil.Process(gateway.pid).children(recursive=True)) - 1  # the fork server
    await park_all(gateway)
    await asyncio.sleep(3)  # memory is given back when it rests
    found = figures(gateway)
    shown = ", ".join(f"{name} {value:,.1f}" for name, value in found.items())
    print(f"round {number + 1}: {time.monotonic() - began:.0f} s, {processes} processes; then {shown}",  # noqa: T201
          flush=True)  # fmt: skip
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--calls", type=int, default=200, help="of each session, in all")
    parser.add_argument("--rounds", type=int, default=10, help="after each of which all are parked")
    options = parser.parse_args()
    sys.exit(asyncio.run(main(options.sessions, options.calls, options.rounds)))
