"""People who are disabled, in a dictionary."""

from __future__ import annotations


class MemoryPeople:
    """`PeopleStore` in a dictionary, gone with the process."""

    def __init__(self) -> None:
        self._disabled: dict[str, int] = {}

    async def disabled(self) -> dict[str, int]:
        return dict(self._disabled)

    async def disable(self, owner: str, at: int) -> None:
        self._disabled.setdefault(owner, at)

    async def enable(self, owner: str) -> None:
        self._disabled.pop(owner, None)
