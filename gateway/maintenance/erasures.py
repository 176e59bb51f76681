"""What was ended after a backup was made, ended again in the backup before a restore shows it.

The database that a restore replaces tells it: the tombstones of erased sessions, keys and sign-ins that were
revoked, one-time tokens that were used, keys and credentials that people and tenants removed, shared links
that are gone from sessions which are still there, people and tenants who were disabled. What
it has of these and the backup has not came after the backup; no clock is asked for that. A clock is asked for
one thing: a tombstone erases nothing of its name that was made after it.

Guarantees: of an erased session, the rows (overwritten), files, the rows of applications and Idempotency-Keys
are gone from what is restored; nothing that the telling database holds is changed.
"""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

from msgspec import Struct

from gateway.config.applications import Outliving
from gateway.principal import is_visitor, session_hash
from gateway.stores.contract import Tombstone
from gateway.stores.sqlite import ledger
from gateway.stores.sqlite.options import forget_options
from gateway.workers import trees

_KEPT: Final = "name, title, is_made, is_disabled"


class EndedAgain(Struct, frozen=True, kw_only=True):
    """How much was ended again. `told_by` counts the databases that told of it, `unread` names those that
    could not be read.
    """

    sessions: int = 0
    keys: int = 0
    sign_ins: int = 0
    links: int = 0
    secrets: int = 0
    """Keys and credentials of people and tenants."""
    people: int = 0
    """Who was disabled."""
    tenants: int = 0
    """Those that were disabled while a gateway ran."""
    told_by: int = 0
    unread: tuple[str, ...] = ()


class _Told(Struct, frozen=True, kw_only=True):
    """What a database says of what has ended."""

    tombstones: set[Tombstone]
    sessions: set[str]
    """The keys of those that are still there."""
    shares: set[str]
    keys: list[Any]
    revocations: list[Any]
    used_tokens: list[Any]
    removed_secrets: list[Any]
    disabled_people: list[Any]
    disabled_tenants: list[Any]


def end_again(
    staged: pathlib.Path,
    files: pathlib.Path,
    known: Iterable[pathlib.Path],
    *,
    outliving: Sequence[Outliving] = (),
) -> EndedAgain:
    """Ends in a staged database, and in its sessions' files, what the known databases say has ended.
    `outliving` are the tables of applications whose rows outlive a session's.

    Raises sqlite3.Error or OSError where the staged ones cannot be changed.
    """
    ended = EndedAgain()
    for path in known:
        try:
            told = _told(path)
        except sqlite3.Error:
            ended = _and(ended, EndedAgain(unread=(str(path),)))
            continue
        with contextlib.closing(sqlite3.connect(staged)) as connection, connection:
            connection.execute("PRAGMA journal_mode = MEMORY")  # no second copy of what is erased
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA foreign_keys = ON")
            ended = _and(ended, _Ending(connection, told, files, outliving).all())
    return ended


def _and(one: EndedAgain, other: EndedAgain) -> EndedAgain:
    return EndedAgain(**{name: getattr(one, name) + getattr(other, name) for name in one.__struct_fields__})


def _told(path: pathlib.Path) -> _Told:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return _Told(
            tombstones=_tombstones(connection),
            sessions={row[0] for row in connection.execute("SELECT key FROM sessions")},
            shares={row[0] for row in _rows(connection, "shares", "id")},
            keys=_rows(connection, "api_keys", "id, hash, expires_at, revoked_at"),
            revocations=_rows(connection, "revocations", "owner, at"),
            used_tokens=_rows(connection, "used_tokens", "id, expires_at"),
            removed_secrets=_rows(connection, "removed_secrets", "kind, owner, name, removed_at"),
            disabled_people=_rows(connection, "disabled_people", "owner, at"),
            disabled_tenants=[row for row in _rows(connection, "kept_tenants", _KEPT) if row[-1]],
        )


def _tombstones(connection: sqlite3.Connection) -> set[Tombstone]:
    rows = connection.execute("SELECT owner, session_hash, last_seq, at, reason FROM tombstones")
    return {
        Tombstone(owner=row[0], session_hash=row[1], last_seq=row[2], at=row[3], reason=row[4])
        for row in rows
    }


def _rows(connection: sqlite3.Connection, table: str, columns: str) -> list[Any]:
    """Nothing where an older schema has no such table."""
    if not _has(connection, table):
        return []
    return connection.execute(f"SELECT {columns} FROM {table}").fetchall()  # noqa: S608 - literals of this module


def _has(connection: sqlite3.Connection, table: str) -> bool:
    query = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?"
    return bool(connection.execute(query, (table,)).fetchone()[0])


class _Ending:
    """Ends in one database what another one tells of, table by table; a table that an older schema does not
    have is passed over.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        told: _Told,
        files: pathlib.Path,
        outliving: Sequence[Outliving],
    ) -> None:
        self._outliving = outliving
        self._connection = connection
        self._told = told
        self._files = files
        self._new = told.tombstones - _tombstones(connection)
        self._by_hash = {tombstone.session_hash: tombstone for tombstone in self._new}
        self._owners = {tombstone.owner for tombstone in self._new}

    def all(self) -> EndedAgain:
        self._connection.executemany(
            "INSERT INTO tombstones (owner, session_hash, last_seq, at, reason) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET last_seq = excluded.last_seq, at = excluded.at,"
            " reason = excluded.reason WHERE excluded.at > at",
            [(t.owner, t.session_hash, t.last_seq, t.at, t.reason) for t in self._new],
        )
        return EndedAgain(
            sessions=self._sessions(),
            keys=self._keys(),
            sign_ins=self._revocations(),
            links=self._shares(),
            secrets=self._secrets(),
            people=self._people(),
            tenants=self._tenants(),
            told_by=1,
        )

    def _sessions(self) -> int:
        erased, kept = 0, set[tuple[str, str]]()
        rows = self._connection.execute(
            "SELECT id, key, owner, session_id, created_at FROM sessions"
        ).fetchall()
        for row_id, key, owner, session_id, created_at in rows:
            tombstone = None if key in self._told.sessions else self._of(owner, session_id, created_at)
            if tombstone is None:
                kept.add((owner, session_id))
                continue
            self._connection.execute("DELETE FROM sessions WHERE id = ?", (row_id,))
            if _has(self._connection, "ledger_calls"):
                ledger.forget_session(self._connection, key)
            name = (owner, session_id)
            self._connection.execute("DELETE FROM idempotency_keys WHERE owner = ? AND session_id = ?", name)
            if _has(self._connection, "chosen_options"):
                forget_options(self._connection, owner)
            trees.remove(self._files / key)
            erased += 1
        self._outlive(kept)
        return erased

    def _of(self, owner: str, session_id: str, made_at: int) -> Tombstone | None:
        """The tombstone of what was made then under this name. What a visitor had made may have been somebody
        else's when it was erased: they signed in and took it along.
        """
        owners = (owner, *self._owners) if is_visitor(owner) else (owner,)
        found = (self._by_hash.get(session_hash(each, session_id)) for each in owners)
        return next((tombstone for tombstone in found if tombstone and tombstone.at >= made_at), None)

    def _outlive(self, kept: set[tuple[str, str]]) -> None:
        """These rows of applications go with a session that was erased, and stay where its time was merely
        over.
        """
        for one in self._outliving:
            table = one.table
            columns = f"rowid, {one.owner}, {one.session}, {one.made_at}"
            for row_id, owner, name, made in _rows(self._connection, table, columns):
                tombstone = None if (owner, name) in kept else self._of(owner, name, made)
                if tombstone is not None and tombstone.reason == "deleted":
                    self._connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (row_id,))  # noqa: S608

    def _keys(self) -> int:
        """Revoked, or ended sooner because another took their place."""
        if not _has(self._connection, "api_keys"):
            return 0
        return self._connection.executemany(
            "UPDATE api_keys SET revoked_at = coalesce(revoked_at, ?4),"
            " expires_at = min(coalesce(expires_at, ?3), coalesce(?3, expires_at))"
            " WHERE id = ?1 AND hash = ?2"
            " AND ((revoked_at IS NULL AND ?4 IS NOT NULL) OR (expires_at IS NULL AND ?3 IS NOT NULL)"
            " OR expires_at > ?3)",
            self._told.keys,
        ).rowcount

    def _revocations(self) -> int:
        """Of what browsers hold. What was good for one use is used."""
        if not _has(self._connection, "revocations"):
            return 0
        self._connection.executemany(
            "INSERT OR IGNORE INTO used_tokens VALUES (?, ?)", self._told.used_tokens
        )
        return self._connection.executemany(
            "INSERT INTO revocations (owner, at) VALUES (?, ?)"
            " ON CONFLICT DO UPDATE SET at = excluded.at WHERE excluded.at > at",
            self._told.revocations,
        ).rowcount

    def _secrets(self) -> int:
        """Keys and credentials that were removed after the backup has them."""
        if not _has(self._connection, "secrets"):
            return 0
        self._connection.executemany(
            "INSERT INTO removed_secrets (kind, owner, name, removed_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET removed_at = max(removed_at, excluded.removed_at)",
            self._told.removed_secrets,
        )
        return self._connection.executemany(
            "DELETE FROM secrets WHERE kind = ? AND owner = ? AND name = ? AND set_at <= ?",
            self._told.removed_secrets,
        ).rowcount

    def _people(self) -> int:
        """Who was disabled after the backup was made."""
        if not _has(self._connection, "disabled_people"):
            return 0
        return self._connection.executemany(
            "INSERT OR IGNORE INTO disabled_people (owner, at) VALUES (?, ?)", self._told.disabled_people
        ).rowcount

    def _tenants(self) -> int:
        """Those that were disabled after the backup was made."""
        if not _has(self._connection, "kept_tenants"):
            return 0
        return self._connection.executemany(
            f"INSERT INTO kept_tenants ({_KEPT}) VALUES (?, ?, ?, ?)"  # noqa: S608 - names of our own
            " ON CONFLICT DO UPDATE SET is_disabled = 1 WHERE is_disabled = 0",
            self._told.disabled_tenants,
        ).rowcount

    def _shares(self) -> int:
        """Links of sessions that the other database has without them."""
        if not _has(self._connection, "shares"):
            return 0
        rows = self._connection.execute(
            "SELECT shares.id, sessions.key FROM shares JOIN sessions ON sessions.id = shares.session"
        )
        gone = [
            (share,) for share, key in rows if key in self._told.sessions and share not in self._told.shares
        ]
        self._connection.executemany("DELETE FROM shares WHERE id = ?", gone)
        return len(gone)
