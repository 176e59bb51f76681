"""Visitors on pages of other origins that send neither cookie nor token: a chat's own id opens that one chat.

Such a page makes the id itself, of its clock and of chance, and tells it to the gateway alone. It is taken
for a key only if the page's origin is in `[visitors] origins`, if the chat was begun by a page of the same
origin, and if its visitor has not signed in since. It opens no list and no other chat, and an address that
tries ids is soon refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.requests import HTTPConnection

from gateway.apps.product_chat.desk import Desk
from gateway.apps.product_chat.reading import address_of
from gateway.errors import RateLimited
from gateway.extension import MemoryBuckets, Principal
from gateway.http.gate import Gate, principal_of
from gateway.http.scope import carried

HARD_TO_GUESS: Final = 20
"""Characters that an id must have to be a key."""
MISSES_PER_SECOND: Final = 0.2
MISS_BURST: Final = 10.0
"""Ids that open nothing, of one address."""


class ChatKeys:
    """See the module."""

    def __init__(self, desk: Desk, gate: Gate, *, monotonic: Callable[[], float]) -> None:
        self._desk = desk
        self._gate = gate
        self._misses = MemoryBuckets(monotonic)

    async def visitor(
        self, connection: HTTPConnection, session_id: str, *, is_opening: bool = False
    ) -> Principal:
        """Who asks for the chat of this id. Raises RateLimited after many ids that open nothing.

        `is_opening`: a chat that is not there is about to be made.
        """
        principal = principal_of(connection)
        if len(session_id) < HARD_TO_GUESS or not self._gate.is_on_listed_page(connection):
            return principal
        chat = await self._desk.store.find(session_id)
        if chat is None and is_opening:
            return principal
        address = address_of(connection)
        if seconds := self._misses.wait(address, rate=MISSES_PER_SECOND, burst=MISS_BURST):
            words = "Too many chats of one address that are not its own"
            raise RateLimited(words, retry_after_seconds=seconds)
        visitor = self._gate.met_there(connection, chat.owner) if chat is not None else None
        if visitor is None:
            self._misses.spend(address, rate=MISSES_PER_SECOND, burst=MISS_BURST)
            return principal
        self._gate.check_served(visitor)
        carried(connection.scope).principal = visitor
        return visitor
