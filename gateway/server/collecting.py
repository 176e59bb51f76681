"""When Python looks for circles of garbage: never in the middle of work, if it can wait.

A full pass goes through every object there is and stops the loop meanwhile: 18 ms for a small gateway, 80 ms
with many sessions in memory. What is loaded at the start is set aside for good; passes over the young stay
automatic and rare; a full one is made when no session is at work, or after ten minutes at the latest.
Sessions are freed without it (`tests/gateway/test_sessions_freed.py`), so nothing waits for a full pass that
matters. A full pass also empties what Python keeps of freed tuples, lists and the like for the next ones:
some thousand of those hold on to pages on which nothing else is left, 13 MB after a flood of tool calls.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

YOUNG: Final = 1_000
"""So many more objects than were freed, and the youngest are looked at: half a millisecond. All of them live,
so a pass costs up to a microsecond each: 50,000 were seen to stop the loop for 39 ms.
"""
OLDER: Final = 5
"""So many of those passes, and the middle generation is, too: what lives on is looked at twice in all."""
NEVER: Final = 1_000_000
CHECK_SECONDS: Final = 20.0
LONGEST_SECONDS: Final = 600.0


class Collector:
    """Makes the full passes; see the module. `begin` once, then `run`."""

    def __init__(
        self, is_busy: Callable[[], bool], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`is_busy`: whether somebody would notice a pause."""
        self._is_busy = is_busy
        self._monotonic = monotonic
        self._last = monotonic()
        self._is_asked = False

    def ask(self) -> None:
        """Much was freed: a full pass as soon as nobody would notice."""
        self._is_asked = True
        self.collect_if_due()

    def begin(self) -> None:
        """Sets aside what the start has made; from here on no full pass begins by itself."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG, OLDER, NEVER)
        self._last = self._monotonic()

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self.collect_if_due()

    def collect_if_due(self) -> bool:
        """Makes a full pass if there is reason to, and nobody would notice or it has waited long enough."""
        has_reason = self._is_asked or gc.get_count()[2] > 0
        is_late = self._monotonic() - self._last >= LONGEST_SECONDS
        if not has_reason or (self._is_busy() and not is_late):
            return False
        self._is_asked = False
        began = time.monotonic()
        found = gc.collect()
        self._last = self._monotonic()
        log.debug("a full collection found %d objects in %.1f ms", found, 1000 * (time.monotonic() - began))
        return True
