"""The contract of a store: what survives a session's time in memory.

A store keeps session records, their events, tombstones and idempotency keys. Events go in through `enqueue`,
which never blocks and never fails: the store commits in groups and tells the log's sink, in order, what is
durable or what was refused. `memory.py` is the reference; every store passes tests/contract/test_stores.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from msgspec import Struct

from gateway.errors import GatewayError
from gateway.events.facts import Event


class SessionRecord(Struct, frozen=True, kw_only=True):
    """What is known of a session while it is not in memory. Times are milliseconds since 1970 UTC."""

    key: str
    """The internal, random name: of rows, directories and log lines. Never the client's id."""
    owner: str
    session_id: str
    agent: str
    created_at: int
    last_active_at: int
    title: str | None = None
    agent_session_id: str | None = None
    """The agent's own ACP session id, by which it may be resumed."""
    uid: int | None = None
    """The user id that its workers run as; not given to another session before this one is purged."""
    message_count: int = 0
    retention_days: float | None = None
    """Kept so long after its last use; None: as the configuration says."""
    expires_at: int | None = None
    """When it is purged unless it is used before; None: never."""
    stored_bytes: int = 0
    """About how large its events are."""


class OwnerTotal(Struct, frozen=True):
    """How much is stored of an owner."""

    sessions: int
    stored_bytes: int


class Tombstone(Struct, frozen=True, kw_only=True):
    """What is left of a deleted session: no content, only that it was, until when, and the last seq it
    used.
    """

    owner: str
    session_hash: str
    last_seq: int
    at: int
    reason: str


READ_BYTES: Final = 1024 * 1024
"""How much is read of a log at once, unless more or less is asked for."""


class Remembered(Struct, frozen=True, kw_only=True):
    """The outcome of a request that carried an Idempotency-Key."""

    body_hash: str
    session_id: str


class StoredLog(Struct, frozen=True, kw_only=True):
    """Where a session's log stands in the store."""

    last_seq: int
    reserved_seq: int
    """Sequence numbers up to this one may have been seen by a client; the next life of the log begins
    above it.
    """
    gaps: tuple[tuple[int, int], ...] = ()
    """(last kept, first new) of every life that ended in a crash: numbers strictly between were seen and
    are lost.
    """


class Sink(Protocol):
    """A log's end of the bargain; called on the loop's thread, in order."""

    key: str

    def committed(self, seq: int) -> None:
        """Everything enqueued up to `seq` is durable."""

    def refused(self, error: GatewayError) -> None:
        """The store cannot write now. It keeps what was enqueued and tries again, but for what `forget`
        takes back.
        """

    def spoiled(self, seqs: set[int], error: GatewayError) -> None:
        """These events cannot be stored, now or later; those beside them were, and `committed` follows."""


class Store(Protocol):
    """One contract, several houses. Every `async` method may raise StoreFull or StoreFailed."""

    async def open(self) -> None:
        """Makes the store ready; raises StoreFailed, with what to do, where it cannot be."""

    async def close(self) -> None:
        """Commits what is enqueued and lets go."""

    async def create_session(self, record: SessionRecord) -> None:
        """Keeps a new record. Raises SessionExists where (owner, session_id) is taken."""

    async def find_session(self, owner: str, session_id: str) -> SessionRecord | None:
        """The owner's session of this id."""

    async def newest_session(self, owner: str) -> SessionRecord | None:
        """The session that the owner created last."""

    async def update_session(self, record: SessionRecord) -> None:
        """Replaces the record of the same key."""

    async def list_sessions(self, owner: str, *, limit: int) -> Sequence[SessionRecord]:
        """The owner's sessions, last active first."""

    async def list_all_sessions(self, *, tenant: str | None, limit: int) -> Sequence[SessionRecord]:
        """Every owner's sessions, of a tenant or of all, last active first."""

    async def count_sessions(self) -> int:
        """How many sessions are stored."""

    async def totals(self) -> dict[str, OwnerTotal]:
        """How much is stored, owner by owner."""

    async def size_bytes(self, key: str) -> int:
        """How large the events of a session are."""

    async def adopt(self, key: str, *, owner: str, session_id: str, keeps_shares: bool) -> bool:
        """Gives a session to another owner under this id, and ends its links unless they are kept; False if
        that owner has one of this id.
        """

    async def delete_session(self, key: str, tombstone: Tombstone) -> None:
        """Erases record, events and idempotency keys, and leaves the tombstone."""

    async def find_tombstone(self, owner: str, session_hash: str) -> Tombstone | None:
        """The tombstone of a deleted session."""

    async def expired_sessions(self, now: int, *, limit: int) -> Sequence[SessionRecord]:
        """Sessions whose retention is over, the longest expired first."""

    async def sessions_with_open_turn(self) -> Sequence[SessionRecord]:
        """Sessions whose last turn never ended: the gateway died in the middle of it."""

    async def taken_uids(self) -> set[int]:
        """The user ids of all stored sessions."""

    async def drop_old(self, *, tombstones_before: int, keys_before: int) -> int:
        """Forgets tombstones and Idempotency-Keys older than these times; how many tombstones."""

    async def stand(self, key: str) -> StoredLog:
        """Where the log of a session stands (0, 0 for a new one)."""

    async def reserve(self, key: str, upto: int, *, gap: tuple[int, int] | None = None) -> None:
        """Promises that sequence numbers up to `upto` are used by this life of the log, and keeps a gap
        before it.
        """

    def enqueue(self, sink: Sink, event: Event, *, urgent: bool) -> None:
        """Takes an event for the next group commit; `urgent` asks for it at once."""

    def backlog(self) -> int:
        """How many events and calls wait for their commit."""

    def forget(self, sink: Sink, seqs: set[int]) -> None:
        """Takes back events that were enqueued and are not committed; they will never be seen."""

    async def read_events(
        self, key: str, *, after: int, limit: int, max_bytes: int = READ_BYTES
    ) -> list[Event]:
        """The next committed events above a cursor, in order: at most `limit`, and only the first of those
        that together are longer than `max_bytes`.
        """

    async def oldest_seq(self, key: str) -> int:
        """Events at or below this sequence number are no longer kept (0: everything is)."""

    async def compact(self, key: str, *, through: int) -> int:
        """Makes the log small up to a seq (gateway/events/compaction.py); how many events were saved."""

    async def recall(self, owner: str, key: str, *, since: int) -> Remembered | None:
        """What was kept under an Idempotency-Key at or after `since`."""

    async def remember(
        self, owner: str, key: str, remembered: Remembered, *, at: int, since: int
    ) -> Remembered:
        """Keeps a request under its Idempotency-Key, unless one was kept at or after `since`: the one that
        stands.
        """
