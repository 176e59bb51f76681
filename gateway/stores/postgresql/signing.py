"""`SigningStore` in one table: each secret that was made, and the digest of the one that is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from gateway.stores.database import PostgresqlDatabase, Statements

_LOCK: Final = 0x61677773
"""Of advisory locks: who holds it decides what all sign with."""
_TAKE: Final = "SELECT pg_advisory_xact_lock($1)"
_SECRETS: Final = "SELECT secret FROM signing_secrets ORDER BY id DESC LIMIT 2"
_MAKE: Final = "INSERT INTO signing_secrets (secret) VALUES ($1)"
_DIGEST: Final = "SELECT digest FROM signing_digest"
_OTHERS: Final = "SELECT EXISTS (SELECT FROM nodes WHERE id <> $1)"
_KEEP: Final = (
    "INSERT INTO signing_digest (digest) VALUES ($1)"
    " ON CONFLICT (only_one) DO UPDATE SET digest = excluded.digest"
)


class PostgresqlSigning:
    """See the module."""

    def __init__(self, database: PostgresqlDatabase, *, node: Callable[[], int]) -> None:
        """`node`: the id of this gateway's row."""
        self._database = database
        self._node = node

    async def secrets(self, offered: bytes) -> Sequence[bytes]:
        async def act(connection: Statements) -> list[bytes]:
            await connection.execute(_TAKE, _LOCK)
            known = [row[0] for row in await connection.fetch(_SECRETS)]
            if not known:
                await connection.execute(_MAKE, offered)
            return known or [offered]

        return await self._database.transact(act)

    async def agrees(self, digest: str) -> bool:
        async def act(connection: Statements) -> bool:
            await connection.execute(_TAKE, _LOCK)
            kept = await connection.fetchval(_DIGEST)
            if kept not in (None, digest) and await connection.fetchval(_OTHERS, self._node()):
                return False
            await connection.execute(_KEEP, digest)
            return True

        return await self._database.transact(act)
