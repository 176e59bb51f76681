"""This gateway's place among those that use its store: it joins, beats, and leaves.

Guarantees: nobody joins under the name of a gateway that beats; whoever beats no more loses its place after
`lease_seconds`, and its workers rest by then, also if it stands still as a whole; a gateway whose place was
taken says nothing any more and ends.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Final

from gateway.config.cluster import ClusterConfig
from gateway.errors import GatewayError, StoreFailed, StoreUnreachable
from gateway.sessions.lease import Lease, LeaseState, Sightings
from gateway.stores.directory import Directory, NodeRow
from worker.spec import GoOn

log = logging.getLogger(__name__)

SINGLE: Final = "single"
"""The name of a gateway that is the only one of its store."""
RETRY_SECONDS: Final = 2.0
"""When to ask again: the store may be back by then."""
LEAVE_SECONDS: Final = 2.0
"""How long a gateway that ends tries to say so."""
_NANOSECONDS: Final = 1_000_000_000
_NOW: Final = GoOn(until_ns=0, end_ns=0)
"""Workers end at once."""


class Membership:
    """See the module. `join` first; `beat_for_ever` beside everything else; `leave` last."""

    def __init__(
        self,
        directory: Directory,
        *,
        name: str,
        config: ClusterConfig,
        monotonic: Callable[[], float],
        hold_to: Callable[[GoOn], None],
        on_fenced: Callable[[str], None],
    ) -> None:
        """`hold_to`: has workers rest and end at certain moments. `on_fenced` hears why the gateway must
        end.
        """
        self._directory = directory
        self._name = name
        self._config = config
        self._monotonic = monotonic
        self._hold_to = hold_to
        self._on_fenced = on_fenced
        self.lease = Lease(
            lease_seconds=config.lease_seconds, monotonic=monotonic, on_change=self._has_changed
        )
        self._sightings = Sightings(lease_seconds=config.lease_seconds)
        self._node = 0
        self._is_answered = True
        self._has_joined = asyncio.Event()

    # -- what others ask --------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises StoreUnreachable if it may not work now."""
        if not self.lease.may_work_now():
            raise StoreUnreachable(retry_after_seconds=RETRY_SECONDS)

    # -- its life ---------------------------------------------------------------------------------------

    async def join(self) -> None:
        """Raises StoreFailed if another gateway of this name is at work, or the store does not answer."""
        first: NodeRow | None = None
        while True:
            sent = self._monotonic()
            found = await self._directory.join(self._name)
            if isinstance(found, int):
                break
            first = await self._wait_for_the_end_of(found, first)
        self._node = found
        self.lease.joined(sent=sent)
        self._hold()
        self._has_joined.set()

    async def _wait_for_the_end_of(self, other: NodeRow, first: NodeRow | None) -> NodeRow:
        """Another one has the name; it is watched, and removed if it is dead. Raises StoreFailed."""
        if first is not None and other != first:
            raise StoreFailed(
                f"Another gateway uses this database under the name {other.name!r}: stop it first, or give "
                "this one a database of its own."
            )
        if self._sightings.see([other], at=self._monotonic()):
            log.warning("the gateway %r is dead: it has not beaten for its lease", other.name)
            await self._directory.remove(other.id, beat=other.beat)
        else:
            await asyncio.sleep(self._config.beat_seconds)
        return other

    async def beat_for_ever(self) -> None:
        """From when it has joined until it has no place any more; then it waits for the end."""
        await self._has_joined.wait()
        while not self.lease.has_ended:
            await self._beat()
            await asyncio.sleep(self._config.beat_seconds)
        await asyncio.Event().wait()

    async def _beat(self) -> None:
        sent = self._monotonic()
        try:
            async with asyncio.timeout(self._config.beat_answer_seconds):
                seen = await self._directory.beat(self._node)
        except (GatewayError, TimeoutError) as error:
            self._note(is_answered=False, why=str(error) or "no answer came")
            self._sightings.forget()
            self.lease.look()
            return
        self._note(is_answered=True)
        self.lease.answered(sent=sent, is_mine=seen.is_mine)
        if not self.lease.has_ended:
            self._hold()
            await self._remove_dead(seen.others)

    async def _remove_dead(self, others: tuple[NodeRow, ...]) -> None:
        for row in self._sightings.see(others, at=self._monotonic()):
            try:
                async with asyncio.timeout(self._config.beat_answer_seconds):
                    is_removed = await self._directory.remove(row.id, beat=row.beat)
            except (GatewayError, TimeoutError):
                return  # the next beat says more
            if is_removed:
                log.warning("the gateway %r is dead: it has lost its place", row.name)

    async def leave(self) -> None:
        """Gives its place back, unless it has lost it; its workers have ended before."""
        if self.lease.has_ended:
            return
        self.lease.leave()
        if self._node:
            try:
                async with asyncio.timeout(LEAVE_SECONDS):
                    await self._directory.leave(self._node)
            except (GatewayError, TimeoutError) as error:
                log.warning("the store does not hear that this gateway leaves: %s", error)

    def fence(self) -> None:
        """The store has refused a write, because the row is gone."""
        self.lease.fence()

    # -- what follows -----------------------------------------------------------------------------------

    def _hold(self) -> None:
        """Tells the workers' parent until when. Its clock is read first: so it is never told too late."""
        now_ns = time.monotonic_ns()
        left = self.lease.deadline - self._monotonic()
        until_ns = now_ns + math.floor(left * _NANOSECONDS)
        end_ns = until_ns + math.floor(self._config.kill_seconds * _NANOSECONDS)
        self._hold_to(GoOn(until_ns=until_ns, end_ns=end_ns))

    def _has_changed(self, state: LeaseState) -> None:
        match state:
            case LeaseState.DOUBTFUL:
                log.error("the store has not answered for the whole lease: nothing is done until it does")
            case LeaseState.HELD:
                log.info("this gateway has its place at the store")
            case LeaseState.FENCED:
                self._hold_to(_NOW)
                self._on_fenced(
                    "another gateway has taken its place at the store, or an operator has removed it"
                )

    def _note(self, *, is_answered: bool, why: str = "") -> None:
        """Logs the first beat without an answer, not each."""
        if self._is_answered and not is_answered:
            log.warning("the store did not answer a beat: %s", why)
        self._is_answered = is_answered
