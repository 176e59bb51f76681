"""Session records as rows, and what goes with them: tombstones, idempotency keys."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from gateway.errors import SessionExists, SessionNotFound
from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.principal import is_visitor
from gateway.stores.database import Database
from gateway.stores.idempotency import Remembered
from gateway.stores.session_rows import CHANGED, COLUMNS, SELECT, changed_in, record_of, record_row
from gateway.stores.sessions import Forking, Founding, OwnerTotal, SessionRecord
from gateway.stores.sqlite import ledger, log_rows
from gateway.stores.sqlite.options import forget_options
from gateway.stores.sqlite.writer import Act
from gateway.stores.tombstones import Tombstone

_INSERT: Final = f"INSERT INTO sessions ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608 - literals
_UPDATE: Final = f"UPDATE sessions SET {', '.join(f'{name} = ?' for name in CHANGED)} WHERE key = ?"  # noqa: S608 - literals
_UPLOAD: Final = (
    "INSERT INTO uploads (session, bytes) SELECT id, ? FROM sessions WHERE key = ?"
    " ON CONFLICT (session) DO UPDATE SET bytes = excluded.bytes"
)


class SqliteSessions:
    """`SessionStore` in one table; what belongs to a session goes with its row, by foreign keys."""

    def __init__(
        self,
        database: Database,
        *,
        on_create: Callable[[int], None],
        on_delete: Callable[[str], None],
        on_fork: Callable[[int, int], None],
        append: Callable[[sqlite3.Connection, int, Sequence[Event]], None],
        write_soon: Callable[[Act], None],
    ) -> None:
        """`on_create` hears the id of the row of each new session, which may have been another's, `on_delete`
        the key of each session that is deleted, `on_fork` the id of the row of each fork and the last number
        in its log, and `append` writes events of a log by the id of its row, all in the thread that writes;
        `write_soon` takes what nobody waits for.
        """
        self._database = database
        self._on_create = on_create
        self._on_delete = on_delete
        self._on_fork = on_fork
        self._append = append
        self._write_soon = write_soon
        database.project((ev.SessionInfo,), _titled)

    async def create(self, record: SessionRecord, founding: Founding | None = None) -> None:
        def act(connection: sqlite3.Connection) -> None:
            row_id = _insert(connection, record)
            self._on_create(row_id)
            if founding is None:
                return
            connection.execute(
                "UPDATE sessions SET reserved_seq = ? WHERE id = ?", (founding.reserved_seq, row_id)
            )
            if founding.gap is not None:
                connection.execute(
                    "INSERT INTO gaps (session, last_kept, first_new) VALUES (?, ?, ?)",
                    (row_id, *founding.gap),
                )
            self._append(connection, row_id, founding.events)

        await self._database.write(act)

    async def fork(self, record: SessionRecord, forking: Forking) -> SessionRecord:
        def act(connection: sqlite3.Connection) -> SessionRecord:
            source = connection.execute(
                "SELECT id, compacted_seq, session_id FROM sessions WHERE key = ?", (forking.source,)
            ).fetchone()
            if source is None:
                raise SessionNotFound
            session = _insert(connection, record)
            connection.execute(
                "INSERT INTO forks (session, parent_key) VALUES (?, ?)", (session, forking.source)
            )
            last = log_rows.fork(connection, source[0], session, forking)
            self._on_fork(session, last)
            size = log_rows.size_bytes(connection, session) + record.uploaded_bytes
            if record.uploaded_bytes:
                connection.execute(_UPLOAD, (record.uploaded_bytes, record.key))
            connection.execute(
                "UPDATE sessions SET reserved_seq = ?, compacted_seq = ?, stored_bytes = ? WHERE id = ?",
                (last, min(source[1], forking.through), size, session),
            )
            return msgspec.structs.replace(record, stored_bytes=size, parent=source[2])

        return await self._database.write(act)

    async def upload(self, key: str, uploaded_bytes: int) -> None:
        await self._database.write(lambda connection: connection.execute(_UPLOAD, (uploaded_bytes, key)))

    async def find(self, owner: str, session_id: str) -> SessionRecord | None:
        return await self._one("WHERE owner = ? AND session_id = ?", owner, session_id)

    async def newest(self, owner: str) -> SessionRecord | None:
        return await self._one("WHERE owner = ? ORDER BY id DESC LIMIT 1", owner)

    async def update(self, record: SessionRecord) -> None:
        await self._database.write(functools.partial(_update, record=record))

    def update_soon(self, record: SessionRecord) -> None:
        self._write_soon(functools.partial(_update, record=record))

    async def of_owner(self, owner: str, *, limit: int) -> Sequence[SessionRecord]:
        return await self._many("WHERE owner = ? ORDER BY last_active_at DESC, key LIMIT ?", owner, limit)

    async def of_all(self, *, tenant: str | None, limit: int) -> Sequence[SessionRecord]:
        return await self._many(
            "WHERE ?1 IS NULL OR substr(owner, 1, length(?1) + 1) = ?1 || '/' "
            "ORDER BY last_active_at DESC, key LIMIT ?2",
            tenant,
            limit,
        )

    async def expired(self, now: int, *, limit: int) -> Sequence[SessionRecord]:
        return await self._many("WHERE expires_at < ? ORDER BY expires_at LIMIT ?", now, limit)

    async def with_open_turn(self) -> Sequence[SessionRecord]:
        return await self._many("WHERE has_open_turn = 1")

    async def waiting_for_budget(self) -> Sequence[SessionRecord]:
        return await self._many("WHERE has_open_turn = 2")

    async def count(self) -> int:
        return await self._database.read(
            lambda c: int(c.execute("SELECT count(*) FROM sessions").fetchone()[0])
        )

    async def totals(self) -> dict[str, OwnerTotal]:
        query = "SELECT owner, count(*), sum(stored_bytes) FROM sessions GROUP BY owner"
        return await self._database.read(lambda c: {row[0]: OwnerTotal(*row[1:]) for row in c.execute(query)})

    async def last_used(self, *, has_visitors: bool) -> dict[str, int]:
        query = "SELECT owner, max(last_active_at) FROM sessions GROUP BY owner"
        found = await self._database.read(lambda c: dict(c.execute(query).fetchall()))
        return {owner: at for owner, at in found.items() if has_visitors or not is_visitor(owner)}

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

        return await self._database.write(act)

    async def taken_uids(self) -> set[int]:
        return await self._database.read(
            lambda c: {row[0] for row in c.execute("SELECT uid FROM sessions WHERE uid IS NOT NULL")}
        )

    async def delete(self, key: str, tombstone: Tombstone) -> None:
        on_delete = self._on_delete

        def act(connection: sqlite3.Connection) -> None:
            found = connection.execute(
                "SELECT owner, session_id FROM sessions WHERE key = ?", (key,)
            ).fetchone()
            if found is None:
                return
            connection.execute("DELETE FROM sessions WHERE key = ?", (key,))
            ledger.forget_session(connection, key)
            connection.execute("DELETE FROM idempotency_keys WHERE owner = ? AND session_id = ?", found)
            forget_options(connection, found[0])
            connection.execute(
                "INSERT OR REPLACE INTO tombstones (owner, session_hash, last_seq, at, reason)"
                " VALUES (?, ?, ?, ?, ?)",
                (tombstone.owner, tombstone.session_hash, tombstone.last_seq, tombstone.at, tombstone.reason),
            )
            on_delete(key)

        await self._database.write(act)

    async def _one(self, where: str, *values: object) -> SessionRecord | None:
        found = await self._many(where, *values)
        return found[0] if found else None

    async def _many(self, where: str, *values: object) -> list[SessionRecord]:
        return await self._database.read(
            lambda c: [record_of(row) for row in c.execute(SELECT + where, values)]
        )


class SqliteTombstones:
    """`TombstoneStore` in one table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, owner: str, session_hash: str) -> Tombstone | None:
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

        return await self._database.read(act)

    async def drop(self, *, before: int) -> int:
        def act(connection: sqlite3.Connection) -> int:
            return connection.execute("DELETE FROM tombstones WHERE at < ?", (before,)).rowcount

        dropped: int = await self._database.write(act)
        return dropped


class SqliteIdempotency:
    """`IdempotencyStore` in one table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def recall(self, owner: str, key: str, *, since: int) -> Remembered | None:
        return await self._database.read(lambda connection: _recalled(connection, owner, key, since))

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

        return await self._database.write(act)

    async def drop(self, *, before: int) -> None:
        await self._database.write(
            lambda c: c.execute("DELETE FROM idempotency_keys WHERE at < ?", (before,))
        )


def _recalled(connection: sqlite3.Connection, owner: str, key: str, since: int) -> Remembered | None:
    row = connection.execute(
        "SELECT body_hash, session_id FROM idempotency_keys WHERE owner = ? AND key = ? AND at >= ?",
        (owner, key, since),
    ).fetchone()
    return row and Remembered(body_hash=row[0], session_id=row[1])


def _insert(connection: sqlite3.Connection, record: SessionRecord) -> int:
    """A new row; its id. Raises SessionExists."""
    try:
        made = connection.execute(_INSERT, record_row(record))
    except sqlite3.IntegrityError:
        raise SessionExists(session_id=record.session_id) from None
    return made.lastrowid or 0


def _update(connection: sqlite3.Connection, *, record: SessionRecord) -> None:
    connection.execute(_UPDATE, (*changed_in(record), record.key))


def _titled(connection: sqlite3.Connection, row_id: int, event: Event) -> None:
    """A title is found, and listed, with the commit that gives it."""
    assert isinstance(event.data, ev.SessionInfo)  # noqa: S101 - it is projected for these alone
    connection.execute("UPDATE sessions SET title = ? WHERE id = ?", (event.data.title, row_id))
