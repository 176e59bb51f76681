"""Which gateway had a session a moment ago: so that not every request about it asks the store first.

It may be wrong, and does no harm then: a gateway that does not have the session says so, and the store is
asked (`gateway.http.forwarding`).

Guarantees: nothing is remembered for longer than twice `PLACE_SECONDS`, nor of a gateway that was just found
not to have what it was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.stores.directory import NodePlace

PLACE_SECONDS: Final = 1.0
Name = tuple[str, str]
"""Owner and session id."""


class RecentPlaces:
    """See the module. `monotonic` says seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._now: dict[Name, NodePlace] = {}
        self._before: dict[Name, NodePlace] = {}
        self._turned_at = monotonic()

    def find(self, name: Name) -> NodePlace | None:
        """Where it was, if that is known."""
        self._turn()
        return self._now.get(name) or self._before.get(name)

    def note(self, name: Name, place: NodePlace) -> None:
        """It is there now, says the store."""
        self._turn()
        self._now[name] = place

    def forget(self, node: int) -> None:
        """What this gateway had may be anywhere."""
        self._now, self._before = (
            {name: place for name, place in places.items() if place.id != node}
            for places in (self._now, self._before)
        )

    def _turn(self) -> None:
        late = self._monotonic() - self._turned_at
        if late < PLACE_SECONDS:
            return
        self._now, self._before = {}, self._now if late < 2 * PLACE_SECONDS else {}
        self._turned_at = self._monotonic()
