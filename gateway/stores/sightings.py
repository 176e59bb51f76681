"""Which of the gateways that share a store have died, as another one sees it. Pure.

A gateway beats: it counts up a number in its row, without which it may write nothing. So it is dead at the
latest when the row is removed; before that, it must have stood still for a lease, by one's own clock.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct


class NodeRow(Struct, frozen=True):
    """One start of a gateway; `id` is never used again."""

    id: int
    beat: int


class Sightings:
    """The beats of others, by this gateway's own clock."""

    def __init__(self, *, lease_seconds: float) -> None:
        self._lease_seconds = lease_seconds
        self._seen: dict[int, tuple[NodeRow, float]] = {}
        """By id: the row, and when it was first seen with this beat."""
        self._last_at = float("-inf")

    def forget(self) -> None:
        """A beat of one's own was not answered: perhaps nobody's was."""
        self._seen.clear()

    def see(self, others: Iterable[NodeRow], *, at: float) -> list[NodeRow]:
        """What an answer said that came at this moment; those that have died by it. Silence is counted only
        while one's own answers come often.
        """
        if at - self._last_at > self._lease_seconds / 2:
            self.forget()
        self._last_at = at
        before, self._seen = self._seen, {}
        for row in others:
            known = before.get(row.id)
            self._seen[row.id] = known if known is not None and known[0].beat == row.beat else (row, at)
        return [row for row, since in self._seen.values() if at - since >= self._lease_seconds]

    def still_seconds(self, node: int, *, at: float) -> float:
        """For how long a row was seen with one beat."""
        known = self._seen.get(node)
        return 0.0 if known is None else max(0.0, at - known[1])
