"""Hostile agents for a while, one after another and several at once, beside people who must not notice.

Every attack is a turn of a real agent behind the walls of the machine: what it says (`talker.py`), what it
makes (`files.py`), what it does (`agent.py`). What comes of its own session is its own affair. The
neighbours' is not: every message of theirs must be answered, rightly and with nothing of anybody else's.
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import random
import sys
import time
from typing import Any, Final

import aiohttp
import psutil
from msgspec import Struct, field

from tests.gateways import RunningGateway, running_gateway
from tests.patience import crowding

HERE: Final = pathlib.Path(__file__).parent
ATTACKS: Final[dict[str, tuple[str, ...]]] = {
    "talker": (
        *("text 20 15", "emoji 2 15", "escapes 2 15", "halves 4 15", "words 50000 0", "image 8 15"),
        *("tool 8 15", "tools 30000 0", "title 4 15", "id 4 15", "unknown 6 15", "members 2 15", "plan 4 15"),
        *(
            "request 12000 0.0005",
            "error 4 15",
            "meta 4 15",
            "permission 4 15",
            "endless 1 17",
            "deep 2 14",
            "strings 2 14",
            "asks 400 0.2",
            "crumbs 4 1",
        ),
    ),
    "files": ("nest 1100", "sparse 9000", "many 20000"),
    "host": (
        *("fork_bomb", "memory_bomb", "descriptor_bomb", "disk_filler", "flood", "flood_of_errors", "spin"),
        *("escape", "play_dead", "close_stdout", "deep_json", "impersonate"),
    ),
}
"""Attacks by the agent that makes them."""
CONFIG: Final = f"""
[sessions]
turn_timeout_seconds = 6
stop_grace_seconds = 0.2
crash_limit = 100000
[limits]
session_requests_per_second = 100000
session_burst = 100000
[workers]
memory_bytes = {256 << 20}
disk_bytes = {256 << 20}
processes = 64
""" + "".join(
    f"[agents.{name}]\ncommand = {json.dumps([sys.executable, '-I', str(HERE / file)])}\n"
    f"readable = [{json.dumps(str(HERE))}]\n"
    for name, file in (("talker", "talker.py"), ("files", "files.py"), ("host", "agent.py"))
)
AT_ONCE: Final = 3
NEIGHBOURS: Final = 3
PATIENCE_SECONDS: Final = 30
"""A neighbour that has no answer after so long, of a machine that is not busy, has noticed."""
LONGEST_WAIT_SECONDS: Final = 600
"""A request waits no longer for its turn."""


class Card(Struct):
    """What was tried and what came of it."""

    attacks: dict[str, int] = field(default_factory=dict)
    messages: int = 0
    errors: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0
    exit_code: int | None = None
    left: int = 0
    rss_mib: tuple[float, float, float] = (0, 0, 0)
    """At the start, at its highest, at the end."""

    def __str__(self) -> str:
        start, highest, end = self.rss_mib
        return "\n".join(
            (
                f"attacks, of {len(self.attacks):2} kinds            {sum(self.attacks.values())}",
                f"neighbours' messages            {self.messages}",
                f"neighbours' errors              {len(self.errors)}",
                f"their slowest answer            {self.slowest_seconds:.2f} s",
                f"gateway: exit code              {self.exit_code}",
                f"processes left                  {self.left}",
                f"resident MiB start highest end  {start:.0f} {highest:.0f} {end:.0f}",
                *self.errors[:10],
            )
        )


class Campaign:
    """See the module."""

    def __init__(self, directory: pathlib.Path, *, seconds: float, seed: int = 1) -> None:
        self.card = Card()
        self._directory = directory
        self._seconds = seconds
        self._end = 0.0
        self._random = random.Random(seed)
        self._names = iter(range(10**9))

    async def run(self) -> Card:
        """Attacks until the time is up; the card."""
        async with running_gateway(self._directory, config=CONFIG) as gateway:
            process = psutil.Process(gateway.pid)
            await gateway.chat("warm", "/echo up")
            start = highest = process.memory_info().rss
            self._end = time.monotonic() + self._seconds
            work = [
                *(asyncio.create_task(self._neighbour(gateway, n)) for n in range(NEIGHBOURS)),
                *(asyncio.create_task(self._attacker(gateway)) for _ in range(AT_ONCE)),
            ]
            while not all(task.done() for task in work):
                await asyncio.sleep(0.1)
                highest = max(highest, process.memory_info().rss)
            for task in work:
                task.result()
            end = process.memory_info().rss
            self.card.rss_mib = (start / 2**20, highest / 2**20, end / 2**20)
            workers = gateway.workers()
            self.card.exit_code = await gateway.stop()
            await asyncio.sleep(0)
            self.card.left = sum(worker.is_running() for worker in workers)
        return self.card

    def _is_over(self) -> bool:
        return time.monotonic() >= self._end

    async def _attacker(self, gateway: RunningGateway) -> None:
        kinds = [(agent, prompt) for agent, prompts in ATTACKS.items() for prompt in prompts]
        while not self._is_over():
            agent, prompt = self._random.choice(kinds)
            name = f"hostile-{next(self._names)}"
            body = {"message": prompt, "session_id": name, "agent": agent}
            self.card.attacks[prompt] = self.card.attacks.get(prompt, 0) + 1
            await self._ask(gateway, "POST", "/api/chat?wait=8", body)
            await self._ask(gateway, "DELETE", f"/api/sessions/{name}")

    async def _ask(self, gateway: RunningGateway, method: str, path: str, body: Any = None) -> None:
        """A request about a hostile session: its own answer does not matter, that there is one does."""
        try:
            async with gateway.http.request(
                method, path, json=body, timeout=aiohttp.ClientTimeout(total=60 * crowding())
            ) as response:
                await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.card.errors.append(f"{method} {path} {body}: {error!r}")

    async def _neighbour(self, gateway: RunningGateway, number: int) -> None:
        name = f"neighbour-{number}"
        count = 0
        while not self._is_over():
            count += 1
            words = f"{name} says {count}"
            began = time.monotonic()
            body = {"message": f"/echo {words}", "session_id": name}
            try:
                wait = round(PATIENCE_SECONDS * crowding())
                async with gateway.http.post(
                    f"/api/chat?wait={min(wait, LONGEST_WAIT_SECONDS)}",
                    json=body,
                    timeout=aiohttp.ClientTimeout(total=2 * wait),
                ) as response:
                    answer = await response.json()
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                self.card.errors.append(f"{words}: {error!r}")
                continue
            self.card.messages += 1
            self.card.slowest_seconds = max(self.card.slowest_seconds, time.monotonic() - began)
            said = [message["content"] for message in answer.get("messages", ())]
            if response.status != 200 or said[-2:] != [f"/echo {words}", words] or len(said) != 2 * count:
                self.card.errors.append(f"{words}: {response.status} {said[-2:]}")
            await asyncio.sleep(0.05)
