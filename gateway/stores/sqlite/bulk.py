"""A file of SQLite's, read and filled whole (stores/bulk.py).

A file that is filled has another name until it is whole: FILE.copying.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

from gateway.errors import StoreFailed
from gateway.stores.bulk import (
    BATCH_BYTES,
    BATCH_ROWS,
    COPYING,
    ENGINES_OWN,
    EventRow,
    Row,
    Shape,
    rows_at_once,
)
from gateway.stores.migrations import Migrations
from gateway.stores.sqlite import file_watch, log_rows, schema
from gateway.stores.sqlite.file import connect, damage
from gateway.stores.sqlite.reservations import CALLS_SUFFIX

UNFINISHED_SUFFIX: Final = ".copying"
_TABLES: Final = (
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
)
_EVENTS: Final = (
    "SELECT session, seq, at, body FROM events WHERE (session, seq) > (?1, ?2) UNION ALL"
    " SELECT session, seq, at, body FROM tail WHERE (session, seq) > (?1, ?2) UNION ALL"
    " SELECT session, seq, at, body FROM large WHERE (session, seq) > (?1, ?2) ORDER BY session, seq"
)
_NUMBER_ON: Final = "UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1"
_NUMBER_FIRST: Final = (
    "INSERT INTO sqlite_sequence (name, seq) SELECT ?1, ?2"
    " WHERE NOT EXISTS (SELECT * FROM sqlite_sequence WHERE name = ?1)"
)
_LAST: Final = "SELECT session, seq FROM {table} ORDER BY session DESC, seq DESC LIMIT 1"


class SqliteBulk:
    """One file; its `Opener`."""

    def __init__(self, path: pathlib.Path, migrations: Sequence[Migrations]) -> None:
        self._path = path
        self._migrations = migrations

    @contextlib.asynccontextmanager
    async def reading(self, *, is_alone: bool) -> AsyncIterator[SqliteSide]:
        """Raises StoreFailed. That no gateway runs is what the lock of its directory says."""
        if not self._path.is_file():
            raise StoreFailed(f"There is no database {self._path}.")
        try:
            if (wrong := damage(self._path)) is not None:
                raise StoreFailed(f"The database {self._path} is damaged: {wrong}.")
            with contextlib.closing(connect(self._path)) as connection:
                if is_alone:
                    schema.migrate(connection, self._path, self._migrations)
                connection.execute("BEGIN")
                yield SqliteSide(connection, str(self._path))
        except sqlite3.Error as error:
            raise StoreFailed(f"The database {self._path} cannot be read: {error}.") from error

    @contextlib.asynccontextmanager
    async def filling(self) -> AsyncIterator[SqliteTarget]:
        """A new file, or one that an earlier try began. Raises StoreFailed."""
        if self._path.exists():
            raise StoreFailed(f"There is a database {self._path} already: name a new file, or move it away.")
        unfinished = self._path.with_name(self._path.name + UNFINISHED_SUFFIX)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.touch(0o600)
        try:
            with contextlib.closing(connect(unfinished)) as connection:
                schema.migrate(connection, unfinished, self._migrations)
                connection.execute("PRAGMA foreign_keys = OFF")  # checked once, at the end
                connection.execute("PRAGMA synchronous = NORMAL")
                target = SqliteTarget(connection, str(self._path))
                yield target
            if target.is_finished:
                _put_in_place(unfinished, self._path)
        except sqlite3.Error as error:
            raise StoreFailed(f"The database {unfinished} cannot be written: {error}.") from error

    async def is_empty(self) -> bool:
        return not self._path.exists()

    async def empty(self) -> None:
        for end in ("", "-wal", "-shm", CALLS_SUFFIX, UNFINISHED_SUFFIX):
            self._path.with_name(self._path.name + end).unlink(missing_ok=True)


def _put_in_place(unfinished: pathlib.Path, path: pathlib.Path) -> None:
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.rename(path)
    file_watch.forget(path)
    with contextlib.closing(connect(path)) as connection:
        file_watch.remember(path, connection)


class SqliteSide:
    """See the module."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self._connection = connection
        self.name = name

    async def shapes(self) -> list[Shape]:
        names = [name for (name,) in self._connection.execute(_TABLES) if name not in ENGINES_OWN]
        return [self._shape(name) for name in names]

    def _shape(self, name: str) -> Shape:
        columns = tuple(row[1] for row in self._connection.execute(f"PRAGMA table_info({name})"))
        refers_to = frozenset(row[2] for row in self._connection.execute(f"PRAGMA foreign_key_list({name})"))
        return Shape(name=name, columns=columns, refers_to=refers_to - {name})

    async def rows(self, shape: Shape) -> AsyncIterator[list[Row]]:
        query = f"SELECT {', '.join(shape.columns)} FROM {shape.name}"  # noqa: S608 - names of the schema
        with contextlib.closing(self._connection.execute(query)) as found:
            while batch := found.fetchmany(rows_at_once(shape.name)):
                yield batch

    async def events(self, after: tuple[int, int] = (0, 0)) -> AsyncIterator[list[EventRow]]:
        with contextlib.closing(self._connection.execute(_EVENTS, after)) as rows:
            for batch in _batches(rows):
                yield batch

    async def last_numbers(self) -> dict[str, int]:
        return dict(self._connection.execute("SELECT name, seq FROM sqlite_sequence"))

    async def session_names(self, ids: Sequence[int]) -> dict[int, str]:
        query = "SELECT owner || ' ' || session_id FROM sessions WHERE id = ?"
        found = {one: self._connection.execute(query, (one,)).fetchone() for one in ids}
        return {one: row[0] for one, row in found.items() if row is not None}


def _batches(rows: Iterator[EventRow]) -> Iterator[list[EventRow]]:
    """Each once: a row may have been written twice, by a try that was thought to have failed."""
    batch: list[EventRow] = []
    size, last = 0, (0, 0)
    for row in rows:
        if row[:2] == last:
            continue
        last = row[:2]
        batch.append(row)
        size += len(row[3])
        if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class SqliteTarget(SqliteSide):
    """See the module."""

    is_finished = False

    async def begin(self, source: str) -> frozenset[str]:
        connection = self._connection
        if schema.has_table(connection, COPYING):
            noted = [row[0] for row in connection.execute(f"SELECT what FROM {COPYING}")]  # noqa: S608 - names of the schema
            if f"from {source}" not in noted:
                raise StoreFailed(
                    f"{self.name}{UNFINISHED_SUFFIX} is a half copy of something else: remove it."
                )
            return frozenset(noted)
        with self._transaction():
            connection.execute(f"CREATE TABLE {COPYING} (what TEXT NOT NULL PRIMARY KEY)")
            await self.note(f"from {source}")
        return frozenset()

    async def last_event(self) -> tuple[int, int]:
        last = (0, 0)
        for table in ("events", "large"):
            for session, seq in self._connection.execute(_LAST.format(table=table)):
                last = max(last, (session, seq))
        return last

    async def clear(self, shape: Shape) -> None:
        self._connection.execute(f"DELETE FROM {shape.name}")  # noqa: S608 - a name of the schema

    async def put(self, shape: Shape, rows: Sequence[Row]) -> None:
        marks = ", ".join("?" * len(shape.columns))
        names = ", ".join(shape.columns)
        with self._transaction():
            self._connection.executemany(f"INSERT INTO {shape.name} ({names}) VALUES ({marks})", rows)  # noqa: S608

    async def put_events(self, rows: Sequence[EventRow]) -> None:
        with self._transaction():
            log_rows.put(self._connection, rows)

    async def note(self, table: str) -> None:
        self._connection.execute(f"INSERT INTO {COPYING} (what) VALUES (?)", (table,))  # noqa: S608 - names of the schema

    async def finish(self, last_numbers: dict[str, int]) -> None:
        connection = self._connection
        if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
            raise StoreFailed("The copy has rows without their session.")
        with self._transaction():
            for name, number in last_numbers.items():
                connection.execute(_NUMBER_FIRST, (name, number))
                connection.execute(_NUMBER_ON, (name, number))
            connection.execute(f"DROP TABLE {COPYING}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.is_finished = True

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
