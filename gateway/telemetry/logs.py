"""Logging: text for people, one JSON object a line for machines. Never a secret, never prompt text.

Every line carries the ids that are known: `request_id`, `tenant`, `session` (the internal key, never the
client's id) and `turn`. They are bound to the context in which a request or a session runs, so no call passes
them along.
"""

from __future__ import annotations

import contextvars
import json
import logging
import sys
from typing import Final

from gateway.events.facts import iso
from gateway.telemetry import terminal

Ids = dict[str, str]
NAMES: Final = ("request_id", "tenant", "session", "turn")
"""The ids that a line may carry, in this order."""

_ids: Final[contextvars.ContextVar[Ids | None]] = contextvars.ContextVar("agent_gateway.ids", default=None)


def begin(**ids: str) -> Ids:
    """Binds these ids, and no others, to the current context. The caller may change the returned ids later;
    log lines of this context and its descendants then carry the changed ids.
    """
    bound = dict(ids)
    _ids.set(bound)
    return bound


def bind(**ids: str) -> None:
    """Adds to what the current context has; contexts that descended from it before keep what they have."""
    begin(**{**current(), **ids})


def current() -> Ids:
    """The ids of the current context."""
    return _ids.get() or {}


class JsonFormatter(logging.Formatter):
    """One record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": iso(round(record.created * 1000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        ids = current()
        line.update({name: ids[name] for name in NAMES if name in ids})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return terminal.escaped(json.dumps(line, ensure_ascii=False))


class LineFormatter(logging.Formatter):
    """One record as one line; what a caller sent cannot begin a new one."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        head, *rest = text.splitlines() or [""]
        ids = current()
        said = " ".join(f"{name}={ids[name]}" for name in NAMES if name in ids)
        shown = [f"{head} [{said}]" if said else head, *rest]
        return "\n    ".join(terminal.plain(line) for line in shown)


def configure(*, level: str, form: str) -> None:
    """Sends this process's log to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    line = LineFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if form == "json" else line)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("sse_starlette").setLevel(logging.WARNING)
