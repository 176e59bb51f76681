"""What knowing the caller costs, and what a greedy tenant costs the others.

    python -m benchmarks.access [--requests 3000] [--burst 500]

Rows: the gateway's own CPU time for a request with each kind of credential, quotas on, beside the same
request in `open` mode, interleaved in one run; the first answer of a tenant alone, and while another's burst
of first messages is under way.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import pathlib
import statistics
import tempfile
import time

import aiohttp

from tests.gateways import RunningGateway, running_gateway
from tests.issuer import Issuer

ROUNDS = 20
FREE = """
[limits]
session_requests_per_second = 1000000
session_burst = 1000000
address_requests_per_second = 1000000
address_burst = 1000000
"""
QUOTA = """sessions_live = 10000
sessions_stored = 100000
turns_per_minute = 1000000
tokens_per_day = 1000000000
"""


def guarded(keys: pathlib.Path) -> str:
    return f"""{FREE}
[auth]
modes = ["keys", "jwt", "anonymous"]
[jwt]
issuer = "https://issuer.example"
audience = "gateway"
jwks_file = "{keys}"
[tenants.modest]
[quotas.tenant]
{QUOTA}[quotas.subject]
{QUOTA}
"""


async def cpu_a_request(gateway: RunningGateway, http: aiohttp.ClientSession, path: str, count: int) -> float:
    """Microseconds of the gateway's CPU time, of all its threads."""
    before = cpu_nanoseconds(gateway.pid)
    for _ in range(count):
        async with http.get(path) as response:
            await response.read()
            assert response.status == 200, await response.text()
    return (cpu_nanoseconds(gateway.pid) - before) / count / 1000


def cpu_nanoseconds(pid: int) -> int:
    """Time on a processor, which the scheduler counts by the nanosecond (proc(5), schedstat)."""
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


async def credentials(directory: pathlib.Path, requests: int) -> None:
    issuer = Issuer()
    keys = directory / "keys.json"
    keys.write_text(json.dumps(issuer.jwks()))
    for name in ("open", "keys"):
        (directory / name).mkdir()
    async with contextlib.AsyncExitStack() as stack:
        free = await stack.enter_async_context(running_gateway(directory / "open", config=FREE))
        bound = await stack.enter_async_context(running_gateway(directory / "keys", config=guarded(keys)))
        callers = {
            "open mode": (free, free.caller()),
            "an API key": (bound, bound.caller(await bound.mint("alice"))),
            "a JWT (RS256, remembered)": (bound, bound.caller(issuer.token("bob"))),
            "a visitor's cookie": (bound, bound.caller(Origin=bound.url)),
        }
        taken: dict[str, list[float]] = {name: [] for name in callers}
        for _, http in callers.values():
            await stack.enter_async_context(http)
            async with http.post("/api/sessions", json={"session_id": "mine"}) as response:
                assert response.status == 201, await response.text()
        for _ in range(ROUNDS):
            for name, (gateway, http) in callers.items():
                path = "/api/sessions/mine"
                taken[name].append(await cpu_a_request(gateway, http, path, requests // ROUNDS))
        floor = statistics.median(taken["open mode"])
        for name, figures in taken.items():
            own = statistics.median(figures)
            print(f"CPU a request, {name:40} {own:8.1f} µs   {own - floor:+6.1f} µs", flush=True)


async def first_answer(http: aiohttp.ClientSession, session_id: str) -> float:
    """Seconds from a session's first message to the end of its turn."""
    began = time.monotonic()
    body = {"session_id": session_id, "message": "/echo x"}
    async with http.post("/api/chat?wait=120", json=body) as response:
        assert response.status == 200, await response.text()
        await response.read()
    return time.monotonic() - began


async def fairness(directory: pathlib.Path, burst: int) -> None:
    config = FREE + '[auth]\nmodes = ["keys"]\n[tenants.greedy]\n[tenants.modest]\n'
    async with running_gateway(directory, config=config) as gateway:
        greedy = gateway.caller(await gateway.mint("g", tenant="greedy"))
        modest = gateway.caller(await gateway.mint("m", tenant="modest"))
        async with greedy, modest:
            alone = [await first_answer(modest, f"alone-{number}") for number in range(20)]
            tasks = [asyncio.create_task(first_answer(greedy, f"g{number}")) for number in range(burst)]
            await asyncio.sleep(0.1)
            beside = []
            while not all(task.done() for task in tasks):
                beside.append(await first_answer(modest, f"beside-{len(beside)}"))
            own = await asyncio.gather(*tasks)
    print(f"first answer of a tenant alone, p50 {1000 * statistics.median(alone):40.1f} ms")
    median = 1000 * statistics.median(beside)
    print(f"beside another's burst of {burst}: p50 of {len(beside):3} {median:29.1f} ms")
    print(f"  the slowest of them {1000 * max(beside):56.1f} ms")
    print(
        f"  the burst's own, p50 and slowest {1000 * statistics.median(own):30.1f} {1000 * max(own):12.1f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--burst", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        asyncio.run(credentials(pathlib.Path(one), options.requests))
        asyncio.run(fairness(pathlib.Path(two), options.burst))


if __name__ == "__main__":
    main()
