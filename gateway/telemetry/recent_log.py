"""The last lines of the gateway's log, in memory, for operators to search.

Guarantees: bounded in lines and in characters of each; the same lines as on stderr, and nothing of them is
written anywhere.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections import deque
from collections.abc import Iterator
from typing import Final

from msgspec import UNSET

from gateway.events.facts import iso
from gateway.sights import LogLine, LogLinePage
from gateway.telemetry import logs

LINES_KEPT: Final = 2_000
CHARACTERS_MOST: Final = 4_000
"""Of one line, its exception included."""
LEVELS: Final = ("debug", "info", "warning", "error", "critical")


class RecentLog(logging.Handler):
    """A handler of the root logger while `listening`."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count(1)
        self._lines: deque[LogLine] = deque(maxlen=LINES_KEPT)
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
            self._lines.append(self._line(record))
        except Exception:  # a line that cannot be formatted is the logger's caller's fault, not ours
            self.handleError(record)

    def _line(self, record: logging.LogRecord) -> LogLine:
        text = record.getMessage()
        if record.exc_info and self.formatter is not None:
            text += "\n" + self.formatter.formatException(record.exc_info)
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
        for line in reversed(list(self._lines)):
            if before is not None and line.number >= before:
                continue
            if _rank(line.level) < worst or not _has_all(line, wanted):
                continue
            if len(lines) == limit:
                return LogLinePage(lines=lines, next=str(lines[-1].number))
            lines.append(line)
        return LogLinePage(lines=lines, next=None)


def _rank(level: str) -> int:
    return LEVELS.index(level) if level in LEVELS else len(LEVELS)


def _has_all(line: LogLine, wanted: list[str]) -> bool:
    ids = (one for one in (line.request_id, line.tenant, line.session) if isinstance(one, str))
    text = " ".join((line.level, line.logger, line.message, *ids)).casefold()
    return all(word in text for word in wanted)
