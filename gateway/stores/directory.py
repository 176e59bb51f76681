"""Who has which session, where several gateways share a store.

Each gateway is a node: a row that beats. A session's row names the node that has it; if that node is alive,
every request about the session is its own to answer. A node is alive as long as its row is there. Whoever
saw a row stand still for a lease removes it (`sightings.py`); then its sessions are anybody's.

Guarantees: a session is one living node's at a time; each claim raises its generation, and what is written
by an earlier one is refused (SessionFenced).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, Protocol

from msgspec import Struct

from gateway.errors import StoreFailed
from gateway.stores.sessions import SessionRecord
from gateway.stores.sightings import NodeRow, Sightings

ALONE: Final = "single"
"""The name of a gateway that shares its store with nobody; no node may have it."""
SAME_NAME_BEATS: Final = 3
SAME_NAME_SECONDS: Final = 1.0
"""For so long, and so many beats, the row of a node's own name must stand still before it is taken away: what
held it is most likely this gateway's last start, on another machine.
"""

NodeState = Literal["starting", "up", "draining"]
"""`starting`: the others cannot reach it yet. `draining`: it gives its sessions away, and ends."""


class NodePlace(Struct, frozen=True):
    """One start of a gateway, and where the others reach it."""

    id: int
    """Of its row; never used again."""
    name: str
    """What its operator calls it; the next start of the same gateway has it, too."""
    url: str
    """Of its listener for the others, `http://10.0.0.5:8081`, without a slash at the end."""


class NodeLoad(Struct, frozen=True):
    """What a node says of itself with each beat."""

    state: NodeState = "up"
    sessions: int = 0
    """In its memory."""
    workers: int = 0
    worker_limit: int = 0


class Newcomer(Struct, frozen=True, kw_only=True):
    """A start that asks to be a node."""

    name: str
    url: str
    version: str = ""
    """Of the program."""
    mark: str = ""
    """Of its data directory, which it has locked; who has the same mark and is not this start, is dead."""
    schema: str
    """Of the tables that it needs, those of applications too."""
    lease_seconds: float
    beat_seconds: float


class Node(Struct, frozen=True, kw_only=True):
    """The row of a node, or of a gateway that is alone."""

    id: int
    name: str
    url: str = ""
    version: str = ""
    mark: str = ""
    schema: str = ""
    lease_seconds: float = 0.0
    beat: int = 0
    load: NodeLoad = NodeLoad()
    place: str = ""
    """Machine and process, for people."""

    @property
    def row(self) -> NodeRow:
        """As its beats are counted."""
        return NodeRow(self.id, self.beat)

    @property
    def reached(self) -> NodePlace:
        """Where it is."""
        return NodePlace(self.id, self.name, self.url)


class NodesSeen(Struct, frozen=True):
    """What a beat was answered."""

    mine: int
    """The id of one's own row."""
    nodes: tuple[Node, ...]
    """All rows, one's own among them."""
    changes: int
    """How often something was changed that nodes keep in memory (table `cluster`)."""
    at_ms: int = 0
    """When the store said so, in milliseconds since 1970 UTC, by its own clock."""


class Directory(Protocol):
    """Of a store that nodes share. Every method may raise StoreFailed."""

    @property
    def node(self) -> int:
        """The id of this gateway's row."""

    async def claim(self, owner: str, session_id: str) -> SessionRecord | NodePlace | None:
        """Takes a session, which is this node's from now on: its record. The living node that has it, and
        nothing changed, if another one does; None if there is none.
        """

    async def claim_open(self, *, limit: int) -> Sequence[SessionRecord]:
        """Takes some of the sessions that no living node has, and whose last turn never ended or whose
        messages wait for a budget.
        """

    async def claim_expired(self, now: int, *, limit: int) -> Sequence[SessionRecord]:
        """Takes some of the sessions that no living node has, and whose `expires_at` is before `now`."""

    async def release(self, key: str) -> None:
        """Lets others have a session: its log is written, and this node has nothing more to say of it."""

    async def holder(self, owner: str, session_id: str) -> NodePlace | None:
        """The other living node that has a session; None if nobody does, or there is none."""

    async def holder_of_key(self, key: str) -> NodePlace | None:
        """The same by its internal key."""

    async def holders(self, names: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], NodePlace]:
        """The same of many sessions, by (owner, id); of the owner's newest session if the id is ""."""

    async def count_elsewhere(self, *, owner: str = "", tenant: str = "") -> tuple[int, int]:
        """How many sessions of an owner or of a tenant other living nodes have, and in how many of them an
        answer is under way.
        """

    async def has_key(self, key: str) -> bool:
        """True if this node has the session of this internal key."""

    async def bury(self, row: NodeRow) -> bool:
        """Removes the row of a node that stood still with this beat; False if it is gone, or has beaten."""

    def announce(self) -> None:
        """Has the others hear at once what this node says of itself (`NodeLoad`)."""


class Successors(Directory, Protocol):
    """Of a gateway that gives its sessions to others, or gets them from another."""

    def maker(self) -> NodePlace | None:
        """Who makes new sessions; None: this gateway. Raises Draining if nobody does."""


class NodeAdmission:
    """Whether a start may have its row, by the rows that it sees. Pure.

    Guarantees: never beside a living gateway that is alone, a living node of the same name, or one that knows
    other tables or has another lease.
    """

    def __init__(self, newcomer: Newcomer) -> None:
        self._newcomer = newcomer
        lease = newcomer.lease_seconds
        self._sightings = Sightings(lease_seconds=lease)
        still = max(SAME_NAME_SECONDS, SAME_NAME_BEATS * newcomer.beat_seconds)
        self._of_same_name = Sightings(lease_seconds=min(lease, still))
        self._beats: dict[int, int] = {}

    def in_the_way(self, rows: Iterable[Node]) -> list[Node]:
        """Those that must be dead."""
        return [row for row in rows if self._words(row) is not None]

    def look(self, rows: Iterable[Node], *, at: float) -> list[Node]:
        """Those in the way that are dead by now. Raises StoreFailed, in words, if one of them lives."""
        there = self.in_the_way(rows)
        for row in there:
            if self._beats.setdefault(row.id, row.beat) != row.beat:
                raise StoreFailed(self._words(row) or "")
        mine = [row for row in there if row.name == self._newcomer.name]
        dead = {one.id for one in self._sightings.see([row.row for row in there], at=at)}
        dead |= {one.id for one in self._of_same_name.see([row.row for row in mine], at=at)}
        dead |= {row.id for row in mine if row.mark and row.mark == self._newcomer.mark}
        return [row for row in there if row.id in dead]

    def _words(self, row: Node) -> str | None:
        """Why a living one keeps this one out; None if it does not."""
        new = self._newcomer
        if row.name == ALONE:
            return (
                f"A gateway that is alone uses this database: the one on {row.place}. Stop it first,"
                " or give it a cluster.url, too."
            )
        if row.name == new.name:
            return (
                f"Another gateway is called {new.name!r}: the one at {row.url}. Give each a cluster.name of"
                " its own."
            )
        if row.schema != new.schema:
            return (
                f"The gateway {row.name!r} at {row.url} (version {row.version}) knows other tables than"
                f" this one: {row.schema} there, {new.schema} here. Nobody changes tables under a"
                " gateway that runs. If this one is of a newer version, end all that are older first, each"
                " with agent-gateway nodes drain NAME. Else give it their version and applications."
            )
        if row.lease_seconds != new.lease_seconds:
            return (
                f"The gateway {row.name!r} has cluster.lease_seconds = {row.lease_seconds:g}, this one"
                f" {new.lease_seconds:g}: they must be the same."
            )
        return None
