"""What is said of refused connections: the first to a host at once, those after it together.

Guarantees: an agent that tries without end adds few events, and a bounded number of hosts, to its turn; every
refusal is counted in one of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.events.facts import EgressDenied

HOSTS: Final = 64
"""Different hosts, with port and reason, that one turn is told of; all further ones are one."""
PAUSES: Final = (10.0, 60.0)
"""Seconds until what came after the first is said: at first, and from then on."""


class _Key(NamedTuple):
    host: str
    port: int
    why: str


class Refusals:
    """`note` each; `end` with the worker. `say` appends the fact."""

    def __init__(
        self,
        say: Callable[[EgressDenied], None],
        *,
        turn_id: Callable[[], str | None],
        pauses: tuple[float, float] = PAUSES,
    ) -> None:
        self._say = say
        self._turn_id = turn_id
        self._pauses = pauses
        self._turn: str | None = None
        self._counts: dict[_Key, int] = {}
        self._unsaid: set[_Key] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._has_joined = False

    def note(self, host: str, port: int, why: str) -> bool:
        """Counts one; True if it is the first to this host in its turn."""
        turn = self._turn_id()
        if turn != self._turn:
            self.end()
            self._turn = turn
        key = _Key(host, port, why)
        if key not in self._counts and len(self._counts) >= HOSTS:
            key = _Key("", 0, why)
        count = self._counts[key] = self._counts.get(key, 0) + 1
        if count == 1:
            self._tell(key)
            return bool(key.host)
        self._unsaid.add(key)
        if self._timer is None:
            pause = self._pauses[1 if self._has_joined else 0]
            self._timer = asyncio.get_running_loop().call_later(pause, self._join)
        return False

    def end(self) -> None:
        """Says what was not said yet, and begins anew."""
        if self._timer is not None:
            self._timer.cancel()
        self._join()
        self._counts.clear()
        self._has_joined = False

    def _join(self) -> None:
        self._timer = None
        self._has_joined = True
        unsaid, self._unsaid = self._unsaid, set()
        for key in sorted(unsaid):
            self._tell(key)

    def _tell(self, key: _Key) -> None:
        self._say(EgressDenied(*key, self._counts[key], self._turn))
