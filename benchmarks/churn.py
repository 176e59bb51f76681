"""What sessions that come and go leave in the gateway: `python -m benchmarks.churn [SESSIONS]` (10,000).

Each session has one turn and is deleted. What the gateway remembers of the last five minutes (recent.py) and
SQLite's page caches fill first, and stay as large as they are then: so the last half is what counts, and a
run should take ten minutes. KiB of resident memory a session.
"""

from __future__ import annotations

import asyncio
import pathlib
import sys
import tempfile
import time
from typing import Final

import psutil

from tests.gateways import RunningGateway, running_gateway

AT_ONCE: Final = 8
SETTLE_SECONDS: Final = 3
HALF: Final = 5
"""Of the ten parts."""
CONFIG: Final = """
[limits]
address_requests_per_second = 100000
address_burst = 1000000
"""


async def churn(gateway: RunningGateway, first: int, count: int) -> None:
    """So many lives, several at once."""
    numbers = iter(range(first, first + count))

    async def lives() -> None:
        for number in numbers:
            await gateway.chat(f"churn-{number}", "/echo one turn")
            await gateway.delete(f"churn-{number}")

    await asyncio.gather(*(lives() for _ in range(AT_ONCE)))
    await asyncio.sleep(SETTLE_SECONDS)


async def main(sessions: int) -> None:
    """Prints a row for each tenth."""
    with tempfile.TemporaryDirectory() as folder:
        async with running_gateway(pathlib.Path(folder), config=CONFIG) as gateway:
            process = psutil.Process(gateway.pid)
            tenth = max(1, sessions // 10)
            print("  sessions   resident MiB  KiB a session  open files  seconds")
            before, half, began = 0, 0, time.monotonic()
            for part in range(10):
                await churn(gateway, part * tenth, tenth)
                now = process.memory_info().rss
                grown = (now - before) / 1024 / tenth if before else 0.0
                half = now if part == HALF - 1 else half
                seconds = time.monotonic() - began
                print(
                    f"{(part + 1) * tenth:10} {now / 2**20:14.1f} {grown:14.2f}"
                    f" {process.num_fds():11} {seconds:8.0f}",
                    flush=True,
                )
                before = now
            print(f"the last half: {(before - half) / 1024 / (HALF * tenth):.2f} KiB a session")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
