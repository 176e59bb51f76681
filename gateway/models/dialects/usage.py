"""What an answer says that it used: bytes in, tokens out. Pure; nothing here raises.

Guarantees: an event that comes in pieces is read whole, whatever the pieces; only events that speak of usage
are decoded; of an answer that broke off what is known is told, and the rest is estimated and says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

from gateway.models.meter import CallUsage
from worker import foreign

LINE_BYTES: Final = 4 * 1024 * 1024
"""A longer event is not read for figures."""
WHOLE_BYTES: Final = 16 * 1024 * 1024
"""A longer answer in one document is not read for figures."""
CHARACTERS_A_TOKEN: Final = 4


class Figures(Struct):
    """What an answer has said so far."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    model: str = ""
    has_input: bool = False
    has_output: bool = False
    is_final: bool = False
    """Whether the figures are those of the whole answer."""


Take = Callable[[bytes, Figures], None]
"""Reads one document of JSON, an event's or a whole answer, into the figures."""


class UsageReader:
    """Reads one answer; `feed` what comes, then ask for `usage`."""

    def __init__(
        self, take: Take, *, text: re.Pattern[bytes], marks: tuple[bytes, ...], input_tokens: int
    ) -> None:
        """`text` finds the words of an answer, whose length is the estimate; `marks`: an event with one of
        these says something of usage; `input_tokens`: an estimate of what was sent.
        """
        self._take = take
        self._text = text
        self._marks = marks
        self._estimate = input_tokens
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._is_events: bool | None = None
        self._is_skipping = False
        self._characters = 0
        self._figures = Figures()
        self.has_begun = False
        """Whether anything has come."""

    @property
    def model(self) -> str:
        """The model that answered, as far as it was said."""
        return self._figures.model

    def feed(self, chunk: bytes) -> None:
        """Bytes of the answer's body, as they come."""
        self.has_begun = self.has_begun or bool(chunk)
        if self._is_events is None and (start := chunk.lstrip()):
            self._is_events = start[:1] not in (b"{", b"[")
        if not self._is_events:
            self._hold(chunk, WHOLE_BYTES)
            return
        if b"\n" not in chunk:
            self._hold(chunk, LINE_BYTES)
            return
        first, _, more = chunk.partition(b"\n")
        self._hold(first, LINE_BYTES)
        self._lines(b"".join(self._rest))
        lines, _, rest = more.rpartition(b"\n")
        self._lines(lines)
        self._rest, self._rest_bytes, self._is_skipping = [], 0, False
        self._hold(rest, LINE_BYTES)

    def _hold(self, piece: bytes, limit: int) -> None:
        self._rest_bytes += len(piece)
        if self._rest_bytes > limit:
            self._rest.clear()
            self._is_skipping = True
            self._characters += len(piece)
        elif piece and not self._is_skipping:
            self._rest.append(piece)

    def _lines(self, lines: bytes) -> None:
        """Whole lines: a busy stream brings hundreds in one read, of which hardly one tells something."""
        self._characters += sum(map(len, self._text.findall(lines)))
        if not any(mark in lines for mark in self._marks):
            return
        for line in lines.split(b"\n"):
            if line.startswith(b"data:") and self._tells(line):
                self._document(line[5:])

    def _tells(self, line: bytes) -> bool:
        """Whether it speaks of usage; some write `"usage":null` into each event, whose model is read once."""
        if self._figures.model:
            return any(line.count(mark) > line.count(mark + b":null") for mark in self._marks)
        return any(mark in line for mark in self._marks)

    def _document(self, text: bytes) -> None:
        try:
            self._take(text, self._figures)
        except msgspec.DecodeError:
            return

    def usage(self, *, is_whole: bool) -> CallUsage:
        """What the call came to; `is_whole`: the answer was heard to its end."""
        self._end()
        found = self._figures
        is_told = found.has_output and (found.is_final or is_whole)
        guessed = -(-self._characters // CHARACTERS_A_TOKEN)
        return CallUsage(
            input=found.input if found.has_input else self._estimate,
            cache_read=found.cache_read,
            cache_write=found.cache_write,
            output=found.output if is_told else max(found.output, guessed),
            reasoning=found.reasoning,
            is_estimated=not (is_told and found.has_input),
        )

    def _end(self) -> None:
        """Reads what came without a line end: a whole answer, or the last event."""
        rest, self._rest = b"".join(self._rest), []
        if self._is_events:
            self._lines(rest)
        elif rest:
            self._characters += sum(map(len, self._text.findall(rest)))
            self._document(rest)


def words_of(*names: str) -> re.Pattern[bytes]:
    """Finds the strings that are members of these names."""
    keys = "|".join(map(re.escape, names)).encode()
    return re.compile(rb'"(?:' + keys + rb')"\s*:\s*"((?:[^"\\\n]++|\\.)*+)"?')


def less(total: int | None, part: int | None) -> int:
    """A count without a part of it that is counted elsewhere."""
    return max(0, (total or 0) - (part or 0))


def read(text: bytes, kind: type[foreign.T]) -> foreign.T:
    """JSON that a provider wrote, odd values left out. Raises msgspec.DecodeError."""
    return foreign.read(text.strip(), kind)
