"""Two gateways on one data directory, while one takes the place of the other: which has which session.

The predecessor keeps what has something to do, until it has done it; everything else is the successor's. Both
say so to each other (`gateway.server.succession`): nothing of it is stored, so a gateway alone pays nothing.

Guarantees: a session is in one map at a time: the successor takes none that the predecessor has not let go
of, and the predecessor takes none at all; when the other has ended, everything is this gateway's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from gateway.sessions.manager import SessionKey, SessionManager
from gateway.sessions.session import Session
from gateway.stores.directory import Node, NodePlace
from gateway.stores.sessions import SessionRecord, SessionStore
from gateway.stores.sightings import NodeRow

LOOK_SECONDS: Final = 0.05
"""How often the predecessor looks which sessions have nothing to do any more."""
QUIET_SECONDS: Final = 0.25
"""A session that was used a moment ago stays so long: one request may do several things to it, as the one
that makes it does.
"""


class Succession:
    """`Directory` of a predecessor, or of a successor; see the module."""

    def __init__(self, other: NodePlace, store: SessionStore, *, kept: Iterable[SessionKey] | None) -> None:
        """`kept`: those that the other has; None: all that this gateway does not have itself."""
        self._other: NodePlace | None = other
        self._store = store
        self._kept = None if kept is None else set(kept)

    def left(self, name: SessionKey) -> None:
        """The other has let go of a session."""
        if self._kept is not None:
            self._kept.discard(name)

    def ended(self) -> None:
        """The other has ended."""
        self._other = None

    def _has(self, name: SessionKey) -> NodePlace | None:
        """The other, if it has a session that is not in this gateway's map."""
        return self._other if self._kept is None or name in self._kept else None

    def maker(self) -> NodePlace | None:
        return self._other if self._kept is None else None

    @property
    def node(self) -> int:
        return os.getpid()

    async def claim(self, owner: str, session_id: str) -> SessionRecord | NodePlace | None:
        return self._has((owner, session_id)) or await self._store.find(owner, session_id)

    async def claim_open(self, *, limit: int) -> Sequence[SessionRecord]:
        """None: what the end of the other leaves is recovered as a gateway's end is at the next start."""
        return ()

    async def claim_expired(self, now: int, *, limit: int) -> Sequence[SessionRecord]:
        found = await self._store.expired(now, limit=limit)
        return [record for record in found if self._has((record.owner, record.session_id)) is None]

    async def release(self, key: str) -> None:
        """The other hears of it by name."""

    async def holder(self, owner: str, session_id: str) -> NodePlace | None:
        return self._has((owner, session_id))

    async def holder_of_key(self, key: str) -> NodePlace | None:
        return None if await self.has_key(key) else self._other

    async def holders(self, names: Iterable[SessionKey]) -> Mapping[SessionKey, NodePlace]:
        found: dict[SessionKey, NodePlace] = {}
        for owner, session_id in names:
            newest = await self._store.newest(owner) if not session_id else None
            place = self._has((owner, newest.session_id if newest is not None else session_id))
            if place is not None:
                found[owner, session_id] = place
        return found

    async def count_elsewhere(self, *, owner: str = "", tenant: str = "") -> tuple[int, int]:
        """Nobody counts for the moment that both are there."""
        return 0, 0

    async def has_key(self, key: str) -> bool:
        """Asked of sessions that are not in this gateway's map."""
        if self._other is None:
            return True
        return self._kept is not None and not any(
            record is not None and record.key == key
            for record in [await self._store.find(*name) for name in self._kept]
        )

    async def nodes(self) -> Sequence[Node]:
        return ()

    async def bury(self, row: NodeRow) -> bool:
        return False

    def announce(self) -> None:
        """There is nobody to hear of it."""


async def hand_over(
    manager: SessionManager, kept: set[SessionKey], left: Callable[[SessionKey, bool], None]
) -> None:
    """Lets go of every session that does nothing, and of the others when they have done what they do; `left`
    hears of each of `kept`, which is empty when this returns, and whether somebody read it.
    """
    woken, watched = asyncio.Event(), set[Session]()
    while True:
        for session in manager.sessions():
            if session not in watched:
                watched.add(session)
                session.left.add_done_callback(lambda _: woken.set())
            session.leave(quiet_seconds=QUIET_SECONDS)
        read = {(each.record.owner, each.session_id) for each in watched if each.was_read}
        for name in kept - manager.names():
            kept.discard(name)
            left(name, name in read)
        if not kept:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await woken.wait()
        woken.clear()
