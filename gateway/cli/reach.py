"""Reaching a gateway: the one that holds the data directory, over its operator's socket, or one of our own
for the moment, so that there is one way to read and erase, not two.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

import aiohttp

from gateway.client import GatewayClient, Refused
from gateway.config.tables import Config
from gateway.errors import GatewayError
from gateway.maintenance.lock import is_held
from gateway.server.operators_socket import address, read_token
from gateway.telemetry import logs, terminal


class NothingThere(Exception):
    """No gateway runs on the data directory, and it holds no store that a command could read."""


class Mistakes(Exception):
    """Nothing was done, because of what was asked for; `mistakes` say why, a line each."""

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        super().__init__("; ".join(mistakes))


def asked(
    config: Config, act: Callable[[GatewayClient], Awaitable[None]], *, makes_keys: bool = False
) -> int:
    """Asks something of the gateway; the exit code."""
    logs.configure(level="error", form="text")
    is_absent = not is_held(config.data_path)

    async def work() -> int:
        async with reached(config) as client:
            await act(client)
        if makes_keys and is_absent:
            terminal.complain(f"no gateway runs on {config.data_path}: its next start knows the key")
        return 0

    return spoken(work())


def spoken(work: Coroutine[None, None, int]) -> int:
    """Runs it; its exit code, or 1 and what went wrong, in words."""
    try:
        return asyncio.run(work)
    except Mistakes as error:
        for mistake in error.mistakes:
            terminal.complain(f"agent-gateway: {mistake}")
        return 1
    except (Refused, GatewayError, NothingThere, aiohttp.ClientError, OSError) as error:
        terminal.complain(f"agent-gateway: {error}")
        return 1


@contextlib.asynccontextmanager
async def reached(config: Config, *, owner: str | None = None) -> AsyncIterator[GatewayClient]:
    """A client of the gateway. Raises NothingThere if there is neither a gateway nor a store: only `serve`
    and `restore` make one.
    """
    async with contextlib.AsyncExitStack() as stack:
        if not is_held(config.data_path):
            _check_there(config)
            from gateway.cli.own import own_gateway  # the whole program

            await stack.enter_async_context(own_gateway(config))
        client = GatewayClient(
            "http://localhost",
            token=read_token(config.data_path),
            unix_path=stack.enter_context(address(config.data_path)),
            headers={"X-On-Behalf-Of": owner} if owner else None,
        )
        yield await stack.enter_async_context(client)


def _check_there(config: Config) -> None:
    """Raises NothingThere if a gateway of our own would begin with an empty store."""
    data = config.data_path
    if config.is_in_memory:
        raise NothingThere(f"no gateway runs on {data}, and a store in memory is gone with its gateway")
    if not (config.is_on_postgresql or config.database_path.exists()):
        raise NothingThere(
            f"no gateway runs on {data}, and there is no database {config.database_path}. Name the data "
            f"directory of a gateway with --data-dir, or start one: agent-gateway serve --data-dir {data}"
        )
