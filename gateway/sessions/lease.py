"""A gateway's lease on its store: may it work now? Pure.

    JOINING ──joined──► HELD ◄──answered, and still mine── DOUBTFUL
                        │ │ └──no answer for lease_seconds──► │ │
                        │ └────► DRAINING ◄───────────────────┘ │
                        │         │    └──left──► GONE          │
                        └─────────┴──my row is gone──► FENCED ◄─┘

Only a clock of this machine that is never set takes part. A lease counts from before the beat was sent;
others count its silence from after they have seen the beat (`gateway.stores.sightings`). So when another
gateway takes its row away, this one has known for a while that it may not work any more.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

from gateway.errors import BrokenInvariant


class LeaseState(enum.StrEnum):
    """See the module."""

    JOINING = "joining"
    HELD = "held"
    DOUBTFUL = "doubtful"
    DRAINING = "draining"
    FENCED = "fenced"
    GONE = "gone"


_S = LeaseState

LEASE_ARROWS: Final[dict[LeaseState, frozenset[LeaseState]]] = {
    _S.JOINING: frozenset({_S.HELD, _S.GONE}),
    _S.HELD: frozenset({_S.DOUBTFUL, _S.DRAINING, _S.FENCED}),
    _S.DOUBTFUL: frozenset({_S.HELD, _S.DRAINING, _S.FENCED}),
    _S.DRAINING: frozenset({_S.FENCED, _S.GONE}),
    _S.FENCED: frozenset(),
    _S.GONE: frozenset(),
}
"""The arrows of the drawing above."""
_ENDED: Final = frozenset({_S.FENCED, _S.GONE})
_WORKING: Final = frozenset({_S.HELD, _S.DRAINING})


class Lease:
    """Of one start of a gateway; `state` has one writer."""

    def __init__(
        self,
        *,
        lease_seconds: float,
        monotonic: Callable[[], float],
        on_change: Callable[[LeaseState], None] = lambda _state: None,
    ) -> None:
        self._lease_seconds = lease_seconds
        self._monotonic = monotonic
        self._on_change = on_change
        self.state = LeaseState.JOINING
        self.deadline = float("-inf")
        """Up to here, by the clock, it may work."""

    def _move(self, to: LeaseState) -> None:
        if to not in LEASE_ARROWS[self.state]:
            raise BrokenInvariant(f"A lease cannot go from {self.state} to {to}.")
        self.state = to
        self._on_change(to)

    @property
    def has_ended(self) -> bool:
        """True if it never comes back."""
        return self.state in _ENDED

    @property
    def seconds_left(self) -> float:
        """How long it may work without another answer; 0: not at all."""
        left = self.deadline - self._monotonic()
        return max(0.0, left) if self.state in _WORKING else 0.0

    def may_work_now(self) -> bool:
        """True if nobody else can have been given its sessions. Asked before anything is said of them."""
        return self.state in _WORKING and self._monotonic() < self.deadline

    def joined(self, *, sent: float) -> None:
        """Its row was made by a request of that moment."""
        self.deadline = sent + self._lease_seconds
        self._move(LeaseState.HELD)
        self.look()

    def answered(self, *, sent: float, is_mine: bool) -> None:
        """A beat that was sent at that moment found its row, or did not."""
        if self.has_ended:
            return
        if not is_mine:
            self._move(LeaseState.FENCED)
            return
        self.deadline = max(self.deadline, sent + self._lease_seconds)
        if self.state is LeaseState.DOUBTFUL and self._monotonic() < self.deadline:
            self._move(LeaseState.HELD)
        self.look()

    def look(self) -> None:
        """Time has passed."""
        if self.state is LeaseState.HELD and self._monotonic() >= self.deadline:
            self._move(LeaseState.DOUBTFUL)

    def fence(self) -> None:
        """The store says that it is not this gateway's any more."""
        if not self.has_ended and self.state is not LeaseState.JOINING:
            self._move(LeaseState.FENCED)

    def drain(self) -> None:
        """It is about to leave."""
        if self.state in (LeaseState.HELD, LeaseState.DOUBTFUL):
            self._move(LeaseState.DRAINING)

    def leave(self) -> None:
        """It has left; nothing to do if it has ended otherwise."""
        self.drain()
        if not self.has_ended:
            self._move(LeaseState.GONE)
