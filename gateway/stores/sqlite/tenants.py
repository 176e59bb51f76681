"""Tenants that administrators made or disabled, in one table."""

from __future__ import annotations

from gateway.stores.database import Database
from gateway.stores.tenants import KeptTenant


class SqliteTenants:
    """`TenantStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[KeptTenant]:
        query = "SELECT name, title, is_made, is_disabled FROM kept_tenants ORDER BY name"
        rows = await self._database.read(lambda c: c.execute(query).fetchall())
        return [
            KeptTenant(name=row[0], title=row[1], is_made=bool(row[2]), is_disabled=bool(row[3]))
            for row in rows
        ]

    async def put(self, tenant: KeptTenant) -> None:
        values = (tenant.name, tenant.title, tenant.is_made, tenant.is_disabled)
        await self._database.write(
            lambda c: c.execute(
                "INSERT OR REPLACE INTO kept_tenants (name, title, is_made, is_disabled) VALUES (?, ?, ?, ?)",
                values,
            )
        )
