"""Tenants that administrators made or disabled while the gateway ran; the others are in the configuration."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class KeptTenant(Struct, frozen=True, kw_only=True):
    """What was said of a tenant besides the configuration."""

    name: str
    title: str = ""
    is_made: bool = False
    """It is not in the configuration, or was not when it was made."""
    is_disabled: bool = False


class TenantStore(Protocol):
    """One row a tenant.

    A method that changes something returns when the change is durable. Every method may raise StoreFull or
    StoreFailed.
    """

    async def all(self) -> list[KeptTenant]:
        """Every one, by name."""

    async def put(self, tenant: KeptTenant) -> None:
        """Keeps what is said of a tenant from now on."""
