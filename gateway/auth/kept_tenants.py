"""Tenants that administrators made or disabled while the gateway ran, laid over those of the configuration.

Guarantees: what was done here outlives a restart and a reload; a tenant that the configuration disables stays
disabled, whatever is said here; one that the configuration has keeps its quotas, lists and limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from gateway.config.tables import Config, TenantConfig
from gateway.stores.tenants import KeptTenant, TenantStore


class KeptTenants:
    """`open` it, then lay it `over` each configuration that is read."""

    def __init__(self, store: TenantStore) -> None:
        self._store = store
        self._kept: dict[str, KeptTenant] = {}
        self._configured: Mapping[str, TenantConfig] = {}
        self._changing = asyncio.Lock()
        """Held from a change in the store until it is known here, so that what is read anew is not older."""

    async def open(self) -> None:
        """Reads what was said, or reads it again. Raises StoreFailed."""
        async with self._changing:
            self._kept = {tenant.name: tenant for tenant in await self._store.all()}

    def over(self, config: Config) -> Config:
        """The configuration as it was read, with what was said here."""
        self._configured = config.tenants
        return self.applied(config)

    def applied(self, config: Config) -> Config:
        """A configuration that went through `over`, with what was said since."""
        tenants = dict(self._configured)
        for kept in self._kept.values():
            known = tenants.get(kept.name)
            if known is not None:
                is_disabled = known.is_disabled or kept.is_disabled
                tenants[kept.name] = msgspec.structs.replace(known, is_disabled=is_disabled)
            elif kept.is_made:
                tenants[kept.name] = TenantConfig(title=kept.title, is_disabled=kept.is_disabled)
        return msgspec.structs.replace(config, tenants=tenants)

    def is_disabled_in_configuration(self, name: str) -> bool:
        """True if nothing that is said here can enable it."""
        known = self._configured.get(name)
        return known is not None and known.is_disabled

    async def make(self, name: str, title: str) -> None:
        """Keeps a new tenant. Raises StoreFull, StoreFailed."""
        await self._put(KeptTenant(name=name, title=title, is_made=True))

    async def switch(self, name: str, *, is_disabled: bool) -> None:
        """Keeps that a tenant is disabled, or not any more. Raises StoreFull, StoreFailed."""
        kept = self._kept.get(name) or KeptTenant(name=name)
        await self._put(msgspec.structs.replace(kept, is_disabled=is_disabled))

    async def _put(self, kept: KeptTenant) -> None:
        async with self._changing:
            await self._store.put(kept)
            self._kept[kept.name] = kept
