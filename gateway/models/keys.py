"""Whose key a call is made with: the words between providers and whoever keeps the keys of tenants and
people. Pure.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from gateway.models.meter import KeyOwner
from gateway.principal import Account


class ProviderKey(Struct, frozen=True):
    """A key for a provider. It is in no `repr`: these end up in logs."""

    value: str
    owner: KeyOwner = "gateway"

    def __repr__(self) -> str:
        return f"ProviderKey(owner={self.owner!r})"


class ProviderKeys(Protocol):
    """The keys that tenants and people brought."""

    async def own_key(self, provider: str, account: Account) -> ProviderKey | None:
        """The key that calls of this account to a provider use: the person's, then the tenant's; None if
        neither has one.
        """


class NoOwnKeys:
    """`ProviderKeys` of a gateway where nobody brings keys."""

    async def own_key(self, provider: str, account: Account) -> ProviderKey | None:
        """None."""
        return None
