"""What gateways leave when they die, and taking it over.

Guarantees: a gateway that stood still for a lease is removed, and then may write nothing; turns that its
death cut are ended in words by one of those that are left; everything else of it waits for the next who asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from gateway.errors import GatewayError
from gateway.sessions.manager import SessionManager
from gateway.sessions.membership import Membership
from gateway.stores.directory import Directory

log = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 30.0
"""How often it is looked for what nobody has, though nobody has died: a session may have found no room."""
RETRY_SECONDS: Final = 0.5


class Takeover:
    """See the module."""

    def __init__(self, manager: SessionManager, membership: Membership, directory: Directory) -> None:
        self._manager = manager
        self._membership = membership
        self._directory = directory

    async def run(self) -> None:
        """For ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS):
                    await self._membership.news.wait()
            self._membership.news.clear()
            try:
                await self._look()
            except GatewayError as error:
                log.warning("what another gateway left is not taken over yet: %s", error)
                self._membership.news.set()
                await asyncio.sleep(RETRY_SECONDS)

    async def _look(self) -> None:
        for row in self._membership.dead:
            if await self._directory.bury(row):
                log.warning(
                    "gateway %s has died: its sessions are anybody's", self._membership.name_of(row.id)
                )
        if cut := await self._manager.take_over():
            log.warning("%d turns were cut by the end of another gateway", cut)
