"""Event log → SSE: two readings of one log.

`view=events` is the log itself: `id:` is the seq, `event:` the type, `data:` one JSON object. The default
view is for clients that know only State: unnamed events, each a whole State, the first at once, then on every
change, merged to about ten a second; only the first words of an answer wait for nothing.

Guarantees: no gap and no repeat, by cursor (`Last-Event-ID`, also as `?lastEventId=`, or `?after=`); if a
cursor cannot be served, one `resync` frame carries State and the whole fold; a comment at least every ten
seconds; frames leave in slices of at most 32 KiB; a stream of an id that does not exist yet, or whose session
is reaped, stays open and goes on with the session's next life; slowness merges deltas and never ends a
stream, taking nothing at all for 60 seconds does.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from gateway.api.history import fetched
from gateway.auth.permits import Permit
from gateway.events.facts import Event, in_one_line, merged, slices
from gateway.events.fold import OWNERS_EVENTS, ChatState, Outside, Present
from gateway.events.state_json import StateJson
from gateway.events.window import MessageWindow, part_of
from gateway.http.event_stream import HEARTBEAT, HEARTBEAT_SECONDS, Direct
from gateway.http.operation import Parameter
from gateway.sessions.log import EventLog
from gateway.sessions.manager import SessionManager
from gateway.sessions.presence import Presence
from gateway.sessions.reader import Beat, Gap, Source, changes, follow, pause
from gateway.sessions.tenures import Tenure

STATE_INTERVAL_SECONDS: Final = 0.1
SLICE_BYTES: Final = 32 * 1024
AHEAD_BYTES: Final = 256 * 1024
"""Read of the store at once; a reader that takes nothing holds only the slice in hand."""
SHARED_BYTES: Final = 4 * 1024
"""From here on, what is sent of the same events is made once for all readers that come soon."""
MERGE_ABOVE_EVENTS: Final = 8
"""A reader that finds more than this waiting is slow: neighbouring deltas reach it as one."""
RETRY_MILLISECONDS: Final = 2_000

CURSOR_PARAMETERS: Final = (
    Parameter(
        name="view", schema={"enum": ["state", "events"]}, description="State frames, or the log itself."
    ),
    Parameter(
        name="after",
        schema={"type": "integer", "minimum": 0},
        description="The last seq seen; `Last-Event-ID` does the same.",
    ),
)

_encode: Final = msgspec.json.Encoder().encode
_FRAME_END: Final = b"\n\n"
_MOVED: Final = b'event: moved\ndata: {"seq":%d,"type":"moved"}\n\n'
"""The last frame of a stream whose session belongs to somebody else from now on. It has no id: who signed in
comes back with a cookie and `Last-Event-ID`, and goes on.
"""
_NO_CURSOR: Final = 2**53
_PRESENT: Final = b'event: present\ndata: {"seq":%d,"type":"present","present":%b}\n\n'
"""Who follows the session now. It is not of the log and has no id; `seq` is that of the last event before."""
_NOBODY_ELSE: Final = Present((), 0)
_MOVED_STATE: Final = b": moved\n\n"
"""The same where every frame with data is a State."""
_RETRY: Final = b"retry: %d\n\n" % RETRY_MILLISECONDS


class Stream:
    """One open stream: a cursor, and where it reads from at the moment."""

    __slots__ = (
        *("__weakref__", "_cursor", "_direct", "_is_brief", "_is_guest", "_manager", "_outside", "_owner"),
        "_place",
        *("_session_id", "_tenure", "_told", "_window", "following", "position"),
    )

    def __init__(
        self,
        manager: SessionManager,
        owner: str,
        session_id: str | None,
        *,
        outside: Outside,
        tenure: Tenure | None = None,
        place: Presence | None = None,
        is_guest: bool = False,
        is_brief: bool = False,
        window: MessageWindow | None = None,
        direct: Direct | None = None,
    ) -> None:
        """`tenure` is the owner's, if it was asked for before what leads here was read. `place`: the reader
        is counted among those who follow the session, and sees who does. `is_guest`: the reader is somebody
        with a link. `is_brief`: beside a whole fold it wants no State, which says the same once more.
        `window`: whole States and folds have only this part of the conversation. `direct`: where
        events of the log are written while the reader keeps up.
        """
        self._window = window
        self._direct = direct
        self._place = place
        self._told: Present | UnsetType = UNSET
        """Who follows it, as the reader knows."""
        self._is_guest = is_guest
        self._is_brief = is_brief
        self._manager = manager
        self._owner = owner
        self._session_id = session_id
        """None: whatever session is the owner's newest."""
        self._outside = outside
        self._tenure = tenure or manager.tenures.of(owner)
        self.following: str | None = session_id
        """The session that it shows at the moment."""
        self.position = 0
        """The last seq that was handed to the connection."""
        self._cursor = 0

    @property
    def lag(self) -> int:
        """How many events of its session it has not handed to the connection yet, about."""
        session = self._manager.get(self._owner, self.following) if self.following else None
        return max(0, session.log.visible_seq - self.position) if session is not None else 0

    def events(self, cursor: int) -> AsyncIterator[bytes]:
        """The log after a cursor, frame by frame."""
        self._cursor = cursor
        self.position = cursor if cursor < _NO_CURSOR else 0
        lives = self._lives(self._log_frames)
        return self._while_owned(lives, first=_RETRY, moved=lambda: _MOVED % self.position)

    def states(self) -> AsyncIterator[bytes]:
        """State, whole, whenever it has changed."""
        lives = self._lives(self._state_frames, self._absent)
        return self._while_owned(lives, moved=lambda: _MOVED_STATE)

    async def _lives(
        self,
        view: Callable[[Source], AsyncIterator[bytes]],
        absent: Callable[[], Awaitable[bytes]] | None = None,
    ) -> AsyncIterator[bytes]:
        """What a view shows of each life of the session, with heartbeats between them."""
        while True:
            source = await self._source()
            if self._place is not None:
                key = source.record.key if source is not None else None
                self._place.take(key, (self._owner, self.following or ""))
            if source is not None:
                async for chunk in view(source):
                    yield chunk
            elif absent is not None:
                yield await absent()
            if self._is_over(source):
                return
            del source  # a stream that waits keeps nothing of a session that left
            async for beat in self._until_arrival():
                yield beat

    # -- the views --------------------------------------------------------------------------------------

    async def _log_frames(self, source: Source) -> AsyncIterator[bytes]:
        is_part = self._window is not None and not self._cursor and source.log.visible_seq > 0
        if is_part:
            self._cursor = source.log.visible_seq
        pages = follow(
            source,
            self._cursor,
            page_bytes=SLICE_BYTES,
            ahead_bytes=AHEAD_BYTES,
            beat_seconds=HEARTBEAT_SECONDS,
            show=None if self._direct is None else functools.partial(self._show, source.log),
        )
        if is_part:
            async for piece in self._resync(source, self._cursor):
                yield piece
        for piece in self._news_of_people():
            yield piece
        async for item in pages:
            if isinstance(item, Beat):
                yield b"".join(self._news_of_people()) or HEARTBEAT
                continue
            self._cursor = item.seq
            if isinstance(item, Gap):
                async for piece in self._resync(source, item.seq):
                    yield piece
            else:
                for piece in _frames(source.log, item.events, is_guest=self._is_guest):
                    yield piece
                    self.position = item.seq
            for piece in self._news_of_people():
                yield piece

    def _show(self, log: EventLog, events: list[Event]) -> bool:
        """Writes events at once, if they are one piece and the reader may have it now."""
        if self._direct is None or self._tenure.is_over:
            return False
        if len(events) == 1 and not self._is_guest and events[0].size_bytes <= SLICE_BYTES:
            pieces: Iterable[bytes] = (events[0].frame,)
        elif sum(event.size_bytes for event in events) <= SLICE_BYTES:
            pieces = _frames(log, events, is_guest=self._is_guest)
        else:
            return False
        if not all(map(self._direct.write, pieces)):  # there is at most one
            return False
        self._cursor = self.position = events[-1].seq
        return True

    async def _state_frames(self, source: Source) -> AsyncIterator[bytes]:
        fold, clock = source.fold, asyncio.get_running_loop().time
        async for item in changes(source, beat_seconds=HEARTBEAT_SECONDS):
            if isinstance(item, Beat) and not self._has_news_of_people:
                yield HEARTBEAT
                continue
            self._told = self._present
            until, answered = clock() + STATE_INTERVAL_SECONDS, _answered(fold)
            state = source.state_json(is_guest=self._is_guest, window=self._window)
            for piece in _state_pieces(state, fold.seq):
                self.position = source.log.visible_seq
                yield piece
            if answered == fold.turn_id:  # no first word is due
                await asyncio.sleep(max(0.0, until - clock()))
            else:
                await pause(source, until=until, is_due=functools.partial(_has_answered, fold, answered))

    async def _resync(self, source: Source, seq: int) -> AsyncIterator[bytes]:
        """State and the fold as they are now, whole or the part that was asked for, in place of all events up
        to this number.
        """
        fold, window = source.fold, self._window
        part = None if window is None else part_of(fold, window)
        items, facts = (None, {}) if part is None else (part.items, part.facts)
        parts = [
            b'id: %d\nevent: resync\ndata: {"seq":%d,"state":' % (seq, seq),
            self._state_beside(source),
            b',"chat":',
            *fold.snapshot_parts(is_guest=self._is_guest, items=items, more=facts),
            b"}\n\n",
        ]
        async for piece in fetched(source, parts):
            yield piece
            self.position = seq

    def _state_beside(self, source: Source) -> bytes | Iterator[bytes]:
        if self._is_brief:
            return _encode(source.minimal())
        return source.state_json(is_guest=self._is_guest, window=self._window)

    async def _absent(self) -> bytes:
        session_id = self._session_id or ""
        return state_frame(
            await absent_state(self._manager, self._owner, session_id, self._outside, self._window), 0
        )

    @property
    def _present(self) -> Present | UnsetType:
        return UNSET if self._place is None else self._place.present

    @property
    def _has_news_of_people(self) -> bool:
        return self._present != self._told

    def _news_of_people(self) -> list[bytes]:
        """A frame that says who follows the session, if the reader knows otherwise."""
        if not self._has_news_of_people:
            return []
        self._told = self._present
        shown = _NOBODY_ELSE if self._told is UNSET else self._told
        return [_PRESENT % (self.position, _encode(shown))]

    # -- where from -------------------------------------------------------------------------------------

    async def _while_owned(
        self, chunks: AsyncIterator[bytes], *, first: bytes = b"", moved: Callable[[], bytes]
    ) -> AsyncIterator[bytes]:
        """Chunks until the owner's tenure is over. A frame that has begun was the owner's, and goes on."""
        if first:
            yield first
        is_whole = True
        async for chunk in chunks:
            if is_whole and self._tenure.is_over:
                break
            yield chunk
            is_whole = chunk.endswith(_FRAME_END)
        if self._tenure.is_over:
            await self._tenure.settled()
            yield moved()

    async def _source(self) -> Source | None:
        session_id = self._session_id or await self._manager.newest(self._owner)
        if session_id is None:
            return None
        self.following = session_id
        return await self._manager.source(self._owner, session_id)

    def _is_over(self, source: Source | None) -> bool:
        """Whether the stream ends here: its session was deleted or moved, or the gateway stops."""
        has_ended = source is not None and source.fold.ended is not None
        return has_ended or self._tenure.is_over or self._manager.is_draining

    async def _until_arrival(self) -> AsyncIterator[bytes]:
        """Heartbeats until the session is (again) in the map."""

        def has_come() -> bool:
            if self._tenure.is_over or self._has_news_of_people:
                return True
            session_id = self._session_id or self._manager.newest_known(self._owner)
            session = self._manager.get(self._owner, session_id) if session_id else None
            return session is not None and not session.log.is_closed

        arrival = asyncio.ensure_future(
            self._manager.arrival(self._owner, self._session_id or "", has_come=has_come)
        )
        try:
            while not arrival.done():
                done, _ = await asyncio.wait([arrival], timeout=HEARTBEAT_SECONDS)
                if self._manager.is_draining:
                    return
                if not done:
                    yield HEARTBEAT
            arrival.result()  # raises SessionElsewhere: the stream goes on there
        finally:
            arrival.cancel()


def _frames(log: EventLog, events: list[Event], *, is_guest: bool) -> Iterable[bytes]:
    """The frames of a page, which is a slice or one long event: all that a reader who does not read holds."""
    if is_guest and any(event.kind in OWNERS_EVENTS for event in events):
        told = [event for event in events if event.kind not in OWNERS_EVENTS]
        return _sliced_frames(told) if told else ()
    if events[0].is_large:
        return events[0].frame_slices(SLICE_BYTES)
    is_long = sum(event.size_bytes for event in events) >= SHARED_BYTES
    return log.shared.get(events, _sliced_frames) if is_long else _sliced_frames(events)


def _sliced_frames(events: list[Event]) -> tuple[bytes, ...]:
    if len(events) == 1 and events[0].size_bytes > SLICE_BYTES:
        return tuple(events[0].frame_slices(SLICE_BYTES))
    due = merged(events) if len(events) > MERGE_ABOVE_EVENTS else events
    return (b"".join([event.frame for event in due]),)


def _answered(fold: ChatState) -> str | None:
    """The last turn whose answer has words."""
    spoken = (m.turn_id for m in reversed(fold.messages) if m.sender == "agent" and not m.text.is_blank)
    return next(spoken, None)


def _has_answered(fold: ChatState, before: str | None) -> bool:
    """Whether an answer got its first words since then."""
    return _answered(fold) != before


def state_frame(state: bytes, seq: int) -> bytes:
    """State as an unnamed SSE event."""
    return b"id: %d\ndata: %b\n\n" % (seq, state)


async def absent_fold(manager: SessionManager, owner: str, session_id: str) -> ChatState:
    """The fold of an id without a session: empty, or when and why it ended."""
    fold = ChatState(session_id)
    tombstone = await manager.tombstone(owner, session_id)
    if tombstone is not None:
        fold.end(tombstone.at, tombstone.reason, seq=tombstone.last_seq)
    return fold


async def absent_state(
    manager: SessionManager,
    owner: str,
    session_id: str,
    outside: Outside,
    window: MessageWindow | None = None,
) -> bytes:
    """The State of such an id."""
    state = StateJson(await absent_fold(manager, owner, session_id)).json(outside, window)
    return in_one_line(state if isinstance(state, bytes) else b"".join(state))


def _state_pieces(state: bytes | Iterator[bytes], seq: int) -> Iterator[bytes]:
    """A State frame; a large State is not copied for each of its readers."""
    if isinstance(state, bytes) and len(state) <= SLICE_BYTES:
        yield state_frame(in_one_line(state), seq)
        return
    yield b"id: %d\ndata: " % seq
    for part in (state,) if isinstance(state, bytes) else state:
        yield from slices(memoryview(part), SLICE_BYTES)
    yield b"\n\n"


async def while_good(frames: AsyncIterator[bytes], is_good: Permit) -> AsyncGenerator[bytes, None]:
    """The frames, until the reader loses access: nothing is sent after that, and nothing is waited for."""
    while is_good():
        task = asyncio.current_task()
        before = task.cancelling() if task is not None else 0
        is_good.waits(task)
        try:
            frame = await anext(frames, None)
        except asyncio.CancelledError as error:
            if task is None or not is_good.is_cut or task.uncancel() > before:
                # Somebody else's. The server keeps it in a circle: without the frames, which hold a session.
                raise error.with_traceback(None) from None
            return
        finally:
            is_good.waits(None)
        if frame is None or not is_good():
            return
        yield frame
