"""What agents that say too much cost the gateway in memory: `python -m benchmarks.talkers [again] [KIND …]`.

For each kind of talker (tests/hostile/talker.py): resident memory of the gateway before, at its highest
while one of them talks, and while twenty do, and five seconds after their sessions were deleted; MiB. With
`again`, twenty talk twice: what only the first time leaves is no leak. What was left is split into memory of
its own (RssAnon), files such as libraries (RssFile), and shared memory (RssShmem).
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import sys
import tempfile
from typing import Final

from tests.gateways import RunningGateway, running_gateway

TALKER: Final = pathlib.Path(__file__).parent.parent / "tests" / "hostile" / "talker.py"
KINDS: Final = {
    "text": "text 80 15",
    "emoji": "emoji 4 15",
    "escapes": "escapes 4 15",
    "halves": "halves 4 15",
    "words": "words 300000 0",
    "image": "image 12 15",
    "tool": "tool 12 15",
    "tools": "tools 100000 0",
    "title": "title 8 15",
    "id": "id 8 15",
    "unknown": "unknown 8 15",
    "members": "members 4 15",
    "plan": "plan 8 15",
    "request": "request 40 0.9",
    "error": "error 8 15",
    "meta": "meta 8 15",
    "permission": "permission 8 15",
    "thought": "thought 16 15",
    "diff": "diff 8 15",
    "commands": "commands 8 15",
    "options": "options 8 15",
    "mode": "mode 8 15",
    "usage": "usage 8 15",
    "form": "form 8 15",
    "question": "question 8 15",
    "stop": "stop 1 15",
    "stderr": "stderr 16 15",
}
NO_LOOP: Final = "[sessions]\ncrash_limit = 100\n"
MANY: Final = 20
AFTER_SECONDS: Final = 5


PARTS: Final = ("RssAnon", "RssFile", "RssShmem")


def resident(pid: int, name: str = "VmRSS") -> float:
    """MiB of a process: `VmRSS` now, or one of its `PARTS`, `VmHWM` at most since `forget_peak`."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) / 1024


def forget_peak(pid: int) -> None:
    """The highest resident memory is counted from now on."""
    with open(f"/proc/{pid}/clear_refs", "w") as file:
        file.write("5")


async def talk(gateway: RunningGateway, name: str, prompt: str, *, turns: int) -> None:
    """A session whose agent talks for some turns, whatever comes of it; its person's connection is closed
    then, as an open one holds some memory of its own.
    """
    async with gateway.caller() as person:
        new = {"session_id": name, "agent": "talker"}
        async with person.post("/api/sessions", json=new) as response:
            assert response.status == 201, await response.text()
        for _ in range(turns):
            body = {"message": prompt, "session_id": name}
            async with person.post("/api/chat?wait=60", json=body) as response:
                if response.status != 200:
                    return


async def measure(gateway: RunningGateway, prompt: str, count: int, *, turns: int = 3) -> str:
    """A row: how far above the start the highest was, and what was left."""
    start, parts = resident(gateway.pid), [resident(gateway.pid, part) for part in PARTS]
    forget_peak(gateway.pid)
    names = [f"talker-{number}" for number in range(count)]
    await asyncio.gather(*(talk(gateway, name, prompt, turns=turns) for name in names))
    peak = resident(gateway.pid, "VmHWM")
    for name in names:
        await gateway.delete(name)
    await asyncio.sleep(AFTER_SECONDS)
    left = resident(gateway.pid)
    grown = " ".join(
        f"{resident(gateway.pid, part) - before:+.1f}" for part, before in zip(PARTS, parts, strict=True)
    )
    share = 100 * left / start - 100
    return f"{start:7.1f} {peak - start:+8.1f} {left - start:+7.1f} ({share:+4.0f} %; {grown})"


async def main(kinds: list[str]) -> None:
    """Prints two rows for each kind, or three."""
    rounds = [(1, ""), (MANY, "")]
    if "again" in kinds:
        rounds.append((MANY, "again"))
    print(f"{'':24} start  highest    left (of start; {' '.join(PARTS)})")
    with tempfile.TemporaryDirectory() as folder:
        command = json.dumps([sys.executable, "-I", str(TALKER)])
        agent = f'[agents.talker]\ncommand = {command}\nreadable = ["{TALKER.parent}"]\n'
        async with running_gateway(pathlib.Path(folder), config=agent + NO_LOOP) as gateway:
            await talk(gateway, "warm", "text 1 1", turns=1)
            await gateway.delete("warm")
            for kind in [kind for kind in kinds if kind != "again"] or KINDS:
                for count, when in rounds:
                    row = await measure(gateway, KINDS[kind], count)
                    print(f"{kind:10} {count:4} {when:6} {row}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
