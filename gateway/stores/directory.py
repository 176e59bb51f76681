"""The contract of the directory: which gateways use one store now.

Each has a row, a node, whose beat it counts up. Nobody may write as a node whose row is gone; so whoever
removes a row takes the store away from that gateway, whatever it is doing at the moment.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class NodeRow(Struct, frozen=True):
    """One start of a gateway; `id` is never used again, the name is that of the next start, too."""

    id: int
    name: str
    beat: int = 0


class NodesSeen(Struct, frozen=True):
    """What a beat found."""

    is_mine: bool
    """False: the node's own row is gone."""
    others: tuple[NodeRow, ...] = ()


class Directory(Protocol):
    """Each act is a transaction of its own. Raises StoreFailed if the store does not answer; then it may have
    been done.
    """

    async def join(self, name: str) -> int | NodeRow:
        """A new row of this name: its id; if there is one already, that row."""

    async def beat(self, node: int) -> NodesSeen:
        """Counts its beat up, and looks at the others."""

    async def remove(self, node: int, *, beat: int) -> bool:
        """Removes a row if its beat is still this one; whether it did."""

    async def leave(self, node: int) -> None:
        """Removes one's own row."""
