"""Logging: text for people, one JSON object a line for machines. Never a secret, never prompt text."""

from __future__ import annotations

import json
import logging
import sys

from gateway.events import iso


class JsonFormatter(logging.Formatter):
    """One record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": iso(round(record.created * 1000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class LineFormatter(logging.Formatter):
    """One record as one line; what a caller sent cannot begin a new one."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        head, *rest = text.splitlines() or [""]
        return "\n    ".join([head, *rest])


def configure(*, level: str, form: str) -> None:
    """Sends this process's log to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    line = LineFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if form == "json" else line)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("sse_starlette").setLevel(logging.WARNING)
