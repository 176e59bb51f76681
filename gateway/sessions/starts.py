"""Which session starts a worker next: the tenants take turns, and each tenant's sessions start in order.

So a tenant's burst of five hundred waits in its own queue, and another's first session waits for a few
starts at most.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from typing import Final

AT_ONCE: Final = 4
"""Starts under way at the same time; more would only wait in the fork server, in no fair order."""


class StartQueue:
    """`async with starts.turn(tenant): spawn`."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._free = at_once
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @contextlib.asynccontextmanager
    async def turn(self, tenant: str) -> AsyncIterator[None]:
        """Waits for this tenant's turn."""
        if self._free and not self._waiting:
            self._free -= 1
        else:
            await self._wait(tenant)
        try:
            yield
        finally:
            self._hand_on()

    async def _wait(self, tenant: str) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._hand_on()
            raise

    def _hand_on(self) -> None:
        """Gives a free place to the next tenant in turn."""
        while self._waiting:
            tenant, queue = self._waiting.popitem(last=False)
            future = queue.popleft()
            if queue:
                self._waiting[tenant] = queue
            if not future.done():
                future.set_result(None)
                return
        self._free += 1
