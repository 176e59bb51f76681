"""Record: what is known of a session beside its log: whose it is, when it was used, how much it takes.

The store hears of it at the end of a turn, of a life, and when somebody asks for it to be kept otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from gateway.agents.catalogue import Agent
from gateway.errors import GatewayError, SessionEnded
from gateway.events.fold import ChatState
from gateway.principal import Account, tenant_of
from gateway.sessions.services import Services
from gateway.stores.contract import SessionRecord

log = logging.getLogger(__name__)


class Record:
    """See the module."""

    def __init__(self, kept: SessionRecord, fold: ChatState, services: Services) -> None:
        self.kept = kept
        """As the store knows it, but for what `fresh` adds."""
        self._fold = fold
        self._services = services
        self.last_used = services.monotonic()
        self.size_bytes = kept.uploaded_bytes
        self._counted_bytes = kept.stored_bytes
        """How much of its size its owner's quota knows of."""

    @property
    def key(self) -> str:
        """The internal key of the session."""
        return self.kept.key

    @property
    def tenant(self) -> str:
        """The tenant that the session is counted for."""
        return tenant_of(self.kept.owner)

    @property
    def account(self) -> Account:
        """Who pays for what the session does by itself."""
        return Account(self.kept.owner, self.kept.key, agent=self.kept.agent)

    def paid_by(self, account: Account | None) -> Account:
        """Who pays for a turn that somebody asks for; None: the session's owner."""
        return msgspec.structs.replace(account, agent=self.kept.agent) if account else self.account

    @property
    def agent(self) -> Agent:
        """Its agent, as the configuration has it now."""
        return self._services.agents.of(self.kept.agent)

    @property
    def idle_seconds(self) -> float:
        """Seconds since it was used."""
        return self._services.monotonic() - self.last_used

    def use(self) -> float:
        """The idle clock starts anew; the time."""
        self.last_used = self._services.monotonic()
        return self.last_used

    def fresh(self) -> SessionRecord:
        """The record as it is now."""
        used_at = self._services.wall_ms() - round(self.idle_seconds * 1000)
        record = self._services.dated(self.kept, used_at=used_at)
        return msgspec.structs.replace(
            record,
            title=self._fold.title,
            message_count=len(self._fold.messages),
            stored_bytes=self.size_bytes,
        )

    async def keep(self, **changes: object) -> None:
        """Brings the stored record up to date, with these changes; if the store cannot write, the next time
        does it.
        """
        self._change(changes)
        try:
            await self._services.store.sessions.update(self.kept)
        except GatewayError as error:
            log.warning("session %s: its record is not kept for now: %s", self.key, error)

    def keep_soon(self, **changes: object) -> None:
        """Does the same with the next commit, and waits for nothing."""
        self._change(changes)
        self._services.store.sessions.update_soon(self.kept)

    def _change(self, changes: Mapping[str, object]) -> None:
        self.kept = msgspec.structs.replace(self.kept, **changes)
        self.kept = self.fresh()  # after the changes: when it expires follows from them
        if grown := self.size_bytes - self._counted_bytes:
            self._services.quotas.add_bytes(self.kept.owner, grown)
            self._services.ledger.use(self.account, stored_bytes=grown)
        self._counted_bytes = self.size_bytes

    async def measure(self) -> None:
        """Asks the store how much the session takes, and keeps that."""
        try:
            size = await self._services.store.logs.size_bytes(self.key)
        except GatewayError:
            return  # the next time
        self.size_bytes = size + self.kept.uploaded_bytes
        await self.keep()

    async def add_upload(self, size: int, *, counted: int, most: int | None) -> None:
        """So many bytes more, or less, were uploaded to its files. When `counted` were, the files took
        `most`: what the agent has deleted counts no longer. Raises StoreFull or StoreFailed; then it counts
        until the session leaves memory.
        """
        before = self.kept.uploaded_bytes
        is_measured = most is not None and before == counted  # not if others were counted meanwhile
        uploaded = max(0, (min(before, most or 0) if is_measured else before) + size)
        self.size_bytes += uploaded - before
        await self.keep(uploaded_bytes=uploaded)
        await self._services.store.sessions.upload(self.key, uploaded)

    def move(self, owner: str, session_id: str) -> None:
        """The session belongs to somebody else from now on, under this id."""
        self.kept = msgspec.structs.replace(self.kept, owner=owner, session_id=session_id)
        self._fold.session_id = session_id

    def ended(self) -> SessionEnded:
        """For a verb that comes too late."""
        return SessionEnded(session_id=self.kept.session_id)
