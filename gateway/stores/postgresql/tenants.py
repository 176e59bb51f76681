"""Tenants that administrators made or disabled, in one table of PostgreSQL."""

from __future__ import annotations

from typing import Final

from gateway.stores.database import PostgresqlDatabase
from gateway.stores.postgresql import changes
from gateway.stores.tenants import KeptTenant

_ALL: Final = "SELECT name, title, is_made, is_disabled FROM kept_tenants ORDER BY name"
_PUT: Final = (
    "INSERT INTO kept_tenants (name, title, is_made, is_disabled) VALUES ($1, $2, $3, $4)"
    " ON CONFLICT (name) DO UPDATE SET title = excluded.title, is_made = excluded.is_made,"
    " is_disabled = excluded.is_disabled"
)


class PostgresqlTenants:
    """`TenantStore`."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database

    async def all(self) -> list[KeptTenant]:
        rows = await self._database.query(lambda c: c.fetch(_ALL))
        return [KeptTenant(name=row[0], title=row[1], is_made=row[2], is_disabled=row[3]) for row in rows]

    async def put(self, tenant: KeptTenant) -> None:
        values = (tenant.name, tenant.title, tenant.is_made, tenant.is_disabled)
        await changes.change(self._database, "tenants", _PUT, *values)
