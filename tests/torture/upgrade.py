"""An upgrade in the middle of many long turns, on one machine with SQLite: `serve --take-over` while 40 turns
of minutes run, each with somebody who reads it, and others send messages all the time. Then it is counted
what anybody noticed.

`python -m tests.torture.upgrade --turns 40 --seconds 120`. `--killing` proves that the counting sees
something: there the gateway is killed and started again instead. The small form is
tests/integration/test_taking_over.py.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import pathlib
import signal
import sys
import tempfile
import time
from typing import Final

import aiohttp

from tests.gateways import RunningGateway, running_gateway
from tests.integration.test_taking_over import Follower
from tests.patience import soon
from tests.shared import crowding, fresh_id

NUMBERS: Final = 100
"""That each answer counts to."""
BEGUN_SECONDS: Final = 60.0
"""How long all turns may take to begin, where nothing else runs."""
CONFIG: Final = """
[applications]
enabled = []
[limits]
max_live_workers = 200
address_requests_per_second = 1000000
address_burst = 1000000
session_requests_per_second = 10000
session_burst = 10000
[sessions]
turn_timeout_seconds = 3600
"""


class Upgrade:
    """One run, and what was noticed."""

    def __init__(self, directory: pathlib.Path, *, turns: int, seconds: float, is_killing: bool) -> None:
        self._directory = directory
        self._names = [f"long-{number}" for number in range(turns)]
        self._text = f"/count {NUMBERS} {round(1000 * seconds / NUMBERS)}"
        self._seconds = seconds
        self._is_killing = is_killing
        self.waits: list[float] = []
        self.refused: list[str] = []
        self.ended: list[str] = []
        self.lost: list[str] = []
        self.gaps: list[str] = []
        self.connections = 0
        self.moved_seconds = 0.0
        """From the start of the new one to the end of the old one."""

    async def run(self) -> None:
        """Returns when every turn has ended, and is counted."""
        async with contextlib.AsyncExitStack() as stack:
            old = await stack.enter_async_context(running_gateway(self._directory, config=CONFIG))
            for name in self._names:
                await old.send(name, self._text)
            followers = [Follower(old, name) for name in self._names]
            following = [asyncio.create_task(each.run(through="turn_ended")) for each in followers]
            async with asyncio.timeout(BEGUN_SECONDS * crowding()):
                while not all("text_delta" in {kind for _, kind in each.seen} for each in followers):
                    await asyncio.sleep(0.1)
            asking = asyncio.create_task(self._ask(old), name="asking")
            began = time.monotonic()
            words: tuple[str, ...] = ("--take-over",)
            if self._is_killing:
                await old.stop(signal.SIGKILL)
                port = old.url.rpartition(":")[2]
                words = ("--port", port)
            starting = running_gateway(self._directory, *words, config=CONFIG)
            new = await stack.enter_async_context(starting)
            await asyncio.wait(following, timeout=2 * self._seconds * crowding())
            if not self._is_killing:
                await soon(old.process.wait(), 60)
            self.moved_seconds = time.monotonic() - began
            asking.cancel()
            for name, follower, task in zip(self._names, followers, following, strict=True):
                await self._check(new, name, follower, is_over=task.done())
                task.cancel()

    async def _check(self, gateway: RunningGateway, name: str, follower: Follower, *, is_over: bool) -> None:
        state = await gateway.state(name)
        whole = " ".join(map(str, range(1, NUMBERS + 1)))
        if "turn_interrupted" in {kind for _, kind in follower.seen} or not is_over:
            self.ended.append(name)
        if [one["content"] for one in state["messages"]] != [self._text, whole]:
            self.lost.append(f"{name}: {state['messages'][-1]['content'][:80]!r}")
        numbers = [seq for seq, _ in follower.seen]
        if numbers != sorted(set(numbers)) or "resync" in {kind for _, kind in follower.seen[1:]}:
            self.gaps.append(name)
        self.connections += follower.connections

    async def _ask(self, gateway: RunningGateway) -> None:
        """Sends messages to sessions of their own, one after the other."""
        number, http = 0, aiohttp.ClientSession(gateway.url, connector=aiohttp.TCPConnector(force_close=True))
        async with http:
            while True:
                number, began = number + 1, time.monotonic()
                body = {"message": f"/echo {number}", "session_id": f"quick-{number % 5}"}
                headers = {"Idempotency-Key": fresh_id()}
                try:
                    async with http.post("/api/chat", json=body, headers=headers) as answer:
                        if answer.status != 200:
                            self.refused.append(f"{answer.status} {(await answer.text())[:100]}")
                except (aiohttp.ClientError, OSError) as error:
                    self.refused.append(repr(error))
                self.waits.append(time.monotonic() - began)
                await asyncio.sleep(0.1)

    @property
    def faults(self) -> list[str]:
        """All that nobody shall notice."""
        return [*self.refused, *(f"ended: {one}" for one in self.ended), *self.lost, *self.gaps]

    def table(self) -> str:
        """The figures, printed."""
        rows = {
            "turns that ran": len(self._names),
            "seconds of each": round(self._seconds),
            "from the start of the new one to the last turn's end, s": f"{self.moved_seconds:.1f}",
            "turns ended early": len(self.ended),
            "answers lost or cut": len(self.lost),
            "gaps or repeats in ids": len(self.gaps),
            "streams opened": self.connections,
            "messages meanwhile": len(self.waits),
            "of them refused": len(self.refused),
            "longest wait, s": f"{max(self.waits, default=0):.2f}",
            "load": f"{os.getloadavg()[0]:.1f}",
        }
        width = max(map(len, rows))
        return "\n".join(f"{name:{width}}  {value}" for name, value in rows.items())


def main() -> int:
    """Runs it; exit code 1 if anybody noticed anything."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.upgrade")
    parser.add_argument("--turns", type=int, default=40, help="that run at once (40)")
    parser.add_argument("--seconds", type=float, default=120, help="that each takes (120)")
    parser.add_argument("--killing", action="store_true", help="the proof that the counting sees something")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="upgrade-") as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)
        upgrade = Upgrade(directory, turns=options.turns, seconds=options.seconds, is_killing=options.killing)
        asyncio.run(upgrade.run())
    print("\n".join((upgrade.table(), "", *upgrade.faults[:20])))  # noqa: T201 - for a person
    return 1 if upgrade.faults else 0


if __name__ == "__main__":
    sys.exit(main())
