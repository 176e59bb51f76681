"""What a network of a worker's own costs: start, memory and descriptors of a worker beside `none`; the first
byte and the CPU time of what passes its doors beside a direct connection.

`python -m benchmarks.egress [ROUNDS]`. The kinds take turns, so that a busy machine is busy for all of them;
quote the ratios. The client runs in a worker, the upstream host in a process of its own, so that the CPU time
of this process is the doors'. `--churn N` starts and ends as many workers, each with a connection, and prints
what is left of the kernel's memory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import uvloop

from gateway.config.models import ProviderConfig
from gateway.config.tables import Config
from gateway.egress.routes import RouteAnswer, RouteHandler, RouteRequest
from gateway.models.ledger import Ledger, ledger_of
from gateway.models.meter import Meter
from gateway.models.providers import Providers
from gateway.models.routes import ModelRoutes
from gateway.models.tokens import ModelAccess, ModelTokens
from gateway.stores.sqlite.store import SqliteStore
from gateway.telemetry import clocks
from gateway.telemetry.clocks import Clock
from gateway.telemetry.metrics import Metrics
from tests.doors import ACCOUNT, LISTED, Rules, serve, spawn
from tests.walls import PYTHON, Inmate, User, Yard, yard
from worker.spec import DOOR_PORT, Network

STARTS: Final = 25
AT_ONCE: Final = 60
ASKED: Final = 200
PARTS: Final = 5
"""In so many parts, so that the ways take turns often."""
CHUNKS: Final = 4_000
CHUNK_BYTES: Final = 200
"""As long as an event of a model's stream."""
PACED: Final = 300
CLIENT: Final = str(pathlib.Path(__file__).with_name("egress_client.py"))
NEW: Final = ", each new"
"""Of a way that opens a connection for each request; the others keep one."""
START_AIM: Final = 1.0
"""Milliseconds that `broker` may add to a start with `none`, in the middle."""
FIRST_BYTE_AIM: Final = 0.5
"""Milliseconds that a door may add to the first byte, in the middle."""
CHUNK_AIM: Final = 8.0
"""Microseconds of processor for a chunk of a saturated stream."""
MEMORY_AIM: Final = 20.0
"""Kilobytes of kernel memory more than with `none`."""
FILES_AIM: Final = 5.0
ROUTE: Final = "a route of the gateway"
CALL: Final = "a call of a model"
COUNTED: Final = "the same, in the ledger"
DIRECT_CALL: Final = "direct, the same call"
NETWORKS: Final[tuple[Network, ...]] = ("shared", "none", "broker")


def milliseconds(values: Iterable[float]) -> str:
    found = sorted(value * 1_000 for value in values)
    return f"p50 {statistics.median(found):7.3f} ms  p99 {found[int(len(found) * 0.99)]:7.3f} ms"


def judged(value: float, aim: float, unit: str) -> str:
    """A figure beside what the gateway is to keep to."""
    return f"aim at most {aim:+g} {unit}: {'met' if value <= aim else 'not met'}"


def slab_bytes() -> int:
    """Kernel memory that cannot be reclaimed."""
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("SUnreclaim:"):
            return int(line.split()[1]) * 1024
    return 0


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def ended(inmate: Inmate) -> None:
    await inmate.__aexit__(None, None, None)


async def starts(here: Yard, rounds: int) -> None:
    """From the request to a worker that runs, by network."""
    found: dict[Network, list[float]] = {network: [] for network in NETWORKS}
    for _ in range(rounds * STARTS):
        for network in NETWORKS:
            request = here.request(network=network)
            began = time.perf_counter()
            worker = await here.spawner.spawn(request)
            found[network].append(time.perf_counter() - began)
            await ended(Inmate(worker))
    for network, seconds in found.items():
        print(f"  start, network {network:7s} {milliseconds(seconds)}  n {len(seconds)}")
    medians = {network: statistics.median(seconds) * 1_000 for network, seconds in found.items()}
    more = medians["broker"] - medians["none"]
    print(f"  broker - none                  p50 {more:+7.3f} ms  {judged(more, START_AIM, 'ms')}")


async def holdings(here: Yard) -> None:
    """Kernel memory and descriptors of workers that live at once."""
    each: dict[Network, tuple[float, float]] = {}
    for network in NETWORKS:
        await asyncio.sleep(1)
        memory, files = slab_bytes(), descriptors()
        inmates = [Inmate(await here.spawner.spawn(here.request(network=network))) for _ in range(AT_ONCE)]
        if network == "broker":
            for inmate in inmates:
                serve(inmate, Rules())
        await asyncio.sleep(1)
        each[network] = (slab_bytes() - memory) / AT_ONCE, (descriptors() - files) / AT_ONCE
        await asyncio.gather(*map(ended, inmates))
        print(f"  a worker, network {network:7s} {each[network][0] / 1024:7.1f} kB of kernel memory", end="")
        print(f"  {each[network][1]:4.1f} descriptors")
    more = (each["broker"][0] - each["none"][0]) / 1024, each["broker"][1] - each["none"][1]
    print(f"  broker - none                {more[0]:+8.1f} kB                   {more[1]:+4.1f}", end="  ")
    print(f"{judged(more[0], MEMORY_AIM, 'kB')}, {judged(more[1], FILES_AIM, 'descriptors')}")


async def passes(here: Yard, rounds: int, client: str, ledger: Ledger) -> None:
    """First byte and CPU of a request and of a chunk, direct and by each door. A kept connection is compared
    with a kept one, and a new one with a new one, without the look-up of its name.
    """
    upstream = await asyncio.create_subprocess_exec(PYTHON, client, "upstream", stdout=subprocess.PIPE)
    assert upstream.stdout is not None
    at = int(await upstream.stdout.readline())
    rules = Rules()
    for port in (80, 5432):
        rules.allow(LISTED, port, at=at)
    calls, counted = ModelCalls(at), ModelCalls(at, meter=ledger)
    query = "/?{},{},{}".format
    door = {"address": "127.0.0.1", "port": DOOR_PORT, "connect": "", "host": "x", "path": query}
    direct = door | {"port": at}
    own_port = door | {"address": LISTED, "port": 5432}
    port_80 = door | {"address": LISTED, "port": 80, "host": LISTED}
    call = door | {"path": "/llm/openai/v1/chat/completions".format, "body": calls.body, "token": calls.token}
    ways: dict[str, dict[str, Any]] = {
        "direct": direct,
        DIRECT_CALL: call | {"port": at},
        "CONNECT": door | {"connect": f"{LISTED}:5432"},
        "its own port": own_port,
        ROUTE: door | {"path": lambda *words: "/llm/x" + query(*words)},
        CALL: call,
        COUNTED: call | {"token": counted.token},
        f"direct{NEW}": direct,
        f"its own port{NEW}": own_port,
        f"port 80{NEW}": port_80,
    }
    firsts: dict[str, list[float]] = {way: [] for way in ways}
    names: list[float] = []
    cpus: dict[str, dict[str, list[float]]] = {way: {"request": [], "chunk": [], "paced": []} for way in ways}
    try:
        for part in range(rounds * PARTS):
            for way, asked in ways.items():
                kinds = {"request": (ASKED // PARTS, 1, 4_096, 0), "chunk": (1, CHUNKS, CHUNK_BYTES, 0)}
                if part % PARTS == 0:
                    kinds |= {"paced": (1, PACED, CHUNK_BYTES, 2)}
                for kind, (times, *sizes) in kinds.items():
                    wanted = asked | {"times": times, "is_kept": not way.endswith(NEW)}
                    for made in ("path", "body"):
                        if made in asked:
                            wanted[made] = asked[made](*sizes)
                    handlers = {CALL: calls.handler, COUNTED: counted.handler}
                    routes = None if way.startswith("direct") else handlers.get(way, chunks)
                    used, said = await one(here, rules, client, wanted, routes)
                    cpus[way][kind].append(used / (times * sizes[0]))
                    if kind == "request":
                        firsts[way] += said["firsts"][1:]
                        names += said["names"][1:] if asked["address"] == LISTED else []
    finally:
        await calls.close()
        await counted.close()
        upstream.kill()
        await upstream.wait()
    for way, seconds in firsts.items():
        request, chunk, paced = (statistics.median(values) * 1e6 for values in cpus[way].values())
        beside = f"direct{NEW}" if way.endswith(NEW) else DIRECT_CALL if way in (CALL, COUNTED) else "direct"
        more = (statistics.median(seconds) - statistics.median(firsts[beside])) * 1_000
        figures = f"{more:+.3f}  CPU us: request {request:6.1f}  chunk {chunk:5.2f}  paced {paced:6.1f}"
        if way in (ROUTE, CALL, COUNTED):
            chunk -= statistics.median(cpus[beside]["chunk"]) * 1e6
            figures += f"  first byte {judged(more, FIRST_BYTE_AIM, 'ms')}"
            figures += f", chunk beside direct {chunk:.2f} {judged(chunk, CHUNK_AIM, 'us')}"
        figures = "" if way.startswith("direct") else figures
        print(f"  {way:22s} first byte {milliseconds(seconds)}  {figures}")
    print(f"  a name, looked up at the door    {milliseconds(names)}")


class ModelCalls:
    """A provider that is the upstream host, and the routes to it; without a meter nothing counts."""

    def __init__(self, at: int, *, meter: Meter | None = None) -> None:
        table = ProviderConfig(url=f"http://127.0.0.1:{at}/v1", key="sk-of-the-gateway-0123456789")
        self._providers = Providers({"here": table}, meter=meter)
        tokens = ModelTokens()
        access = ModelAccess(account=lambda: ACCOUNT, provider="here", has_door=True)
        self.token = tokens.issue(access)
        self.handler: RouteHandler = ModelRoutes(self._providers, tokens).at_door(access)

    def body(self, *sizes: int) -> str:
        """A call whose prompt says what the host is to answer."""
        prompt = {"role": "user", "content": ",".join(map(str, sizes))}
        return json.dumps({"model": "m", "stream": True, "messages": [prompt]})

    async def close(self) -> None:
        """Ends its connections."""
        await self._providers.close()


@contextlib.asynccontextmanager
async def ledger_in(directory: pathlib.Path) -> AsyncIterator[Ledger]:
    """That of a gateway, in SQLite on a disk."""
    store, config = SqliteStore(directory / "gateway.db"), Config()
    await store.open()
    metrics = Metrics(version="0", monotonic=time.monotonic)
    clock = Clock(time.monotonic, clocks.wall_ms)
    ledger = ledger_of(lambda: config, store.ledger, metrics=metrics, clock=clock)
    try:
        await ledger.open()
        yield ledger
        await ledger.close()
    finally:
        await store.close()


async def one(
    here: Yard, rules: Rules, client: str, wanted: dict[str, Any], routes: RouteHandler | None
) -> tuple[float, dict[str, Any]]:
    """CPU seconds of this process while a worker asks, and what it said. Without routes, it asks directly."""
    argv = (PYTHON, "-S", client, "ask", json.dumps(wanted))
    if routes is None:
        inmate = await here.spawn(*argv, network="shared")
    else:
        inmate = await spawn(here, *argv, readable=(client,), ports=(5432,))
        serve(inmate, rules, routes=routes)
    async with inmate:
        began = time.process_time()
        said = await inmate.read_all()
        used = time.process_time() - began
        assert said.startswith("{"), said + inmate.worker.stderr_tail()
    return used, json.loads(said)


async def chunks(request: RouteRequest, answer: RouteAnswer) -> None:
    """A handler that writes what it is asked for."""
    count, size, pause = (int(word) for word in request.target.partition("?")[2].split(","))
    answer.start(200)
    for _ in range(count):
        await answer.write(b"x" * size)
        if pause:
            await asyncio.sleep(pause / 1_000)


async def churn(here: Yard, lives: int) -> None:
    """Births, a connection each, and ends; and what is left."""
    program = f"import socket; socket.create_connection(('127.0.0.1', {DOOR_PORT})).send(b'GET ')"
    memory, files, began = slab_bytes(), descriptors(), time.perf_counter()
    for _ in range(lives):
        async with await spawn(here, PYTHON, "-S", "-c", program) as inmate:
            serve(inmate, Rules())
            await inmate.worker.exited
    seconds = time.perf_counter() - began
    await asyncio.sleep(2)
    left = (slab_bytes() - memory) / 1e6
    print(
        f"  {lives} lives: {seconds / lives * 1_000:.1f} ms each, {left:+.1f} MB of kernel memory and", end=""
    )
    print(f" {descriptors() - files:+d} descriptors left after 2 s")


async def measure(rounds: int, lives: int, user: User) -> None:
    """All of it."""
    with tempfile.TemporaryDirectory(prefix="egress-") as directory:
        os.chmod(directory, 0o755)  # noqa: S103 - every user may read the client there
        client = shutil.copy(CLIENT, directory)
        async with yard("strict", user=user) as here:
            print(f"strict walls, {user}, load {os.getloadavg()[0]:.1f}")
            await starts(here, rounds)
            await holdings(here)
            async with ledger_in(pathlib.Path(directory)) as ledger:
                await passes(here, rounds, client, ledger)
            if lives:
                await churn(here, lives)


def main() -> None:
    """Reads the arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.egress")
    parser.add_argument("rounds", nargs="?", type=int, default=3, help="of each kind (3)")
    parser.add_argument("--churn", type=int, default=200, help="lives, one after another (200)")
    parser.add_argument(
        "--user", choices=("root", "nobody"), default="root" if os.geteuid() == 0 else "nobody"
    )
    options = parser.parse_args()
    uvloop.run(measure(options.rounds, options.churn, options.user))


if __name__ == "__main__":
    main()
