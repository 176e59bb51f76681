"""Encrypted values, in the same database as the sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gateway.stores.database import PostgresqlDatabase, Statements
from gateway.stores.postgresql import changes
from gateway.stores.postgresql.statements import changed
from gateway.stores.secrets import SecretName, StoredSecret

_ALL: Final = "SELECT kind, owner, name, ciphertext, key_id, set_at FROM secrets"
_PUT: Final = (
    "INSERT INTO secrets (kind, owner, name, ciphertext, key_id, set_at) VALUES ($1, $2, $3, $4, $5, $6)"
    " ON CONFLICT (owner, kind, name) DO UPDATE SET ciphertext = excluded.ciphertext,"
    " key_id = excluded.key_id, set_at = excluded.set_at"
)
_UNREMOVE: Final = "DELETE FROM removed_secrets WHERE kind = $1 AND owner = $2 AND name = $3"
_IS_NAMED: Final = "kind = $2 AND owner = $3 AND name = $4"
_IS_OWNED: Final = "owner = $2"


class PostgresqlSecrets:
    """`SecretStore`."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database

    async def all(self) -> Sequence[StoredSecret]:
        return [_secret(row) for row in await self._database.query(lambda c: c.fetch(_ALL))]

    async def put(self, secret: StoredSecret) -> None:
        async def act(connection: Statements) -> None:
            values = (*secret.name, secret.ciphertext, secret.key_id, secret.set_at)
            await connection.execute(_PUT, *values)
            await connection.execute(_UNREMOVE, *secret.name)
            await changes.note(connection, "secrets")

        await self._database.transact(act)

    async def remove(self, name: SecretName, *, at: int) -> bool:
        return await self._database.transact(lambda c: _removed(c, _IS_NAMED, at, *name)) > 0

    async def erase(self, owner: str, *, at: int) -> int:
        return await self._database.transact(lambda c: _removed(c, _IS_OWNED, at, owner))

    async def forget_removed(self, *, before: int) -> None:
        statement = "DELETE FROM removed_secrets WHERE removed_at < $1"
        await self._database.transact(lambda c: c.execute(statement, before))


async def _removed(connection: Statements, where: str, at: int, *values: str) -> int:
    """Removes what `where`, a literal of this module, names, and notes it; how many."""
    tag = await connection.execute(
        f"WITH gone AS (DELETE FROM secrets WHERE {where} RETURNING kind, owner, name, set_at)"  # noqa: S608
        " INSERT INTO removed_secrets (kind, owner, name, removed_at)"
        " SELECT kind, owner, name, greatest($1, set_at) FROM gone"
        " ON CONFLICT (owner, kind, name) DO UPDATE SET removed_at = excluded.removed_at",
        at,
        *values,
    )
    if count := changed(tag):
        await changes.note(connection, "secrets")
    return count


def _secret(row: Any) -> StoredSecret:
    return StoredSecret(
        name=SecretName(row[0], row[1], row[2]), ciphertext=row[3], key_id=row[4], set_at=row[5]
    )
