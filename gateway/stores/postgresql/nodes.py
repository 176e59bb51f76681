"""Rows of `nodes`: how a gateway becomes one of several, beats, and hears of the others.

Who may have a row, and when one is dead: stores/directory.py. Rows are made and tables changed under one
lock, so that of several that start at once each sees those before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from gateway.stores.directory import ALONE, Newcomer, Node, NodeAdmission, NodeLoad, NodesSeen
from gateway.stores.postgresql.schema import has_table
from gateway.stores.postgresql.statements import changed

LOOK_SECONDS: Final = 0.1
"""How often who waits looks."""
UNDER_WAY_SECONDS: Final = 0.3
"""For so long the row of a dead node waits for a transaction of that node; then that is ended. A process that
stands still keeps what it has begun.
"""
_LOCK: Final = 0x61677764
_OF_LOAD: Final = NodeLoad.__struct_fields__
_OF_NODE: Final = tuple(name for name in Node.__struct_fields__ if name != "load")
_COLUMNS: Final = ", ".join((*_OF_NODE, *_OF_LOAD))
_ROWS: Final = f"SELECT {_COLUMNS} FROM nodes ORDER BY name"  # noqa: S608 - literals
_OLD_ROWS: Final = "SELECT id, name, place, beat FROM nodes"
_IS_OLD: Final = (
    "SELECT NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('nodes') AND attname = 'mark')"
)
MADE: Final = (
    "WITH made AS ({insert} RETURNING id) INSERT INTO commits (node, number) SELECT id, 0 FROM made"
    " RETURNING node"
)
"""A row, and the place of the number of its last commit."""
_INSERT: Final = MADE.format(
    insert="INSERT INTO nodes (name, place, has_lock, state, url, version, mark, schema, lease_seconds)"
    " VALUES ($1, $2, false, 'starting', $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING"
)
_BEAT: Final = (
    "WITH mine AS (UPDATE nodes SET beat = beat + 1, sessions = $3, workers = $4, worker_limit = $5,"  # noqa: S608 - literals
    " state = CASE state WHEN 'draining' THEN state ELSE $2 END"
    f" WHERE id = $1 RETURNING id) SELECT {_COLUMNS},"
    " (SELECT number FROM commits WHERE node = $1) AS number,"
    " (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS at_ms,"
    " (SELECT changes FROM cluster) AS changes, EXISTS (SELECT FROM mine) AS is_mine FROM nodes ORDER BY name"
)
"""Who is asked to drain, by an operator in the database (`ask_to_drain`), does not take that back."""
_ASK_TO_DRAIN: Final = "UPDATE nodes SET state = 'draining' WHERE name = $1 AND name <> $2 RETURNING id"
_DELETE: Final = "DELETE FROM nodes WHERE id = $1 AND ($2::bigint IS NULL OR beat = $2)"
_END_THOSE_BEFORE: Final = "SELECT pg_terminate_backend(pid) FROM unnest(pg_blocking_pids($1)) AS b (pid)"


async def rows_of(connection: Any) -> list[Node]:
    """All rows; also of tables that an older program made."""
    if not await has_table(connection, "nodes"):
        return []
    if await connection.fetchval(_IS_OLD):
        return [
            Node(id=row[0], name=row[1], place=row[2], beat=row[3])
            for row in await connection.fetch(_OLD_ROWS)
        ]
    return [node_of(row) for row in await connection.fetch(_ROWS)]


def node_of(row: Any) -> Node:
    """One of those."""
    load = NodeLoad(*(row[name] for name in _OF_LOAD))
    return Node(load=load, **{name: row[name] for name in _OF_NODE})


@contextlib.asynccontextmanager
async def entering(connection: Any) -> AsyncIterator[None]:
    """A transaction in which rows may be made, by one gateway at a time."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        yield


async def bury(connect: Callable[[], Awaitable[Any]], node: int, *, beat: int | None = None) -> bool:
    """Removes a row, if it still has this beat; what its gateway has not committed by then is undone."""
    connection = await connect()
    try:
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        deleting = asyncio.ensure_future(connection.execute(_DELETE, node, beat))
        while not (await asyncio.wait([deleting], timeout=UNDER_WAY_SECONDS))[0]:
            other = await connect()
            try:
                await other.execute(_END_THOSE_BEFORE, pid)
            finally:
                other.terminate()
        return changed(deleting.result()) > 0
    finally:
        connection.terminate()


async def ask_to_drain(connection: Any, name: str) -> int | None:
    """Has the gateway of this name give its sessions to the others, and end, as soon as it beats; the id of
    its row. None: there is no such row of one of several.
    """
    found = await connection.fetchval(_ASK_TO_DRAIN, name, ALONE)
    return None if found is None else int(found)


class SeveralNodes:
    """This gateway as one of several."""

    def __init__(
        self,
        newcomer: Newcomer,
        *,
        connect: Callable[[], Awaitable[Any]],
        load: Callable[[], NodeLoad],
        on_seen: Callable[[NodesSeen], None],
    ) -> None:
        """`load` is asked with each beat, `on_seen` hears what it was answered."""
        self._newcomer = newcomer
        self._connect = connect
        self._load = load
        self._on_seen = on_seen

    async def enter(
        self, connection: Any, place: str, migrate: Callable[[Any], Awaitable[None]]
    ) -> tuple[int, float]:
        """Makes the row, once nobody is in the way: its id, and when that was asked for. Raises StoreFailed,
        in words, if somebody who lives is.
        """
        admission = NodeAdmission(self._newcomer)
        while True:
            rows = await rows_of(connection)
            for dead in admission.look(rows, at=time.monotonic()):
                await bury(self._connect, dead.id, beat=dead.beat)
            if not admission.in_the_way(rows):
                sent = time.monotonic()
                node = await self._insert(connection, place, migrate, admission)
                if node:
                    return node, sent
            await asyncio.sleep(LOOK_SECONDS)

    async def _insert(
        self,
        connection: Any,
        place: str,
        migrate: Callable[[Any], Awaitable[None]],
        admission: NodeAdmission,
    ) -> int:
        new = self._newcomer
        async with entering(connection):
            if admission.in_the_way(await rows_of(connection)):
                return 0
            await migrate(connection)
            values = (new.name, place, new.url, new.version, new.mark, new.schema, new.lease_seconds)
            return int(await connection.fetchval(_INSERT, *values) or 0)

    async def beat(self, connection: Any, node: int) -> tuple[int | None] | None:
        """The number of the last commit of this gateway; None if its row is gone."""
        load = self._load()
        rows = await connection.fetch(_BEAT, node, load.state, load.sessions, load.workers, load.worker_limit)
        if not rows or not rows[0]["is_mine"]:
            return None
        self._on_seen(NodesSeen(node, tuple(map(node_of, rows)), rows[0]["changes"], rows[0]["at_ms"]))
        return (rows[0]["number"],)


async def others_than_alone(connection: Any) -> bool:
    """Whether there are rows of nodes."""
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM nodes WHERE name <> $1)", ALONE))
