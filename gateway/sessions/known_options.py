"""What agents offered to choose lately, so that a new session shows it before its agent has started.

Guarantees: an owner sees only what an own session was offered; it is kept in memory, and bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from gateway.events.facts import SessionOption

KEPT: Final = 256
"""Lists; one has at most a thousand choices."""


class KnownOptions:
    """The last list of each owner and agent; see the module."""

    def __init__(self) -> None:
        self._lists: OrderedDict[tuple[str, str], tuple[SessionOption, ...]] = OrderedDict()

    def note(self, owner: str, agent: str, options: tuple[SessionOption, ...]) -> None:
        """A session of this owner was offered these."""
        self._lists[owner, agent] = options
        self._lists.move_to_end((owner, agent))
        if len(self._lists) > KEPT:
            self._lists.popitem(last=False)

    def of(self, owner: str, agent: str) -> tuple[SessionOption, ...]:
        """The last list; empty if none is known."""
        return self._lists.get((owner, agent), ())

    def move(self, giver: str, taker: str) -> None:
        """All that one owner saw, another sees from now on."""
        for owner, agent in [key for key in self._lists if key[0] == giver]:
            options = self._lists.pop((owner, agent))
            self._lists.setdefault((taker, agent), options)
