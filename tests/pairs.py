"""Two gateways in the test's own loop, each of which knows where the other is: `async with pair(directory)`.

Each has a store of its own, so which of them has a session is planted: `pair.has[ID] = 1` makes the manager
of every other one raise SessionElsewhere for it, as if the store had said so.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import pathlib
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from gateway.errors import SessionElsewhere
from tests.gateways import Scenario
from tests.inside import GatewayInside, gateway_inside
from tests.shared import free_port, fresh_id

ASKED: Final = ("do", "source", "find", "exists", "record")
"""What every handler asks the manager by (owner, id)."""
IDS: Final = (101, 102)


class Pair:
    """`edge` is asked; `owner` has the sessions that are planted to be its own."""

    def __init__(self, gateways: list[GatewayInside], urls: list[str]) -> None:
        self.gateways = gateways
        self.urls = urls
        self.has: dict[str, int] = {}
        """Session → index of the gateway that has it; others are had by whoever is asked."""
        self.asked = 0
        """How often somebody was told that another one has it."""
        for index, gateway in enumerate(gateways):
            setattr(gateway.inner, "own_node", functools.partial(int, IDS[index]))  # noqa: B010
            for name in ASKED:
                self._plant(index, name)
            self._plant_arrival(index)

    @property
    def edge(self) -> GatewayInside:
        return self.gateways[0]

    @property
    def owner(self) -> GatewayInside:
        return self.gateways[1]

    def _plant(self, index: int, name: str) -> None:
        manager: Any = self.gateways[index].inner.manager
        real = getattr(manager, name)

        async def planted(owner: str, session_id: str, *args: Any, **kwargs: Any) -> Any:
            self.check(index, session_id)
            return await real(owner, session_id, *args, **kwargs)

        setattr(manager, name, planted)

    def _plant_arrival(self, index: int) -> None:
        """Who waits for a session that another one has now is told at once."""
        manager: Any = self.gateways[index].inner.manager
        real = manager.arrival

        async def planted(owner: str, session_id: str, **kwargs: Any) -> None:
            if self.has.get(session_id, index) == index:
                await real(owner, session_id, **kwargs)

        manager.arrival = planted

    def check(self, index: int, session_id: str) -> None:
        """Raises SessionElsewhere if another one has it."""
        where = self.has.get(session_id, index)
        if where != index:
            self.asked += 1
            raise SessionElsewhere(node=IDS[where], url=self.urls[where], session_id=session_id)

    def forwarded(self, reason: str) -> float:
        """How many requests the edge has passed on."""
        return self._counted("forwarded", reason)

    def failures(self, reason: str) -> float:
        """How often that did not work."""
        return self._counted("forward_failures", reason)

    def _counted(self, name: str, reason: str) -> float:
        registry = self.edge.inner.services.metrics.registry
        return registry.get_sample_value(f"agent_gateway_{name}_total", {"reason": reason}) or 0.0

    def cut_owner(self) -> int:
        """Resets the connections of the edge at the owner; how many."""
        hub = self.owner.server.of_nodes
        assert hub is not None
        found = hub.all()
        for connection in found:
            connection.reader.cut()
        return len(found)


def at_owner(two: Pair, name: str = "s") -> str:
    """The id of a new session that the owner has."""
    session_id = fresh_id(name)
    two.has[session_id] = 1
    return session_id


@contextlib.asynccontextmanager
async def pair(
    directory: pathlib.Path,
    *,
    config: str = "",
    agents: Mapping[str, Scenario] | None = None,
    secret: bytes | None = None,
) -> AsyncIterator[Pair]:
    """Starts both and ends them however the block ends. `secret`: the owner has another one."""
    urls = [f"http://127.0.0.1:{free_port()}" for _ in IDS]
    shared = secrets.token_bytes(32)
    async with contextlib.AsyncExitStack() as stack:
        gateways = []
        for index, url in enumerate(urls):
            place = directory / f"node-{index}"
            place.mkdir()
            (place / "secret").write_bytes(secret if secret is not None and index == 1 else shared)
            environ = {
                "AGENT_GATEWAY_CLUSTER_URL": url,
                "AGENT_GATEWAY_AUTH_SECRET_FILE": str(place / "secret"),
            }
            inside = gateway_inside(place, config=config, agents=agents, environ=environ)
            gateways.append(await stack.enter_async_context(inside))
        yield Pair(gateways, urls)


class BadNode:
    """A gateway that takes requests and answers none."""

    def __init__(self, two: Pair, *, closes: bool, until: int) -> None:
        self._two = two
        self._closes = closes
        self._until = until
        self._good = two.urls[1]
        self.heads: list[bytes] = []
        """What it was sent, up to the body."""
        self.arrived = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            self.arrived.set()
            if len(self.heads) >= self._until:
                self._two.urls[1] = self._good
            if not self._closes:
                await reader.read()
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def bad_owner(two: Pair, *, closes: bool = True, until: int = 1) -> AsyncIterator[BadNode]:
    """The owner's address leads to one that reads a request and then closes, or stays silent; after so many
    requests the address is the owner's again.
    """
    node = BadNode(two, closes=closes, until=until)
    server = await asyncio.start_server(node.serve, "127.0.0.1", 0)
    good, port = two.urls[1], server.sockets[0].getsockname()[1]
    two.urls[1] = f"http://127.0.0.1:{port}"
    try:
        yield node
    finally:
        two.urls[1] = good
        server.close()
