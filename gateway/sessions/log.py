"""A session's log: append-only, followed by cursor.

Guarantees:
- `seq` only grows, with gaps; a number is never used for two facts, across crashes too (numbers are reserved
  ahead);
- readers hold one integer and no queue, so a slow reader costs no memory;
- what is only shown (`show`) has a number and a place, and is lost with the memory;
- an event appended as durable, and everything after it, is invisible until it is committed, so readers see
  nothing that a full disk then rejects;
- a reader never gets a gap: if events are no longer kept, or a cursor points into numbers that a crash
  skipped, `Page.is_gap` is set and the reader starts again from the fold.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import functools
import logging
from array import array
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Final
from weakref import WeakValueDictionary

import msgspec
from msgspec import Raw, Struct

from gateway.errors import GatewayError, SessionEnded, SessionFenced, StoreFailed
from gateway.events.facts import (
    EVENT_OVERHEAD_BYTES,
    Event,
    EventData,
    LargeEvent,
    OnUsed,
    at_most,
    ignored,
    slices,
)
from gateway.events.fold import Elsewhere
from gateway.stores.logs import LogStore, Sink
from gateway.stores.sessions import Founding
from gateway.telemetry.metrics import Tally

log = logging.getLogger(__name__)

RESERVE_AHEAD: Final = 10_000
"""Sequence numbers reserved at a time; a restart skips at most so many."""
RESERVE_LOW_WATER: Final = 5_000
RESERVE_RETRY_SECONDS: Final = 0.5
"""How often numbers are asked for again while the store cannot write."""
SHARED_SECONDS: Final = 1.0
"""What one reader was given of a log is kept so long for others at the same place, and what was read ahead
for the reader itself.
"""
TAILS_BYTES: Final = 1024 * 1024
"""Of events in memory, over all logs; small objects, of which a few that live on hold all that was freed."""
TAIL_BYTES: Final = 32 * 1024
OPEN_BYTES: Final = 1024 * 1024
"""Of events that are not on disk, over all logs; past it, who has more than `TAIL_BYTES` of them waits for
the disk. Twenty agents that flood had 3 MiB of them in 6 MiB of small objects when one commit was slow.
"""
PAGE_EVENTS: Final = 2_000
"""Events read from the store at a time."""

KEPT_OF_FULL: Final = 7 / 8
"""Of a tail that is full so much stays: what goes at once stops everything else meanwhile."""

Create = Callable[[Founding], Awaitable[None]]
"""Stores a session. Raises StoreFull or StoreFailed."""


def _nothing(*_: object) -> None:
    """There is no one to tell."""


Show = Callable[[list[Event]], bool]
"""Shows a reader the next events at once; False, and nothing was shown, if that cannot be."""


class LogPage(Struct, frozen=True):
    """What a cursor gets: the next events, or word that they cannot be had and the fold must be taken
    instead.
    """

    events: list[Event]
    is_gap: bool = False


class _Entry(Struct):
    """A durable event that holds back the visible head."""

    seq: int
    is_rejectable: bool


class _Attendant:
    """A reader that is shown events in the moment in which they become visible."""

    __slots__ = ("future", "seq", "show")

    def __init__(self, seq: int, show: Show, future: asyncio.Future[None]) -> None:
        self.seq = seq
        """The last one that it was shown."""
        self.show = show
        self.future = future

    def take(self, events: list[Event]) -> bool:
        """Shows them; if that cannot be, it goes on by itself from where it is."""
        try:
            if self.show(events):
                self.seq = events[-1].seq
                return True
        except Exception:
            log.exception("a reader could not be shown an event; it goes on by itself")
        _wake(self.future)
        return False


class Shared:
    """What is made of the same events more than once within a short time exists once."""

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: dict[tuple[int, int], tuple[list[Event], tuple[bytes, ...]]] = {}

    def get(self, events: list[Event], make: Callable[[list[Event]], tuple[bytes, ...]]) -> tuple[bytes, ...]:
        """What `make` makes of them, or made of them a moment ago."""
        key = (events[0].seq, events[-1].seq)
        known = self._made.get(key)
        if known is not None and known[0] == events:
            return known[1]
        made = make(events)
        if known is None:
            asyncio.get_running_loop().call_later(SHARED_SECONDS, self._made.pop, key, None)
        self._made[key] = (events, made)
        return made


class Tails:
    """What all logs keep in memory together. Past `most_bytes`, each keeps no more than what a reader who
    follows it needs: what is older is read from the store. Past `open_bytes` that are not on disk, each may
    have no more of them than its share.
    """

    def __init__(
        self, most_bytes: int = TAILS_BYTES, *, each_bytes: int = TAIL_BYTES, open_bytes: int = OPEN_BYTES
    ) -> None:
        self.bytes = 0
        self.open_bytes = 0
        """Not on disk."""
        self._most_open = open_bytes
        self._most = most_bytes
        self._each = each_bytes

    def allowed(self, wanted: int) -> int:
        """How much of what a log may keep it may keep now."""
        return wanted if self.bytes <= self._most else min(wanted, self._each)

    def allowed_open(self, wanted: int) -> int:
        """The same of what is not on disk."""
        return wanted if self.open_bytes <= self._most_open else min(wanted, self._each)


class EventLog(Sink):
    """The log of one session while it is in memory; see the module."""

    def __init__(
        self,
        key: str,
        *,
        store: LogStore,
        wall_ms: Callable[[], int],
        on_visible: Callable[[Event], None] = _nothing,
        on_refused: Callable[[set[int], GatewayError], None] = _nothing,
        on_spoiled: Callable[[GatewayError], None] = _nothing,
        on_fenced: Callable[[], None] = _nothing,
        max_events: int,
        max_bytes: int,
        tails: Tails | None = None,
        tally: Tally | None = None,
        may_work: Callable[[], bool] | None = None,
    ) -> None:
        """While `may_work` says no, whatever is appended is hidden until it is committed."""
        self.key = key
        self._store = store
        self._wall_ms = wall_ms
        self._on_visible = on_visible
        self._on_refused = on_refused
        self._on_spoiled = on_spoiled
        """Called when an event that no caller waits for cannot be stored."""
        self._on_fenced = on_fenced
        """Called when another gateway has the session."""
        self._fenced: SessionFenced | None = None
        self._lost_above = 0
        """Of a fenced log: what is above is not in the store."""
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._tails = tails or Tails()
        self._tally = tally or Tally()
        self._may_work = may_work
        self._tail: list[Event] = []
        self._seqs = array("Q")
        self._tail_bytes = 0
        self._head = 0
        self._reserved = 0
        self._floor = 0
        """The last event before the tail: a cursor from here on is served from memory."""
        self._visible = 0
        self._settled = 0
        """Up to here every number is decided: visible, or refused and never used again."""
        self._committed = 0
        self._kept = 0
        """The last number that the store was given."""
        self._owed = 0
        """The last of those that the store must not refuse."""
        self._passing: set[int] = set()
        """Numbers that are held back and that the store is never given."""
        self._open: deque[tuple[int, int]] = deque()
        """What the store has not committed: (seq, bytes) of each append."""
        self.appended_bytes = 0
        """How much was appended in this life."""
        self.open_bytes = 0
        """How much of this log is not on disk yet."""
        self._is_heavy = False
        """Whether the tail holds a large event, which leaves as soon as it is committed."""
        self._last_at = 0
        self.shared = Shared()
        """What readers at one place make of the same events."""
        self._large: WeakValueDictionary[int, LargeEvent] = WeakValueDictionary()
        """Large events that a reader still holds, by the cursor below: no reader gets a copy of its own."""
        self._pages: dict[int, asyncio.Future[list[Event]]] = {}
        """What was read, or is being read, from the store, by the cursor below it."""
        self._gaps: tuple[tuple[int, int], ...] = ()
        self._held: deque[_Entry] = deque()
        self._waiters: set[asyncio.Future[None]] = set()
        self._attendants: dict[_Attendant, None] = {}
        self._awaiting = 0
        """So many wait for a turn's end in ways of their own."""
        self._writes: list[tuple[int, asyncio.Future[None]]] = []
        self._after: deque[tuple[int, Callable[[], None]]] = deque()
        """Who hears that everything up to a number is on disk, also once the log is closed."""
        self._commits: list[tuple[int, asyncio.Future[None]]] = []
        self._reserving: asyncio.Task[None] | None = None
        self._is_closed = False
        self._create: Create | None = None
        """Stores the session, which is not stored yet."""
        self._unborn: list[tuple[list[Event], bool]] | None = None
        """What the store gets with the session, or right after it, and whether at once; None: it is there."""
        self._founding: asyncio.Task[GatewayError | None] | None = None

    # -- life -------------------------------------------------------------------------------------------

    async def load(self, *, is_reading_only: bool = False) -> None:
        """Restores the log from the store, folding every kept event through `on_visible`.

        A log loaded only for reading reserves no numbers, must not be appended to, and is closed.
        Raises StoreFull or StoreFailed.
        """
        stand = await self._store.stand(self.key)
        await self._replay()
        last = self._visible = self._committed = max(self._visible, stand.last_seq)
        self._floor = self._settled = last
        self._gaps = stand.gaps
        self._head = self._reserved = max(stand.reserved_seq, last, self._head)
        self._is_closed = is_reading_only
        if not is_reading_only:
            gap = (last, self._head + 1) if self._head > last else None
            self._gaps = stand.gaps if gap is None else (*stand.gaps, gap)
            await self._reserve(gap)

    def found(self, create: Create, *, above: int = 0) -> None:
        """Begins the log of a session that is not stored yet, instead of `load`: what is appended before the
        first commit is stored with the session, in one transaction. If the store refuses that, nothing of it
        is kept, and `on_refused` hears of it. `above`: as `begin_above` has it.
        """
        self._create, self._unborn = create, []
        self._head, self._reserved = above, above + RESERVE_AHEAD
        self._gaps = ((0, above + 1),) if above else ()

    async def founded(self) -> None:
        """Waits until its session is stored. Raises what the store refused that with."""
        if self._create is None:
            return
        error = await asyncio.shield(self._found_now())
        if error is not None:
            raise error

    def found_soon(self) -> None:
        """Begins to store its session, if it is not stored yet."""
        if self._unborn is not None:
            self._found_now()

    @property
    def is_founded(self) -> bool:
        """Whether its session is stored."""
        return self._create is None

    def _found_now(self) -> asyncio.Task[GatewayError | None]:
        if self._founding is None:
            self._founding = asyncio.create_task(self._found(), name=f"found {self.key}")
        return self._founding

    async def _found(self) -> GatewayError | None:
        """Stores the session with what was appended so far; why not, if it was refused."""
        create, first = self._create, [event for events, _ in self._unborn or () for event in events]
        assert create is not None  # noqa: S101 - it is called once
        self._unborn = []
        gap = self._gaps[0] if self._gaps else None
        try:
            await create(Founding(reserved_seq=self._reserved, gap=gap, events=first))
        except GatewayError as error:
            return self._unfounded(first, error)
        except Exception as error:
            log.exception("log %s: its session could not be stored", self.key)
            return self._unfounded(first, StoreFailed(f"This session cannot be stored: {error}."))
        self._create, later, self._unborn = None, self._unborn, None
        for events, urgent in later:
            self._store.enqueue(self, *events, urgent=urgent)
        if first:
            self.committed(first[-1].seq)
        return None

    def _unfounded(self, first: list[Event], error: GatewayError) -> GatewayError:
        """Nothing that was appended ever was."""
        later = [event for events, _ in self._unborn or () for event in events]
        seqs = {event.seq for event in (*first, *later)}
        self._unborn = None
        self._drop(seqs, error)
        self._committed = self._kept
        self._open.clear()
        self._owe(-self.open_bytes)
        self._on_refused(seqs, error)
        self._advance()
        return error

    def begin_above(self, seq: int) -> None:
        """Called before `load`: the log goes on after the last number of a deleted session of the same id."""
        self._head = seq

    async def _replay(self) -> None:
        cursor = 0
        while events := await self._store.read_events(self.key, after=cursor, limit=PAGE_EVENTS):
            for event in events:
                self._on_visible(event)
                self._last_at = event.at
            cursor = self._visible = events[-1].seq

    async def release(self) -> None:
        """Gives back the numbers that were reserved and not used, at the end of a life that ends well."""
        if self._reserving is not None:
            self._reserving.cancel()
            await asyncio.wait([self._reserving])
        if self._create is None and self._fenced is None:
            await self._store.reserve(self.key, self._head)

    def close(self) -> None:
        """Wakes every reader for the last time; what is visible stays readable."""
        if not self._is_closed:
            self._tails.bytes -= self._tail_bytes
            self._tails.open_bytes -= self.open_bytes
        self._is_closed = True
        self.wake()
        for _, future in self._commits:
            if not future.done():
                future.set_exception(SessionEnded())
        self._commits.clear()
        for _, future in self._writes:
            _wake(future)
        self._writes.clear()
        self._part()

    def _part(self) -> None:
        """A log and its session hold each other; once nothing can happen any more, they do not."""
        if self._is_closed and self.is_settled:
            self._on_visible = self._on_refused = self._on_spoiled = self._on_fenced = _nothing

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def wake(self) -> None:
        """Makes every reader that waits look again, though nothing is new."""
        for attendant in self._attendants:
            _wake(attendant.future)
        self._attendants.clear()
        self._ring()

    # -- writing ----------------------------------------------------------------------------------------

    @property
    def visible_seq(self) -> int:
        """The last sequence number that readers may see."""
        return self._visible

    @property
    def last_seq(self) -> int:
        """The last sequence number given out."""
        return self._head

    @property
    def is_settled(self) -> bool:
        """Whether everything that was appended is durable: this log can be dropped and loaded again."""
        return self._kept <= self._committed

    def fence(self) -> None:
        """Another gateway has the session: what is not committed never was, nothing more is appended or
        shown, and the store is not asked again. What readers saw and the store did not get is in a gap of the
        next life.
        """
        if self._fenced is not None:
            return
        self._fenced, self._lost_above = SessionFenced(), self._committed
        error = self._fenced
        self._drop({seq for seq in self._seqs if seq > self._visible}, error)
        for _, future in self._commits:
            if not future.done():
                future.set_exception(error)
        self._commits.clear()
        self._held.clear()
        self._open.clear()
        self._owe(-self.open_bytes)
        self.committed(self._kept)
        self._on_fenced()

    @property
    def is_fenced(self) -> bool:
        """Whether another gateway has the session."""
        return self._fenced is not None

    def show(self, data: EventData) -> int:
        """Shows something to who reads now, in its place among the facts, and keeps it nowhere; its seq."""
        if self._fenced is not None:
            return self._head
        self._head += 1
        event = Event(self._head, max(self._wall_ms(), self._last_at), data)
        self._put(event)
        if event.seq > self._reserved:
            self._passing.add(event.seq)
            self._held.append(_Entry(event.seq, is_rejectable=False))
        if self._head > self._reserved - RESERVE_LOW_WATER:
            self._reserve_soon()
        self._advance()
        return event.seq

    def append(
        self, *data: EventData, durable: bool = False, rejectable: bool = False, used: OnUsed = ignored
    ) -> int:
        """Appends facts, which are committed together; the last one's seq.

        `durable` hides them from readers until they are committed. If the store cannot write, `rejectable`
        ones are dropped, not retried, and their caller gets an error. `used` is called with long JSON in them
        that is not read again (`Event.said`).
        """
        if self._fenced is not None:
            return self._head + 1  # whoever waits for that is told
        at = self._last_at = max(self._wall_ms(), self._last_at)
        durable = durable or (self._may_work is not None and not self._may_work())
        size, urgent = 0, durable
        events: list[Event] = []
        for item in data:
            self._head = seq = self._head + 1
            event = Event.said(seq, at, item, used=used)
            events.append(event)
            size += self._put(event)
            if event.is_large:
                self._is_heavy = urgent = True
            self._kept = seq
            self._owed = self._owed if rejectable else seq
            if durable or seq > self._reserved:
                self._held.append(_Entry(seq, rejectable))
        if self._unborn is not None:
            self._unborn.append((events, urgent))
        elif events:
            self._store.enqueue(self, *events, urgent=urgent)
        self.appended_bytes += size
        if self._committed < self._head:
            self._open.append((self._head, size))
            self._owe(size)
        self._tally.count += len(data)
        if durable:
            self.found_soon()
        if self._head > self._reserved - RESERVE_LOW_WATER:
            self._reserve_soon()
        self._advance()
        return self._head

    def _put(self, event: Event) -> int:
        """Its size."""
        size = event.size_bytes
        self._tail.append(event)
        self._seqs.append(event.seq)
        self._grow(size)
        return size

    def _grow(self, size: int) -> None:
        self._tail_bytes += size
        if not self._is_closed:
            self._tails.bytes += size

    def _owe(self, size: int) -> None:
        self.open_bytes += size
        if not self._is_closed:
            self._tails.open_bytes += size

    def is_ahead(self, most_bytes: int) -> bool:
        """Whether more than so much of it is not on disk, or its share, if it is too much of all logs: a
        writer that is faster than the disk must wait.
        """
        return self.open_bytes > self._tails.allowed_open(most_bytes)

    async def commit(self, seq: int) -> None:
        """Waits until everything up to `seq` is durable and visible.

        Raises StoreFull or StoreFailed if the store refused it, SessionEnded if the log was closed
        first.
        """
        if self._fenced is not None and seq > self._lost_above:
            raise self._fenced
        if self._settled >= seq:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._commits.append((seq, future))
        await future

    async def say(self, *data: EventData) -> None:
        """Appends what a verb says and waits until it is committed; if the store refuses, none of it is kept.

        Raises what `commit` raises.
        """
        await self.commit(self.append(*data, durable=True, rejectable=True))

    async def written(self) -> None:
        """Waits until everything that was appended so far is on disk, or the log is closed."""
        if self._kept <= self._committed or self._is_closed:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writes.append((self._kept, future))
        await future

    def when_written(self, done: Callable[[], None]) -> None:
        """Calls back once nothing that was appended so far waits for the disk, though the log may be closed
        meanwhile.
        """
        if self._owed <= self._committed:
            done()
        else:
            self._after.append((self._owed, done))

    def committed(self, seq: int) -> None:
        self._committed = max(self._committed, seq)
        while self._open and self._open[0][0] <= seq:
            self._owe(-self._open.popleft()[1])
        if self._writes:
            for wanted, future in self._writes:
                if wanted <= self._committed:
                    _wake(future)
            self._writes = [write for write in self._writes if not write[1].done()]
        self._advance()
        self._part()
        if self._is_heavy:
            self._trim()
        while self._after and self._after[0][0] <= self._committed:
            self._after.popleft()[1]()

    def refused(self, error: GatewayError) -> None:
        if isinstance(error, SessionFenced):
            self.fence()
            return
        rejected = {entry.seq for entry in self._held if entry.is_rejectable and entry.seq > self._committed}
        if not rejected:
            return
        self._store.forget(self, rejected)
        self._drop(rejected, error)
        self._on_refused(rejected, error)
        self._advance()

    def spoiled(self, seqs: set[int], error: GatewayError) -> None:
        rejected = {entry.seq for entry in self._held if entry.is_rejectable and entry.seq in seqs}
        self._drop(seqs, error)
        if rejected:
            self._on_refused(rejected, error)
        if seqs - rejected:
            self._on_spoiled(error)

    def _drop(self, seqs: set[int], error: GatewayError) -> None:
        """These events never were: who waits for one of them hears why."""
        self._held = deque(entry for entry in self._held if entry.seq not in seqs)
        self._tail = [event for event in self._tail if event.seq not in seqs]
        self._seqs = array("Q", [event.seq for event in self._tail])
        self._grow(sum(event.size_bytes for event in self._tail) - self._tail_bytes)
        for seq, future in self._commits:
            if seq in seqs and not future.done():
                future.set_exception(error)
        self._commits = [(seq, future) for seq, future in self._commits if not future.done()]

    def _advance(self) -> None:
        """Moves the visible head up to the first event that must still be committed.

        The head is always the seq of an event, never an unused number, so a reader below it finds an event.
        """
        while self._held and self._may_be_seen(self._held[0].seq):
            self._passing.discard(self._held.popleft().seq)
        head = self._held[0].seq - 1 if self._held else self._head
        if head <= self._settled:
            return
        self._settled = head
        start = bisect.bisect_right(self._seqs, self._visible)
        stop = bisect.bisect_right(self._seqs, head)
        fresh = self._tail[start:stop]
        if fresh and self._attendants:
            self._show(fresh)  # first: nobody else can ask for anything before the fold has it, too
        for event in fresh:
            self._visible = event.seq
            self._on_visible(event)
            event.slim()
        self._trim()
        self._ring()

    def _show(self, events: list[Event]) -> None:
        """Those who attend have seen everything before."""
        for attendant in [each for each in self._attendants if not each.take(events)]:
            del self._attendants[attendant]

    def _may_be_seen(self, seq: int) -> bool:
        return (seq <= self._committed or seq in self._passing) and seq <= self._reserved

    def _trim(self) -> None:
        """Keeps the tail inside its bounds; what is dropped here is read from the store."""
        most = self._tails.allowed(self._max_bytes)
        is_full = len(self._tail) > self._max_events or self._tail_bytes > most
        if not (is_full or self._is_heavy):
            return
        size = self._tail_bytes
        durable = self._visible if self.is_settled else self._committed
        last = bisect.bisect_right(self._seqs, min(self._visible, durable))
        count = self._large_ones(last) if self._is_heavy else 0
        size -= sum(event.size_bytes for event in self._tail[:count])
        left, fewer = self._max_events * KEPT_OF_FULL, most * KEPT_OF_FULL
        while is_full and count < last and (len(self._tail) - count > left or size > fewer):
            size -= self._tail[count].size_bytes
            count += 1
        if count:
            self._floor = self._seqs[count - 1]
            del self._tail[:count], self._seqs[:count]
            self._grow(size - self._tail_bytes)

    def _large_ones(self, stop: int) -> int:
        """How many events of the tail go with its large ones, of which only the first `stop` may."""
        large = [index for index, event in enumerate(self._tail) if event.is_large]
        done = [index for index in large if index < stop]
        self._is_heavy = len(done) < len(large)
        return done[-1] + 1 if done else 0

    # -- sequence numbers -------------------------------------------------------------------------------

    def _reserve_soon(self) -> None:
        if self._reserving is None or self._reserving.done():
            self._reserving = asyncio.create_task(self._reserve_at_last(), name=f"reserve {self.key}")

    async def _reserve_at_last(self) -> None:
        """Until it succeeds and is ahead again: what is past the reserved numbers is invisible before that.
        More may be appended while the store reserves.
        """
        while not self._is_closed and self._fenced is None:
            try:
                await self._reserve()
                if self._head <= self._reserved - RESERVE_LOW_WATER:
                    return
            except SessionFenced:
                self.fence()
            except GatewayError:
                await asyncio.sleep(RESERVE_RETRY_SECONDS)
            except Exception:
                log.exception("log %s: no numbers were reserved; trying again", self.key)
                await asyncio.sleep(RESERVE_RETRY_SECONDS)

    async def _reserve(self, gap: tuple[int, int] | None = None) -> None:
        upto = self._head + RESERVE_AHEAD
        await self._store.reserve(self.key, upto, gap=gap)
        self._reserved = upto
        self._advance()

    # -- reading ----------------------------------------------------------------------------------------

    async def read(self, after: int, *, max_bytes: int, ahead_bytes: int = 0) -> LogPage:
        """The next visible events above a cursor, at most about `max_bytes` of them; empty if there are
        none yet. Of a store, `ahead_bytes` are read at once, and kept for a moment.
        """
        if self._is_lost(after):
            return LogPage([], is_gap=True)
        if (large := self._large.get(after)) is not None:
            return LogPage([large])
        if after not in self._pages:
            if after >= self._floor:
                start = bisect.bisect_right(self._seqs, after)
                stop = bisect.bisect_right(self._seqs, self._visible)
                return LogPage(at_most(self._tail[start:stop], max_bytes))
            if after < await self._store.oldest_seq(self.key):
                return LogPage([], is_gap=True)
        events = await self._stored(after, max(max_bytes, ahead_bytes))
        due = at_most(events, max_bytes)
        if len(due) < len(events) and due[-1].seq not in self._pages:
            self._keep(due[-1].seq, _done(events[len(due) :]))
        seen = [event for event in due if event.seq <= self._visible]
        if seen and seen[0].is_large:
            seen[0] = self._large[after] = LargeEvent.of(seen[0])
        return LogPage(seen)

    async def _stored(self, after: int, max_bytes: int) -> list[Event]:
        """A page of the store; readers who come to the same place within a short time hold one copy of it."""
        kept = self._pages.get(after)
        if kept is None:
            limit = min(PAGE_EVENTS, max_bytes // EVENT_OVERHEAD_BYTES + 1)
            kept = asyncio.create_task(self._read_store(after, limit, max_bytes), name=f"read {self.key}")
            self._keep(after, kept)
        return await asyncio.shield(kept)

    async def _read_store(self, after: int, limit: int, max_bytes: int) -> list[Event]:
        return await self._store.read_events(self.key, after=after, limit=limit, max_bytes=max_bytes)

    def _keep(self, after: int, page: asyncio.Future[list[Event]]) -> None:
        self._pages[after] = page
        page.add_done_callback(functools.partial(self._keep_for_a_moment, after))

    def _keep_for_a_moment(self, after: int, page: asyncio.Future[list[Event]]) -> None:
        if page.cancelled() or page.exception() is not None or not page.result():
            self._pages.pop(after, None)
        else:
            asyncio.get_running_loop().call_later(SHARED_SECONDS, self._pages.pop, after, None)

    async def value(self, place: Elsewhere, *, slice_bytes: int) -> Iterator[bytes]:
        """JSON that the fold does not keep, slice by slice; `null` if it is not to be had any more."""
        page = await self.read(place.seq - 1, max_bytes=1)
        return _value(page.events, place.name, slice_bytes)

    async def oldest(self) -> int:
        """A cursor that begins with the oldest event that is kept."""
        return await self._store.oldest_seq(self.key)

    def _is_lost(self, after: int) -> bool:
        """Whether a cursor points where nothing of this log ever was, or where a crash took what was."""
        return after > self._visible or any(last < after < first for last, first in self._gaps)

    @property
    def is_waited_for(self) -> bool:
        """True if somebody waits for what comes next."""
        return bool(self._waiters or self._attendants or self._awaiting)

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Somebody does, for as long as the block runs."""
        self._awaiting += 1
        try:
            yield
        finally:
            self._awaiting -= 1

    async def wait(self, after: int, *, seconds: float | None = None) -> bool:
        """Waits until there is something above the cursor, or the log is closed; False when the time was
        up first.
        """
        if self._visible > after or self._is_closed:
            return True
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, _wake, future)
        self._waiters.add(future)
        try:
            await future
        finally:
            self._waiters.discard(future)
            if timer is not None:
                timer.cancel()
        return self._visible > after or self._is_closed

    async def attend(self, after: int, show: Show, *, seconds: float | None = None) -> int:
        """Waits as `wait` does, but has everything shown at once that becomes visible meanwhile, until `show`
        does not take it, or the time is up; the cursor after what was shown.
        """
        if self._visible > after or self._is_closed:
            return after
        loop = asyncio.get_running_loop()
        attendant = _Attendant(after, show, loop.create_future())
        timer = None if seconds is None else loop.call_later(seconds, _wake, attendant.future)
        self._attendants[attendant] = None
        try:
            await attendant.future
        finally:
            self._attendants.pop(attendant, None)
            if timer is not None:
                timer.cancel()
        return attendant.seq

    def _ring(self) -> None:
        """The bell: wakes readers and those who wait for a commit."""
        for waiter in self._waiters:
            _wake(waiter)
        if self._commits:
            for seq, future in self._commits:
                if seq <= self._settled and not future.done():
                    future.set_result(None)
            self._commits = [(seq, future) for seq, future in self._commits if not future.done()]


def _value(events: list[Event], name: str, size: int) -> Iterator[bytes]:
    """Holds the event, which every reader of a log shares, and no value of its own."""
    value = getattr(events[0].data, name, None) if events else None
    yield from slices(memoryview(value if isinstance(value, Raw) else msgspec.json.encode(value)), size)


def _done(events: list[Event]) -> asyncio.Future[list[Event]]:
    future: asyncio.Future[list[Event]] = asyncio.get_running_loop().create_future()
    future.set_result(events)
    return future


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
