"""What was used on each day, for quotas."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class DayUse(Struct, kw_only=True):
    """What somebody used on one day."""

    messages: int = 0
    tokens: int = 0
    cpu_ms: int = 0
    memory_mb_seconds: int = 0


UseName = tuple[str, str]
"""(tenant, key, subject or session; its name)."""


class UsageStore(Protocol):
    """Sums by day (days since 1970 UTC) and name. Every method may raise StoreFull or StoreFailed."""

    async def uses(self, day: int) -> dict[UseName, DayUse]:
        """What was used on a day."""

    async def put_uses(self, day: int, uses: dict[UseName, DayUse]) -> None:
        """Keeps what was used on a day, in place of what is known of the same names."""

    async def forget(self, *, before_day: int) -> None:
        """Forgets the use of days before."""
