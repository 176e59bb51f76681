"""Session records: what is known of a session while it is not in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from msgspec import Struct

from gateway.events.facts import Event
from gateway.stores.tombstones import Tombstone


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
    """About how large its events are, and what was uploaded."""
    uploaded_bytes: int = 0
    """Of that, what people put into its files; changed by `SessionStore.upload` alone."""
    parent: str | None = None
    """The id of the owner's session that it was forked from, if that is still there; read only."""
    open_turn: int = 0
    """Of a store that gateways share: 1 while a turn runs, 2 while messages wait for a budget; read only."""


class Forking(Struct, frozen=True, kw_only=True):
    """What a new session takes over from another."""

    source: str
    """The key of the other session."""
    through: int
    """Events up to this number are copied."""
    copied: Callable[[Event], Event | None]
    """An event as it is copied, under the same number; None: it is not. Called in any thread."""
    added: Sequence[Event]
    """Events behind those."""

    def copies(self, events: Iterable[Event]) -> list[Event]:
        """Of these events, those that the new session has."""
        copied = [self.copied(event) for event in events if event.seq <= self.through]
        return [event for event in copied if event is not None]


FORK_EVENTS: Final = 2_000
FORK_BYTES: Final = 1024 * 1024
"""So much of a log is in memory while it is copied."""


class Founding(Struct, frozen=True, kw_only=True):
    """What the log of a new session begins with."""

    reserved_seq: int
    """Numbers up to this one are promised to its first life."""
    gap: tuple[int, int] | None = None
    """What lies between the log of a deleted session of the same id and this one, as `StoredLog` has it."""
    events: Sequence[Event] = ()


class OwnerTotal(Struct, frozen=True):
    """How much is stored of an owner."""

    sessions: int
    stored_bytes: int


class SessionStore(Protocol):
    """Records by their internal key, and by (owner, session id), which is unique.

    A method that changes something returns when the change is durable. Every method may raise StoreFull or
    StoreFailed.
    """

    async def create(self, record: SessionRecord, founding: Founding | None = None) -> None:
        """Keeps a new record, with what its log begins with, in one transaction. Raises SessionExists if
        (owner, session_id) is taken.
        """

    async def fork(self, record: SessionRecord, forking: Forking) -> SessionRecord:
        """Keeps a new record, with its events, in one transaction: the record as it is kept, with how much
        is stored, of which `uploaded_bytes` are as the record says. Raises SessionExists if (owner,
        session_id) is taken, SessionNotFound if the source is gone.
        """

    async def update(self, record: SessionRecord) -> None:
        """Replaces what may change in the record of the same key: neither the owner nor the id. Does nothing
        if there is no such record.
        """

    def update_soon(self, record: SessionRecord) -> None:
        """Does the same with one of the next commits. Nobody waits for it, and if it fails it is lost."""

    async def upload(self, key: str, uploaded_bytes: int) -> None:
        """So much of what is stored of a session was uploaded. Does nothing if there is no such record."""

    async def find(self, owner: str, session_id: str) -> SessionRecord | None:
        """The owner's session of this id."""

    async def newest(self, owner: str) -> SessionRecord | None:
        """The session that the owner created last."""

    async def of_owner(self, owner: str, *, limit: int) -> Sequence[SessionRecord]:
        """The owner's sessions, last active first."""

    async def of_all(self, *, tenant: str | None, limit: int) -> Sequence[SessionRecord]:
        """Every owner's sessions, of a tenant or of all, last active first."""

    async def expired(self, now: int, *, limit: int) -> Sequence[SessionRecord]:
        """Sessions whose `expires_at` is before `now`, the longest expired first."""

    async def with_open_turn(self) -> Sequence[SessionRecord]:
        """Sessions whose last turn never ended: the gateway died in the middle of it."""

    async def waiting_for_budget(self) -> Sequence[SessionRecord]:
        """Sessions whose messages wait until a budget allows them (`QueueChanged.held_for`); perhaps some
        whose messages were dropped since.
        """

    async def taken_uids(self) -> set[int]:
        """The user ids of all stored sessions."""

    async def count(self) -> int:
        """How many sessions are stored."""

    async def totals(self) -> dict[str, OwnerTotal]:
        """How much is stored, owner by owner. All sessions are read: for a start."""

    async def last_used(self, *, has_visitors: bool) -> dict[str, int]:
        """Owner → when one of its sessions was last used, in milliseconds since 1970 UTC; visitors only if
        asked for, as there may be many more of them than of all others.
        """

    async def adopt(self, key: str, *, owner: str, session_id: str, keeps_shares: bool) -> bool:
        """Gives a session to another owner under this id, and ends its links unless they are kept, in one
        transaction. False, and nothing changed, if that owner has a session of this id.
        """

    async def delete(self, key: str, tombstone: Tombstone) -> None:
        """Erases the record, its events, links, projected rows and idempotency keys, and leaves the
        tombstone, in one transaction. Does nothing if there is no such record.
        """
