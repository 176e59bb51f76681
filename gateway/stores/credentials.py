"""The contract of what a gateway remembers about its callers: keys, shared links, revocations, use.

Secrets are kept as SHA-256 only. `MemoryCredentials` is the reference; every implementation is held to
tests/contract/test_credentials.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec
from msgspec import Struct


class ApiKey(Struct, frozen=True, kw_only=True):
    """An API key without its secret. Times are milliseconds since 1970 UTC."""

    id: str
    """The public part, by which people tell keys apart."""
    hash: str
    tenant: str
    subject: str
    name: str
    scopes: tuple[str, ...]
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None


class Share(Struct, frozen=True, kw_only=True):
    """A read-only link to one session."""

    id: str
    hash: str
    session_key: str
    created_at: int
    expires_at: int | None = None


class SharedSession(Struct, frozen=True, kw_only=True):
    """Where a shared link leads."""

    share: Share
    owner: str
    session_id: str


class Use(Struct, kw_only=True):
    """What somebody used on one day."""

    messages: int = 0
    tokens: int = 0
    cpu_ms: int = 0
    memory_mb_seconds: int = 0


UseName = tuple[str, str]
"""(tenant, key, subject or session; its name)."""


class CredentialStore(Protocol):
    """See the module. Every method may raise StoreFull or StoreFailed."""

    async def keys(self) -> Sequence[ApiKey]:
        """Every key, revoked ones too."""

    async def put_key(self, key: ApiKey) -> None:
        """Keeps a key, in place of the one of the same id."""

    async def put_share(self, share: Share) -> None:
        """Keeps a link."""

    async def shares(self, session_key: str) -> Sequence[Share]:
        """The links to a session, oldest first."""

    async def count_shares(self, owner: str) -> int:
        """How many links there are to an owner's sessions."""

    async def find_share(self, share_id: str) -> SharedSession | None:
        """The link of this id, and the session it leads to."""

    async def delete_share(self, session_key: str, share_id: str) -> bool:
        """Forgets a link; whether there was one."""

    async def revocations(self) -> dict[str, int]:
        """Owner → when what was issued to it before was revoked."""

    async def revoke(self, owner: str, at: int) -> None:
        """Notes a revocation."""

    async def use_once(self, token_id: str, *, expires_at: int) -> bool:
        """Whether this one-time token is used for the first time."""

    async def uses(self, day: int) -> dict[UseName, Use]:
        """What was used on a day (days since 1970 UTC)."""

    async def put_uses(self, day: int, uses: dict[UseName, Use]) -> None:
        """Keeps what was used on a day, in place of what is known."""

    async def forget_old(self, *, now: int, before_day: int) -> None:
        """Forgets used tokens that have expired and the use of days before."""


class MemoryCredentials:
    """`CredentialStore` in dictionaries, gone with the process."""

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}
        self._shares: dict[str, Share] = {}
        self._sessions: dict[str, tuple[str, str]] = {}
        self._revocations: dict[str, int] = {}
        self._used: dict[str, int] = {}
        self._uses: dict[int, dict[UseName, Use]] = {}

    async def keys(self) -> Sequence[ApiKey]:
        return list(self._keys.values())

    async def put_key(self, key: ApiKey) -> None:
        self._keys[key.id] = key

    async def put_share(self, share: Share) -> None:
        self._shares[share.id] = share

    def name_session(self, key: str, owner: str, session_id: str) -> None:
        """Tells where a session's links lead: the reference store of sessions calls it."""
        self._sessions[key] = (owner, session_id)

    def drop_session(self, key: str) -> None:
        """A session was deleted, and its links with it."""
        self._sessions.pop(key, None)
        self.drop_shares(key)

    def drop_shares(self, key: str) -> None:
        """The links to a session end."""
        for share_id in [share.id for share in self._shares.values() if share.session_key == key]:
            del self._shares[share_id]

    async def shares(self, session_key: str) -> Sequence[Share]:
        return [share for share in self._shares.values() if share.session_key == session_key]

    async def count_shares(self, owner: str) -> int:
        names = (self._sessions.get(share.session_key) for share in self._shares.values())
        return sum(name is not None and name[0] == owner for name in names)

    async def find_share(self, share_id: str) -> SharedSession | None:
        share = self._shares.get(share_id)
        named = self._sessions.get(share.session_key) if share is not None else None
        if share is None or named is None:
            return None
        return SharedSession(share=share, owner=named[0], session_id=named[1])

    async def delete_share(self, session_key: str, share_id: str) -> bool:
        share = self._shares.get(share_id)
        if share is None or share.session_key != session_key:
            return False
        del self._shares[share_id]
        return True

    async def revocations(self) -> dict[str, int]:
        return dict(self._revocations)

    async def revoke(self, owner: str, at: int) -> None:
        self._revocations[owner] = at

    async def use_once(self, token_id: str, *, expires_at: int) -> bool:
        is_first = token_id not in self._used
        self._used[token_id] = expires_at
        return is_first

    async def uses(self, day: int) -> dict[UseName, Use]:
        return {name: msgspec.structs.replace(use) for name, use in self._uses.get(day, {}).items()}

    async def put_uses(self, day: int, uses: dict[UseName, Use]) -> None:
        kept = self._uses.setdefault(day, {})
        kept |= {name: msgspec.structs.replace(use) for name, use in uses.items()}

    async def forget_old(self, *, now: int, before_day: int) -> None:
        self._used = {name: at for name, at in self._used.items() if at >= now}
        self._uses = {day: uses for day, uses in self._uses.items() if day >= before_day}
