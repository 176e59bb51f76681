"""The audit log: who did what to which session, and who was refused. One JSON object a line, in
`audit.jsonl` of the data directory, readable by its owner only; old lines are only ever moved aside, by size.

Guarantees: no content, no secret, no client's session id (targets are internal keys); a disk that is full
stops no request, is said in the log, and the line still goes to the logger `audit`; a flood of refusals is
thinned, and how many were left out is said.
"""

from __future__ import annotations

import io
import logging
import logging.handlers
import os
import pathlib
from collections.abc import Callable
from typing import Final, Literal

import msgspec
from msgspec import Struct

from gateway.buckets import TokenBuckets
from gateway.errors import RateLimited
from gateway.events.facts import in_one_line, iso
from gateway.principal import Principal
from gateway.telemetry import logs

FILE_NAME: Final = "audit.jsonl"
FILE_BYTES: Final = 16 * 1024 * 1024
FILES_KEPT: Final = 9
"""Besides the one that is written: 160 MiB in all."""
REFUSALS_PER_SECOND: Final = 5.0
REFUSALS_AT_ONCE: Final = 100

Outcome = Literal["ok", "refused", "failed"]

log = logging.getLogger(__name__)
_said = logging.getLogger("audit")


class AuditLine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One act."""

    at: str
    action: str
    outcome: str
    tenant: str | None = None
    subject: str | None = None
    kind: str | None = None
    key_id: str | None = None
    target: str | None = None
    request_id: str | None = None
    detail: str | None = None
    left_out: int = 0
    """Refusals since the last line that were not written."""


class Audit:
    """`open` it, then `note` what is done."""

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        wall_ms: Callable[[], int],
        monotonic: Callable[[], float],
        file_bytes: int = FILE_BYTES,
    ) -> None:
        self._path = directory / FILE_NAME
        self._file_bytes = file_bytes
        self._wall_ms = wall_ms
        self._file: _File | None = None
        self._refusals = TokenBuckets(rate=REFUSALS_PER_SECOND, burst=REFUSALS_AT_ONCE, monotonic=monotonic)
        self._left_out = 0

    def open(self) -> None:
        """Makes the file ready. Raises OSError."""
        self._file = _File(self._path, maxBytes=self._file_bytes, backupCount=FILES_KEPT, encoding="utf-8")

    def close(self) -> None:
        """Lets go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def note(
        self,
        principal: Principal | None,
        action: str,
        *,
        target: str | None = None,
        outcome: Outcome = "ok",
        detail: str | None = None,
    ) -> None:
        """One act: a slug (`session.deleted`), on what (an internal key), and what came of it."""
        line = AuditLine(
            at=iso(self._wall_ms()),
            action=action,
            outcome=outcome,
            tenant=principal.tenant if principal else None,
            subject=principal.subject if principal else None,
            kind=principal.kind if principal else None,
            key_id=principal.key_id if principal else None,
            target=target,
            request_id=logs.current().get("request_id"),
            detail=detail,
            left_out=self._left_out,
        )
        self._left_out = 0
        text = in_one_line(msgspec.json.encode(line)).decode()
        _said.info("%s", text)
        if self._file is not None:
            self._file.write(text)

    def refused(self, principal: Principal | None, operation: str, *, code: str) -> None:
        """Somebody was told 401 or 403; `code` is the error's slug."""
        try:
            self._refusals.take("")
        except RateLimited:
            self._left_out += 1
            return
        self.note(principal, "request.refused", target=operation, outcome="refused", detail=code)


class _File(logging.handlers.RotatingFileHandler):
    """A file that moves aside when it is large, for its owner's eyes only."""

    def _open(self) -> io.TextIOWrapper:
        fd = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.fchmod(fd, 0o600)
        return io.TextIOWrapper(io.FileIO(fd, "a"), encoding="utf-8", write_through=True)

    def write(self, text: str) -> None:
        """One line."""
        self.handle(logging.LogRecord("audit", logging.INFO, "", 0, text, None, None))

    def handleError(self, record: logging.LogRecord) -> None:
        """Logs a line that could not be written to the audit file."""
        log.error("the audit log cannot be written: %s", record.getMessage(), exc_info=False)
