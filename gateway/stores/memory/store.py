"""The reference store: everything in this process, gone with it."""

from __future__ import annotations

from gateway.events.facts import Event, SessionInfo
from gateway.stores.changes import NoChanges
from gateway.stores.database import MemoryTables
from gateway.stores.files import FileStore
from gateway.stores.memory.credentials import MemoryCredentials, MemoryUsage
from gateway.stores.memory.ledger import MemoryLedger
from gateway.stores.memory.logs import MemoryLogs
from gateway.stores.memory.people import MemoryPeople
from gateway.stores.memory.search import MemoryLabels, MemorySearch
from gateway.stores.memory.secrets import MemorySecrets
from gateway.stores.memory.sessions import MemoryIdempotency, MemoryOptions, MemorySessions, MemoryTombstones
from gateway.stores.memory.tenants import MemoryTenants
from gateway.stores.signing import OwnSigning


class MemoryStore:
    """`Store` in dictionaries."""

    is_shared = False
    directory = None
    files: FileStore | None = None

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        """`max_events`, `max_bytes`: of each session; the oldest events are dropped past them."""
        self.logs = MemoryLogs(max_events=max_events, max_bytes=max_bytes)
        self.tombstones = MemoryTombstones()
        self.idempotency = MemoryIdempotency()
        self.credentials = MemoryCredentials()
        self.secrets = MemorySecrets()
        self.people = MemoryPeople()
        self.tenants = MemoryTenants()
        self.usage = MemoryUsage()
        self.options = MemoryOptions()
        self.ledger = MemoryLedger()
        self.sequences = MemorySequences()
        self.changes = NoChanges()
        self.signing = OwnSigning()
        self.held = None
        self.sessions = MemorySessions(
            logs=self.logs,
            tombstones=self.tombstones,
            idempotency=self.idempotency,
            credentials=self.credentials,
            options=self.options,
        )
        self.options.has_sessions = self.sessions.has_any
        self.search = MemorySearch(self.sessions.all_of, self.logs.events)
        self.labels = MemoryLabels(self.sessions.all_of)
        self.tables = MemoryTables(self.sessions.of_key)
        self.logs.on_append = self._appended
        self.sessions.on_delete = self._deleted

    def _appended(self, key: str, event: Event) -> None:
        if event.kind is SessionInfo and isinstance(event.data, SessionInfo):
            self.sessions.title(key, event.data.title)
        self.labels.appended(key, event)
        self.tables.appended(key, event)

    def _deleted(self, key: str) -> None:
        self.ledger.forget_session(key)
        self.labels.drop(key)
        self.tables.dropped(key)

    async def size_bytes(self) -> int:
        """Nothing is on a disk."""
        return 0

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""


class MemorySequences:
    """`SequenceStore` in a dictionary."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    async def take(self, name: str, count: int) -> int:
        first = self._next.get(name, 1)
        self._next[name] = first + count
        return first
