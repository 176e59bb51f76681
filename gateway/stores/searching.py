"""A search as every engine with an index does it: titles first, then the stretches of logs that may have the
words, read page by page. An engine says which those are, and reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from gateway.events.facts import Event
from gateway.events.texts import Texts
from gateway.stores.search import (
    PER_SESSION,
    TITLES_MOST,
    Match,
    Matches,
    SearchPlace,
    match_of,
    title_match,
)

SESSIONS_AT_ONCE: Final = 200
"""Sessions whose filters are looked at in one go, about a millisecond."""
TITLES_AT_ONCE: Final = 1_000
TEXT_KEPT: Final = 1_000_000
"""Characters of a stretch that is searched are in memory at once, about."""
EVER: Final = 2**62

Start = tuple[int, str, str]
"""Where to begin among an owner's sessions, last used first: with those used at this time or before, and of
those of this time with the keys that are `>` or `>=` this one.
"""


class Candidate(NamedTuple):
    """A session, and the stretches of its log that may have the words."""

    row_id: int
    session_id: str
    title: str | None
    at: int
    key: str
    stretches: list[tuple[int, int]]
    """(after, through), the last one first."""
    withdrawn: set[str]
    """Messages that were taken back."""


class Reading:
    """A stretch of a log as it is searched, a page at a time."""

    def __init__(
        self, one: Candidate, words: tuple[str, ...], after: int, through: int, withdrawn: set[str]
    ) -> None:
        self.row_id = one.row_id
        self._one = one
        self._words = words
        self.cursor = after
        """Everything up to here was read."""
        self._through = through
        self._withdrawn = withdrawn
        self._texts = Texts()
        self._found: list[Match] = []
        self.is_done = False

    @property
    def characters(self) -> int:
        """How much of it is in memory, about."""
        return self._texts.characters

    def add(self, events: Sequence[Event]) -> None:
        """The next page; if it is empty, it is the last one."""
        for event in events:
            if event.seq > self._through:
                break
            self._texts.add(event)
        self.is_done = not events or events[-1].seq >= self._through
        self.cursor = events[-1].seq if events else self.cursor
        if self.is_done or self._texts.characters > TEXT_KEPT:
            self._look(keeps_last=not self.is_done)

    def _look(self, *, keeps_last: bool) -> None:
        self._withdrawn |= self._texts.withdrawn
        messages = list(self._texts.messages.values())
        last = messages.pop() if keeps_last and messages else None
        for message in messages:
            match = match_of(self._words, self._one.session_id, self._one.title, message)
            if match is not None:
                self._found.append(match)
        self._texts = Texts()
        if last is not None:
            self._texts.messages[last.message_id] = last

    def matches(self, before: int) -> list[Match]:
        """What was found, the last one first."""
        found = [
            one for one in self._found if (one.seq or 0) < before and one.message_id not in self._withdrawn
        ]
        return sorted(found, key=lambda match: -(match.seq or 0))


class SearchSource(Protocol):
    """What an engine knows."""

    async def key_of(self, owner: str, session_id: str) -> str:
        """The key of a session; empty if there is none."""

    async def sessions(
        self, owner: str, start: Start, *, limit: int
    ) -> Sequence[tuple[int, str, str | None, int, str]]:
        """The next sessions of an owner: (id of the row, id, title, last used, key)."""

    async def candidates(self, owner: str, start: Start, words: tuple[str, ...]) -> Sequence[Candidate]:
        """The next `SESSIONS_AT_ONCE` sessions of an owner, in their order."""

    async def read(self, reading: Reading) -> None:
        """Adds the next page to it."""


async def search(
    source: SearchSource,
    owner: str,
    words: tuple[str, ...],
    *,
    place: SearchPlace | None,
    limit: int,
    seconds: float,
    is_indexing: Callable[[], bool],
) -> Matches:
    """`SearchStore.find`."""
    deadline = time.monotonic() + seconds
    matches = await _titles(source, owner, words) if place is None else []
    at, key, resumed = EVER, "", ""
    if place is not None:
        at, key, resumed = place.at, await source.key_of(owner, place.session_id), place.session_id
    before, op = (place.before if place else EVER), ">="
    while page := await source.candidates(owner, (at, key, op), words):
        for one in page:
            if one.session_id != resumed:
                before = EVER
            elif not before:
                continue
            found, rest = await _in_session(source, one, words, before=before, deadline=deadline)
            matches += found
            if rest or len(matches) >= limit or time.monotonic() > deadline:
                following = SearchPlace(one.at, one.session_id, rest)
                return Matches(matches=matches, following=following, is_indexing=is_indexing())
        at, key, op, resumed = page[-1].at, page[-1].key, ">", ""
    return Matches(matches=matches, is_indexing=is_indexing())


async def _titles(source: SearchSource, owner: str, words: tuple[str, ...]) -> list[Match]:
    matches: list[Match] = []
    at, key = EVER, ""
    while len(matches) < TITLES_MOST:
        rows = await source.sessions(owner, (at, key, ">"), limit=TITLES_AT_ONCE)
        found = (title_match(words, row[1], row[2], row[3]) for row in rows)
        matches += [match for match in found if match is not None]
        if len(rows) < TITLES_AT_ONCE:
            break
        at, key = rows[-1][3], rows[-1][4]
    return matches[:TITLES_MOST]


async def _in_session(
    source: SearchSource, one: Candidate, words: tuple[str, ...], *, before: int, deadline: float
) -> tuple[list[Match], int]:
    """The last matches before a number, and the number before which the rest is to be searched, or 0."""
    matches: dict[str, Match] = {}
    withdrawn = set(one.withdrawn)
    searched = 0
    for after, through in one.stretches:
        if after + 1 >= before:
            continue
        if searched and time.monotonic() > deadline:
            return list(matches.values()), searched
        reading = Reading(one, words, after, through, withdrawn)
        while not reading.is_done:
            await source.read(reading)
        for match in reading.matches(before):
            matches.setdefault(match.message_id or "", match)
        searched = min(after + 1, before)
        if len(matches) >= PER_SESSION:
            break
    return list(matches.values())[:PER_SESSION], 0
