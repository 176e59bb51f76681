"""What administrators and owners change at another gateway on the same store, taken over here.

Guarantees: what was changed anywhere holds here as soon as this gateway hears of it, within a beat: a
credential that ended opens nothing any more, and what is open by it ends; so do the sessions of a person or a
tenant that was disabled. What cannot be read now is read again until it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from gateway.api.shares import Links
from gateway.auth.opening import Authentication
from gateway.errors import GatewayError
from gateway.events.lifecycle import CloseReason
from gateway.http.gate import Gate
from gateway.sessions.manager import SessionManager
from gateway.stores.changes import ChangeKind, ChangeStore

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often it is looked, also if no beat tells that something was changed."""


class Following:
    """See the module. `open` it before anything is read, `heard` of a change, `run` beside the requests."""

    def __init__(
        self,
        store: ChangeStore,
        manager: SessionManager,
        auth: Authentication,
        gate: Gate,
        links: Links,
        *,
        tenants_changed: Callable[[], None],
    ) -> None:
        """`tenants_changed` has the gateway go on with the tenants as they are."""
        self._store = store
        self._manager = manager
        self._auth = auth
        self._gate = gate
        self._tenants_changed = tenants_changed
        self._known: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._ending: set[asyncio.Task[int]] = set()
        self._reads: Mapping[ChangeKind, Callable[[], Awaitable[None]]] = {
            "keys": self._keys,
            "shares": links.read_anew,
            "revocations": self._revocations,
            "people": self._people,
            "tenants": self._tenants,
            "secrets": auth.vault.read_anew,
            "signing": auth.open_secret,
        }

    async def open(self) -> None:
        """What is changed from here on is read anew. Raises StoreFailed."""
        self._known = dict(await self._store.numbers())

    def heard(self, _changes: int) -> None:
        """So often something was changed by now."""
        self._changed.set()

    async def run(self) -> None:
        """Looks, for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self.look()
            except GatewayError as error:
                log.warning("what other gateways have changed is not known for now: %s", error)

    async def look(self) -> None:
        """Reads what was changed since the last time. Raises StoreFailed."""
        numbers = await self._store.numbers()
        for kind, read in self._reads.items():
            number = numbers.get(kind, 0)
            if number != self._known.get(kind, 0):
                await read()
                self._known[kind] = number

    async def _keys(self) -> None:
        for owner in await self._auth.keys.read_anew():
            self._gate.look_again(owner)

    async def _revocations(self) -> None:
        for owner in self._auth.tickets.note_revoked(await self._auth.credentials.revocations()):
            self._auth.sign_ins.forget(owner)
            self._gate.look_again(owner)

    async def _people(self) -> None:
        for owner in await self._auth.people.read_anew():
            self._gate.look_again(owner)
            ending = asyncio.create_task(self._manager.close_all(owner, CloseReason.PERSON_DISABLED))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def _tenants(self) -> None:
        await self._auth.kept_tenants.open()
        self._tenants_changed()
