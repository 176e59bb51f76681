"""The store that needs nothing installed: one SQLite file in the data directory.

WAL with synchronous=FULL; one thread writes (writer.py), one reads. The schema is made by numbered
migrations; a file of a newer schema is refused, a damaged one is kept aside and said loudly; one that is
taken away underneath is noticed, and one that is missing at the start is not replaced by an empty one
(file_watch.py).
"""

from __future__ import annotations

import asyncio
import logging
import pathlib
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal, TypeVar

from gateway.errors import SessionExists, StoreFailed
from gateway.events.facts import Event
from gateway.stores.contract import (
    READ_BYTES,
    OwnerTotal,
    Remembered,
    SessionRecord,
    Sink,
    StoredLog,
    Tombstone,
)
from gateway.stores.database import Projection
from gateway.stores.sqlite import file_watch, own_tables
from gateway.stores.sqlite import log as sqlite_log
from gateway.stores.sqlite.file_watch import FileWatch
from gateway.stores.sqlite.writer import Writer, worded

log = logging.getLogger(__name__)

T = TypeVar("T")

MIGRATIONS: Final = pathlib.Path(__file__).parent / "migrations"
NO_TABLES: Final[Mapping[str, pathlib.Path]] = {}
BUSY_SECONDS: Final = 5.0
"""How long a lock of another process (a backup, the command line) is waited for."""
CACHE_KIB: Final = 8_192
ALL_FINDINGS: Final = 2**31 - 1
"""Of SQLite's own check, not the first hundred: the first may be a false alarm."""
_COLUMNS: Final = (
    "key, owner, session_id, agent, created_at, last_active_at, title, agent_session_id, uid, message_count,"
    " retention_days, expires_at, stored_bytes"
)


class SqliteStore:
    """`Store` in one file."""

    def __init__(
        self,
        path: pathlib.Path,
        *,
        on_commit: Callable[[float, bool], None] = lambda _seconds, _is_done: None,
        on_trouble: Callable[[bool], None] = lambda _is_lost: None,
    ) -> None:
        """`on_trouble` hears, in the thread that writes, when the file is not the one that was opened, and
        when it is again.
        """
        self.path = path
        self._on_commit = on_commit
        self._watch = FileWatch(path, on_trouble=on_trouble)
        self.on_end: Callable[[str], None] = lambda _words: None
        """Hears, on the loop, that nothing can be stored any more because the thread that writes has ended;
        set before it is opened.
        """
        self._writer: Writer | None = None
        self._projections: dict[type, list[Projection]] = {}
        """Of other tables in the same file."""
        self.applications: dict[str, pathlib.Path] = {}
        """The folders with the migrations of applications, by name; set before it is opened."""
        self._reader: sqlite3.Connection | None = None
        self._reading = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite reader")

    # -- life ---------------------------------------------------------------------------------------------

    async def open(self) -> None:
        await asyncio.to_thread(prepare, self.path, self.applications)
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

    async def close(self) -> None:
        if self._writer is not None:
            await self._writer.stop()
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

    async def write(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `act` inside the writer's next group commit; for others in the same file, too."""
        if self._writer is None:
            raise StoreFailed("The store is closed.")
        result: T = await self._writer.call(act)
        return result

    def project(self, kinds: Iterable[type], act: Projection) -> None:
        """Has rows of other tables made of events, in their commits; called before it is opened."""
        for kind in kinds:
            self._projections.setdefault(kind, []).append(act)

    # -- records ------------------------------------------------------------------------------------------

    async def create_session(self, record: SessionRecord) -> None:
        def act(connection: sqlite3.Connection) -> None:
            try:
                connection.execute(
                    f"INSERT INTO sessions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                    _row(record),
                )
            except sqlite3.IntegrityError:
                raise SessionExists(session_id=record.session_id) from None

        await self.write(act)

    async def find_session(self, owner: str, session_id: str) -> SessionRecord | None:
        return await self._one("WHERE owner = ? AND session_id = ?", owner, session_id)

    async def newest_session(self, owner: str) -> SessionRecord | None:
        return await self._one("WHERE owner = ? ORDER BY id DESC LIMIT 1", owner)

    async def update_session(self, record: SessionRecord) -> None:
        await self.write(
            lambda connection: connection.execute(
                "UPDATE sessions SET last_active_at = ?, title = ?, agent_session_id = ?, uid = ?,"
                " message_count = ?, retention_days = ?, expires_at = ?, stored_bytes = ? WHERE key = ?",
                (
                    record.last_active_at,
                    record.title,
                    record.agent_session_id,
                    record.uid,
                    record.message_count,
                    record.retention_days,
                    record.expires_at,
                    record.stored_bytes,
                    record.key,
                ),
            )
        )

    async def list_sessions(self, owner: str, *, limit: int) -> Sequence[SessionRecord]:
        return await self._many("WHERE owner = ? ORDER BY last_active_at DESC, key LIMIT ?", owner, limit)

    async def list_all_sessions(self, *, tenant: str | None, limit: int) -> Sequence[SessionRecord]:
        return await self._many(
            "WHERE ?1 IS NULL OR substr(owner, 1, length(?1) + 1) = ?1 || '/' "
            "ORDER BY last_active_at DESC, key LIMIT ?2",
            tenant,
            limit,
        )

    async def expired_sessions(self, now: int, *, limit: int) -> Sequence[SessionRecord]:
        return await self._many("WHERE expires_at < ? ORDER BY expires_at LIMIT ?", now, limit)

    async def sessions_with_open_turn(self) -> Sequence[SessionRecord]:
        return await self._many("WHERE has_open_turn = 1")

    async def count_sessions(self) -> int:
        return await self.read(lambda c: int(c.execute("SELECT count(*) FROM sessions").fetchone()[0]))

    async def totals(self) -> dict[str, OwnerTotal]:
        query = "SELECT owner, count(*), sum(stored_bytes) FROM sessions GROUP BY owner"
        return await self.read(lambda c: {row[0]: OwnerTotal(row[1], row[2]) for row in c.execute(query)})

    async def size_bytes(self, key: str) -> int:
        def act(connection: sqlite3.Connection) -> int:
            session = _row_id(connection, key)
            return 0 if session is None else sqlite_log.size_bytes(connection, session)

        return await self.read(act)

    async def adopt(self, key: str, *, owner: str, session_id: str, keeps_shares: bool) -> bool:
        def act(connection: sqlite3.Connection) -> bool:
            done = connection.execute(
                "UPDATE OR IGNORE sessions SET owner = ?, session_id = ? WHERE key = ?",
                (owner, session_id, key),
            )
            if done.rowcount > 0 and not keeps_shares:
                connection.execute(
                    "DELETE FROM shares WHERE session = (SELECT id FROM sessions WHERE key = ?)", (key,)
                )
            return done.rowcount > 0

        return await self.write(act)

    async def taken_uids(self) -> set[int]:
        return await self.read(
            lambda c: {row[0] for row in c.execute("SELECT uid FROM sessions WHERE uid IS NOT NULL")}
        )

    async def delete_session(self, key: str, tombstone: Tombstone) -> None:
        writer = self._writer

        def act(connection: sqlite3.Connection) -> None:
            found = connection.execute(
                "SELECT owner, session_id FROM sessions WHERE key = ?", (key,)
            ).fetchone()
            if found is None:
                return
            connection.execute("DELETE FROM sessions WHERE key = ?", (key,))
            connection.execute("DELETE FROM idempotency_keys WHERE owner = ? AND session_id = ?", found)
            connection.execute(
                "INSERT OR REPLACE INTO tombstones (owner, session_hash, last_seq, at, reason)"
                " VALUES (?, ?, ?, ?, ?)",
                (tombstone.owner, tombstone.session_hash, tombstone.last_seq, tombstone.at, tombstone.reason),
            )
            if writer is not None:
                writer.drop_row_id(key)

        await self.write(act)

    async def find_tombstone(self, owner: str, session_hash: str) -> Tombstone | None:
        def act(connection: sqlite3.Connection) -> Tombstone | None:
            row = connection.execute(
                "SELECT last_seq, at, reason FROM tombstones WHERE owner = ? AND session_hash = ?",
                (owner, session_hash),
            ).fetchone()
            if row is None:
                return None
            return Tombstone(
                owner=owner, session_hash=session_hash, last_seq=row[0], at=row[1], reason=row[2]
            )

        return await self.read(act)

    async def drop_old(self, *, tombstones_before: int, keys_before: int) -> int:
        def act(connection: sqlite3.Connection) -> int:
            dropped = connection.execute("DELETE FROM tombstones WHERE at < ?", (tombstones_before,)).rowcount
            connection.execute("DELETE FROM idempotency_keys WHERE at < ?", (keys_before,))
            return dropped

        return await self.write(act)

    async def _one(self, where: str, *values: object) -> SessionRecord | None:
        found = await self._many(where, *values)
        return found[0] if found else None

    async def _many(self, where: str, *values: object) -> list[SessionRecord]:
        query = f"SELECT {_COLUMNS} FROM sessions {where}"  # noqa: S608 - both are literals of this module
        return await self.read(lambda c: [_record(row) for row in c.execute(query, values)])

    # -- logs ---------------------------------------------------------------------------------------------

    async def stand(self, key: str) -> StoredLog:
        def act(connection: sqlite3.Connection) -> StoredLog:
            row = connection.execute("SELECT id, reserved_seq FROM sessions WHERE key = ?", (key,)).fetchone()
            if row is None:
                return StoredLog(last_seq=0, reserved_seq=0)
            gaps = connection.execute(
                "SELECT last_kept, first_new FROM gaps WHERE session = ? ORDER BY first_new", (row[0],)
            ).fetchall()
            last = sqlite_log.last_seq(connection, row[0])
            return StoredLog(last_seq=last, reserved_seq=row[1], gaps=tuple(gaps))

        return await self.read(act)

    async def reserve(self, key: str, upto: int, *, gap: tuple[int, int] | None = None) -> None:
        def act(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE sessions SET reserved_seq = ? WHERE key = ?", (upto, key))
            if gap is not None:
                connection.execute(
                    "INSERT OR IGNORE INTO gaps (session, last_kept, first_new)"
                    " SELECT id, ?, ? FROM sessions WHERE key = ?",
                    (*gap, key),
                )

        await self.write(act)

    def enqueue(self, sink: Sink, event: Event, *, urgent: bool) -> None:
        if self._writer is not None:
            self._writer.put(sink, event, urgent=urgent)

    def backlog(self) -> int:
        return self._writer.backlog() if self._writer is not None else 0

    def forget(self, sink: Sink, seqs: set[int]) -> None:
        if self._writer is not None:
            self._writer.forget(sink, seqs)

    async def read_events(
        self, key: str, *, after: int, limit: int, max_bytes: int = READ_BYTES
    ) -> list[Event]:
        def act(connection: sqlite3.Connection) -> list[Event]:
            session = _row_id(connection, key)
            if session is None:
                return []
            found = sqlite_log.read(connection, session, after=after, limit=limit, max_bytes=max_bytes)
            if any(event.is_large for event in found):
                sqlite_log.let_go(connection)
            return found

        return await self.read(act)

    async def oldest_seq(self, key: str) -> int:
        """Nothing is dropped here but with its session."""
        return 0

    async def compact(self, key: str, *, through: int) -> int:
        saved = 0
        while True:
            count, is_done = await self.write(lambda connection: sqlite_log.compact(connection, key, through))
            saved += count
            if is_done:
                return saved

    # -- exactly once -------------------------------------------------------------------------------------

    async def recall(self, owner: str, key: str, *, since: int) -> Remembered | None:
        return await self.read(lambda connection: _recalled(connection, owner, key, since))

    async def remember(
        self, owner: str, key: str, remembered: Remembered, *, at: int, since: int
    ) -> Remembered:
        def act(connection: sqlite3.Connection) -> Remembered:
            known = _recalled(connection, owner, key, since)
            if known is not None:
                return known
            connection.execute(
                "INSERT OR REPLACE INTO idempotency_keys (owner, key, body_hash, session_id, at)"
                " VALUES (?, ?, ?, ?, ?)",
                (owner, key, remembered.body_hash, remembered.session_id, at),
            )
            return remembered

        return await self.write(act)


def _recalled(connection: sqlite3.Connection, owner: str, key: str, since: int) -> Remembered | None:
    row = connection.execute(
        "SELECT body_hash, session_id FROM idempotency_keys WHERE owner = ? AND key = ? AND at >= ?",
        (owner, key, since),
    ).fetchone()
    return row and Remembered(body_hash=row[0], session_id=row[1])


def _row_id(connection: sqlite3.Connection, key: str) -> int | None:
    row = connection.execute("SELECT id FROM sessions WHERE key = ?", (key,)).fetchone()
    return row and int(row[0])


def _row(record: SessionRecord) -> tuple[object, ...]:
    return tuple(getattr(record, name.strip()) for name in _COLUMNS.split(","))


def _record(row: tuple[object, ...]) -> SessionRecord:
    names = [name.strip() for name in _COLUMNS.split(",")]
    return SessionRecord(**dict(zip(names, row, strict=True)))  # type: ignore[arg-type]


# -- the file ---------------------------------------------------------------------------------------------


def connect(path: pathlib.Path) -> sqlite3.Connection:
    """A connection with this store's settings, usable from the thread that calls it first."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    return connection


def prepare(path: pathlib.Path, applications: Mapping[str, pathlib.Path] = NO_TABLES) -> None:
    """Makes or brings up to date the file, with the tables of these applications. Raises StoreFailed, with
    what to do, where it cannot be used.

    A damaged file is moved aside, never deleted, and a new one begun.
    """
    file_watch.refuse_missing(path)
    try:
        _migrate(path, applications)
    except sqlite3.DatabaseError as error:
        if not sqlite_log.is_damage(error):
            raise StoreFailed(f"The database {path} cannot be opened: {error}.") from error
        _set_aside(path, error)
        file_watch.forget(path)
        _migrate(path, applications)


def _migrate(path: pathlib.Path, applications: Mapping[str, pathlib.Path]) -> None:
    is_new = not path.exists()
    connection = connect(path)
    try:
        if is_new:
            path.chmod(0o600)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if not is_new:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            file_watch.refuse_another(path, connection)
        migrations = numbered()
        if version > migrations[-1][0]:
            raise StoreFailed(
                f"The database {path} is of schema {version}, this program knows up to {migrations[-1][0]}: "
                "run the newer program, or restore a backup of before the upgrade."
            )
        for number, script in migrations:
            if number > version:
                connection.executescript(f"BEGIN;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
        own_tables.migrate(connection, applications)
        file_watch.remember(path, connection)
    finally:
        connection.close()


def damage(path: pathlib.Path) -> str | None:
    """What is wrong inside a file, which is read from end to end and not written. Raises sqlite3.Error."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return findings(connection, "quick_check")
    except sqlite3.DatabaseError as error:
        if not sqlite_log.is_damage(error):
            raise
        return str(error)
    finally:
        connection.close()


def findings(connection: sqlite3.Connection, check: Literal["quick_check", "integrity_check"]) -> str | None:
    """The first thing that SQLite's own check finds wrong. Raises sqlite3.Error."""
    for (found,) in connection.execute(f"PRAGMA {check}({ALL_FINDINGS})"):
        if found != "ok" and not _is_false_alarm(connection, found):
            return str(found)
    return None


def _is_false_alarm(connection: sqlite3.Connection, found: str) -> bool:
    """SQLite 3.40 mixes up the columns of a table WITHOUT ROWID whose key is not its first ones, such as
    `gaps`, and says that one is NULL which is not.
    """
    named = re.fullmatch(r"NULL value in (\w+)\.(\w+)", found)
    if named is None:
        return False
    query = f"SELECT count(*) FROM {named[1]} WHERE typeof({named[2]}) = 'null'"  # noqa: S608 - both are names
    return not connection.execute(query).fetchone()[0]


def schema_version(path: pathlib.Path) -> int:
    """The schema of a file, which is only read. Raises sqlite3.Error."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def numbered() -> list[tuple[int, str]]:
    """The migrations in order. Numbers that are missing were those of applications, which keep them."""
    return own_tables.scripts(MIGRATIONS)


def _set_aside(path: pathlib.Path, error: sqlite3.Error) -> None:
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    log.critical("THE DATABASE IS DAMAGED (%s). It is kept as %s; a new, empty one is begun.", error, aside)
