"""Sessions whose messages wait until a budget allows them, and letting them go on.

A budget allows more when its configuration changes, when a day or a month begins, or when somebody sets that
of one session. Then every session that waits is asked, some at a time: those that are not in memory are
restored for it.

Guarantees: a session that waits is asked after each such change, also after a restart; one that finds no room
(for a worker, in memory, in the store) is asked again; nobody who is disabled gets an agent by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.config.tables import Config
from gateway.errors import BudgetReached, GatewayError, SessionElsewhere
from gateway.models.budgets import day_of
from gateway.principal import Account, tenant_of
from gateway.stores.contract import SessionRecord

if TYPE_CHECKING:
    from gateway.sessions.manager import SessionManager
    from gateway.sessions.services import Services

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often it is looked whether budgets may have changed."""
ASKED_AT_ONCE: Final = 50
"""In one look: each may start a worker."""


class BudgetWaits:
    """The sessions that wait, in memory or not, and which of them are to be asked."""

    def __init__(self) -> None:
        self._records: dict[str, SessionRecord] = {}
        """By key, as they were when they began to wait."""
        self.due: dict[str, None] = {}
        """The keys of those to be asked, the next first."""
        self.changed = asyncio.Event()

    def add(self, record: SessionRecord) -> None:
        """Its messages wait."""
        self._records[record.key] = record

    def move(self, key: str, owner: str, session_id: str) -> None:
        """It belongs to somebody else from now on."""
        if (known := self._records.get(key)) is not None:
            self._records[key] = msgspec.structs.replace(known, owner=owner, session_id=session_id)

    def forget(self, key: str) -> None:
        """It does not wait any more."""
        self._records.pop(key, None)

    def find(self, key: str) -> SessionRecord | None:
        """One that waits."""
        return self._records.get(key)

    def ask(self, key: str) -> None:
        """It may be allowed to go on."""
        if key in self._records:
            self.due[key] = None
            self.changed.set()

    def ask_all(self) -> None:
        """Each of them may be allowed to go on."""
        self.due |= dict.fromkeys(self._records)


class BudgetReleaser:
    """See the module. `open` it before sessions come."""

    def __init__(self, manager: SessionManager, services: Services) -> None:
        self._manager = manager
        self._services = services
        self._waits = services.waits
        self._seen: tuple[Config, int] | None = None

    async def open(self) -> None:
        """Knows those that waited when the last gateway ended. Raises StoreFailed."""
        if self._services.store.directory is not None:
            return  # those that no other gateway has are taken over
        for record in await self._services.store.sessions.waiting_for_budget():
            self._waits.add(record)

    async def run(self) -> None:
        """Asks those that may go on, for ever."""
        while True:
            await self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._waits.changed.wait()

    async def look(self) -> None:
        """Asks some of those that are due; none while the gateway takes no new work."""
        self._waits.changed.clear()
        if self._manager.is_draining:
            return
        now = (self._services.config, day_of(self._services.wall_ms()))
        if self._seen is None or self._seen[0] is not now[0] or self._seen[1] != now[1]:
            self._seen = now
            self._waits.ask_all()
        for key in list(self._waits.due)[:ASKED_AT_ONCE]:
            del self._waits.due[key]
            try:
                is_to_wait = await self._ask(key)
            except Exception:  # of this session: the others are asked all the same
                log.exception("session %s: its waiting messages were not sent", key)
                continue
            if is_to_wait:
                self._waits.due[key] = None

    async def _ask(self, key: str) -> bool:
        """Whether it is to be asked again, though nothing has changed."""
        record = self._waits.find(key)
        if record is None:
            return False
        tenant = self._services.config.tenant(tenant_of(record.owner))
        if tenant is None or tenant.is_disabled or self._services.people.is_disabled(record.owner):
            return True
        try:
            self._check_others(record)
            session = await self._manager.find(record.owner, record.session_id)
        except BudgetReached:
            return False
        except SessionElsewhere:  # who has it asks it
            self._waits.forget(key)
            return False
        except GatewayError:  # no room in memory, or the store is out of order
            return True
        if session is None or session.record.key != key:
            self._waits.forget(key)
            return False
        error = await session.go_on()
        if not session.waits_for_budget:
            self._waits.forget(key)
            return False
        return not isinstance(error, BudgetReached)  # None: a turn runs, or the session is being closed

    def _check_others(self, record: SessionRecord) -> None:
        """Raises BudgetReached if a session need not be restored to know that it may not go on: what is its
        own is known from its log.
        """
        if self._manager.get(record.owner, record.session_id) is None:
            account = Account(record.owner, record.key, agent=record.agent)
            self._services.ledger.budgets.check(account, also_own=False)
