"""Searching the titles and texts of one's own sessions.

A search is words: each must occur in the title, or in the message, as a part of it, in capitals or not. There
is no syntax, so that nothing that is typed is an error or means something else.

Guarantees of every engine: what is committed is found at once, and what is erased, withdrawn or somebody
else's never; titles first, then messages, those of the session last used first. An engine may keep an index
that lags behind: it then reads what is not in it, so that the index changes how long an answer takes, never
what is in it. One that cannot read everything in the time allowed says where to go on.
"""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Iterable
from typing import Final, Protocol

from msgspec import Struct

from gateway.events.texts import SaidText

WORDS_MOST: Final = 16
"""Of a search; those behind are left out."""
EXCERPT_BEFORE: Final = 60
EXCERPT_CHARACTERS: Final = 240
PER_SESSION: Final = 5
"""So many messages of one session are in an answer: the others are found in the session itself."""
TITLES_MOST: Final = 20


class SearchPlace(Struct, frozen=True):
    """Where a search goes on: with the owner's session of this id, or the first that was used no later than
    `at`; in that session before the event of this number.
    """

    at: int
    session_id: str
    before: int

    def spelled(self) -> str:
        """As a client carries it."""
        plain = f"{self.at}.{self.before}.{self.session_id}"
        return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> SearchPlace:
        """Raises ValueError if it is none."""
        try:
            plain = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
            at, before, session_id = plain.split(".", 2)
            place = cls(int(at), session_id, int(before))
        except (ValueError, binascii.Error):
            raise ValueError("this is no place in a search") from None
        if not (0 <= place.at < 2**62 and 0 <= place.before < 2**62):
            raise ValueError("this is no place in a search")
        return place


class Match(Struct, frozen=True, kw_only=True):
    """A title or a message in which all words occur. Times are milliseconds since 1970 UTC."""

    session_id: str
    title: str | None
    at: int
    """When it was said; of a title, when the session was last used."""
    excerpt: str
    marks: tuple[tuple[int, int], ...]
    """Where the words are in the excerpt: (first, behind the last), in characters."""
    message_id: str | None = None
    """None: it is the title."""
    sender: str | None = None
    seq: int | None = None


class Matches(Struct, frozen=True, kw_only=True):
    """What was found."""

    matches: list[Match]
    following: SearchPlace | None = None
    """Where to go on; None: everything was searched."""
    is_indexing: bool = False
    """The index is being built: it may take several answers until everything was searched."""


class SearchStore(Protocol):
    """See the module. Every method may raise StoreFull or StoreFailed."""

    async def find(
        self, owner: str, words: tuple[str, ...], *, place: SearchPlace | None, limit: int, seconds: float
    ) -> Matches:
        """The next matches, about so many, in about so many seconds at most; `words` are folded, and not
        none.
        """

    async def index(self) -> bool:
        """Does a bounded piece of the work that is left for the index; False if there was nothing to do."""


def folded(text: str) -> str:
    """The text as it is compared: without capitals, and as long as it was."""
    lower = text.casefold()
    return lower if len(lower) == len(text) else "".join(map(_folded, text))


def _folded(character: str) -> str:
    lower = character.casefold()
    return lower if len(lower) == 1 else character


def words_of(query: str) -> tuple[str, ...]:
    """What to look for: each word once."""
    return tuple(itertools.islice(dict.fromkeys(folded(query).split()), WORDS_MOST))


def occurs(words: Iterable[str], text: str) -> bool:
    """True if all of them are in a folded text."""
    return all(word in text for word in words)


def match_of(words: tuple[str, ...], session_id: str, title: str | None, message: SaidText) -> Match | None:
    """A message as a match, if it is one."""
    text = message.text
    lower = folded(text)
    if not occurs(words, lower):
        return None
    excerpt, marks = excerpt_of(words, text, lower)
    return Match(
        session_id=session_id,
        title=title,
        at=message.at,
        excerpt=excerpt,
        marks=marks,
        message_id=message.message_id,
        sender=message.sender,
        seq=message.seq,
    )


def title_match(words: tuple[str, ...], session_id: str, title: str | None, at: int) -> Match | None:
    """A title as a match, if it is one."""
    lower = folded(title or "")
    if not title or not occurs(words, lower):
        return None
    excerpt, marks = excerpt_of(words, title, lower)
    return Match(session_id=session_id, title=title, at=at, excerpt=excerpt, marks=marks)


def excerpt_of(words: tuple[str, ...], text: str, lower: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The text around the first word, in one line, and where words are in it."""
    first = min(lower.find(word) for word in words)
    start = max(0, first - EXCERPT_BEFORE)
    if start and (blank := text.find(" ", start, first)) >= 0:
        start = blank + 1  # not in the middle of a word, if there is a space to begin at
    piece = text[start : start + EXCERPT_CHARACTERS]
    line = "".join(" " if character.isspace() else character for character in piece)
    return line, _marks(words, lower[start : start + EXCERPT_CHARACTERS])


def _marks(words: tuple[str, ...], lower: str) -> tuple[tuple[int, int], ...]:
    """Where words are, those that overlap or touch made one."""
    spans: list[tuple[int, int]] = []
    for word in words:
        at = lower.find(word)
        while at >= 0:
            spans.append((at, at + len(word)))
            at = lower.find(word, at + len(word))
    out: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if out and begin <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((begin, end))
    return tuple(out)
