"""The reaper: every sweep it nominates sessions; each decides for itself in one synchronous check.

Idle is about use, not wires: an open stream keeps no session alive, a running turn is never ended. A chat
that arrives in the same tick wins, because nothing awaits between the check and the asking.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from gateway.config.tables import DAY_MILLISECONDS, SessionsConfig
from gateway.errors import GatewayError
from gateway.events.lifecycle import CloseReason
from gateway.sessions.manager import SessionManager
from gateway.sessions.services import Services
from gateway.sessions.session import Session
from gateway.stores.contract import SessionRecord
from gateway.telemetry.clocks import LivedTime

log = logging.getLogger(__name__)

PARK_CHECKS_PER_PERIOD = 4
PURGE_BATCH = 500


class Reaper:
    """Parks idle workers, reaps idle sessions, purges what is older than its retention."""

    def __init__(self, manager: SessionManager, services: Services) -> None:
        self._manager = manager
        self._services = services
        self._time = LivedTime(wall_ms=services.wall_ms, monotonic=services.monotonic)

    @property
    def _config(self) -> SessionsConfig:
        return self._services.config.sessions

    async def reap_for_ever(self) -> None:
        """Reaps and purges, every sweep."""
        while True:
            await asyncio.sleep(self._config.sweep_interval_seconds)
            await self.sweep()

    async def park_for_ever(self) -> None:
        """Parks, several times in the period after which it does; a reload may turn that on and off."""
        while True:
            period = self._config.park_after_seconds
            await asyncio.sleep(period / PARK_CHECKS_PER_PERIOD or self._config.sweep_interval_seconds)
            if self._config.park_after_seconds:
                await self.park()

    async def park(self) -> int:
        """Asks workers that were not used for a while to end, or freezes them first; how many are to end."""
        unused = [
            session
            for session in self._manager.sessions()
            if session.is_live and session.idle_seconds >= self._config.park_after_seconds
        ]
        idle = [session for session in unused if not self._keeps_warm(session) and session.may_park()]
        for session in idle:
            session.ask_to_park()
        return len(idle)

    def _keeps_warm(self, session: Session) -> bool:
        """Freezes a worker whose agent is to be frozen before it is parked; whether it is frozen now."""
        warm_seconds = session.agent.warm_seconds
        if not warm_seconds or session.idle_seconds >= self._config.park_after_seconds + warm_seconds:
            return False
        if session.is_frozen:
            return True
        is_frozen = session.freeze()
        self._services.metrics.freezes.inc(is_frozen)
        return is_frozen

    async def sweep(self) -> int:
        """Asks sessions that were not used for long to leave the map, then purges; how many were asked."""
        idle = [
            session
            for session in self._manager.sessions()
            if session.may_reap(after_seconds=self._config.idle_timeout_seconds)
        ]
        for session in idle:
            session.ask_to_close(CloseReason.IDLE)
        if idle:
            log.info(
                "reaped %d idle sessions; %d are left",
                len(idle),
                self._manager.get_active_session_count() - len(idle),
            )
        try:
            await self._purge()
        except GatewayError as error:
            log.error("nothing was purged: %s", error)
        return len(idle)

    def _let_go(self, session: Session, now: int) -> None:
        """A session whose time is over before it was idle for long leaves the map, to be purged next time."""
        expires_at = session.fresh_record().expires_at
        if expires_at is not None and expires_at <= now and session.may_reap(after_seconds=0):
            session.ask_to_close(CloseReason.IDLE)

    async def _purge_one(self, record: SessionRecord, now: int) -> None:
        session = self._manager.get(record.owner, record.session_id)
        if session is not None:
            self._let_go(session, now)
            return
        stand = await self._services.store.logs.stand(record.key)
        await self._manager.erase(record, max(stand.last_seq, stand.reserved_seq), reason="purged")

    async def _expired(self, now: int) -> Sequence[SessionRecord]:
        """Those whose time is over; where several gateways share the store, those that nobody has: they are
        this one's then, and each gateway purges others.
        """
        store = self._services.store
        if (directory := self._manager.directory) is None:
            return await store.sessions.expired(now, limit=PURGE_BATCH)
        for session in self._manager.sessions():
            self._let_go(session, now)
        claimed = await directory.claim_expired(now, limit=PURGE_BATCH)
        self._services.metrics.claims.labels("expired").inc(len(claimed))
        return claimed

    async def _purge(self) -> None:
        now, store = self._time.ms(), self._services.store
        await self._services.observers.swept(now)
        for record in await self._expired(now):
            try:
                await self._purge_one(record, now)
            except Exception:  # of this session: the others are purged all the same
                log.exception("session %s was not purged", record.key)
                await self._manager.release(record.key)
        forgotten = now - round(self._config.tombstone_days * DAY_MILLISECONDS)
        await store.tombstones.drop(before=forgotten)
        await store.secrets.forget_removed(before=forgotten)
        await store.idempotency.drop(before=now - DAY_MILLISECONDS)
        await store.credentials.forget_used(now=now)
