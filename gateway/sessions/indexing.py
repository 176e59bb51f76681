"""Keeps the index of searches up to date, in pieces with rests between them: whoever chats or reads meanwhile
shall not notice, even after an upgrade that finds a hundred thousand sessions without one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from gateway.errors import GatewayError
from gateway.stores.search import SearchStore

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often it is looked for work. What is not indexed yet is found all the same."""
REST_FACTOR: Final = 9.0
"""It rests so many times as long as it worked: a tenth of a core at most."""
REST_LEAST: Final = 0.004
RETRY_SECONDS: Final = 10.0


class Indexer:
    """See the module."""

    def __init__(self, search: SearchStore, monotonic: Callable[[], float]) -> None:
        self._search = search
        self._monotonic = monotonic

    async def run(self) -> None:
        """For ever."""
        while True:
            began = self._monotonic()
            try:
                is_working = await self._search.index()
            except GatewayError as error:
                log.warning("the index of searches is not kept up to date for now: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            worked = self._monotonic() - began
            await asyncio.sleep(max(REST_LEAST, worked * REST_FACTOR) if is_working else LOOK_SECONDS)
