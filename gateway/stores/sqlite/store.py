"""The store that needs nothing installed: one SQLite file in the data directory.

WAL with synchronous=FULL; one thread writes (writer.py), one reads. The schema is made by numbered
migrations (schema.py); the file is looked after by file.py and file_watch.py.
"""

from __future__ import annotations

import asyncio
import pathlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gateway.errors import StoreFailed
from gateway.events.facts import Event
from gateway.stores.changes import NoChanges
from gateway.stores.database import Database, Projection
from gateway.stores.files import FileStore
from gateway.stores.migrations import Migrations
from gateway.stores.signing import OwnSigning
from gateway.stores.sqlite import schema
from gateway.stores.sqlite.credentials import SqliteCredentials, SqliteUsage
from gateway.stores.sqlite.file import connect, prepare, size_bytes
from gateway.stores.sqlite.file_watch import FileWatch
from gateway.stores.sqlite.labels import SqliteLabels
from gateway.stores.sqlite.ledger import SqliteLedger
from gateway.stores.sqlite.logs import SqliteLogs
from gateway.stores.sqlite.options import SqliteOptions
from gateway.stores.sqlite.people import SqlitePeople
from gateway.stores.sqlite.reservations import CALLS_SUFFIX, ReservationFile
from gateway.stores.sqlite.search import SqliteSearch
from gateway.stores.sqlite.secrets import SqliteSecrets
from gateway.stores.sqlite.sequences import SqliteSequences
from gateway.stores.sqlite.sessions import SqliteIdempotency, SqliteSessions, SqliteTombstones
from gateway.stores.sqlite.tenants import SqliteTenants
from gateway.stores.sqlite.writer import Act, Writer, worded

T = TypeVar("T")


class SqliteStore:
    """`Store` in one file."""

    is_shared = False
    directory = None
    files: FileStore | None = None

    def __init__(
        self,
        path: pathlib.Path,
        *,
        migrations: Sequence[Migrations] = (),
        on_commit: Callable[[float, bool], None] = lambda _seconds, _is_done: None,
        on_trouble: Callable[[bool], None] = lambda _is_lost: None,
        on_end: Callable[[str], None] = lambda _words: None,
    ) -> None:
        """`migrations`: of applications. `on_commit` hears how many seconds a commit took and if it was done,
        `on_trouble` when the file is not the one that was opened, and when it is again; both in the thread
        that writes. `on_end` hears, on the loop, that nothing can be stored any more because that thread has
        ended.
        """
        self.path = path
        self._migrations = migrations
        self._on_commit = on_commit
        self._watch = FileWatch(path, on_trouble=on_trouble)
        self.on_end = on_end
        self._writer: Writer | None = None
        self._projections: dict[type, list[Projection]] = {}
        """Of other tables in the same file."""
        self._reader: sqlite3.Connection | None = None
        self._reading = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite reader")
        self.search = SqliteSearch(self)
        self.labels = SqliteLabels(self)
        self.sessions = SqliteSessions(
            self,
            on_create=self.search.began,
            on_delete=self._deleted,
            on_fork=self.search.touch,
            append=self._append,
            write_soon=self._write_soon,
        )
        self.logs = SqliteLogs(self, writer=lambda: self._writer)
        self.tombstones = SqliteTombstones(self)
        self.idempotency = SqliteIdempotency(self)
        self.credentials = SqliteCredentials(self)
        self.secrets = SqliteSecrets(self)
        self.people = SqlitePeople(self)
        self.tenants = SqliteTenants(self)
        self.usage = SqliteUsage(self)
        self.options = SqliteOptions(self)
        self.ledger = SqliteLedger(self, ReservationFile(path.with_name(path.name + CALLS_SUFFIX)))
        self.sequences = SqliteSequences(self)
        self.changes = NoChanges()
        self.signing = OwnSigning()
        self.held = None

    @property
    def tables(self) -> Database:
        """For applications: this file."""
        return self

    def project(self, kinds: Iterable[type], act: Projection) -> None:
        """Has rows of other tables made of events, in their commits; called before it is opened."""
        for kind in kinds:
            self._projections.setdefault(kind, []).append(act)

    def _deleted(self, key: str) -> None:
        """In the thread that writes."""
        if self._writer is not None:
            self._writer.drop_row_id(key)

    def _append(self, connection: sqlite3.Connection, row_id: int, events: Sequence[Event]) -> None:
        """In the thread that writes."""
        if self._writer is not None:
            self._writer.append(connection, [(row_id, events)])

    def _write_soon(self, act: Act) -> None:
        if self._writer is not None:
            self._writer.call_soon(act)

    async def open(self) -> None:
        await asyncio.to_thread(prepare, self.path, self._migrations)
        self._watch.open()
        self._writer = Writer(
            lambda: connect(self.path),
            on_commit=self._on_commit,
            look=self._watch.look,
            on_end=lambda words: self.on_end(words),
        )
        self._writer.projections = self._projections
        self._writer.start()
        self._reader = await self._in_reader(lambda: connect(self.path))
        await self.ledger.open()

    async def close(self) -> None:
        if self._writer is not None:
            await self._writer.stop()
        self.ledger.close()
        if self._reader is not None:
            await self._in_reader(self._reader.close)
        self._reading.shutdown()
        self._watch.close()

    async def _in_reader(self, act: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, act)

    async def read(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `act` in the reading thread; for stores of other things in the same file, too."""
        reader = self._reader
        if reader is None:
            raise StoreFailed("The store is closed.")
        try:
            return await self._in_reader(lambda: act(reader))
        except (sqlite3.Error, OverflowError) as error:
            raise worded(error) from error

    async def size_bytes(self) -> int:
        return await asyncio.to_thread(size_bytes, self.path)

    async def has_table(self, name: str) -> bool:
        return await self.read(lambda connection: schema.has_table(connection, name))

    async def write(self, act: Callable[[sqlite3.Connection], T], *, is_long: bool = False) -> T:
        """Runs `act` inside the next group commit of the writer's that takes it; for others in the same file,
        too.
        """
        if self._writer is None:
            raise StoreFailed("The store is closed.")
        result: T = await self._writer.call(act, is_long=is_long)
        return result
