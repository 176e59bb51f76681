"""A gateway of our own for the moment, for a command that finds none running."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from gateway.app import Gateway
from gateway.config.tables import Config
from gateway.server.server import listen, running


@contextlib.asynccontextmanager
async def own_gateway(config: Config) -> AsyncIterator[None]:
    """Runs a gateway on the data directory, on a random port that is not published."""
    async with running(Gateway(config), listen("127.0.0.1", 0)):
        yield
