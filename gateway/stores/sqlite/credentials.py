"""Credentials, and what was used, in the same SQLite file as the sessions, through the same one writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence

from gateway.stores.credential_rows import KEPT, KEY, USE, key_of, key_row, share_of, use_rows, uses_of
from gateway.stores.credentials import ApiKey, Share, SharedSession
from gateway.stores.database import Database
from gateway.stores.usage import DayUse, UseName
from worker.foreign import LARGEST

_KEYS = f"SELECT {', '.join(KEY)} FROM api_keys ORDER BY created_at, id"  # noqa: S608 - literals
_PUT_KEY = f"INSERT INTO api_keys ({', '.join(KEY)}) VALUES ({', '.join('?' * len(KEY))}) {KEPT}"  # noqa: S608 - literals
_USES = f"SELECT {', '.join(USE)} FROM usage WHERE day = ?"  # noqa: S608 - literals
_ADDED = ", ".join(f"{name} = min({name} + excluded.{name}, {LARGEST})" for name in USE[3:])
_ADD_USE = (
    f"INSERT INTO usage ({', '.join(USE)}) VALUES ({', '.join('?' * len(USE))})"  # noqa: S608 - literals
    f" ON CONFLICT (scope, name, day) DO UPDATE SET {_ADDED}"
)
_KEY_OF_ID = f"SELECT {', '.join(KEY)} FROM api_keys WHERE id = ?"  # noqa: S608 - literals
_SHARE = (
    "shares.id, shares.hash, sessions.key, shares.created_at, shares.expires_at, coalesce(kind, 'view'),"
    " coalesce(by_approver, 0), coalesce(uses, 0), last_used_at"
)
_SHARE_TABLES = (
    "shares JOIN sessions ON sessions.id = shares.session LEFT JOIN share_access ON share = shares.id"
)


class SqliteCredentials:
    """`CredentialStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keys(self) -> Sequence[ApiKey]:
        return await self._database.read(lambda c: [key_of(row) for row in c.execute(_KEYS)])

    async def put_key(self, key: ApiKey) -> None:
        await self._database.write(lambda c: c.execute(_PUT_KEY, key_row(key)))

    async def find_key(self, key_id: str) -> ApiKey | None:
        def act(connection: sqlite3.Connection) -> ApiKey | None:
            row = connection.execute(_KEY_OF_ID, (key_id,)).fetchone()
            return row and key_of(row)

        return await self._database.read(act)

    async def use_keys(self, uses: Mapping[str, int]) -> None:
        rows = [(at, key_id) for key_id, at in uses.items()]
        statement = "UPDATE api_keys SET last_used_at = ? WHERE id = ?"
        await self._database.write(lambda c: c.executemany(statement, rows))

    async def put_share(self, share: Share) -> None:
        row = (share.id, share.hash, share.created_at, share.expires_at, share.session_key)
        access = (share.id, share.kind, share.by_approver)

        def act(connection: sqlite3.Connection) -> None:
            made = connection.execute(
                "INSERT INTO shares (id, hash, created_at, expires_at, session)"
                " SELECT ?, ?, ?, ?, id FROM sessions WHERE key = ?",
                row,
            )
            if made.rowcount:
                connection.execute(
                    "INSERT INTO share_access (share, kind, by_approver) VALUES (?, ?, ?)", access
                )

        await self._database.write(act)

    async def shares(self, session_key: str) -> Sequence[Share]:
        query = (
            f"SELECT {_SHARE} FROM {_SHARE_TABLES}"  # noqa: S608
            " WHERE sessions.key = ? ORDER BY shares.created_at, shares.id"
        )
        return await self._database.read(
            lambda c: [share_of(row) for row in c.execute(query, (session_key,))]
        )

    async def count_shares(self, owner: str) -> int:
        query = (
            "SELECT count(*) FROM shares JOIN sessions ON sessions.id = shares.session"
            " WHERE sessions.owner = ?"
        )
        return await self._database.read(lambda c: int(c.execute(query, (owner,)).fetchone()[0]))

    async def find_share(self, share_id: str) -> SharedSession | None:
        query = (
            f"SELECT {_SHARE}, sessions.owner, sessions.session_id FROM {_SHARE_TABLES}"  # noqa: S608
            " WHERE shares.id = ?"
        )

        def act(connection: sqlite3.Connection) -> SharedSession | None:
            row = connection.execute(query, (share_id,)).fetchone()
            return row and SharedSession(share=share_of(row), owner=row[-2], session_id=row[-1])

        return await self._database.read(act)

    async def use_share(self, share_id: str, *, at: int) -> None:
        await self._database.write(
            lambda c: c.execute(
                "INSERT INTO share_access (share, kind, by_approver, uses, last_used_at)"
                " SELECT id, 'view', 0, 1, ?2 FROM shares WHERE id = ?1"
                " ON CONFLICT (share) DO UPDATE SET uses = uses + 1, last_used_at = ?2",
                (share_id, at),
            )
        )

    async def delete_share(self, session_key: str, share_id: str) -> bool:
        def act(connection: sqlite3.Connection) -> bool:
            done = connection.execute(
                "DELETE FROM shares WHERE id = ? AND session = (SELECT id FROM sessions WHERE key = ?)",
                (share_id, session_key),
            )
            return done.rowcount > 0

        return await self._database.write(act)

    async def shares_there(self, share_ids: Collection[str]) -> set[str]:
        def act(connection: sqlite3.Connection) -> set[str]:
            query = "SELECT 1 FROM shares WHERE id = ?"
            return {one for one in share_ids if connection.execute(query, (one,)).fetchone()}

        return await self._database.read(act)

    async def revocations(self) -> dict[str, int]:
        return await self._database.read(lambda c: dict(c.execute("SELECT owner, at FROM revocations")))

    async def revoke(self, owner: str, at: int) -> None:
        await self._database.write(
            lambda c: c.execute("INSERT OR REPLACE INTO revocations (owner, at) VALUES (?, ?)", (owner, at))
        )

    async def use_once(self, token_id: str, *, expires_at: int) -> bool:
        def act(connection: sqlite3.Connection) -> bool:
            done = connection.execute(
                "INSERT OR IGNORE INTO used_tokens VALUES (?, ?)", (token_id, expires_at)
            )
            return done.rowcount > 0

        return await self._database.write(act)

    async def forget_used(self, *, now: int) -> None:
        await self._database.write(
            lambda c: c.execute("DELETE FROM used_tokens WHERE expires_at < ?", (now,))
        )


class SqliteUsage:
    """`UsageStore` in one table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def uses(self, day: int, names: Collection[UseName] | None = None) -> dict[UseName, DayUse]:
        found = await self._database.read(lambda c: uses_of(c.execute(_USES, (day,))))
        return {name: use for name, use in found.items() if names is None or name in names}

    async def add_uses(self, day: int, uses: dict[UseName, DayUse]) -> None:
        rows = use_rows(day, uses)
        await self._database.write(lambda c: c.executemany(_ADD_USE, rows))

    async def forget(self, *, before_day: int) -> None:
        await self._database.write(lambda c: c.execute("DELETE FROM usage WHERE day < ?", (before_day,)))
