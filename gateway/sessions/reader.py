"""The one loop over a log: every view of a session (streams, sockets, answers, exports) is a match over it.

Guarantees: no gap and no repeat, by cursor; a reader holds one integer and the page that it is at, so a slow
one costs no memory and delays no other; what is still in memory is read there, what is older comes from the
store; if a cursor cannot be served, one `Gap` says from where the fold must be taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, Protocol

from msgspec import Struct

from gateway.answers import MinimalAnswer
from gateway.events.facts import Event
from gateway.events.fold import ChatState, Outside, for_guests
from gateway.events.state_json import StateJson
from gateway.events.window import MessageWindow
from gateway.sessions.log import EventLog, Show
from gateway.stores.sessions import SessionRecord

PAGE_BYTES: Final = 256 * 1024
"""About how much a reader is handed at once."""
KEPT_STATE_BYTES: Final = 256 * 1024
KEPT_STATE_SECONDS: Final = 2.0
"""A State longer than that is kept so long for the next who ask."""
KEPT_BLOCKS_SECONDS: Final = 600.0
"""What is kept encoded of a long conversation is kept so long after the last who asked."""


class Events(Struct):
    """What comes next; empty for readers who only ask where the log is, and from the moment in which the
    reader asks for more: who waits holds no event.
    """

    events: list[Event]
    seq: int
    """The cursor after them."""


class Gap(Struct, frozen=True):
    """The cursor cannot be served: take the fold as it is now, and go on from its `seq`."""

    seq: int


class Beat(Struct, frozen=True):
    """Nothing came for a while, or somebody asked the readers to look again what they may see."""


BEAT: Final = Beat()

Item = Events | Gap | Beat


class Source(Protocol):
    """A session to read: in memory or from the store. The log of a stored one is closed."""

    @property
    def record(self) -> SessionRecord:
        """What is stored of it beside its log."""

    @property
    def fold(self) -> ChatState:
        """What its log comes to."""

    @property
    def log(self) -> EventLog:
        """Its log."""

    def state_json(
        self, *, is_guest: bool = False, window: MessageWindow | None = None
    ) -> bytes | Iterator[bytes]:
        """State as JSON; of a long conversation part by part. A guest, who has a link to it, is not shown
        which hosts its worker may reach. `window`: with some of the messages only.
        """

    def minimal(self) -> MinimalAnswer:
        """What a verb answers to who does not want the State."""


def minimal(fold: ChatState, outside: Outside) -> MinimalAnswer:
    """Where a session is."""
    return MinimalAnswer(
        *(fold.session_id, fold.seq, fold.is_processing, len(fold.waiting)),
        *(fold.start_position, outside.missing_api_key),
    )


class Encoded:
    """State of a fold as JSON, encoded once however many ask; of a long conversation part by part."""

    def __init__(self, fold: ChatState) -> None:
        self._fold = fold
        self._state = StateJson(fold)
        self._known: tuple[int, Outside, bytes] | None = None
        self._asked_at = 0.0
        self._looks: asyncio.TimerHandle | None = None

    def json(self, outside: Outside, window: MessageWindow | None = None) -> bytes | Iterator[bytes]:
        """The State, with what the log does not say."""
        if window is not None:
            return self._made(outside, window)
        known = self._known
        if known is not None and known[0] == self._fold.seq and known[1] == outside:
            return known[2]
        made = self._made(outside, None)
        if isinstance(made, bytes):
            known = self._known = (self._fold.seq, outside, made)
            if len(made) > KEPT_STATE_BYTES:
                asyncio.get_running_loop().call_later(KEPT_STATE_SECONDS, self._let_go, known)
        return made

    def forget(self) -> None:
        """What the State says beside the log has changed."""
        self._known = None

    def _let_go(self, known: tuple[int, Outside, bytes]) -> None:
        if self._known is known:
            self._known = None

    def _made(self, outside: Outside, window: MessageWindow | None) -> bytes | Iterator[bytes]:
        made = self._state.json(outside, window)
        if self._state.kept_bytes:
            loop = asyncio.get_running_loop()
            self._asked_at = loop.time()
            self._looks = self._looks or loop.call_later(KEPT_BLOCKS_SECONDS, self._look)
        return made

    def _look(self) -> None:
        """Keeps nothing encoded of a conversation whose State nobody has asked for in a while."""
        loop, self._looks = asyncio.get_running_loop(), None
        if loop.time() - self._asked_at >= KEPT_BLOCKS_SECONDS:
            self._state.forget()
        else:
            self._looks = loop.call_at(self._asked_at + KEPT_BLOCKS_SECONDS, self._look)


class Shelf:
    """A stored session that is only read: its record, fold and log, with no place in the map and no
    worker.
    """

    def __init__(
        self,
        record: SessionRecord,
        fold: ChatState,
        events: EventLog,
        outside: Outside,
    ) -> None:
        self.record = record
        self.fold = fold
        self.log = events
        self._outside = outside
        self._encoded = Encoded(fold)

    def state_json(
        self, *, is_guest: bool = False, window: MessageWindow | None = None
    ) -> bytes | Iterator[bytes]:
        """State as JSON; of a long conversation part by part."""
        return self._encoded.json(for_guests(self._outside) if is_guest else self._outside, window)

    def minimal(self) -> MinimalAnswer:
        """What a verb answers to who does not want the State."""
        return minimal(self.fold, self._outside)


async def follow(
    source: Source,
    cursor: int,
    *,
    page_bytes: int = PAGE_BYTES,
    ahead_bytes: int = 0,
    beat_seconds: float | None = None,
    through: int | None = None,
    show: Show | None = None,
) -> AsyncIterator[Item]:
    """What is visible of a log after a cursor, until the log is closed and was read to its end.

    `beat_seconds` without news bring a Beat. `through`: up to this number, and without waiting.
    `ahead_bytes`: so much is read of the store at once. `show`: a reader that has seen all there is is shown
    what comes at once, and gets as an item only what `show` does not take; a Beat comes then although there
    were news.
    """
    log = source.log
    while through is None or cursor < through:
        page = await log.read(cursor, max_bytes=page_bytes, ahead_bytes=ahead_bytes)
        if page.is_gap:
            cursor = log.visible_seq
            yield Gap(cursor)
        elif events := _up_to(through, page.events):
            cursor = events[-1].seq
            due = Events(events, cursor)
            del page, events
            yield due
            due.events = []
        elif log.is_closed or through is not None:
            return
        elif show is not None:
            cursor = await log.attend(cursor, show, seconds=beat_seconds)
            if cursor == log.visible_seq and not log.is_closed:
                yield BEAT
        elif not await log.wait(cursor, seconds=beat_seconds):
            yield BEAT


async def changes(source: Source, *, beat_seconds: float) -> AsyncIterator[Events | Beat]:
    """A log's position, at once and whenever it has grown, for views that show the fold: no event is read."""
    log, shown = source.log, -1
    while True:
        if log.visible_seq > shown:
            shown = log.visible_seq
            yield Events([], shown)
        elif log.is_closed:
            return
        elif not await log.wait(shown, seconds=beat_seconds):
            yield BEAT


async def pause(source: Source, *, until: float, is_due: Callable[[], bool]) -> None:
    """Waits until this time of the loop's clock; less, if something that is appended makes it due."""
    clock, log = asyncio.get_running_loop().time, source.log
    seq = log.visible_seq
    while (seconds := until - clock()) > 0 and not is_due():
        if log.is_closed:
            await asyncio.sleep(seconds)
        else:
            await log.wait(seq, seconds=seconds)
            seq = log.visible_seq


def _up_to(through: int | None, events: list[Event]) -> list[Event]:
    if through is None or not events or events[-1].seq <= through:
        return events
    return [event for event in events if event.seq <= through]
