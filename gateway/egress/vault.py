"""Secrets of people and tenants, encrypted at rest.

AES-256-GCM with a key that HKDF derives from the gateway's secret (`auth.secret_file`). Each value is kept
with the id of its key and bound to its name, so that a row that was moved to another person's name decrypts
to nothing.

Guarantees: a value never leaves by a repr, a log line or an error; what was encrypted with an old secret is
encrypted anew at the next start; a value whose secret is lost reads as not set, and everything else goes on.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct

from gateway.errors import GatewayError
from gateway.stores.secrets import SecretName, SecretStore, StoredSecret
from gateway.telemetry.heavy import lazily

if TYPE_CHECKING:
    from cryptography import exceptions
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.ciphers import aead
    from cryptography.hazmat.primitives.kdf import hkdf
else:
    exceptions = lazily("cryptography.exceptions")
    hashes = lazily("cryptography.hazmat.primitives.hashes")
    aead = lazily("cryptography.hazmat.primitives.ciphers.aead")
    hkdf = lazily("cryptography.hazmat.primitives.kdf.hkdf")

log = logging.getLogger(__name__)

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
"""What GCM is made for (NIST SP 800-38D, 8.2)."""
KEY_ID_CHARACTERS: Final = 12
_PURPOSE: Final = b"agent-gateway: values of people and tenants, 1"
"""HKDF's info: no other use of the same secret has this key."""


class KeptValue(Struct, frozen=True):
    """What may be shown of a value."""

    name: SecretName
    set_at: int
    state: Literal["set", "lost"]
    """`lost`: it was encrypted with a secret that this gateway does not have any more."""


class _Cipher:
    """One derived key."""

    def __init__(self, secret: bytes) -> None:
        key = hkdf.HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=_PURPOSE).derive(secret)
        self._gcm = aead.AESGCM(key)
        self.id = hashlib.sha256(b"id\0" + key).hexdigest()[:KEY_ID_CHARACTERS]

    def encrypt(self, name: SecretName, value: str) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._gcm.encrypt(nonce, value.encode(), _bound(name))

    def decrypt(self, name: SecretName, ciphertext: bytes) -> str | None:
        """None if it is not what was encrypted for this name."""
        try:
            nonce, sealed = ciphertext[:NONCE_BYTES], ciphertext[NONCE_BYTES:]
            return self._gcm.decrypt(nonce, sealed, _bound(name)).decode()
        except (exceptions.InvalidTag, ValueError):
            return None


def _bound(name: SecretName) -> bytes:
    return "\0".join(name).encode()


class Vault:
    """Every value in memory, as ciphertext; decrypted for the call that needs it."""

    def __init__(self, store: SecretStore, *, wall_ms: Callable[[], int]) -> None:
        self._store = store
        self._wall_ms = wall_ms
        self._given: tuple[bytes, ...] = ()
        """The gateway's secret and its old ones."""
        self._secrets: dict[SecretName, StoredSecret] = {}
        self._changing = asyncio.Lock()
        """Held from a change in the store until it is known here, so that what is read anew is not older."""

    async def read_anew(self) -> None:
        """Reads the values again: another gateway may have changed some. Raises StoreFailed."""
        async with self._changing:
            self._secrets = {one.name: one for one in await self._store.all()}

    async def open(self, secret: bytes, *, old: Sequence[bytes] = ()) -> None:
        """Reads the values, and encrypts anew those of the `old` secrets. Raises StoreFailed if they cannot
        be read.
        """
        self._given = (secret, *old)
        for made in ("_current", "_ciphers"):
            self.__dict__.pop(made, None)
        await self.read_anew()
        if self._secrets:
            await self._encrypt_anew()

    @functools.cached_property
    def _current(self) -> _Cipher:
        """Made when there is something to encrypt, or to read."""
        return _Cipher(self._given[0])

    @functools.cached_property
    def _ciphers(self) -> dict[str, _Cipher]:
        return {cipher.id: cipher for cipher in (*map(_Cipher, self._given[1:]), self._current)}

    async def _encrypt_anew(self) -> None:
        lost = 0
        for one in [one for one in self._secrets.values() if one.key_id != self._current.id]:
            value = self.get(one.name)
            if value is None:
                lost += 1
                continue
            try:
                await self._keep(one.name, value, at=one.set_at)
            except GatewayError as error:  # it can still be read, and the next start tries again
                log.warning("values stay encrypted with an old secret: %s", error)
                return
        if lost:
            log.warning(
                "%d keys or credentials of people and tenants were encrypted with a secret that this gateway "
                "does not have: each must be set again. If that secret is still there, name its file in "
                "auth.old_secret_files and restart",
                lost,
            )

    def get(self, name: SecretName) -> str | None:
        """The value; None if it is not set, or lost."""
        stored = self._secrets.get(name)
        cipher = self._ciphers.get(stored.key_id) if stored is not None else None
        return cipher.decrypt(name, stored.ciphertext) if cipher is not None and stored is not None else None

    def kept(self, owner: str) -> list[KeptValue]:
        """What an owner has set, by name."""
        names = sorted(name for name in self._secrets if name.owner == owner)
        return [
            KeptValue(name, self._secrets[name].set_at, "lost" if self.get(name) is None else "set")
            for name in names
        ]

    def names(self) -> dict[str, list[str]]:
        """Owner → what they have set, by name alone."""
        found: dict[str, list[str]] = {}
        for name in sorted(self._secrets):
            found.setdefault(name.owner, []).append(name.name)
        return found

    async def set(self, name: SecretName, value: str) -> None:
        """Keeps a value, in place of the one before. Raises StoreFull, StoreFailed."""
        await self._keep(name, value, at=self._wall_ms())

    async def remove(self, name: SecretName) -> bool:
        """Removes a value; whether there was one. Raises StoreFull, StoreFailed."""
        async with self._changing:
            was_there = await self._store.remove(name, at=self._wall_ms())
            self._secrets.pop(name, None)
        return was_there

    async def erase(self, owner: str) -> int:
        """Removes every value of an owner; how many. Raises StoreFull, StoreFailed."""
        async with self._changing:
            count = await self._store.erase(owner, at=self._wall_ms())
            self._secrets = {name: one for name, one in self._secrets.items() if name.owner != owner}
        return count

    async def _keep(self, name: SecretName, value: str, *, at: int) -> None:
        if not self._given:
            raise RuntimeError("a vault keeps values once it is open")
        ciphertext = self._current.encrypt(name, value)
        stored = StoredSecret(name=name, ciphertext=ciphertext, key_id=self._current.id, set_at=at)
        async with self._changing:
            await self._store.put(stored)
            self._secrets[name] = stored
