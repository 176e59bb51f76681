"""The last lines of the gateway's log, in memory, for operators to search.

Guarantees: bounded in lines and in characters of each; the same lines as on stderr, and nothing of them is
written anywhere. No line is an object of its own: one that was logged while a busy moment's small objects
were freed would hold all the memory around it for hours.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from array import array
from collections import deque
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import UNSET

from gateway.events.facts import iso
from gateway.sights import LogLine, LogLinePage
from gateway.telemetry import logs

LINES_KEPT: Final = 2_000
CHARACTERS_MOST: Final = 4_000
"""Of one line, its exception included."""
BLOCK_BYTES: Final = 64 * 1024
"""Lines lie behind one another in blocks of about so much."""
LEVELS: Final = ("debug", "info", "warning", "error", "critical")


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(LogLine)


class _Block:
    """Some lines behind one another, as JSON."""

    __slots__ = ("ends", "text")

    def __init__(self) -> None:
        self.text = bytearray()
        self.ends = array("L")
        """Where each line ends."""

    def append(self, line: LogLine) -> None:
        _encoder.encode_into(line, self.text, -1)
        self.ends.append(len(self.text))

    def newest_first(self) -> Iterator[LogLine]:
        for number in range(len(self.ends) - 1, -1, -1):
            start = self.ends[number - 1] if number else 0
            yield _decoder.decode(self.text[start : self.ends[number]])


class RecentLog(logging.Handler):
    """A handler of the root logger while `listening`."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count(1)
        self._blocks: deque[_Block] = deque([_Block()])
        self._count = 0
        """Of lines in all blocks: `LINES_KEPT`, and what else the oldest block has."""
        self.setFormatter(logging.Formatter())

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Hears what is logged meanwhile."""
        root = logging.getLogger()
        root.addHandler(self)
        try:
            yield
        finally:
            root.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._keep(self._line(record))
        except Exception:  # a line that cannot be formatted is the logger's caller's fault, not ours
            self.handleError(record)

    def _keep(self, line: LogLine) -> None:
        if len(self._blocks[-1].text) >= BLOCK_BYTES:
            self._blocks.append(_Block())
        self._blocks[-1].append(line)
        self._count += 1
        if self._count - len(self._blocks[0].ends) >= LINES_KEPT:
            self._count -= len(self._blocks.popleft().ends)

    def _line(self, record: logging.LogRecord) -> LogLine:
        text = record.getMessage()
        if record.exc_info and self.formatter is not None:
            text += "\n" + self.formatter.formatException(record.exc_info)
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode()  # half a character is none
        ids = logs.current()
        return LogLine(
            number=next(self._numbers),
            at=iso(round(record.created * 1000)),
            level=record.levelname.lower(),
            logger=record.name,
            message=text[:CHARACTERS_MOST],
            request_id=ids.get("request_id", UNSET),
            tenant=ids.get("tenant", UNSET),
            session=ids.get("session", UNSET),
        )

    def found(self, words: str, *, level: str, before: int | None, limit: int) -> LogLinePage:
        """Lines of this level and worse in which all words are, the newest first."""
        wanted, worst = words.casefold().split(), LEVELS.index(level)
        lines: list[LogLine] = []
        for line in self._newest_first():
            if before is not None and line.number >= before:
                continue
            if _rank(line.level) < worst or not _has_all(line, wanted):
                continue
            if len(lines) == limit:
                return LogLinePage(lines=lines, next=str(lines[-1].number))
            lines.append(line)
        return LogLinePage(lines=lines, next=None)

    def _newest_first(self) -> list[LogLine]:
        """Other threads log meanwhile, but not while this one reads."""
        self.acquire()
        try:
            lines = (line for block in reversed(self._blocks) for line in block.newest_first())
            return list(itertools.islice(lines, LINES_KEPT))
        finally:
            self.release()


def _rank(level: str) -> int:
    return LEVELS.index(level) if level in LEVELS else len(LEVELS)


def _has_all(line: LogLine, wanted: list[str]) -> bool:
    ids = (one for one in (line.request_id, line.tenant, line.session) if isinstance(one, str))
    text = " ".join((line.level, line.logger, line.message, *ids)).casefold()
    return all(word in text for word in wanted)
