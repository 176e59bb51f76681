"""People who are disabled: nothing of theirs is served, nothing runs for them, and all they have is kept.

Guarantees: who is disabled stays so over a restart, however the gateway ended; enabling brings everything
back, because nothing was revoked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from gateway.errors import PersonDisabled
from gateway.stores.people import PeopleStore


class People:
    """Everyone who is disabled, in memory and in the store."""

    def __init__(self, store: PeopleStore, *, wall_ms: Callable[[], int]) -> None:
        self._store = store
        self._wall_ms = wall_ms
        self._disabled: dict[str, int] = {}
        self._changing = asyncio.Lock()
        """Held from a change in the store until it is known here, so that what is read anew is not older."""

    async def open(self) -> None:
        """Reads who is disabled. Raises StoreFailed."""
        self._disabled = await self._store.disabled()

    async def read_anew(self) -> set[str]:
        """Reads it again, since another gateway may have changed it; who is disabled now and was not. Raises
        StoreFailed.
        """
        async with self._changing:
            before, self._disabled = self._disabled, await self._store.disabled()
        return self._disabled.keys() - before.keys()

    @property
    def disabled(self) -> Mapping[str, int]:
        """Owner → since when, in milliseconds since 1970 UTC."""
        return self._disabled

    def is_disabled(self, owner: str) -> bool:
        """True if the owner (`TENANT/SUBJECT`) is disabled."""
        return owner in self._disabled

    def check(self, owner: str) -> None:
        """Raises PersonDisabled if the owner is disabled."""
        if owner in self._disabled:
            raise PersonDisabled

    async def disable(self, owner: str) -> None:
        """Disables an owner, once that is on disk. Raises StoreFull, StoreFailed."""
        at = self._wall_ms()
        async with self._changing:
            await self._store.disable(owner, at)
            self._disabled.setdefault(owner, at)

    async def enable(self, owner: str) -> None:
        """Enables an owner, once that is on disk. Raises StoreFull, StoreFailed."""
        async with self._changing:
            await self._store.enable(owner)
            self._disabled.pop(owner, None)
