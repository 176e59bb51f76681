"""Who has which session, where several gateways share a store.

Each gateway is a node: a row that beats. A session's row names the node that has it; if that node is alive,
every request about the session is its own to answer.
"""

from __future__ import annotations

from msgspec import Struct


class NodePlace(Struct, frozen=True):
    """One start of a gateway, and where the others reach it."""

    id: int
    """Of its row; never used again."""
    name: str
    """What its operator calls it; the next start of the same gateway has it, too."""
    url: str
    """Of its listener for the others, `http://10.0.0.5:8081`, without a slash at the end."""
