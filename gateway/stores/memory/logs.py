"""Logs in lists. Bounded per session by events and bytes: the oldest are dropped."""

from __future__ import annotations

import bisect
from collections.abc import Callable

from gateway.events.compaction import compacted
from gateway.events.facts import Event, at_most
from gateway.stores.logs import READ_BYTES, Sink, StoredLog
from gateway.stores.sessions import Forking, Founding


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


class MemoryLogs:
    """`LogStore` in lists; what is enqueued is committed at once."""

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self.on_append: Callable[[str, Event], None] = lambda _key, _event: None
        """Hears of every event, and the key of its session, as it is committed."""
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._logs: dict[str, _Log] = {}

    def fork(self, key: str, forking: Forking) -> int:
        """Makes a log of another one; how many bytes are in it."""
        source, log = self._logs.get(forking.source, _Log()), _Log()
        log.oldest = source.oldest if source.oldest <= forking.through else 0
        for event in (*forking.copies(source.events), *forking.added):
            log.add(event, max_events=self._max_events, max_bytes=self._max_bytes)
            self.on_append(key, event)
        log.reserved = log.seqs[-1] if log.seqs else 0
        self._logs[key] = log
        return sum(len(event.body) for event in log.events)

    def found(self, key: str, founding: Founding) -> None:
        """Begins the log of a new session."""
        log = self._logs[key] = _Log()
        log.reserved = founding.reserved_seq
        log.gaps = () if founding.gap is None else (founding.gap,)
        for event in founding.events:
            log.add(event, max_events=self._max_events, max_bytes=self._max_bytes)
            self.on_append(key, event)

    def events(self, key: str) -> list[Event]:
        """What is kept of a session's log."""
        log = self._logs.get(key)
        return [] if log is None else log.events

    def drop(self, key: str) -> None:
        """Forgets the log of a session that was deleted."""
        self._logs.pop(key, None)

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

    def enqueue(self, sink: Sink, *events: Event, urgent: bool) -> None:
        log = self._logs.setdefault(sink.key, _Log())
        for event in events:
            log.add(event, max_events=self._max_events, max_bytes=self._max_bytes)
            self.on_append(sink.key, event)
        sink.committed(events[-1].seq)

    def forget(self, sink: Sink, seqs: set[int]) -> None:
        """Nothing is ever waiting here."""

    def backlog(self) -> int:
        return 0

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

    async def size_bytes(self, key: str) -> int:
        log = self._logs.get(key)
        return 0 if log is None else sum(len(event.body) for event in log.events)
