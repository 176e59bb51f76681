"""The HTTP server: uvicorn, with the gateway owning the signals.

Stock uvicorn refuses connections as soon as SIGTERM arrives and exits 143. Here the listener stays open while
the gateway drains: new work is told 503, running turns get their grace, streams end with an event; then it
exits 0. A second signal ends the grace.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

import uvicorn
from sse_starlette.sse import AppStatus

from gateway.app import Gateway

log = logging.getLogger(__name__)

CONNECTION_GRACE_SECONDS: Final = 2
"""How long connections may take to end by themselves once every stream has."""
SEND_BUFFER_BYTES: Final = 128 * 1024
"""Kernel memory per connection for a reader that does not read."""
KEEP_ALIVE_SECONDS: Final = 30
BACKLOG: Final = 2_048
STARTED_POLL_SECONDS: Final = 0.005


class Server(uvicorn.Server):
    """uvicorn without its own signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The gateway has captured them."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


@contextlib.asynccontextmanager
async def running(gateway: Gateway, listener: socket.socket) -> AsyncIterator[asyncio.Task[None]]:
    """A gateway that takes requests; leaving ends its server, then its sessions. Yields the server's task.

    Raises StoreFailed where the data directory cannot be used.
    """
    async with gateway.lifespan():
        server = Server(_uvicorn(gateway))
        serving = asyncio.create_task(server.serve([listener]), name="server")
        try:
            while not server.started and not serving.done():
                await asyncio.sleep(STARTED_POLL_SECONDS)
            yield serving
        finally:
            server.should_exit = True
            await serving


def _uvicorn(gateway: Gateway) -> uvicorn.Config:
    AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]
    return uvicorn.Config(
        gateway.app,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=CONNECTION_GRACE_SECONDS,
    )


async def serve(gateway: Gateway, listener: socket.socket, *, url: str, on_ready: Callable[[], None]) -> None:
    """Serves until a signal, then drains. Raises StoreFailed where the data directory cannot be used."""
    stopping, hurrying = asyncio.Event(), asyncio.Event()
    with _signals(lambda: hurrying.set() if stopping.is_set() else stopping.set()):
        async with running(gateway, listener) as serving:
            gateway.lock.inform(url)
            on_ready()
            waiting = asyncio.create_task(stopping.wait(), name="signal")
            await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if not serving.done():
                await _drain(gateway, hurrying)


@contextlib.contextmanager
def _signals(act: Callable[[], None]) -> Iterator[None]:
    """Calls `act` at SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, act)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _drain(gateway: Gateway, hurrying: asyncio.Event) -> None:
    log.info("draining: no new work, running turns have %g s", gateway.config.server.drain_seconds)
    draining = asyncio.create_task(
        gateway.manager.drain(grace_seconds=gateway.config.server.drain_seconds), name="drain"
    )
    hurry = asyncio.create_task(hurrying.wait(), name="hurry")
    await asyncio.wait([draining, hurry], return_when=asyncio.FIRST_COMPLETED)
    hurry.cancel()
    if not draining.done():
        draining.cancel()
        await gateway.manager.drain(grace_seconds=0)
    await asyncio.wait([draining])
