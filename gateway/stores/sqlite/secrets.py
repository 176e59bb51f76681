"""Encrypted values, in the same SQLite file as the sessions."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from gateway.stores.database import Database
from gateway.stores.secrets import SecretName, StoredSecret

_IS_NAMED = "kind = ? AND owner = ? AND name = ?"


class SqliteSecrets:
    """`SecretStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> Sequence[StoredSecret]:
        query = "SELECT kind, owner, name, ciphertext, key_id, set_at FROM secrets"
        return await self._database.read(lambda c: [_secret(row) for row in c.execute(query)])

    async def put(self, secret: StoredSecret) -> None:
        def act(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO secrets (kind, owner, name, ciphertext, key_id, set_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (*secret.name, secret.ciphertext, secret.key_id, secret.set_at),
            )
            connection.execute(f"DELETE FROM removed_secrets WHERE {_IS_NAMED}", secret.name)  # noqa: S608

        await self._database.write(act)

    async def remove(self, name: SecretName, *, at: int) -> bool:
        return await self._database.write(lambda c: _removed(c, _IS_NAMED, name, at)) > 0

    async def erase(self, owner: str, *, at: int) -> int:
        return await self._database.write(lambda c: _removed(c, "owner = ?", (owner,), at))

    async def forget_removed(self, *, before: int) -> None:
        await self._database.write(
            lambda c: c.execute("DELETE FROM removed_secrets WHERE removed_at < ?", (before,))
        )


def _removed(connection: sqlite3.Connection, where: str, values: tuple[str, ...], at: int) -> int:
    """Removes what `where`, a literal of this module, names, and notes it; how many."""
    connection.execute(
        "INSERT OR REPLACE INTO removed_secrets (kind, owner, name, removed_at)"  # noqa: S608
        f" SELECT kind, owner, name, max(?, set_at) FROM secrets WHERE {where}",
        (at, *values),
    )
    return connection.execute(f"DELETE FROM secrets WHERE {where}", values).rowcount  # noqa: S608


def _secret(row: tuple[object, ...]) -> StoredSecret:
    kind, owner, name, ciphertext, key_id, set_at = row
    return StoredSecret(
        name=SecretName(kind, owner, name),  # type: ignore[arg-type]
        ciphertext=bytes(ciphertext),  # type: ignore[call-overload]
        key_id=str(key_id),
        set_at=int(str(set_at)),
    )
