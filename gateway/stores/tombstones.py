"""What is left of deleted sessions: so that a client hears that its session is gone, and a restored backup
erases it again.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class Tombstone(Struct, frozen=True, kw_only=True):
    """What is left of a deleted session: no content, only that it was, until when, and the last seq it
    used.
    """

    owner: str
    session_hash: str
    last_seq: int
    at: int
    reason: str


class TombstoneStore(Protocol):
    """Tombstones by owner and hash; `SessionStore.delete` writes them. May raise StoreFull or StoreFailed."""

    async def find(self, owner: str, session_hash: str) -> Tombstone | None:
        """The tombstone of a deleted session."""

    async def drop(self, *, before: int) -> int:
        """Forgets tombstones older than this time (milliseconds since 1970 UTC); how many."""
