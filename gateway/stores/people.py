"""People who are disabled. A person who is not named here is not."""

from __future__ import annotations

from typing import Protocol


class PeopleStore(Protocol):
    """Owners (`TENANT/SUBJECT`) and since when they are disabled, in milliseconds since 1970 UTC.

    A method that changes something returns when the change is durable. Every method may raise StoreFull or
    StoreFailed.
    """

    async def disabled(self) -> dict[str, int]:
        """Everyone who is disabled: owner → since when."""

    async def disable(self, owner: str, at: int) -> None:
        """Keeps that an owner is disabled. The time of the first call stays."""

    async def enable(self, owner: str) -> None:
        """Forgets that an owner is disabled; nothing to do for one who is not."""
