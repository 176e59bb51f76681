"""Encrypted values in a dictionary."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.stores.secrets import SecretName, StoredSecret


class MemorySecrets:
    """`SecretStore` in a dictionary, gone with the process: there is no backup that would bring one back."""

    def __init__(self) -> None:
        self._secrets: dict[SecretName, StoredSecret] = {}

    async def all(self) -> Sequence[StoredSecret]:
        return list(self._secrets.values())

    async def put(self, secret: StoredSecret) -> None:
        self._secrets[secret.name] = secret

    async def remove(self, name: SecretName, *, at: int) -> bool:
        return self._secrets.pop(name, None) is not None

    async def erase(self, owner: str, *, at: int) -> int:
        names = [name for name in self._secrets if name.owner == owner]
        for name in names:
            del self._secrets[name]
        return len(names)

    async def forget_removed(self, *, before: int) -> None:
        """Nothing to forget."""
