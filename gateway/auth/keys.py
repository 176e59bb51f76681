"""API keys: made, checked, revoked. A key is shown once; what is kept is its SHA-256.

A key is `agw_<id>_<secret>`: the id is public and finds it, the secret (256 random bits) proves it and is
compared in constant time. High entropy is why a plain hash is enough (OWASP, Password Storage).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from typing import Any, Final

import msgspec

from gateway.errors import KeyNotFound
from gateway.stores.credentials import ApiKey, CredentialStore

NAME_CHARACTERS: Final = 100
NAME_WORDS: Final = f"1 to {NAME_CHARACTERS} printable characters"
PREFIX: Final = "agw_"
_ID_LETTERS: Final = "abcdefghijkmnpqrstuvwxyz23456789"
_ID_LENGTH: Final = 12
_KEY: Final = re.compile(r"agw_([a-z2-9]{12})_([A-Za-z0-9_-]{43})")
_NO_HASH: Final = hashlib.sha256(b"no key").hexdigest()


def is_name(text: str) -> bool:
    """Whether a key may be called this."""
    return bool(text.strip()) and len(text) <= NAME_CHARACTERS and text.isprintable()


class KeyRing:
    """Every key of the gateway, in memory and in the store. What other gateways on the same store do to keys
    is heard of (`read_anew`), or asked for when somebody shows a key that is not known (`learn`).
    """

    def __init__(self, store: CredentialStore, *, wall_ms: Callable[[], int]) -> None:
        self._store = store
        self._wall_ms = wall_ms
        self._keys: dict[str, ApiKey] = {}
        self._used: dict[str, int] = {}
        self._changing = asyncio.Lock()
        """Held from reading keys until what follows is kept, so that no change undoes another."""

    async def open(self) -> None:
        """Reads the keys. Raises StoreFailed."""
        self._keys = {key.id: key for key in await self._store.keys()}

    async def read_anew(self) -> set[str]:
        """Reads the keys again; the owners of those that are different now. Raises StoreFailed."""
        async with self._changing:
            before, found = self._keys, {key.id: key for key in await self._store.keys()}
            self._keys = found
        differ = [key for key in before.values() if _rights(found.get(key.id)) != _rights(key)]
        return {f"{key.tenant}/{key.subject}" for key in differ}

    def is_known(self, text: str) -> bool:
        """Whether there is a key of this text's id, as far as is known here."""
        match = _KEY.fullmatch(text)
        return match is not None and match[1] in self._keys

    async def learn(self, text: str) -> None:
        """Looks for the key of this text's id in the store: another gateway may just have made it. Raises
        StoreFailed.
        """
        match = _KEY.fullmatch(text)
        if match is None:
            return
        async with self._changing:
            key = await self._store.find_key(match[1])
            if key is not None:
                self._keys[key.id] = key

    def all(self) -> list[ApiKey]:
        """Every key, oldest first, with when it was last used."""
        keys = sorted(self._keys.values(), key=lambda key: (key.created_at, key.id))
        return [
            msgspec.structs.replace(key, last_used_at=self._used.get(key.id, key.last_used_at))
            for key in keys
        ]

    async def mint(
        self,
        tenant: str,
        subject: str,
        *,
        name: str,
        scopes: tuple[str, ...],
        expires_at: int | None = None,
    ) -> tuple[ApiKey, str]:
        """Creates a key; returns it and its text, which cannot be read again."""
        key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))
        text = f"{PREFIX}{key_id}_{secrets.token_urlsafe(32)}"
        key = ApiKey(
            id=key_id, hash=_hash(text), tenant=tenant, subject=subject, name=name, scopes=scopes,
            created_at=self._wall_ms(), expires_at=expires_at,
        )  # fmt: skip
        async with self._changing:
            await self._keep(key)
        return key, text

    async def rotate(self, key_id: str, *, overlap_ms: int) -> tuple[ApiKey, str]:
        """A new key of the same rights; the old one ends after the overlap. Raises KeyNotFound."""
        old = self.find(key_id)
        if old is None:
            raise KeyNotFound
        new = await self.mint(
            old.tenant, old.subject, name=old.name, scopes=old.scopes, expires_at=old.expires_at
        )
        ends = self._wall_ms() + overlap_ms
        await self._change(key_id, expires_at=min(ends, old.expires_at) if old.expires_at else ends)
        return new

    async def revoke(self, key_id: str) -> ApiKey:
        """Ends a key at once. Raises KeyNotFound."""
        key = self.find(key_id)
        if key is None:
            raise KeyNotFound
        if key.revoked_at is None:
            key = await self._change(key_id, revoked_at=self._wall_ms())
        return key

    def find(self, key_id: str) -> ApiKey | None:
        """The key of this id, whether it is still good or not."""
        return self._keys.get(key_id)

    def is_good(self, key: ApiKey | None) -> bool:
        """Whether it may be used now."""
        now = self._wall_ms()
        return key is not None and key.revoked_at is None and (key.expires_at is None or now < key.expires_at)

    def check(self, text: str) -> ApiKey | None:
        """The key whose text this is, if it is one and may be used; the same time is spent on a wrong one."""
        match = _KEY.fullmatch(text)
        key = self._keys.get(match[1]) if match else None
        is_right = hmac.compare_digest(_hash(text), key.hash if key is not None else _NO_HASH)
        if key is None or not is_right or not self.is_good(key):
            return None
        self._used[key.id] = self._wall_ms()
        return key

    async def note_use(self) -> None:
        """Keeps when keys were last used."""
        used, self._used = self._used, {}
        if not used:
            return
        async with self._changing:
            await self._store.use_keys(used)
            for key_id, at in used.items():
                if (key := self._keys.get(key_id)) is not None:
                    self._keys[key_id] = msgspec.structs.replace(key, last_used_at=at)

    async def _change(self, key_id: str, **changes: Any) -> ApiKey:
        async with self._changing:
            key = msgspec.structs.replace(self._keys[key_id], **changes)
            await self._keep(key)
        return key

    async def _keep(self, key: ApiKey) -> None:
        await self._store.put_key(key)
        self._keys[key.id] = key


def _rights(key: ApiKey | None) -> ApiKey | None:
    """A key without what its use changes."""
    return key and msgspec.structs.replace(key, last_used_at=None)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
