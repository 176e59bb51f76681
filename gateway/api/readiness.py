"""Whether this gateway can take work: the store commits, the fork server takes requests, there is room on the
disk, no background task is down, and it was not asked to end.

The answer is kept for a moment, so that however many ask, the disk is written once.
"""

from __future__ import annotations

import asyncio
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from gateway.config.tables import Config
from gateway.errors import GatewayError, StoreFull
from gateway.maintenance.disk import free_bytes
from gateway.sessions.membership import Membership
from gateway.sessions.services import FaceServices
from gateway.stores.contract import Remembered

STORE_SECONDS: Final = 2.0
"""A store that takes longer for one small write is not ready."""
FRESH_SECONDS: Final = 1.0
_PROBE: Final = ".readyz"


class Check(Struct, frozen=True):
    """One thing that must hold; `words` say what does not."""

    is_well: bool
    words: str = ""


class ReadinessChecks:
    """`check` it."""

    def __init__(
        self,
        services: FaceServices,
        *,
        is_draining: Callable[[], bool],
        has_forkserver: Callable[[], bool],
        tasks_down: Callable[[], Sequence[str]],
        membership: Membership | None,
    ) -> None:
        """`tasks_down` names the background tasks that have failed and wait for their next start."""
        self._membership = membership
        self._services = services
        self._is_draining = is_draining
        self._has_forkserver = has_forkserver
        self._tasks_down = tasks_down
        self._lock = asyncio.Lock()
        self._at: float | None = None
        self._known: dict[str, Check] = {}

    async def check(self) -> dict[str, Check]:
        """What must hold, by name."""
        if (lease := self._lease()) is not None and not lease.is_well:  # the store would be waited for
            return {**self._known, "lease": lease, "draining": self._draining()}
        async with self._lock:
            now = self._services.monotonic()
            if self._at is None or now - self._at >= FRESH_SECONDS:
                store = await self._store()
                is_full = store.words == StoreFull().message
                disk = await asyncio.to_thread(disk_check, self._services.config, is_store_full=is_full)
                self._known = {"store": store, "disk": disk}
                self._at = self._services.monotonic()
        return {
            **self._known,
            "forkserver": self._forkserver(),
            "tasks": self._tasks(),
            "draining": self._draining(),
            **({} if lease is None else {"lease": lease}),
        }

    def _lease(self) -> Check | None:
        """None if this gateway needs none."""
        if self._membership is None:
            return None
        if self._membership.lease.may_work_now():
            return Check(True)
        return Check(False, "The store has not answered for the whole lease: nothing is done until it does.")

    async def _store(self) -> Check:
        """A real write: a disk without room, or a file that cannot be written, is seen here."""
        at = self._services.wall_ms()
        probe = Remembered(body_hash=str(at), session_id=_PROBE)
        try:
            async with asyncio.timeout(self._store_seconds):
                await self._services.store.idempotency.remember("", _PROBE, probe, at=at, since=at + 1)
        except TimeoutError:
            return Check(False, f"A write took longer than {STORE_SECONDS:g} seconds, or than the lease.")
        except GatewayError as error:
            return Check(False, error.message)
        return Check(True)

    @property
    def _store_seconds(self) -> float:
        """How long it may take; not longer than it is known that the store is there."""
        return min(
            STORE_SECONDS, math.inf if self._membership is None else self._membership.lease.seconds_left
        )

    def _forkserver(self) -> Check:
        is_there = self._has_forkserver()
        return Check(is_there, "" if is_there else "The fork server is down; it is started again.")

    def _tasks(self) -> Check:
        down = self._tasks_down()
        words = f"Failed, and to be started again: {', '.join(down)}. The log says why." if down else ""
        return Check(not down, words)

    def _draining(self) -> Check:
        is_draining = self._is_draining()
        return Check(not is_draining, "The gateway is shutting down." if is_draining else "")


def disk_check(
    config: Config, *, is_store_full: bool, free: Callable[[pathlib.Path], int] = free_bytes
) -> Check:
    """Whether there is room where sessions keep their files and where the database is, maybe two disks.

    A write that found no room is believed before the figure of the file system: a quota, or room that it
    keeps for itself, is in none of its figures.
    """
    wanted = config.server.ready_disk_bytes
    places = dict.fromkeys((config.data_path, config.database_path.parent))
    try:
        left, place = min((free(place), place) for place in places)
    except OSError as error:
        return Check(False, f"The data directory cannot be looked at: {error.strerror}.")
    if is_store_full and left:
        return Check(False, f"A write found no room, although the file system says {left:,} bytes are free.")
    if left < wanted:
        where = f" at {place}" if len(places) > 1 else ""
        return Check(False, f"{left:,} bytes are free{where}; server.ready_disk_bytes asks for {wanted:,}.")
    return Check(True)
