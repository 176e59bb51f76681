"""Observers: applications that hear of what happens to sessions. Any number of them, in the order in which
they were added; one that fails is logged and delays no other.
"""

from __future__ import annotations

import logging
from collections.abc import Container
from typing import TYPE_CHECKING

from gateway.config.applications import Application, installed, resolved
from gateway.errors import GatewayError
from gateway.events.facts import Event
from gateway.principal import ConversationKey
from gateway.stores.database import MemoryTables, Tables

if TYPE_CHECKING:
    from gateway.sessions.session import Session

log = logging.getLogger(__name__)


class Observer:
    """Hears of everything and does nothing; a subclass says what it does."""

    def appended(self, session: Session, event: Event | None) -> None:
        """An event became visible in the log of a `Session` in memory; None: the session came into memory."""

    async def moved(self, old: ConversationKey, new: ConversationKey) -> None:
        """A session has another owner or another id."""

    async def adopted(self, giver: str, taker: str, *, tenant: str) -> None:
        """All that one owner had is another's, also what belongs to no session. The sessions were `moved`."""

    async def erased(self, key: ConversationKey, *, reason: str) -> None:
        """A session was erased: `deleted` by somebody, or `purged` because its time was over."""

    async def swept(self, now: int) -> None:
        """Time to forget what is over; `now` is in milliseconds since 1970 UTC."""


class Observers:
    """See the module."""

    def __init__(self) -> None:
        self._all: list[Observer] = []

    def add(self, *observers: Observer) -> None:
        """They hear of everything from now on."""
        self._all += observers

    def appended(self, session: Session, event: Event | None) -> None:
        for observer in self._all:
            try:
                observer.appended(session, event)
            except Exception:
                log.exception("session %s: an application failed at an event", session.record.key)

    async def moved(self, old: ConversationKey, new: ConversationKey) -> None:
        """Raises the GatewayError of the last one that failed, as do the others below."""
        await self._each("moved", old, new)

    async def adopted(self, giver: str, taker: str, *, tenant: str) -> None:
        await self._each("adopted", giver, taker, tenant=tenant)

    async def erased(self, key: ConversationKey, *, reason: str) -> None:
        await self._each("erased", key, reason=reason)

    async def swept(self, now: int) -> None:
        await self._each("swept", now)

    async def _each(self, what: str, *arguments: object, **named: object) -> None:
        failure: GatewayError | None = None
        for observer in self._all:
            try:
                await getattr(observer, what)(*arguments, **named)
            except GatewayError as error:
                failure = error
            except Exception:
                log.exception("an application failed when a session was %s", what)
        if failure is not None:
            raise failure


async def keepers(tables: Tables, *, running: Container[str]) -> list[Observer]:
    """Those who look after what applications have stored that are switched off. The store is open."""
    off = [one for one in installed().values() if one.name not in running and one.keep is not None]
    return [resolved(one.keep or "")(tables) for one in off if await _has_rows(one, tables)]


async def _has_rows(application: Application, tables: Tables) -> bool:
    """True if the tables of an application that is switched off are in the store."""
    if isinstance(tables, MemoryTables) or not application.outliving:
        return False
    return await tables.has_table(application.outliving[0].table)
