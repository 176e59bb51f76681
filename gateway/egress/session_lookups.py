"""The look-ups of one session's worker.

Guarantees: connections that ask for one host at the same time wait for one look-up; a session has at most
`LOOKUPS_AT_ONCE` of them, so that names whose servers are silent do not use up those of others; nobody waits
longer than `LOOKUP_SECONDS`.
"""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.egress.addresses import AddressRules
from gateway.egress.lookup import LookupFailed

LOOKUPS_AT_ONCE: Final = 16
LOOKUP_SECONDS: Final = 10.0
"""A client asks again sooner than it gives up."""


class SessionLookups:
    """See the module. `end` with the worker."""

    def __init__(self, addresses: AddressRules, *, seconds: float = LOOKUP_SECONDS) -> None:
        self._addresses = addresses
        self._seconds = seconds
        self._places = asyncio.Semaphore(LOOKUPS_AT_ONCE)
        self._running: dict[tuple[str, int], asyncio.Task[list[str]]] = {}

    async def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a canonical host. Raises AddressRefused, LookupFailed."""
        key = host, port
        looking = self._running.get(key)
        if looking is None:
            looking = self._running[key] = asyncio.ensure_future(self._look(host, port))
            looking.add_done_callback(lambda done: self._is_done(key, done))
        try:
            return await asyncio.shield(looking)
        except asyncio.CancelledError:
            if looking.cancelled():  # by `end`, and not the connection that waits
                raise LookupFailed(f"{host} is not looked up any more: the agent has ended.") from None
            raise

    def end(self) -> None:
        """Nobody waits any more."""
        for looking in list(self._running.values()):
            looking.cancel()

    async def _look(self, host: str, port: int) -> list[str]:
        try:
            async with asyncio.timeout(self._seconds), self._places:
                return await self._addresses.resolve(host, port, is_worker=True)
        except TimeoutError:
            raise LookupFailed(f"{host} was not found within {self._seconds:g} seconds.") from None

    def _is_done(self, key: tuple[str, int], done: asyncio.Task[list[str]]) -> None:
        del self._running[key]
        if not done.cancelled():
            done.exception()  # it is heard of by those who wait, if anybody still does
