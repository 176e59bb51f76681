"""Credentials, and what was used, in the same database as the sessions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from gateway.stores.credential_rows import KEPT, KEY, USE, key_of, key_row, share_of, use_rows, uses_of
from gateway.stores.credentials import ApiKey, Share, SharedSession
from gateway.stores.database import PostgresqlDatabase, Statements
from gateway.stores.postgresql import changes
from gateway.stores.postgresql.statements import changed, numbered
from gateway.stores.usage import DayUse, UseName
from worker.foreign import LARGEST

_KEYS: Final = f"SELECT {', '.join(KEY)} FROM api_keys ORDER BY created_at, id"  # noqa: S608 - literals
_PUT_KEY: Final = f"INSERT INTO api_keys ({', '.join(KEY)}) VALUES ({numbered(len(KEY))}) {KEPT}"  # noqa: S608 - literals
_KEY_OF_ID: Final = f"SELECT {', '.join(KEY)} FROM api_keys WHERE id = $1"  # noqa: S608 - literals
_USE_KEYS: Final = (
    "UPDATE api_keys AS k SET last_used_at = greatest(k.last_used_at, u.at)"
    " FROM unnest($1::text[], $2::bigint[]) AS u (id, at) WHERE k.id = u.id"
)
_THERE: Final = "SELECT id FROM shares WHERE id = ANY($1)"
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
    "INSERT INTO revocations AS r (owner, at) VALUES ($1, $2)"
    " ON CONFLICT (owner) DO UPDATE SET at = greatest(r.at, excluded.at)"
)
_USE_ONCE: Final = "INSERT INTO used_tokens (id, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_ADDED: Final = ", ".join(f"{name} = least(u.{name} + excluded.{name}, {LARGEST})" for name in USE[3:])
_USES: Final = f"SELECT {', '.join(USE)} FROM usage WHERE day = $1"  # noqa: S608 - literals
_USES_OF: Final = _USES + " AND (scope, name) IN (SELECT * FROM unnest($2::text[], $3::text[]))"  # noqa: S608
_ADD_USE: Final = (
    f"INSERT INTO usage AS u ({', '.join(USE)}) VALUES ({numbered(len(USE))})"  # noqa: S608 - literals
    f" ON CONFLICT (scope, name, day) DO UPDATE SET {_ADDED}"
)


class PostgresqlCredentials:
    """`CredentialStore`."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database

    async def keys(self) -> Sequence[ApiKey]:
        return [key_of(row) for row in await self._database.query(lambda c: c.fetch(_KEYS))]

    async def put_key(self, key: ApiKey) -> None:
        await changes.change(self._database, "keys", _PUT_KEY, *key_row(key))

    async def find_key(self, key_id: str) -> ApiKey | None:
        row = await self._database.query(lambda c: c.fetchrow(_KEY_OF_ID, key_id))
        return row and key_of(row)

    async def use_keys(self, uses: Mapping[str, int]) -> None:
        used = sorted(uses.items())
        ids, times = [key_id for key_id, _ in used], [at for _, at in used]
        await self._database.transact(lambda c: c.execute(_USE_KEYS, ids, times))

    async def put_share(self, share: Share) -> None:
        row = (share.id, share.hash, share.created_at, share.expires_at, share.session_key)
        access = (share.kind, share.by_approver)
        await self._database.transact(lambda c: c.execute(_PUT_SHARE, *row, *access))

    async def shares(self, session_key: str) -> Sequence[Share]:
        query = f"{_SHARES} WHERE sessions.key = $1 ORDER BY shares.created_at, shares.id"
        return [share_of(row) for row in await self._database.query(lambda c: c.fetch(query, session_key))]

    async def count_shares(self, owner: str) -> int:
        return int(await self._database.query(lambda c: c.fetchval(_COUNT_SHARES, owner)))

    async def find_share(self, share_id: str) -> SharedSession | None:
        row = await self._database.query(lambda c: c.fetchrow(f"{_SHARES} WHERE shares.id = $1", share_id))
        return row and SharedSession(share=share_of(row), owner=row[9], session_id=row[10])

    async def use_share(self, share_id: str, *, at: int) -> None:
        await self._database.transact(lambda c: c.execute(_USE_SHARE, share_id, at))

    async def delete_share(self, session_key: str, share_id: str) -> bool:
        async def act(connection: Statements) -> bool:
            is_done = changed(await connection.execute(_DELETE_SHARE, share_id, session_key)) > 0
            if is_done:
                await changes.note(connection, "shares")
            return is_done

        return await self._database.transact(act)

    async def shares_there(self, share_ids: Collection[str]) -> set[str]:
        rows = await self._database.query(lambda c: c.fetch(_THERE, list(share_ids)))
        return {row[0] for row in rows}

    async def revocations(self) -> dict[str, int]:
        rows = await self._database.query(lambda c: c.fetch("SELECT owner, at FROM revocations"))
        return {row[0]: row[1] for row in rows}

    async def revoke(self, owner: str, at: int) -> None:
        await changes.change(self._database, "revocations", _REVOKE, owner, at)

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

    async def uses(self, day: int, names: Collection[UseName] | None = None) -> dict[UseName, DayUse]:
        if names is None:
            return uses_of(await self._database.query(lambda c: c.fetch(_USES, day)))
        of = [scope for scope, _ in names], [name for _, name in names]
        return uses_of(await self._database.query(lambda c: c.fetch(_USES_OF, day, *of)))

    async def add_uses(self, day: int, uses: dict[UseName, DayUse]) -> None:
        rows = use_rows(day, uses)

        async def act(connection: Statements) -> None:
            await connection.executemany(_ADD_USE, rows)

        await self._database.transact(act)

    async def forget(self, *, before_day: int) -> None:
        statement = "DELETE FROM usage WHERE day < $1"
        await self._database.transact(lambda c: c.execute(statement, before_day))
