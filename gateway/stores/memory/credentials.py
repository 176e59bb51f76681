"""Credentials, and what was used, in dictionaries."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from gateway.stores.credentials import ApiKey, Share, SharedSession
from gateway.stores.usage import DayUse, UseName


class MemoryCredentials:
    """`CredentialStore` in dictionaries, gone with the process."""

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}
        self._shares: dict[str, Share] = {}
        self._sessions: dict[str, tuple[str, str]] = {}
        self._revocations: dict[str, int] = {}
        self._used: dict[str, int] = {}

    async def keys(self) -> Sequence[ApiKey]:
        return list(self._keys.values())

    async def put_key(self, key: ApiKey) -> None:
        known = self._keys.get(key.id, key)
        self._keys[key.id] = msgspec.structs.replace(
            key,
            revoked_at=known.revoked_at or key.revoked_at,
            last_used_at=max(known.last_used_at or 0, key.last_used_at or 0) or None,
        )

    async def find_key(self, key_id: str) -> ApiKey | None:
        return self._keys.get(key_id)

    async def use_keys(self, uses: Mapping[str, int]) -> None:
        for key_id, at in uses.items():
            if (key := self._keys.get(key_id)) is not None:
                self._keys[key_id] = msgspec.structs.replace(key, last_used_at=at)

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

    async def use_share(self, share_id: str, *, at: int) -> None:
        share = self._shares.get(share_id)
        if share is not None:
            used = msgspec.structs.replace(share, uses=share.uses + 1, last_used_at=at)
            self._shares[share_id] = used

    async def delete_share(self, session_key: str, share_id: str) -> bool:
        share = self._shares.get(share_id)
        if share is None or share.session_key != session_key:
            return False
        del self._shares[share_id]
        return True

    async def shares_there(self, share_ids: Collection[str]) -> set[str]:
        return {one for one in share_ids if one in self._shares}

    async def revocations(self) -> dict[str, int]:
        return dict(self._revocations)

    async def revoke(self, owner: str, at: int) -> None:
        self._revocations[owner] = at

    async def use_once(self, token_id: str, *, expires_at: int) -> bool:
        is_first = token_id not in self._used
        self._used[token_id] = expires_at
        return is_first

    async def forget_used(self, *, now: int) -> None:
        self._used = {name: at for name, at in self._used.items() if at >= now}


class MemoryUsage:
    """`UsageStore` in dictionaries, gone with the process."""

    def __init__(self) -> None:
        self._uses: dict[int, dict[UseName, DayUse]] = {}

    async def uses(self, day: int, names: Collection[UseName] | None = None) -> dict[UseName, DayUse]:
        kept = self._uses.get(day, {})
        return {
            name: msgspec.structs.replace(use) for name, use in kept.items() if names is None or name in names
        }

    async def add_uses(self, day: int, uses: dict[UseName, DayUse]) -> None:
        kept = self._uses.setdefault(day, {})
        for name, use in uses.items():
            kept[name] = kept.get(name, DayUse()).plus(use)

    async def forget(self, *, before_day: int) -> None:
        self._uses = {day: uses for day, uses in self._uses.items() if day >= before_day}
