"""Exactly once: the same Idempotency-Key and body within 24 hours never runs a second turn.

The key is stored before the turn begins, with the id of the message that it will create. A repeated request
finds the message in the session's log. If the gateway died in between, it does not find it and runs the turn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import UNSET, Struct, UnsetType

from gateway.errors import IdempotencyMismatch, InvalidField
from gateway.events.facts import Contributor
from gateway.principal import Account
from gateway.sessions.queue import Turn
from gateway.sessions.session import AlreadySaid, Session
from gateway.stores.idempotency import IdempotencyStore, Remembered

KEPT_MILLISECONDS: Final = 24 * 3600 * 1000
KEY_CHARACTERS: Final = 255


class Once(Struct, frozen=True):
    """A request that is not to be done twice: its Idempotency-Key and what it asks for."""

    key: str
    body: str
    is_unnamed: bool = False
    """True if the request names no session: one is chosen for it."""


class Idempotency:
    """Keys of owners, and what came of them."""

    def __init__(self, store: IdempotencyStore, *, wall_ms: Callable[[], int]) -> None:
        self._store = store
        self._wall_ms = wall_ms

    async def session_for(self, owner: str, once: Once, session_id: str) -> str:
        """The session of a request with a key: the one it went to before, else the one given.

        Raises IdempotencyMismatch (422) if the key came with another body.
        """
        key, is_new = once.key, once.is_unnamed
        if not 0 < len(key) <= KEY_CHARACTERS or not key.isprintable():
            raise InvalidField(f"Idempotency-Key is 1 to {KEY_CHARACTERS} printable characters.")
        unnamed = _hash("", once.body)
        body_hash = unnamed if is_new else _hash(session_id, once.body)
        now = self._wall_ms()
        mine = Remembered(body_hash=body_hash, session_id=session_id)
        known = await self._store.remember(owner, key, mine, at=now, since=now - KEPT_MILLISECONDS)
        if known.body_hash not in (body_hash, unnamed) or (not is_new and known.session_id != session_id):
            raise IdempotencyMismatch
        return known.session_id

    async def has_seen(self, owner: str, key: str) -> bool:
        """Whether a request with this key came in the last 24 hours."""
        since = self._wall_ms() - KEPT_MILLISECONDS
        return await self._store.recall(owner, key, since=since) is not None

    async def chat(
        self,
        session: Session,
        text: str,
        *,
        account: Account,
        key: str,
        author: Contributor | UnsetType = UNSET,
        attachments: Sequence[str] = (),
    ) -> Turn | None:
        """Runs the turn unless this key ran it before (None)."""
        owner = account.owner
        message_id = "k" + _hash(owner, key)[:24]
        if session.has_message(message_id):
            await session.log.commit(session.log.last_seq)
            if session.has_message(message_id):
                return None
        try:
            return await session.chat(
                text, account=account, message_id=message_id, author=author, attachments=attachments
            )
        except AlreadySaid:
            await session.log.commit(session.log.last_seq)
            return None


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
