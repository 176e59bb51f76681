"""What people are told of several gateways on one database, without asking one of them: one may hang."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from msgspec import Struct

from gateway.errors import StoreFailed
from gateway.stores.directory import Node, NodePlace
from gateway.stores.postgresql import nodes
from gateway.stores.postgresql.connections import connect, is_pooled
from gateway.stores.postgresql.errors import OF_THE_DRIVER, worded
from gateway.stores.postgresql.schema import has_table

LOOKS_SECONDS: Final = 1.5
"""So long the beats are watched: what stands still for that is not well."""
_WHERE: Final = (
    "SELECT s.has_open_turn, n.id, n.name, n.url FROM sessions AS s LEFT JOIN nodes AS n ON n.id = s.node"
    " WHERE s.owner = $1 AND s.session_id = $2"
)


class WatchedNode(Struct, frozen=True):
    """A gateway, and for how long its row had stood still when it was looked at last."""

    node: Node
    still_seconds: float


class SessionWhere(Struct, frozen=True):
    """Where a session is."""

    place: NodePlace | None
    """None: no gateway has it; the next that is asked takes it."""
    is_answering: bool


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Any]:
    """Raises StoreFailed."""
    try:
        connection = await connect(url, keeps=not await is_pooled(url))
        try:
            if not await has_table(connection, "nodes"):
                raise StoreFailed("This database has no tables of a gateway.")
            yield connection
        finally:
            await connection.close(timeout=5)
    except OF_THE_DRIVER as error:
        raise worded(error) from error


async def watched(url: str, *, seconds: float = LOOKS_SECONDS) -> Sequence[WatchedNode]:
    """The gateways on a database; their beats are watched for so long. Raises StoreFailed."""
    async with _connected(url) as connection:
        began = time.monotonic()
        since: dict[tuple[int, int], float] = {}
        while True:
            rows, now = await nodes.rows_of(connection), time.monotonic()
            since = {(row.id, row.beat): since.get((row.id, row.beat), now) for row in rows}
            if now - began >= seconds:
                return [WatchedNode(row, now - since[row.id, row.beat]) for row in rows]
            await asyncio.sleep(nodes.LOOK_SECONDS)


async def fence(url: str, name: str) -> bool:
    """Removes the row of a gateway, whether or not it beats; False if there is none. Raises StoreFailed."""

    async def another() -> Any:
        return await connect(url, keeps=False)

    async with _connected(url) as connection:
        found = [row for row in await nodes.rows_of(connection) if row.name == name]
        removed = [await nodes.bury(another, row.id) for row in found]
        return any(removed)


async def drain(url: str, name: str, *, on_asked: Callable[[], None], waits: bool) -> bool:
    """Asks a gateway to give its sessions to the others, and to end; `waits`: until it has left. False if
    there is none of this name among several. Raises StoreFailed.
    """
    async with _connected(url) as connection:
        node = await nodes.ask_to_drain(connection, name)
        if node is None:
            return False
        on_asked()
        while waits and any(row.id == node for row in await nodes.rows_of(connection)):
            await asyncio.sleep(nodes.LOOK_SECONDS)
        return True


async def where(url: str, owner: str, session_id: str) -> SessionWhere | None:
    """Where a session is; None if there is none. Raises StoreFailed."""
    async with _connected(url) as connection:
        row = await connection.fetchrow(_WHERE, owner, session_id)
    if row is None:
        return None
    place = None if row[1] is None else NodePlace(row[1], row[2], row[3])
    return SessionWhere(place, row[0] == 1)
