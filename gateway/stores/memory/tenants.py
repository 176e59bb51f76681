"""Tenants that administrators made or disabled, in a dictionary."""

from __future__ import annotations

from gateway.stores.tenants import KeptTenant


class MemoryTenants:
    """`TenantStore` in a dictionary, gone with the process."""

    def __init__(self) -> None:
        self._kept: dict[str, KeptTenant] = {}

    async def all(self) -> list[KeptTenant]:
        return [self._kept[name] for name in sorted(self._kept)]

    async def put(self, tenant: KeptTenant) -> None:
        self._kept[tenant.name] = tenant
