"""Requests that carried an Idempotency-Key: each is done once."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class Remembered(Struct, frozen=True, kw_only=True):
    """The outcome of a request that carried an Idempotency-Key."""

    body_hash: str
    session_id: str


class IdempotencyStore(Protocol):
    """Outcomes by owner and key. Times are milliseconds since 1970 UTC.

    Every method may raise StoreFull or StoreFailed.
    """

    async def recall(self, owner: str, key: str, *, since: int) -> Remembered | None:
        """What was kept under a key at or after `since`."""

    async def remember(
        self, owner: str, key: str, remembered: Remembered, *, at: int, since: int
    ) -> Remembered:
        """Keeps an outcome under its key, unless one was kept at or after `since`; returns the one that is
        kept. Of several callers at once exactly one is the first.
        """

    async def drop(self, *, before: int) -> None:
        """Forgets what was kept before this time."""
