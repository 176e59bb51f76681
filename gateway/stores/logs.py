"""Logs: the events of each session, in order.

Events go in through `enqueue`, which never blocks and never fails: the store commits in groups and tells the
log's sink, in order, what is durable or what was refused.
"""

from __future__ import annotations

from typing import Final, Protocol

from msgspec import Struct

from gateway.errors import GatewayError
from gateway.events.facts import Event

READ_BYTES: Final = 1024 * 1024
"""How much is read of a log at once, unless more or less is asked for."""


class StoredLog(Struct, frozen=True, kw_only=True):
    """What the store holds of a session's log."""

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
        takes back. With SessionFenced it never will: another gateway has the session, and what was enqueued
        is dropped.
        """

    def spoiled(self, seqs: set[int], error: GatewayError) -> None:
        """These events cannot be stored, now or later; those beside them were, and `committed` follows."""


class LogStore(Protocol):
    """Logs by the key of their session. Every `async` method may raise StoreFull or StoreFailed, and what
    changes something SessionFenced: another gateway has the session.

    The owner of a log gives its events their numbers; the store only keeps what is promised of them. An
    event that is enqueued twice is read once.
    """

    async def stand(self, key: str) -> StoredLog:
        """What is held of a session's log (0, 0 for a new one)."""

    async def reserve(self, key: str, upto: int, *, gap: tuple[int, int] | None = None) -> None:
        """Promises that sequence numbers up to `upto` are used by this life of the log, and keeps a gap
        before it.
        """

    def enqueue(self, sink: Sink, *events: Event, urgent: bool) -> None:
        """Takes events, which are committed together, for the next group; `urgent` asks for it at once."""

    def forget(self, sink: Sink, seqs: set[int]) -> None:
        """Takes back events that were enqueued and are not committed; they will never be seen."""

    def backlog(self) -> int:
        """How many events and calls wait for their commit."""

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

    async def size_bytes(self, key: str) -> int:
        """How large the events of a session are."""
