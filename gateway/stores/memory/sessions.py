"""Session records in dictionaries, and what goes with them: tombstones, idempotency keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from gateway.errors import SessionExists, SessionNotFound
from gateway.principal import is_visitor, tenant_of
from gateway.stores.idempotency import Remembered
from gateway.stores.memory.credentials import MemoryCredentials
from gateway.stores.memory.logs import MemoryLogs
from gateway.stores.sessions import Forking, Founding, OwnerTotal, SessionRecord
from gateway.stores.tombstones import Tombstone


class MemoryTombstones:
    """`TombstoneStore` in a dictionary."""

    def __init__(self) -> None:
        self._tombstones: dict[tuple[str, str], Tombstone] = {}

    def put(self, tombstone: Tombstone) -> None:
        """Keeps the tombstone of a session that was deleted."""
        self._tombstones[tombstone.owner, tombstone.session_hash] = tombstone

    async def find(self, owner: str, session_hash: str) -> Tombstone | None:
        return self._tombstones.get((owner, session_hash))

    async def drop(self, *, before: int) -> int:
        old = [name for name, tombstone in self._tombstones.items() if tombstone.at < before]
        for name in old:
            del self._tombstones[name]
        return len(old)


class MemoryIdempotency:
    """`IdempotencyStore` in a dictionary."""

    def __init__(self) -> None:
        self._remembered: dict[tuple[str, str], tuple[int, Remembered]] = {}

    def drop_session(self, owner: str, session_id: str) -> None:
        """Forgets the requests that a deleted session answered."""
        self._remembered = {
            name: kept
            for name, kept in self._remembered.items()
            if (name[0], kept[1].session_id) != (owner, session_id)
        }

    async def recall(self, owner: str, key: str, *, since: int) -> Remembered | None:
        kept = self._remembered.get((owner, key))
        return kept[1] if kept is not None and kept[0] >= since else None

    async def remember(
        self, owner: str, key: str, remembered: Remembered, *, at: int, since: int
    ) -> Remembered:
        kept = await self.recall(owner, key, since=since)
        if kept is not None:
            return kept
        self._remembered[owner, key] = (at, remembered)
        return remembered

    async def drop(self, *, before: int) -> None:
        self._remembered = {name: kept for name, kept in self._remembered.items() if kept[0] >= before}


class MemoryOptions:
    """`OptionStore` in a dictionary."""

    def __init__(self) -> None:
        self.has_sessions: Callable[[str], bool] = lambda _owner: True
        self._chosen: dict[str, dict[str, dict[str, str | bool]]] = {}

    def drop_owner(self, owner: str) -> None:
        """Forgets what an owner chose."""
        self._chosen.pop(owner, None)

    async def chosen(self, owner: str, agent: str) -> dict[str, str | bool]:
        return dict(self._chosen.get(owner, {}).get(agent, {}))

    async def choose(self, owner: str, agent: str, option_id: str, value: str | bool) -> None:
        if self.has_sessions(owner):
            self._chosen.setdefault(owner, {}).setdefault(agent, {})[option_id] = value

    async def move(self, giver: str, taker: str) -> None:
        for agent, values in self._chosen.pop(giver, {}).items():
            own = self._chosen.setdefault(taker, {}).setdefault(agent, {})
            own.update(values | own)


class MemorySessions:
    """`SessionStore` in dictionaries; a deletion takes what goes with it from the parts it is given."""

    def __init__(
        self,
        *,
        logs: MemoryLogs,
        tombstones: MemoryTombstones,
        idempotency: MemoryIdempotency,
        credentials: MemoryCredentials,
        options: MemoryOptions,
    ) -> None:
        self.on_delete: Callable[[str], None] = lambda _key: None
        """Hears the key of each session that is deleted."""
        self._logs = logs
        self._tombstones = tombstones
        self._idempotency = idempotency
        self._credentials = credentials
        self._options = options
        self._records: dict[str, SessionRecord] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._by_owner: dict[str, dict[str, None]] = {}
        self._parents: dict[str, str] = {}
        """The key of each fork → that of the session that it was forked from."""

    def of_key(self, key: str) -> SessionRecord | None:
        """The record of this key."""
        return self._records.get(key)

    async def create(self, record: SessionRecord, founding: Founding | None = None) -> None:
        name = (record.owner, record.session_id)
        if name in self._keys:
            raise SessionExists(session_id=record.session_id)
        self._keys[name] = record.key
        self._records[record.key] = record
        self._by_owner.setdefault(record.owner, {})[record.key] = None
        self._credentials.name_session(record.key, *name)
        if founding is not None:
            self._logs.found(record.key, founding)

    async def fork(self, record: SessionRecord, forking: Forking) -> SessionRecord:
        if forking.source not in self._records:
            raise SessionNotFound
        if (record.owner, record.session_id) in self._keys:
            raise SessionExists(session_id=record.session_id)
        size = self._logs.fork(record.key, forking)
        await self.create(record)
        self._parents[record.key] = forking.source
        self._records[record.key] = msgspec.structs.replace(record, stored_bytes=size + record.uploaded_bytes)
        return self._seen(self._records[record.key])

    def _seen(self, record: SessionRecord) -> SessionRecord:
        """With the parent as it is now."""
        parent = self._records.get(self._parents.get(record.key, ""))
        is_there = parent is not None and parent.owner == record.owner
        return msgspec.structs.replace(record, parent=parent.session_id if parent and is_there else None)

    async def update(self, record: SessionRecord) -> None:
        self.update_soon(record)

    def update_soon(self, record: SessionRecord) -> None:
        known = self._records.get(record.key)
        if known is not None:
            self._records[record.key] = msgspec.structs.replace(record, uploaded_bytes=known.uploaded_bytes)

    async def upload(self, key: str, uploaded_bytes: int) -> None:
        record = self._records.get(key)
        if record is not None:
            self._records[key] = msgspec.structs.replace(record, uploaded_bytes=uploaded_bytes)

    async def find(self, owner: str, session_id: str) -> SessionRecord | None:
        key = self._keys.get((owner, session_id))
        return None if key is None else self._seen(self._records[key])

    async def newest(self, owner: str) -> SessionRecord | None:
        keys = self._by_owner.get(owner)
        return self._seen(self._records[next(reversed(keys))]) if keys else None

    async def of_owner(self, owner: str, *, limit: int) -> Sequence[SessionRecord]:
        return self.all_of(owner)[:limit]

    def all_of(self, owner: str) -> Sequence[SessionRecord]:
        """Every session of an owner, last active first."""
        keys = self._by_owner.get(owner, ())
        return _last_active_first(self._seen(self._records[key]) for key in keys)

    def title(self, key: str, title: str) -> None:
        """A title was appended to the log of this session."""
        if (record := self._records.get(key)) is not None:
            self._records[key] = msgspec.structs.replace(record, title=title)

    async def of_all(self, *, tenant: str | None, limit: int) -> Sequence[SessionRecord]:
        records = (one for one in self._records.values() if tenant in (None, tenant_of(one.owner)))
        return _last_active_first(records)[:limit]

    async def expired(self, now: int, *, limit: int) -> Sequence[SessionRecord]:
        expired = [
            (record.expires_at, record) for record in self._records.values() if record.expires_at is not None
        ]
        return [record for at, record in sorted(expired, key=lambda pair: pair[0]) if at < now][:limit]

    async def with_open_turn(self) -> Sequence[SessionRecord]:
        """None: a gateway's death takes this store with it."""
        return []

    async def waiting_for_budget(self) -> Sequence[SessionRecord]:
        """None: see `with_open_turn`."""
        return []

    async def taken_uids(self) -> set[int]:
        return {record.uid for record in self._records.values() if record.uid is not None}

    async def count(self) -> int:
        return len(self._records)

    async def totals(self) -> dict[str, OwnerTotal]:
        return {owner: _total([self._records[key] for key in keys]) for owner, keys in self._by_owner.items()}

    async def last_used(self, *, has_visitors: bool) -> dict[str, int]:
        return {
            owner: max(self._records[key].last_active_at for key in keys)
            for owner, keys in self._by_owner.items()
            if keys and (has_visitors or not is_visitor(owner))
        }

    async def adopt(self, key: str, *, owner: str, session_id: str, keeps_shares: bool) -> bool:
        record = self._records.get(key)
        if record is None or (owner, session_id) in self._keys:
            return False
        del self._keys[record.owner, record.session_id]
        self._take_from_owner(record)
        self._keys[owner, session_id] = key
        self._records[key] = msgspec.structs.replace(record, owner=owner, session_id=session_id)
        self._by_owner.setdefault(owner, {})[key] = None
        self._credentials.name_session(key, owner, session_id)
        if not keeps_shares:
            self._credentials.drop_shares(key)
        return True

    def _take_from_owner(self, record: SessionRecord) -> None:
        keys = self._by_owner[record.owner]
        del keys[record.key]
        if not keys:
            del self._by_owner[record.owner]

    def has_any(self, owner: str) -> bool:
        """Whether this owner has a session."""
        return bool(self._by_owner.get(owner))

    async def delete(self, key: str, tombstone: Tombstone) -> None:
        record = self._records.pop(key, None)
        if record is None:
            return
        self._parents.pop(key, None)
        self._keys.pop((record.owner, record.session_id), None)
        self._take_from_owner(record)
        self._credentials.drop_session(key)
        self._logs.drop(key)
        self.on_delete(key)
        self._idempotency.drop_session(record.owner, record.session_id)
        if not self.has_any(record.owner):
            self._options.drop_owner(record.owner)
        self._tombstones.put(tombstone)


def _total(records: Sequence[SessionRecord]) -> OwnerTotal:
    return OwnerTotal(len(records), sum(record.stored_bytes for record in records))


def _last_active_first(records: Iterable[SessionRecord]) -> list[SessionRecord]:
    return sorted(records, key=lambda record: (-record.last_active_at, record.key))
