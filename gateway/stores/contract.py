"""The contract of a store: what survives a gateway's time in memory, concern by concern.

Each concern has a module and a protocol of its own beside this one. An engine is a folder that has them all;
`memory/` is the reference, and every engine passes tests/contract. `opening.py` chooses one by its URL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.stores.changes import ChangeStore
from gateway.stores.credentials import CredentialStore
from gateway.stores.database import Tables
from gateway.stores.directory import Directory
from gateway.stores.files import FileStore
from gateway.stores.held import HeldStore
from gateway.stores.idempotency import IdempotencyStore, Remembered
from gateway.stores.labels import LabelStore
from gateway.stores.ledger import LedgerStore
from gateway.stores.logs import READ_BYTES, LogStore, Sink, StoredLog
from gateway.stores.options import OptionStore
from gateway.stores.people import PeopleStore
from gateway.stores.search import SearchStore
from gateway.stores.secrets import SecretStore
from gateway.stores.sequences import SequenceStore
from gateway.stores.sessions import Founding, OwnerTotal, SessionRecord, SessionStore
from gateway.stores.signing import SigningStore
from gateway.stores.tenants import TenantStore
from gateway.stores.tombstones import Tombstone, TombstoneStore
from gateway.stores.usage import UsageStore

__all__ = [
    "READ_BYTES",
    "Founding",
    "OnBeat",
    "OwnerTotal",
    "Remembered",
    "SessionRecord",
    "Sink",
    "Store",
    "StoredLog",
    "Tombstone",
]


OnBeat = Callable[[float, bool], None]
"""Told when a beat was sent, by time.monotonic(), and if this gateway's row was still there."""


class Store(Protocol):
    """All concerns of one engine, which are opened and closed together."""

    @property
    def tables(self) -> Tables:
        """For applications: tables of their own, beside the sessions."""

    @property
    def is_shared(self) -> bool:
        """True if another gateway could take it over; then `Options.on_beat` hears that this one has it."""

    @property
    def directory(self) -> Directory | None:
        """Who has which session, where several gateways share it; None: all are this one's."""

    async def open(self) -> None:
        """Makes the store ready. Raises StoreFailed, with what to do, if it cannot be."""

    async def close(self) -> None:
        """Commits what is enqueued and lets go."""

    async def size_bytes(self) -> int:
        """How much room all of it takes on a disk; 0 if it is in memory. Raises StoreFailed."""

    @property
    def sessions(self) -> SessionStore:
        """Records."""

    @property
    def logs(self) -> LogStore:
        """Their events."""

    @property
    def tombstones(self) -> TombstoneStore:
        """What is left of those that were deleted."""

    @property
    def idempotency(self) -> IdempotencyStore:
        """Requests that are done once."""

    @property
    def credentials(self) -> CredentialStore:
        """API keys, shared links, revocations, one-time tokens."""

    @property
    def secrets(self) -> SecretStore:
        """Keys and credentials of people and tenants, encrypted."""

    @property
    def people(self) -> PeopleStore:
        """Who is disabled."""

    @property
    def tenants(self) -> TenantStore:
        """Those that administrators made or disabled."""

    @property
    def usage(self) -> UsageStore:
        """What was used on each day."""

    @property
    def options(self) -> OptionStore:
        """What people chose of the options of agents."""

    @property
    def ledger(self) -> LedgerStore:
        """Model calls, and what was used and what it cost."""

    @property
    def search(self) -> SearchStore:
        """Titles and texts of one's own sessions."""

    @property
    def labels(self) -> LabelStore:
        """How people have filed their sessions."""

    @property
    def files(self) -> FileStore | None:
        """Snapshots of sessions' files, if several gateways can use this store."""

    @property
    def sequences(self) -> SequenceStore:
        """Numbers for applications' rows."""

    @property
    def changes(self) -> ChangeStore:
        """How often what gateways keep in memory was changed."""

    @property
    def signing(self) -> SigningStore:
        """The secret that gateways sign with."""

    @property
    def held(self) -> HeldStore | None:
        """What gateways hold of quotas; None if one gateway has the engine for itself."""
