"""A balancer of the worst kind before several nodes: `async with balanced(nodes) as gateway`. A connection
seldom goes where the one before it went, and clients that are made meanwhile have one for each request.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections.abc import AsyncIterator, Callable, Sequence
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.gateways import RunningGateway
from tests.nodes import Nodes

PIECE_BYTES = 64 * 1024


class Balancer:
    """Its connections; `urls` are where it may send the next."""

    def __init__(self, urls: Callable[[], Sequence[str]]) -> None:
        self._urls = urls
        self._open: set[asyncio.Task[None]] = set()
        self._random = random.Random(0)
        self._turn = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError), contextlib.closing(writer):
            self._turn += self._random.choice((1, 1, 2))
            urls = self._urls()
            host = urlsplit(urls[self._turn % len(urls)])
            far_reader, far_writer = await asyncio.open_connection(host.hostname, host.port)
            await asyncio.gather(_passed(reader, far_writer), _passed(far_reader, writer))
        self._open.discard(task)

    async def close(self) -> None:
        for task in list(self._open):
            task.cancel()
        if self._open:
            await asyncio.wait(list(self._open))


async def _passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def balanced(nodes: Nodes) -> AsyncIterator[RunningGateway]:
    """All of them as one gateway; its operator is at the first."""
    balancer = Balancer(lambda: [nodes[index].url for index in nodes.indexes])
    server = await asyncio.start_server(balancer.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    once = functools.partial(aiohttp.TCPConnector, force_close=True)
    first = nodes[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aiohttp, "TCPConnector", once)
        gateway = RunningGateway(first.process, url, first.log_path, first.data_path)
        try:
            yield gateway
        finally:
            await gateway.http.close()
            server.close()
            await balancer.close()
