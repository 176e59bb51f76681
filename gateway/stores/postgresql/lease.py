"""A gateway's row in `nodes`, which beats; and, of one that is alone on a database, a lock.

The row decides. Whoever writes asks for it in the same statement (writer.py), so deleting it ends the writing
of a gateway that only thinks that it is still alone. It is deleted by another one that saw it stand still for
a lease, by its own clock (`gateway.stores.sightings`); no two clocks are compared. The lock, which PostgreSQL
lets go of when the process that held it is gone, only saves a restart the most of the lease: a connection may
be lost alone, and then its gateway beats on, on another. Behind a pooler, which would share it out, there is
none.

Several gateways on one database: nodes.py. They have no lock.

Guarantees: a gateway whose row is gone never commits again, and hears of it within a beat.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from gateway.config.cluster import ClusterConfig
from gateway.errors import StoreFailed
from gateway.stores.contract import OnBeat
from gateway.stores.directory import ALONE
from gateway.stores.postgresql.connections import SILENT_SECONDS, connect
from gateway.stores.postgresql.errors import worded
from gateway.stores.postgresql.nodes import LOOK_SECONDS, MADE, SeveralNodes, entering, others_than_alone
from gateway.stores.postgresql.schema import has_table
from gateway.stores.sightings import NodeRow, Sightings

log = logging.getLogger(__name__)

BEATS_IN_TURN: Final = 3
"""Of a lease: a beat that is not answered by then is sent on another connection."""
BEATS_MISSED: Final = 3
"""Who has let go of the lock is dead after so many; who has only lost its connection has another by then."""
RELEASE_SECONDS: Final = 2.0
"""How long letting go may take."""
_TAKEN: Final = (
    "Another gateway uses this database: the one on {place}, since {since:%Y-%m-%d %H:%M} UTC. Stop it first,"
    " or give this one a database of its own."
)
_SEVERAL: Final = (
    "Several gateways share this database, and one of them runs: the one on {place}, since"
    " {since:%Y-%m-%d %H:%M} UTC. Give this one a cluster.url, too, or a database of its own."
)
_NO_ROW: Final = NodeRow(0, 0)
"""Of one that has the lock alone: it starts, or ends."""
_LOCK: Final = (0x6167, 0x7763)
_ROW: Final = "SELECT id, name, place, beat, has_lock, started_at FROM nodes ORDER BY name <> $1, id LIMIT 1"
_FRESH: Final = "SELECT now() - pg_postmaster_start_time() < interval '10 seconds'"
"""Just after PostgreSQL was restarted a living gateway may not have its lock back."""
_HOLDERS: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND classid = $1::bigint::oid AND objid = $2::bigint::oid AND objsubid = 2 AND pid <> pg_backend_pid()"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_INSERT: Final = MADE.format(
    insert="INSERT INTO nodes (name, place, has_lock) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
)
_BEAT: Final = (
    "UPDATE nodes SET beat = beat + 1 WHERE id = $1 RETURNING (SELECT number FROM commits WHERE node = $1)"
)


def unlocked_seconds(cluster: ClusterConfig) -> float:
    """For so long the row of who has let go of the lock must stand still. PostgreSQL lets go of it, too, if
    it has heard nothing of a gateway that is cut off, whose agents rest only at the end of its lease.
    """
    return max(BEATS_MISSED * cluster.beat_seconds, cluster.lease_seconds - SILENT_SECONDS)


class NodeLease:
    """See the module. `take` it, `start` to beat, and `release` it."""

    def __init__(
        self,
        url: str,
        *,
        keeps: bool,
        cluster: ClusterConfig,
        migrate: Callable[[Any], Awaitable[None]],
        on_beat: OnBeat,
        on_lost: Callable[[], None],
        on_silence: Callable[[], None],
        acknowledged: Callable[[], int] = lambda: 0,
        on_behind: Callable[[], None] = lambda: None,
        several: SeveralNodes | None = None,
    ) -> None:
        """`keeps`: no pooler is in between. `migrate` makes the tables, once nobody else has the database.
        `on_beat` hears of each answer, `on_lost` that the row is gone, `on_silence` that PostgreSQL has not
        answered for too long, on connections that nothing is wrong with, `on_behind` that its last commit
        there is older than that which was `acknowledged` (recent.py). `several`: it is one of them.
        """
        self.node = 0
        """The id of the row."""
        self._url = url
        self._keeps = keeps
        self._cluster = cluster
        self._migrate = migrate
        self._on_beat = on_beat
        self._on_lost = on_lost
        self._on_silence = on_silence
        self._acknowledged = acknowledged
        self._on_behind = on_behind
        self._several = several
        self._connection: Any = None
        self._has_lock = False
        self._heard_at = 0.0
        """When PostgreSQL last answered, or was last given up."""
        self._task: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[bool] | None = None
        self._soon = asyncio.Event()

    async def take(self) -> None:
        """Raises StoreFailed, with the name of the other gateway, if one has the database; and what the
        driver raises.
        """
        self._connection = connection = await connect(self._url, keeps=self._keeps)
        place = f"{socket.gethostname()}, process {os.getpid()}"
        sent = time.monotonic()
        if self._several is not None:
            self.node, sent = await self._several.enter(connection, place, self._migrate)
        while not self.node:
            await self._wait()
            async with entering(connection):
                await self._migrate(connection)
                sent = time.monotonic()
                if not await others_than_alone(connection):
                    self.node = await connection.fetchval(_INSERT, ALONE, place, self._has_lock) or 0
        self._on_beat(sent, True)

    async def _wait(self) -> None:
        """Until nobody has it; those who are dead are helped along."""
        connection, before = self._connection, _NO_ROW
        sightings = Sightings(lease_seconds=self._cluster.lease_seconds)
        unlocked = Sightings(lease_seconds=unlocked_seconds(self._cluster))
        while True:
            await self._try_lock()
            other = await connection.fetchrow(_ROW, ALONE) if await has_table(connection, "nodes") else None
            if other is None and (self._has_lock or not self._keeps):
                return
            row = NodeRow(other["id"], other["beat"]) if other is not None else _NO_ROW
            if other is not None and before not in (_NO_ROW, row):
                words = _TAKEN if other["name"] == ALONE else _SEVERAL
                raise StoreFailed(words.format(place=other["place"], since=other["started_at"]))
            before = row
            has_let_go = other is not None and self._has_lock and other["has_lock"]
            has_let_go = has_let_go and not await connection.fetchval(_FRESH)
            now = time.monotonic()
            is_dead = unlocked.see([row] if has_let_go else [], at=now)
            if sightings.see([row], at=now) or is_dead:
                await self._take_away(row)
                before = _NO_ROW
            else:
                await asyncio.sleep(LOOK_SECONDS)

    async def _take_away(self, row: NodeRow) -> None:
        if row is not _NO_ROW:
            await self._connection.execute("DELETE FROM nodes WHERE id = $1 AND beat = $2", row.id, row.beat)
        if self._keeps and not self._has_lock:
            await self._connection.execute(_HOLDERS, *_LOCK)

    async def _try_lock(self) -> None:
        if self._keeps and not self._has_lock:
            self._has_lock = await self._connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", *_LOCK)

    # -- beating ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Beats from now on."""
        self._task = asyncio.create_task(self._beat_for_ever(), name="postgresql beat")

    def beat_soon(self) -> None:
        """The next beat is due now: it has something to say."""
        self._soon.set()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._cluster.beat_seconds):
                await self._soon.wait()
        self._soon.clear()

    async def _beat_for_ever(self) -> None:
        is_there: bool | None = True
        self._heard_at = time.monotonic()
        while is_there is not False:
            await self._pause()
            sent = time.monotonic()
            is_there = await self._answer()
            silence = time.monotonic() - self._heard_at
            if is_there is None and silence >= SILENT_SECONDS:
                log.warning("PostgreSQL has not answered for %.0f s", silence)
            if silence >= (SILENT_SECONDS if is_there is None else self._cluster.lease_seconds):
                self._on_silence()
                self._heard_at = time.monotonic()
            if is_there is not None:
                self._heard_at = time.monotonic()
                self._on_beat(sent, is_there)
        log.critical("THE ROW OF THIS GATEWAY IS GONE FROM THE DATABASE: another one has taken it")
        self._on_lost()

    async def _answer(self) -> bool | None:
        """To a beat: if the row is there; None if none came in time. The next is on another connection."""
        self._beating = beat = asyncio.create_task(self._beat())
        await asyncio.wait({beat}, timeout=self._cluster.lease_seconds / BEATS_IN_TURN)
        is_late = not beat.done()
        if is_late:
            if self._connection is None:
                beat.cancel()  # it connects
            self._let_go()
            await asyncio.wait({beat})
        error = None if beat.cancelled() else beat.exception()
        if not beat.cancelled() and error is None:
            return beat.result()
        if isinstance(error, Exception):
            log.info("a beat was not heard: %s", worded(error).message)
            self._heard_at = self._heard_at if is_late else time.monotonic()  # who refuses is not silent
        self._let_go()
        return None

    async def _beat(self) -> bool:
        """False if the row is gone."""
        if self._connection is None:
            self._connection = await connect(self._url, keeps=self._keeps)
        acknowledged = self._acknowledged()
        if self._several is not None:
            found = await self._several.beat(self._connection, self.node)
        else:
            found = await self._connection.fetchrow(_BEAT, self.node)
            await self._try_lock()
        if found is not None and found[0] is not None and found[0] < acknowledged:
            self._on_behind()
        return found is not None

    def _let_go(self) -> None:
        connection, self._connection, self._has_lock = self._connection, None, False
        if connection is not None:
            connection.terminate()

    async def release(self) -> None:
        """Leaves the database to the next one."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._beating is not None:
            await asyncio.wait({self._beating}, timeout=RELEASE_SECONDS)
            if not self._beating.done():
                self._let_go()
            await asyncio.gather(self._beating, return_exceptions=True)
        if self._connection is not None:
            leaving = asyncio.create_task(self._leave(self._connection))
            await asyncio.wait({leaving}, timeout=RELEASE_SECONDS)
            self._let_go()
            with contextlib.suppress(Exception):
                await leaving

    async def _leave(self, connection: Any) -> None:
        await connection.execute("DELETE FROM nodes WHERE id = $1", self.node)
        if self._has_lock:
            await connection.execute("SELECT pg_advisory_unlock($1, $2)", *_LOCK)
