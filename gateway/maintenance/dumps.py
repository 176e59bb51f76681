"""The database of a backup if the store is PostgreSQL: a file of SQLite's, copied out of it and into it.

So a backup is the same file whichever engine it was made with, and can be restored into either.
"""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from gateway.config.tables import Config
from gateway.errors import StoreFailed
from gateway.maintenance import copying
from gateway.maintenance.archive import BackupFailed
from gateway.stores.bulk_opening import opener

T = TypeVar("T")


class RemoteDatabase:
    """The PostgreSQL database of a configuration. Its methods raise BackupFailed."""

    def __init__(self, url: str) -> None:
        self._url = url

    def is_empty(self) -> bool:
        """True if there is nothing in it, or a restore that was cut."""
        return _done(opener(self._url, copying.every_migration()).is_empty())

    def dump(self, target: pathlib.Path) -> None:
        """Writes all of it, as of one moment, to a new file; a gateway may run meanwhile."""
        _done(copying.copy(self._url, str(target), is_alone=False))

    def replace(self, source: pathlib.Path) -> None:
        """Puts a file's content in the place of what is in it, and compares."""
        _done(self._replaced(source))

    async def _replaced(self, source: pathlib.Path) -> None:
        await opener(self._url, copying.every_migration()).empty()
        await copying.copy(str(source), self._url)
        found = await copying.check(str(source), self._url)
        if found.differences:
            raise StoreFailed(f"What is there now differs: {found.differences[0]}.")


def remote_database(config: Config) -> RemoteDatabase | None:
    """None if the store is a file, or in memory."""
    return RemoteDatabase(config.store) if config.is_on_postgresql else None


def _done(act: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(act)
    except StoreFailed as error:
        raise BackupFailed(error.message) from error
