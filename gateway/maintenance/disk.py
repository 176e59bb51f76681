"""The alarm for a disk that fills up, while there is still room: a full one takes no new message."""

from __future__ import annotations

import asyncio
import logging
import os
import pathlib
from collections.abc import Callable
from typing import Final

from gateway.config.tables import Config

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0
"""Between two looks."""
AGAIN_SECONDS: Final = 3600.0
"""How often it is said again while it lasts."""
RELIEF: Final = 1.25
"""So many times the threshold must be free before the alarm is over: at the edge it does not flap."""


def free_bytes(path: pathlib.Path) -> int:
    """What an ordinary user may still write on the disk of this path: nothing if no file can be made. Raises
    OSError.
    """
    found = os.statvfs(path)
    has_files_left = found.f_favail > 0 or found.f_files == 0  # 0 of 0: it does not count them
    return found.f_bavail * found.f_frsize if has_files_left else 0


class DiskAlarm:
    """`look` now and then; `is_low` is what it saw last."""

    def __init__(
        self,
        path: pathlib.Path,
        *,
        low_bytes: Callable[[], int],
        monotonic: Callable[[], float],
        free: Callable[[pathlib.Path], int] = free_bytes,
        seen: Callable[[int, int], None] = lambda _free, _low: None,
    ) -> None:
        """`seen` hears at every look how much is free, and what would be too little."""
        self._path = path
        self._low_bytes = low_bytes
        self._monotonic = monotonic
        self._free = free
        self._seen = seen
        self._said_at: float | None = None
        self.is_low = False

    async def look_for_ever(self) -> None:
        """Looks now and then."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Says in the log when room becomes scarce, again every hour, and when there is enough again."""
        try:
            free = self._free(self._path)
        except OSError as error:
            log.warning("the data directory's disk cannot be looked at: %s", error)
            return
        low = self._low_bytes()
        self._seen(free, low)
        self.is_low = free < (low * RELIEF if self.is_low else low)
        now = self._monotonic()
        if self.is_low and (self._said_at is None or now - self._said_at >= AGAIN_SECONDS):
            self._said_at = now
            log.warning(
                "the disk of %s is nearly full: %d MiB are left, server.low_disk_bytes is %d MiB. Make room: "
                "a full disk takes no new message.",
                self._path,
                free // 1024**2,
                low // 1024**2,
            )
        elif not self.is_low and self._said_at is not None:
            self._said_at = None
            log.info("the disk of %s has room again: %d MiB", self._path, free // 1024**2)


def alarm_of(
    config: Callable[[], Config], *, monotonic: Callable[[], float], seen: Callable[[int, int], None]
) -> DiskAlarm:
    """The alarm for the disks of the data directory and of the database."""
    data_path, database_path = config().data_path, config().database_path
    return DiskAlarm(
        data_path,
        low_bytes=lambda: config().server.low_disk_bytes,
        monotonic=monotonic,
        free=lambda path: min(free_bytes(path), free_bytes(database_path.parent)),
        seen=seen,
    )
