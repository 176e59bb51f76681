"""Leaving the other gateways of a store, when this one is asked to end: they go on with what it has.

Guarantees: a running turn goes on to its end, unless `server.drain_seconds` says how long it may; who asks
here meanwhile is passed on, and nobody is refused, for at least `cluster.leave_seconds`; readers of a session
that moves go on in the connection that they have, as long as this process serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from typing import Final, Protocol

from gateway.config.tables import Config
from gateway.events.lifecycle import CloseReason
from gateway.server.systemd import notify
from gateway.sessions.departure import Departure
from gateway.sessions.manager import SessionKey, SessionManager
from gateway.sessions.membership import Membership
from gateway.sessions.opening import Sessions
from gateway.sessions.services import Services
from gateway.sessions.succession import hand_over

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.1
"""How often it is looked whether all is done, and whether others take work."""
CLOSING_SECONDS: Final = 20.0
"""How long sessions that have had their time may take to end."""
PATIENCE: Final = "EXTEND_TIMEOUT_USEC=30000000"
"""What a service manager hears meanwhile, so that it does not kill a process whose turns run."""
PATIENCE_SECONDS: Final = 10.0
"""How often it hears that."""


class Leaving(Protocol):
    """What leaves."""

    services: Services
    manager: SessionManager
    sessions: Sessions
    membership: Membership | None
    failed: asyncio.Event

    @property
    def config(self) -> Config: ...


async def leave(gateway: Leaving, hurrying: asyncio.Event) -> bool:
    """Gives what this gateway has to the others; returns when they have it, or when it shall hurry. False, at
    once, if no other takes work: nothing has changed then.
    """
    membership, directory = gateway.membership, gateway.services.store.directory
    if membership is None or directory is None or hurrying.is_set():
        return False
    manager = gateway.manager
    departure = Departure(directory, gateway.services.store.sessions, membership)
    if departure.is_alone:
        return False
    manager.leave(departure)
    directory.announce()
    kept = manager.names()
    log.info("draining: the other gateways go on with the %d sessions that are here", len(kept))
    await gateway.sessions.rest()

    def left(name: SessionKey, was_read: bool) -> None:
        manager.wake_readers_of(name)
        if was_read and manager.telling is not None and not departure.is_alone:
            manager.telling.left(departure.heir(*name), *name)

    handing = asyncio.create_task(hand_over(manager, kept, left), name="handing over")
    try:
        await _until_left(gateway, departure, handing, hurrying)
    finally:
        handing.cancel()
        await asyncio.gather(handing, return_exceptions=True)
    return True


async def _until_left(
    gateway: Leaving, departure: Departure, handing: asyncio.Task[None], hurrying: asyncio.Event
) -> None:
    server, manager, clock = gateway.config.server, gateway.manager, asyncio.get_running_loop().time
    began = patient_at = clock()
    until = math.inf if server.drain_seconds is None else began + server.drain_seconds
    end_at = math.inf
    while not hurrying.is_set() and not gateway.failed.is_set():
        now = clock()
        has_been_seen = departure.is_alone or now >= began + gateway.config.cluster.leave_seconds
        if now >= end_at or (handing.done() and has_been_seen):
            return
        if departure.is_alone:
            until = min(until, now + server.grace_seconds)
        elif server.drain_seconds is None:
            until = math.inf
        if now >= until and end_at == math.inf and not handing.done():
            log.warning("draining: %d sessions have had their time", len(manager.names()))
            for session in manager.sessions():
                session.ask_to_close(CloseReason.DRAINED)
            end_at = now + CLOSING_SECONDS
        if now >= patient_at:
            notify(PATIENCE)
            patient_at = now + PATIENCE_SECONDS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await hurrying.wait()
