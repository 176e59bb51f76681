"""Values that are kept encrypted: keys of people and tenants for model providers, and their credentials for
hosts. The store sees ciphertext only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from msgspec import Struct

SecretKind = Literal["provider", "credential"]


class SecretName(NamedTuple):
    """Whose value it is, and what for."""

    kind: SecretKind
    """`[providers.NAME]` or `[credentials.NAME]`."""
    owner: str
    """`TENANT/SUBJECT` for a person, `TENANT` for a tenant, empty for the gateway itself."""
    name: str
    """NAME of that table."""


class StoredSecret(Struct, frozen=True, kw_only=True):
    """A value as it is kept. Times are milliseconds since 1970 UTC."""

    name: SecretName
    ciphertext: bytes
    key_id: str
    """Which key it is encrypted with: a short hash of that key."""
    set_at: int


class SecretStore(Protocol):
    """See the module. Every method may raise StoreFull or StoreFailed."""

    async def all(self) -> Sequence[StoredSecret]:
        """Every value."""

    async def put(self, secret: StoredSecret) -> None:
        """Keeps a value, in place of the one of the same name."""

    async def remove(self, name: SecretName, *, at: int) -> bool:
        """Removes a value; whether there was one. That it was removed is kept for a while, so that a backup
        of before does not bring it back.
        """

    async def erase(self, owner: str, *, at: int) -> int:
        """Removes every value of an owner, in the same way; how many."""

    async def forget_removed(self, *, before: int) -> None:
        """Forgets what was removed before this time."""
