"""What was used on each day, for quotas."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from msgspec import Struct

from worker.foreign import clamped


class DayUse(Struct, kw_only=True):
    """What somebody used on one day."""

    messages: int = 0
    tokens: int = 0
    cpu_ms: int = 0
    memory_mb_seconds: int = 0

    def plus(self, other: DayUse) -> DayUse:
        """Both together; what agents say is clamped, so that each sum can be kept."""
        sums = ((name, getattr(self, name) + getattr(other, name)) for name in self.__struct_fields__)
        return DayUse(**{name: clamped(total) for name, total in sums})


UseName = tuple[str, str]
"""(tenant, key, subject or session; its name)."""


class UsageStore(Protocol):
    """Sums by day (days since 1970 UTC) and name. Every method may raise StoreFull or StoreFailed."""

    async def uses(self, day: int, names: Collection[UseName] | None = None) -> dict[UseName, DayUse]:
        """What was used on a day, by these or by everybody: counted together, if several gateways share the
        store.
        """

    async def add_uses(self, day: int, uses: dict[UseName, DayUse]) -> None:
        """So much more was used on a day."""

    async def forget(self, *, before_day: int) -> None:
        """Forgets the use of days before."""
