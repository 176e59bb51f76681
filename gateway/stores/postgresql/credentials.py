"""Credentials, and what was used, in the same database as the sessions."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, Final

from gateway.stores.credentials import ApiKey, Share, SharedSession
from gateway.stores.database import PostgresqlDatabase, Statements
from gateway.stores.postgresql.statements import changed
from gateway.stores.usage import DayUse, UseName

_KEYS: Final = (
    "SELECT id, hash, tenant, subject, name, scopes, created_at, expires_at, revoked_at, last_used_at"
    " FROM api_keys ORDER BY created_at, id"
)
_PUT_KEY: Final = (
    "INSERT INTO api_keys (id, hash, tenant, subject, name, scopes, created_at, expires_at, revoked_at,"
    " last_used_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO UPDATE SET"
    " hash = excluded.hash, tenant = excluded.tenant, subject = excluded.subject, name = excluded.name,"
    " scopes = excluded.scopes, created_at = excluded.created_at, expires_at = excluded.expires_at,"
    " revoked_at = excluded.revoked_at, last_used_at = excluded.last_used_at"
)
_SHARES: Final = (
    "SELECT shares.id, shares.hash, sessions.key, shares.created_at, shares.expires_at,"
    " coalesce(kind, 'view'), coalesce(by_approver, false), coalesce(uses, 0), last_used_at, sessions.owner,"
    " sessions.session_id FROM shares JOIN sessions ON sessions.id = shares.session"
    " LEFT JOIN share_access ON share = shares.id"
)
_PUT_SHARE: Final = (
    "WITH made AS (INSERT INTO shares (id, hash, created_at, expires_at, session)"
    " SELECT $1, $2, $3, $4, id FROM sessions WHERE key = $5 RETURNING id)"
    " INSERT INTO share_access (share, kind, by_approver) SELECT id, $6, $7 FROM made"
)
_COUNT_SHARES: Final = (
    "SELECT count(*) FROM shares JOIN sessions ON sessions.id = shares.session WHERE sessions.owner = $1"
)
_USE_SHARE: Final = (
    "INSERT INTO share_access AS a (share, kind, by_approver, uses, last_used_at)"
    " SELECT id, 'view', false, 1, $2 FROM shares WHERE id = $1"
    " ON CONFLICT (share) DO UPDATE SET uses = a.uses + 1, last_used_at = excluded.last_used_at"
)
_DELETE_SHARE: Final = (
    "DELETE FROM shares WHERE id = $1 AND session = (SELECT id FROM sessions WHERE key = $2)"
)
_REVOKE: Final = (
    "INSERT INTO revocations (owner, at) VALUES ($1, $2) ON CONFLICT (owner) DO UPDATE SET at = excluded.at"
)
_USE_ONCE: Final = "INSERT INTO used_tokens (id, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_USES: Final = "SELECT scope, name, messages, tokens, cpu_ms, memory_mb_seconds FROM usage WHERE day = $1"
_PUT_USE: Final = (
    "INSERT INTO usage (scope, name, day, messages, tokens, cpu_ms, memory_mb_seconds)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (scope, name, day) DO UPDATE SET"
    " messages = excluded.messages, tokens = excluded.tokens, cpu_ms = excluded.cpu_ms,"
    " memory_mb_seconds = excluded.memory_mb_seconds"
)


class PostgresqlCredentials:
    """`CredentialStore`."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database

    async def keys(self) -> Sequence[ApiKey]:
        return [_key(row) for row in await self._database.query(lambda c: c.fetch(_KEYS))]

    async def put_key(self, key: ApiKey) -> None:
        row = (
            *(key.id, key.hash, key.tenant, key.subject, key.name, " ".join(key.scopes)),
            *(key.created_at, key.expires_at, key.revoked_at, key.last_used_at),
        )
        await self._database.transact(lambda c: c.execute(_PUT_KEY, *row))

    async def put_share(self, share: Share) -> None:
        row = (share.id, share.hash, share.created_at, share.expires_at, share.session_key)
        access = (share.kind, share.by_approver)
        await self._database.transact(lambda c: c.execute(_PUT_SHARE, *row, *access))

    async def shares(self, session_key: str) -> Sequence[Share]:
        query = f"{_SHARES} WHERE sessions.key = $1 ORDER BY shares.created_at, shares.id"
        return [_share(row) for row in await self._database.query(lambda c: c.fetch(query, session_key))]

    async def count_shares(self, owner: str) -> int:
        return int(await self._database.query(lambda c: c.fetchval(_COUNT_SHARES, owner)))

    async def find_share(self, share_id: str) -> SharedSession | None:
        row = await self._database.query(lambda c: c.fetchrow(f"{_SHARES} WHERE shares.id = $1", share_id))
        return row and SharedSession(share=_share(row), owner=row[9], session_id=row[10])

    async def use_share(self, share_id: str, *, at: int) -> None:
        await self._database.transact(lambda c: c.execute(_USE_SHARE, share_id, at))

    async def delete_share(self, session_key: str, share_id: str) -> bool:
        tag = await self._database.transact(lambda c: c.execute(_DELETE_SHARE, share_id, session_key))
        return changed(tag) > 0

    async def revocations(self) -> dict[str, int]:
        rows = await self._database.query(lambda c: c.fetch("SELECT owner, at FROM revocations"))
        return {row[0]: row[1] for row in rows}

    async def revoke(self, owner: str, at: int) -> None:
        await self._database.transact(lambda c: c.execute(_REVOKE, owner, at))

    async def use_once(self, token_id: str, *, expires_at: int) -> bool:
        tag = await self._database.transact(lambda c: c.execute(_USE_ONCE, token_id, expires_at))
        return changed(tag) > 0

    async def forget_used(self, *, now: int) -> None:
        statement = "DELETE FROM used_tokens WHERE expires_at < $1"
        await self._database.transact(lambda c: c.execute(statement, now))


class PostgresqlUsage:
    """`UsageStore` in one table."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database

    async def uses(self, day: int) -> dict[UseName, DayUse]:
        rows = await self._database.query(lambda c: c.fetch(_USES, day))
        return {
            (row[0], row[1]): DayUse(messages=row[2], tokens=row[3], cpu_ms=row[4], memory_mb_seconds=row[5])
            for row in rows
        }

    async def put_uses(self, day: int, uses: dict[UseName, DayUse]) -> None:
        rows = [
            (scope, name, day, use.messages, use.tokens, use.cpu_ms, use.memory_mb_seconds)
            for (scope, name), use in sorted(uses.items(), key=operator.itemgetter(0))
        ]

        async def act(connection: Statements) -> None:
            await connection.executemany(_PUT_USE, rows)

        await self._database.transact(act)

    async def forget(self, *, before_day: int) -> None:
        statement = "DELETE FROM usage WHERE day < $1"
        await self._database.transact(lambda c: c.execute(statement, before_day))


def _key(row: Any) -> ApiKey:
    return ApiKey(
        id=row[0], hash=row[1], tenant=row[2], subject=row[3], name=row[4], scopes=tuple(row[5].split()),
        created_at=row[6], expires_at=row[7], revoked_at=row[8], last_used_at=row[9],
    )  # fmt: skip


def _share(row: Any) -> Share:
    return Share(
        id=row[0], hash=row[1], session_key=row[2], created_at=row[3], expires_at=row[4], kind=row[5],
        by_approver=row[6], uses=row[7], last_used_at=row[8],
    )  # fmt: skip
