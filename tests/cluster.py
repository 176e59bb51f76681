"""Several gateways on one PostgreSQL behind a balancer, all on this machine, to look at: `make cluster`.

Everything is in a folder of its own that goes with it. Ctrl-C ends all that it started; end one gateway by
its process id and see what the page does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import pathlib
import random
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from typing import Final

import aiohttp

from tests import lasting
from tests.nodes import Nodes, running_nodes
from tests.postgres import PostgresUnavailable, programs

PORT: Final = 8090
NODES: Final = 3
LOOK_SECONDS: Final = 0.3
"""How often each gateway is asked whether it is ready."""
ANSWER_SECONDS: Final = 2.0
"""How long it may take to say so."""
_READ_BYTES: Final = 64 * 1024
_LEASE: Final = {"AGENT_GATEWAY_CLUSTER_LEASE_SECONDS": "3", "AGENT_GATEWAY_CLUSTER_BEAT_SECONDS": "0.5"}
"""As an installation has them: the tests' are shorter."""


class Balancer:
    """Gives each connection to a gateway that is ready, by chance: any of them takes any request."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._ready: list[str] = []
        self._all_were_ready = asyncio.Event()
        self._served: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self, port: int) -> AsyncIterator[int]:
        """Listens on loopback for as long as the block runs, which begins when all are ready; the port."""
        watching = asyncio.create_task(self._watch())
        listener = await asyncio.start_server(self._serve, "127.0.0.1", port)
        try:
            await self._all_were_ready.wait()
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
            tasks = {watching, *self._served}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _watch(self) -> None:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            while True:
                urls = [self._nodes[index].url for index in self._nodes.indexes]
                well = await asyncio.gather(*(self._is_ready(http, url) for url in urls))
                self._ready = [url for url, is_ready in zip(urls, well, strict=True) if is_ready]
                if len(self._ready) == len(urls):
                    self._all_were_ready.set()
                await asyncio.sleep(LOOK_SECONDS)

    @staticmethod
    async def _is_ready(http: aiohttp.ClientSession, url: str) -> bool:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with http.get(f"{url}/readyz") as answer:
                return answer.status == 200
        return False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            self._served.add(task)
            task.add_done_callback(self._served.discard)
        for url in random.sample(self._ready, len(self._ready)):
            host, _, port = url.removeprefix("http://").partition(":")
            with contextlib.suppress(OSError):
                back, forth = await asyncio.open_connection(host, int(port))
                await asyncio.gather(_pump(reader, forth), _pump(back, writer))
                return
        writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while part := await reader.read(_READ_BYTES):
            writer.write(part)
            await writer.drain()
    except OSError:
        pass  # one of the two has gone: the other is told
    finally:
        writer.close()


async def _run(count: int, port: int) -> None:
    ending = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    with tempfile.TemporaryDirectory(prefix="agent-gateway-cluster-") as made:
        directory = pathlib.Path(made)
        named = {"AGENT_GATEWAY_SERVER_PUBLIC_URL": f"http://127.0.0.1:{port}"}
        _say("starting PostgreSQL and the gateways")
        async with running_nodes(directory, count, environ={**_LEASE, **named}) as nodes:
            async with Balancer(nodes).running(port):
                _say(f"\n  http://127.0.0.1:{port}/    any of the {count} gateways\n")
                for index in nodes.indexes:
                    _say(f"  {nodes.name(index)}  {nodes[index].url}  process {nodes[index].pid}")
                asked = f"AGENT_GATEWAY_STORE={nodes.database} {pathlib.Path(sys.executable).parent}"
                _say(f"\nto ask about them: {asked}/agent-gateway nodes")
                _say(f"logs: {directory}/node-*/gateway.log; Ctrl-C ends everything")
                watching = [asyncio.create_task(_tell(nodes, index)) for index in nodes.indexes]
                await ending.wait()
                _say("\nending")
                for task in watching:
                    task.cancel()
                await asyncio.wait(watching)


async def _tell(nodes: Nodes, index: int) -> None:
    code = await nodes[index].process.wait()
    _say(f"{nodes.name(index)} has ended, with code {code}")


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Runs until Ctrl-C; the exit code."""
    parser = argparse.ArgumentParser(
        prog="make cluster ARGS=…", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"of the balancer ({PORT})")
    parser.add_argument("--nodes", type=int, default=NODES, help=f"how many gateways ({NODES})")
    options = parser.parse_args(arguments)
    try:
        programs()
    except PostgresUnavailable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    try:
        asyncio.run(_run(options.nodes, options.port))
    finally:
        for end in lasting.ENDS:
            end()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
