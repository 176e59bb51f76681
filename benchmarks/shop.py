"""A tool call through the gateway, beside the SDK's own bare server with the same tools, in one run.

    python -m benchmarks.shop [--quick]

Rows: round trip p50 and p99 with one client, calls a second with 32; for a search (nothing stored but a
count), a look at a cart, and an addition that is on disk (synchronous=FULL) before it is answered. The bare
server keeps a dictionary and stores nothing. Last, what the SDK costs a gateway when the first client comes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import pathlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator

import aiohttp
import psutil

from benchmarks.gateway import percentiles, row
from tests.gateways import ROOT, running_gateway
from tests.mcp_clients import call, post
from tests.shared import free_port

CLIENTS = 32
LIMITS = "[limits]\naddress_requests_per_second = 1e6\naddress_burst = 1000000\n"
START_SECONDS = 20
TOOLS = (
    ("search_products", {"search": "אורז"}),
    ("view_cart", {}),
    ("add_to_cart", {"product_id": "nitzat-haduvdevan:3"}),
)


async def timed(http: aiohttp.ClientSession, tool: str, arguments: dict[str, str], session: str) -> float:
    """Milliseconds of one round trip that must succeed."""
    message = call(tool, {**arguments, "_sessionId": session})
    began = time.perf_counter()
    status, _, body = await post(http, message)
    milliseconds = (time.perf_counter() - began) * 1000
    assert status == 200, body
    assert not body["result"].get("isError"), body
    return milliseconds


async def measure(name: str, url: str, *, calls: int) -> None:
    """Every tool, one client and then many."""
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=CLIENTS)) as http:
        for tool, arguments in TOOLS:
            for number in range(30):
                await timed(http, tool, arguments, f"warm-{number}")
            alone = [await timed(http, tool, arguments, f"a{number % 40}") for number in range(calls)]
            row(f"{name}: {tool}, ms p50 p99", percentiles(alone))

            async def many(client: int, tool: str = tool, arguments: dict[str, str] = arguments) -> None:
                for number in range(calls // 8):
                    await timed(http, tool, arguments, f"{client}-{number % 40}")

            began = time.perf_counter()
            await asyncio.gather(*(many(client) for client in range(CLIENTS)))
            each = CLIENTS * (calls // 8) / (time.perf_counter() - began)
            row(f"{name}: {tool}, calls a second, {CLIENTS} clients", f"{each:17.0f}")


@contextlib.asynccontextmanager
async def bare() -> AsyncIterator[str]:
    """The SDK's own server."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.bare_mcp", str(port), cwd=ROOT
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession(url) as http:
            while True:
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    await post(http, call("view_cart", {"_sessionId": "first"}))
                    break
                await asyncio.sleep(0.05)
        yield url
    finally:
        process.kill()
        await process.wait()


async def first_client(url: str, pid: int) -> None:
    """What the first request costs: the SDK is imported by it."""
    gateway = psutil.Process(pid)
    before = gateway.memory_info().rss
    async with aiohttp.ClientSession(url) as http:
        took = await timed(http, "list_stores", {}, "first")
    grown = (gateway.memory_info().rss - before) / 1e6
    row("gateway: the first call of all, ms", f"{took:17.0f}", f"and {grown:.0f} MB, for the SDK")


async def run(*, is_quick: bool) -> None:
    """The whole table."""
    calls = 80 if is_quick else 800
    async with bare() as url:
        await measure("bare SDK", url, calls=calls)
    with tempfile.TemporaryDirectory() as directory:
        async with running_gateway(pathlib.Path(directory), config=LIMITS) as gateway:
            await first_client(gateway.url, gateway.pid)
            await measure("gateway", gateway.url, calls=calls)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    asyncio.run(run(is_quick=parser.parse_args().quick))


if __name__ == "__main__":
    main()
