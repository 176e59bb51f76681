"""Two gateways on one data directory, while one takes the place of the other: which has which session.

The predecessor keeps what has something to do, until it has done it; everything else is the successor's. Both
say so to each other (`gateway.server.takeover`): nothing of it is stored, so a gateway alone pays nothing.

Guarantees: a session is in one map at a time: the successor takes none that the predecessor has not let go
of, and the predecessor takes none at all; when the other has ended, everything is this gateway's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Final

from gateway.events.lifecycle import CloseReason
from gateway.sessions.manager import SessionKey, SessionManager
from gateway.sessions.session import Session
from gateway.stores.directory import NodePlace

LOOK_SECONDS: Final = 0.05
"""How often the predecessor looks which sessions have nothing to do any more."""


class Succession:
    """See the module: of a predecessor or of a successor."""

    def __init__(self, other: NodePlace, *, kept: Iterable[SessionKey] | None) -> None:
        """`kept`: those that the other has; None: all that this gateway does not have itself."""
        self._other: NodePlace | None = other
        self._kept = None if kept is None else set(kept)

    def where(self, name: SessionKey) -> NodePlace | None:
        """Who has a session that is not in this gateway's map; None: nobody."""
        return self._other if self._kept is None or name in self._kept else None

    def left(self, name: SessionKey) -> None:
        """The other has let go of a session."""
        if self._kept is not None:
            self._kept.discard(name)

    def ended(self) -> None:
        """The other has ended."""
        self._other = None


async def hand_over(
    manager: SessionManager, kept: set[SessionKey], left: Callable[[SessionKey], None]
) -> None:
    """Lets go of every session that does nothing, and of the others when they have done what they do; `left`
    hears of each of `kept`, which is empty when this returns.
    """
    woken, watched = asyncio.Event(), set[Session]()
    while True:
        for session in manager.sessions():
            if session not in watched:
                watched.add(session)
                session.left.add_done_callback(lambda _: woken.set())
            if not session.is_busy:
                session.ask_to_close(CloseReason.IDLE)
        for name in kept - manager.names():
            kept.discard(name)
            left(name)
        if not kept:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await woken.wait()
        woken.clear()
