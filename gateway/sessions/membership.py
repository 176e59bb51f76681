"""This gateway's place at a store that another one could take over, and what follows from it.

The store beats, and tells of each answer. Guarantees: when no answer has come for `lease_seconds`, the
workers rest, also if the gateway stands still as a whole, and nothing new is accepted; they go on with the
next answer, or end when they have rested for `kill_seconds`; once the place was taken they end at once. Of
several gateways, one that stood still for a lease is known to be dead.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Final

from gateway.config.cluster import ClusterConfig
from gateway.errors import StoreUnreachable
from gateway.sessions.lease import Lease, LeaseState
from gateway.stores.directory import Node, NodeLoad, NodesSeen
from gateway.stores.sightings import NodeRow, Sightings
from worker.spec import GoOn

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 2.0
"""When to ask again: the store may be back by then."""
_NANOSECONDS: Final = 1_000_000_000
_NOW: Final = GoOn(until_ns=0, end_ns=0)
"""Workers end at once."""


class Membership:
    """See the module. `beaten` hears of the beats."""

    def __init__(
        self,
        config: ClusterConfig,
        *,
        hold_to: Callable[[GoOn], None],
        on_fenced: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`hold_to` has workers rest and end at certain moments; `on_fenced` hears that the place is lost.
        `monotonic` is the clock of the store's beats.
        """
        self._config = config
        self._hold_to = hold_to
        self._on_fenced = on_fenced
        self._monotonic = monotonic
        self.lease = Lease(
            lease_seconds=config.lease_seconds, monotonic=monotonic, on_change=self._has_changed
        )
        self._look: asyncio.TimerHandle | None = None
        self._sightings = Sightings(lease_seconds=config.lease_seconds)
        self.nodes: tuple[Node, ...] = ()
        """The gateways that share the store, this one among them; empty if it is alone."""
        self._own = 0
        """The id of this gateway's row."""
        self.dead: list[NodeRow] = []
        """Those that stood still for a lease, and whose rows are there still."""
        self.news = asyncio.Event()
        """Set when one has died or left."""
        self.on_changes: Callable[[int], None] = lambda _changes: None
        """Hears, with the first beat and whenever it has risen, how often something was changed that gateways
        keep in memory.
        """
        self._changes: int | None = None
        self._store_said: tuple[int, float] | None = None
        """The time by the clock of the store, and when it was heard."""

    def check(self) -> None:
        """Raises StoreUnreachable if nothing may be accepted now."""
        if not self.lease.may_work_now():
            raise StoreUnreachable(retry_after_seconds=RETRY_SECONDS)

    def seen(self, seen: NodesSeen) -> None:
        """The store has told of the others, just now."""
        before, self.nodes, self._own = self.nodes, seen.nodes, seen.mine
        self._store_said = (seen.at_ms, self._monotonic()) if seen.at_ms else None
        others = [node.row for node in seen.nodes if node.id != seen.mine]
        self.dead = self._sightings.see(others, at=self._monotonic())
        if self.dead or {node.id for node in before} - {node.id for node in seen.nodes}:
            self.news.set()
        if seen.changes != self._changes:
            self._changes = seen.changes
            self.on_changes(seen.changes)

    def others(self) -> list[NodeLoad]:
        """What the others said of themselves with their last beats."""
        return [node.load for node in self.nodes if node.id != self._own]

    def shared_ms(self) -> int | None:
        """The time by the clock of the store, which all gateways have in common; None if it has not said."""
        if self._store_said is None:
            return None
        at_ms, heard = self._store_said
        return at_ms + round(1000 * (self._monotonic() - heard))

    def name_of(self, node: int) -> str:
        """What the operator calls one of them."""
        return next((known.name for known in self.nodes if known.id == node), str(node))

    def still_seconds(self, node: int) -> float:
        """For how long no beat of another one was seen."""
        return self._sightings.still_seconds(node, at=self._monotonic())

    def is_silent(self, node: int) -> bool:
        """Whether another one has stood still for a lease."""
        return any(row.id == node for row in self.dead)

    def beaten(self, sent: float, is_mine: bool) -> None:
        """The store has answered what was sent then; `is_mine`: the row of this gateway is there."""
        if self.lease.state is LeaseState.JOINING:
            self.lease.joined(sent=sent)
        else:
            self.lease.answered(sent=sent, is_mine=is_mine)
        if not self.lease.has_ended:
            self._hold()
            self._look_later()

    def fence(self) -> None:
        """The store has refused a write, because the row is gone."""
        self.lease.fence()

    def leave(self) -> None:
        """The store is closed."""
        self.lease.leave()
        self._stop_looking()

    def _hold(self) -> None:
        """Tells the workers' parent until when. Its clock is read first: so it is never told too late."""
        now_ns = time.monotonic_ns()
        left = self.lease.deadline - self._monotonic()
        until_ns = now_ns + math.floor(left * _NANOSECONDS)
        end_ns = until_ns + math.floor(self._config.kill_seconds * _NANOSECONDS)
        self._hold_to(GoOn(until_ns=until_ns, end_ns=end_ns))

    def _look_later(self) -> None:
        self._stop_looking()
        left = self.lease.deadline - self._monotonic()
        self._look = asyncio.get_running_loop().call_later(left, self.lease.look)

    def _stop_looking(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _has_changed(self, state: LeaseState) -> None:
        match state:
            case LeaseState.DOUBTFUL:
                seconds = self._config.lease_seconds
                log.error("the store has not answered for %g s: nothing is done until it does", seconds)
            case LeaseState.HELD:
                log.info("this gateway has its place at the store")
            case LeaseState.FENCED:
                self._stop_looking()
                self._hold_to(_NOW)
                self._on_fenced()


def others_up(membership: Membership, node: int) -> list[Node]:
    """The gateways besides this one that take work, as far as is known."""
    gone = {node, *(row.id for row in membership.dead)}
    return [other for other in membership.nodes if other.id not in gone and other.load.state == "up"]
