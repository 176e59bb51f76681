"""A gateway that leaves the others of its store: who has what it does not have any more.

It keeps what has something to do, until it has done it (`succession.hand_over`). For everything else it names
heirs: each session has one among the gateways that stay; a request about it is passed on to that one, which
takes it.

Guarantees: nothing new begins here, and nobody is refused as long as another gateway takes work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from gateway.errors import Draining
from gateway.sessions.manager import SessionKey
from gateway.sessions.membership import Membership, others_up
from gateway.stores.directory import Directory, Node, NodePlace
from gateway.stores.sessions import SessionRecord, SessionStore
from gateway.stores.sightings import NodeRow

RETRY_SECONDS: Final = 5
"""When to ask again where no gateway takes work: one may have started by then."""


class Departure:
    """`Successors` of a gateway that leaves; see the module."""

    def __init__(self, directory: Directory, store: SessionStore, membership: Membership) -> None:
        self._directory = directory
        self._store = store
        self._membership = membership

    @property
    def is_alone(self) -> bool:
        """Whether no other gateway takes work."""
        return not self._others

    @property
    def _others(self) -> list[Node]:
        return others_up(self._membership, self._directory.node)

    def _takers(self) -> list[Node]:
        """The others. Raises Draining if there are none."""
        if not (others := self._others):
            raise Draining(retry_after_seconds=RETRY_SECONDS)
        return others

    def heir(self, owner: str, session_id: str) -> NodePlace:
        """Who gets a session that no gateway has. Raises Draining if nobody does."""
        return max(self._takers(), key=lambda other: _draw(owner, session_id, other.id)).reached

    def _heir_if_any(self, owner: str, session_id: str) -> NodePlace | None:
        return None if self.is_alone else self.heir(owner, session_id)

    def maker(self) -> NodePlace:
        return min(self._takers(), key=lambda other: other.load.sessions).reached

    @property
    def node(self) -> int:
        return self._directory.node

    async def claim(self, owner: str, session_id: str) -> SessionRecord | NodePlace | None:
        """One that was made here meanwhile, such as a fork of a session that is still here, is taken."""
        if (place := await self._directory.holder(owner, session_id)) is not None:
            return place
        record = await self._store.find(owner, session_id)
        if record is not None and await self._directory.has_key(record.key):
            return await self._directory.claim(owner, session_id)
        return self.heir(owner, session_id)

    async def claim_open(self, *, limit: int) -> Sequence[SessionRecord]:
        """None: the others do."""
        return ()

    async def claim_expired(self, now: int, *, limit: int) -> Sequence[SessionRecord]:
        """None: the others do."""
        return ()

    async def release(self, key: str) -> None:
        await self._directory.release(key)

    async def holder(self, owner: str, session_id: str) -> NodePlace | None:
        held = await self._directory.holder(owner, session_id)
        return held or self._heir_if_any(owner, session_id)

    async def holder_of_key(self, key: str) -> NodePlace | None:
        held = await self._directory.holder_of_key(key)
        return held or self._heir_if_any("", key)

    async def holders(self, names: Iterable[SessionKey]) -> Mapping[SessionKey, NodePlace]:
        wanted = list(names)
        found = dict(await self._directory.holders(wanted))
        for owner, session_id in wanted:
            if (owner, session_id) not in found:
                newest = await self._store.newest(owner) if not session_id else None
                place = self._heir_if_any(owner, newest.session_id if newest is not None else session_id)
                if place is not None:
                    found[owner, session_id] = place
        return found

    async def count_elsewhere(self, *, owner: str = "", tenant: str = "") -> tuple[int, int]:
        return await self._directory.count_elsewhere(owner=owner, tenant=tenant)

    async def has_key(self, key: str) -> bool:
        return await self._directory.has_key(key)

    async def bury(self, row: NodeRow) -> bool:
        return await self._directory.bury(row)

    def announce(self) -> None:
        self._directory.announce()


def _draw(owner: str, session_id: str, node: int) -> bytes:
    """The highest draw gets a session: if a node comes or goes, the other sessions stay where they are."""
    return hashlib.blake2b(f"{owner}\0{session_id}\0{node}".encode(), digest_size=8).digest()
