"""The reference store: everything in this process, gone with it. Bounded per session by events and bytes."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import msgspec

from gateway.errors import SessionExists
from gateway.events.compaction import compacted
from gateway.events.facts import Event, at_most
from gateway.principal import tenant_of
from gateway.stores.contract import (
    READ_BYTES,
    OwnerTotal,
    Remembered,
    SessionRecord,
    Sink,
    StoredLog,
    Tombstone,
)
from gateway.stores.credentials import MemoryCredentials
from gateway.stores.database import MemoryTables


class _Log:
    """One session's events, the oldest dropped past the bounds."""

    __slots__ = ("events", "gaps", "oldest", "reserved", "seqs", "size")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.seqs: list[int] = []
        self.size = 0
        self.oldest = 0
        self.reserved = 0
        self.gaps: tuple[tuple[int, int], ...] = ()

    def add(self, event: Event, *, max_events: int, max_bytes: int) -> None:
        self.events.append(event)
        self.seqs.append(event.seq)
        self.size += event.size_bytes
        if len(self.events) > max_events or self.size > max_bytes:
            self._drop_oldest(max_events, max_bytes)

    def compact(self, through: int) -> int:
        stop = bisect.bisect_right(self.seqs, through)
        kept = compacted(self.events[:stop])
        saved = stop - len(kept)
        if saved:
            self.events[:stop] = kept
            self.seqs[:stop] = [event.seq for event in kept]
            self.size = sum(event.size_bytes for event in self.events)
        return saved

    def _drop_oldest(self, max_events: int, max_bytes: int) -> None:
        """Drops an eighth more than it must, so that a full log is not shifted at every event."""
        kept, kept_events, count = self.size, len(self.events), 0
        while count < len(self.events) - 1 and (
            kept_events > max_events * 7 // 8 or kept > max_bytes * 7 // 8
        ):
            kept -= self.events[count].size_bytes
            kept_events -= 1
            count += 1
        self.oldest = self.seqs[count - 1] if count else self.oldest
        del self.events[:count], self.seqs[:count]
        self.size = kept


class MemoryStore:
    """`Store` in dictionaries."""

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self.credentials = MemoryCredentials()
        self.tables = MemoryTables(self._record_of)
        """For applications."""
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._records: dict[str, SessionRecord] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._by_owner: dict[str, dict[str, None]] = {}
        self._logs: dict[str, _Log] = {}
        self._tombstones: dict[tuple[str, str], Tombstone] = {}
        self._remembered: dict[tuple[str, str], tuple[int, Remembered]] = {}

    def _record_of(self, key: str) -> SessionRecord | None:
        return self._records.get(key)

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def create_session(self, record: SessionRecord) -> None:
        name = (record.owner, record.session_id)
        if name in self._keys:
            raise SessionExists(session_id=record.session_id)
        self._keys[name] = record.key
        self._records[record.key] = record
        self._by_owner.setdefault(record.owner, {})[record.key] = None
        self.credentials.name_session(record.key, *name)

    async def totals(self) -> dict[str, OwnerTotal]:
        return {
            owner: OwnerTotal(len(keys), sum(self._records[key].stored_bytes for key in keys))
            for owner, keys in self._by_owner.items()
        }

    async def size_bytes(self, key: str) -> int:
        log = self._logs.get(key)
        return 0 if log is None else sum(len(event.body) for event in log.events)

    async def adopt(self, key: str, *, owner: str, session_id: str, keeps_shares: bool) -> bool:
        record = self._records.get(key)
        if record is None or (owner, session_id) in self._keys:
            return False
        del self._keys[record.owner, record.session_id]
        self._take_from_owner(record)
        self._keys[owner, session_id] = key
        self._records[key] = msgspec.structs.replace(record, owner=owner, session_id=session_id)
        self._by_owner.setdefault(owner, {})[key] = None
        self.credentials.name_session(key, owner, session_id)
        if not keeps_shares:
            self.credentials.drop_shares(key)
        return True

    def _take_from_owner(self, record: SessionRecord) -> None:
        keys = self._by_owner[record.owner]
        del keys[record.key]
        if not keys:
            del self._by_owner[record.owner]

    async def find_session(self, owner: str, session_id: str) -> SessionRecord | None:
        key = self._keys.get((owner, session_id))
        return None if key is None else self._records[key]

    async def newest_session(self, owner: str) -> SessionRecord | None:
        keys = self._by_owner.get(owner)
        return self._records[next(reversed(keys))] if keys else None

    async def update_session(self, record: SessionRecord) -> None:
        if record.key in self._records:
            self._records[record.key] = record

    async def list_sessions(self, owner: str, *, limit: int) -> Sequence[SessionRecord]:
        records = [self._records[key] for key in self._by_owner.get(owner, ())]
        return sorted(records, key=lambda record: (-record.last_active_at, record.key))[:limit]

    async def list_all_sessions(self, *, tenant: str | None, limit: int) -> Sequence[SessionRecord]:
        records = [one for one in self._records.values() if tenant in (None, tenant_of(one.owner))]
        return sorted(records, key=lambda record: (-record.last_active_at, record.key))[:limit]

    async def count_sessions(self) -> int:
        return len(self._records)

    async def delete_session(self, key: str, tombstone: Tombstone) -> None:
        record = self._records.pop(key, None)
        if record is None:
            return
        self._keys.pop((record.owner, record.session_id), None)
        self._take_from_owner(record)
        self.credentials.drop_session(key)
        self.tables.dropped(key)
        self._logs.pop(key, None)
        self._remembered = {
            name: kept
            for name, kept in self._remembered.items()
            if (name[0], kept[1].session_id) != (record.owner, record.session_id)
        }
        self._tombstones[tombstone.owner, tombstone.session_hash] = tombstone

    async def find_tombstone(self, owner: str, session_hash: str) -> Tombstone | None:
        return self._tombstones.get((owner, session_hash))

    async def expired_sessions(self, now: int, *, limit: int) -> Sequence[SessionRecord]:
        expired = [
            (record.expires_at, record) for record in self._records.values() if record.expires_at is not None
        ]
        return [record for at, record in sorted(expired, key=lambda pair: pair[0]) if at < now][:limit]

    async def sessions_with_open_turn(self) -> Sequence[SessionRecord]:
        """None: a gateway's death takes this store with it."""
        return []

    async def taken_uids(self) -> set[int]:
        return {record.uid for record in self._records.values() if record.uid is not None}

    async def drop_old(self, *, tombstones_before: int, keys_before: int) -> int:
        old = [name for name, tombstone in self._tombstones.items() if tombstone.at < tombstones_before]
        for name in old:
            del self._tombstones[name]
        self._remembered = {name: kept for name, kept in self._remembered.items() if kept[0] >= keys_before}
        return len(old)

    async def stand(self, key: str) -> StoredLog:
        log = self._logs.get(key)
        if log is None:
            return StoredLog(last_seq=0, reserved_seq=0)
        return StoredLog(last_seq=log.seqs[-1] if log.seqs else 0, reserved_seq=log.reserved, gaps=log.gaps)

    async def reserve(self, key: str, upto: int, *, gap: tuple[int, int] | None = None) -> None:
        log = self._logs.setdefault(key, _Log())
        log.reserved = upto
        if gap is not None:
            log.gaps = (*log.gaps, gap)

    def enqueue(self, sink: Sink, event: Event, *, urgent: bool) -> None:
        log = self._logs.setdefault(sink.key, _Log())
        log.add(event, max_events=self._max_events, max_bytes=self._max_bytes)
        self.tables.appended(sink.key, event)
        sink.committed(event.seq)

    def backlog(self) -> int:
        return 0

    def forget(self, sink: Sink, seqs: set[int]) -> None:
        """Nothing is ever waiting here."""

    async def read_events(
        self, key: str, *, after: int, limit: int, max_bytes: int = READ_BYTES
    ) -> list[Event]:
        log = self._logs.get(key)
        if log is None:
            return []
        start = bisect.bisect_right(log.seqs, after)
        return at_most(log.events[start : start + limit], max_bytes)

    async def oldest_seq(self, key: str) -> int:
        log = self._logs.get(key)
        return 0 if log is None else log.oldest

    async def compact(self, key: str, *, through: int) -> int:
        log = self._logs.get(key)
        return 0 if log is None else log.compact(through)

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
