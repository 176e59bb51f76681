"""Credentials, and what was used, in the same SQLite file as the sessions, through the same one writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from gateway.stores.credentials import ApiKey, Share, SharedSession
from gateway.stores.database import Database
from gateway.stores.usage import DayUse, UseName

_KEY = "id, hash, tenant, subject, name, scopes, created_at, expires_at, revoked_at, last_used_at"
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
        query = f"SELECT {_KEY} FROM api_keys ORDER BY created_at, id"  # noqa: S608 - a literal of this module
        return await self._database.read(lambda c: [_key(row) for row in c.execute(query)])

    async def put_key(self, key: ApiKey) -> None:
        row = (
            *(key.id, key.hash, key.tenant, key.subject, key.name, " ".join(key.scopes)),
            *(key.created_at, key.expires_at, key.revoked_at, key.last_used_at),
        )
        await self._database.write(
            lambda c: c.execute("INSERT OR REPLACE INTO api_keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        )

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
        return await self._database.read(lambda c: [_share(row) for row in c.execute(query, (session_key,))])

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
            return row and SharedSession(share=_share(row[:-2]), owner=row[-2], session_id=row[-1])

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

    async def uses(self, day: int) -> dict[UseName, DayUse]:
        def act(connection: sqlite3.Connection) -> dict[UseName, DayUse]:
            rows = connection.execute(
                "SELECT scope, name, messages, tokens, cpu_ms, memory_mb_seconds FROM usage WHERE day = ?",
                (day,),
            )
            return {
                (row[0], row[1]): DayUse(
                    messages=row[2], tokens=row[3], cpu_ms=row[4], memory_mb_seconds=row[5]
                )
                for row in rows
            }

        return await self._database.read(act)

    async def put_uses(self, day: int, uses: dict[UseName, DayUse]) -> None:
        rows = [
            (scope, name, day, use.messages, use.tokens, use.cpu_ms, use.memory_mb_seconds)
            for (scope, name), use in uses.items()
        ]
        await self._database.write(
            lambda c: c.executemany("INSERT OR REPLACE INTO usage VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        )

    async def forget(self, *, before_day: int) -> None:
        await self._database.write(lambda c: c.execute("DELETE FROM usage WHERE day < ?", (before_day,)))


def _key(row: tuple[str, ...]) -> ApiKey:
    names = [name.strip() for name in _KEY.split(",")]
    values: dict[str, object] = dict(zip(names, row, strict=True))
    return ApiKey(**values | {"scopes": tuple(row[5].split())})  # type: ignore[arg-type]


def _share(row: tuple[object, ...]) -> Share:
    names = (
        *("id", "hash", "session_key", "created_at", "expires_at"),
        *("kind", "by_approver", "uses", "last_used_at"),
    )
    values = dict(zip(names, row, strict=True))
    return msgspec.convert(values | {"by_approver": bool(values["by_approver"])}, Share)
