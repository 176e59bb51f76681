"""Passes: what an agent's process shows at the gateway's own MCP server to reach its session's things.

A pass is random, lives as long as the worker it was made for, and opens one conversation's cart, nothing
else: no other route takes it. What is kept is its hash.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Final

from gateway.apps.shop.store import ShopKey

PREFIX: Final = "agp_"
"""How a pass begins, and no other credential: keys `agw_`, shared links `ags_`, visitors `agv_`."""


class Passes:
    """The passes that are good now."""

    def __init__(self) -> None:
        self._keys: dict[bytes, Callable[[], ShopKey]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def issue(self, key: Callable[[], ShopKey]) -> str:
        """A new pass; `key` says whose cart it opens, asked at each use because a session may move."""
        text = PREFIX + secrets.token_urlsafe(32)
        self._keys[_hash(text)] = key
        return text

    def find(self, text: str) -> ShopKey | None:
        """The conversation that a pass opens; None for one that is not good, or not any more."""
        key = self._keys.get(_hash(text))
        return None if key is None else key()

    def revoke(self, text: str) -> None:
        """The pass is good no longer."""
        self._keys.pop(_hash(text), None)


def is_pass(text: str) -> bool:
    """Whether a bearer means to be one."""
    return text.startswith(PREFIX)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
