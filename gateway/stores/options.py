"""What people chose of an agent's options, remembered for their next sessions with it."""

from __future__ import annotations

from typing import Protocol


class OptionStore(Protocol):
    """Values by owner, agent and option. What an owner chose goes with the last of the owner's sessions.

    Every method may raise StoreFull or StoreFailed.
    """

    async def chosen(self, owner: str, agent: str) -> dict[str, str | bool]:
        """The values by the ids of the options."""

    async def choose(self, owner: str, agent: str, option_id: str, value: str | bool) -> None:
        """Remembers a value in place of the one before; nothing if the owner has no session."""

    async def move(self, giver: str, taker: str) -> None:
        """What one owner chose is another's; what the other chose stays."""
