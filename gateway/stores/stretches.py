"""How a log becomes filters: it is read a page at a time and cut into stretches between turns. It is not cut
while messages wait: what they say may change until they are taken. Pure; an engine reads and keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.events.texts import ENDS, STARTS
from gateway.stores.grams import Runs

STRETCH_CHARACTERS: Final = 8_000
"""A stretch ends with the turn in which it gets so long. Longer ones make the index smaller, and a search
read more of what does not match."""
PAGE_EVENTS: Final = 500
PAGE_BYTES: Final = 32 * 1024
"""Read in one go, about a millisecond."""
PAGES_MOST: Final = 20
"""Of one log before what was found is kept, unless a turn is longer."""


class Stretch(Struct, frozen=True):
    """A filter of what was said in (after, through]."""

    after: int
    through: int
    characters: int
    grams: bytes


class Gathering:
    """The filters of what was said in one log since its mark. The last stretch is made anew while it is
    short.
    """

    def __init__(self, row_id: int) -> None:
        self.row_id = row_id
        self.key: str | None = None
        """None: there is no such session any more."""
        self.replaces: int | None = None
        """The last number in the stretch that is made anew."""
        self.cursor = 0
        """Everything up to here was read."""
        self.through = 0
        """No turn runs here and no message waits, and what was said before is complete."""
        self._is_running = False
        """A turn runs where the cursor is."""
        self._is_waiting = False
        """Messages wait there."""
        self.is_done = False
        """The log was read to its end."""
        self.is_kept = False
        self.stretches: list[Stretch] = []
        self.withdrawn: set[str] = set()
        self._after = 0
        self._runs = Runs()
        self._characters = 0
        """Of what was said and is complete."""
        self._open_characters: int | None = None
        """Of what is not; None: nothing was said."""
        self._pages = 0

    def begin(self, key: str | None, mark: int, last: tuple[int, int, int] | None) -> None:
        """Where the log of this key has its mark, and its last stretch: (after, through, characters)."""
        if key is None:
            self.is_done = True
            return
        self.key = key
        if last is not None and last[2] < STRETCH_CHARACTERS // 2:
            mark, self.replaces, _ = last
        self.cursor = self.through = self._after = mark

    @property
    def mark(self) -> int:
        """Everything up to here is kept with it."""
        return self.through if self.is_done else self._after

    @property
    def is_open(self) -> bool:
        """What was said before the cursor is not complete."""
        return self._is_running or self._is_waiting

    @property
    def is_enough(self) -> bool:
        """It is time to keep what was found."""
        return self.is_done or (self._pages >= PAGES_MOST and bool(self.stretches))

    def add(self, events: Sequence[Event]) -> None:
        """The next page of the log; the last one is empty."""
        self._pages += 1
        for event in events:
            self.cursor = event.seq
            self._hear(event)
            if event.kind in STARTS:
                self._is_running = True
            elif event.kind in ENDS:
                self._is_running = False
            elif isinstance(event.data, ev.QueueChanged):
                self._is_waiting = bool(event.data.waiting)
            if not self.is_open and self._open_characters is not None:
                self._close(event.seq)
        if not events:
            self.is_done = True
            self._cut(self.through)
        if not self.is_open:
            self.through = self.cursor

    def _hear(self, event: Event) -> None:
        """What people and agents say (`events.texts.Texts`), of which only the runs are kept."""
        match event.data:
            case ev.TextDelta(message_id=name, text=text):
                self._say(name, text)
            case ev.MessageAdded(message_id=name, sender=sender, content=text) if sender != "system":
                self._runs.begin(name)
                self._say(name, text)
            case ev.MessageWithdrawn(message_id=name):
                self.withdrawn.add(name)

    def _say(self, name: str, text: str) -> None:
        self._runs.add(name, text)
        self._open_characters = (self._open_characters or 0) + len(text)

    def _close(self, seq: int) -> None:
        """What was said up to here is complete."""
        self._runs.end()
        self._characters += self._open_characters or 0
        self._open_characters = None
        self.through = seq
        if self._characters >= STRETCH_CHARACTERS:
            self._cut(seq)

    def _cut(self, through: int) -> None:
        if self._characters:
            self.stretches.append(Stretch(self._after, through, self._characters, self._runs.filter()))
        self._after, self._runs, self._characters = through, Runs(), 0
