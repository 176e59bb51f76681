"""Passes: the credentials with which an agent's process calls the gateway's own MCP server for its session.

A pass is random, is valid as long as its worker runs, and gives access only to the toolsets of its agent in
one session: no other route accepts it. Only its hash is kept.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from gateway.principal import ConversationKey

PREFIX: Final = "agp_"
"""How a pass begins, and no other credential: keys `agw_`, shared links `ags_`, visitors `agv_`."""


class Granted(Struct, frozen=True):
    """What a pass opens: a session, and the toolsets of its agent."""

    key: ConversationKey
    toolsets: tuple[str, ...]


class Passes:
    """The passes that are good now."""

    def __init__(self) -> None:
        self._granted: dict[bytes, Callable[[], Granted]] = {}

    def __len__(self) -> int:
        return len(self._granted)

    def issue(self, key: Callable[[], ConversationKey], *, toolsets: tuple[str, ...] = ()) -> str:
        """A new pass. `key` returns its session, and is called at each use, because a session may move."""
        text = PREFIX + secrets.token_urlsafe(32)
        self._granted[_hash(text)] = lambda: Granted(key(), toolsets)
        return text

    def find(self, text: str) -> Granted | None:
        """What a pass opens; None for one that is not good, or not any more."""
        granted = self._granted.get(_hash(text))
        return None if granted is None else granted()

    def revoke(self, text: str) -> None:
        """The pass is good no longer."""
        self._granted.pop(_hash(text), None)


def is_pass(text: str) -> bool:
    """Whether a bearer means to be one."""
    return text.startswith(PREFIX)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
