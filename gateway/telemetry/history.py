"""What the gateway was like over the last day, a row for each minute, for the charts of operators.

Guarantees: no more than `ROWS_MOST` rows are kept, whatever happens; the times only grow, also when the clock
is set back; a file that cannot be written or read costs the history and nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
from typing import Final

import msgspec
from msgspec import Struct

from gateway.config.tables import DAY_MILLISECONDS
from gateway.sights import Overview, OverviewHistory

STEP_SECONDS: Final = 60
ROWS_MOST: Final = 24 * 60
FILE_NAME: Final = "history.json"
"""In the data directory: about 200 kB for a whole day."""
LINES: Final = (
    "sessions",
    "workers",
    "turns_running",
    "starts_per_minute",
    "turns_per_minute",
    "tokens_per_minute",
    "start_p50_seconds",
    "start_p99_seconds",
    "first_token_p50_seconds",
    "first_token_p99_seconds",
    "worker_memory_bytes",
    "gateway_memory_bytes",
)
"""Fields of `Overview` that are kept."""

log = logging.getLogger(__name__)


class HistoryRow(Struct, frozen=True, array_like=True):
    """One minute: its time in milliseconds since 1970 UTC, and the values of `LINES` and of the errors."""

    at: int
    values: tuple[float | None, ...]
    errors: float


class _Kept(Struct, frozen=True):
    """The file. Other lines were kept by another version: their rows say nothing here."""

    lines: tuple[str, ...]
    rows: list[HistoryRow]


class DayHistory:
    """`note` a row, `shown` to operators, `save` and `load` it."""

    def __init__(self, directory: pathlib.Path | None) -> None:
        """`directory`: where the file is; None if nothing outlives the process."""
        self._path = None if directory is None else directory / FILE_NAME
        self._rows: list[HistoryRow] = []

    def note(self, overview: Overview, *, at: int, errors: float) -> None:
        """Adds what is true now; `errors` are answers with a status of 500 and more, per minute."""
        while self._rows and self._rows[-1].at >= at:  # the clock was set back
            self._rows.pop()
        values = tuple(_short(getattr(overview, line)) for line in LINES)
        self._rows.append(HistoryRow(at, values, round(errors, 2)))
        self._forget(at)

    def shown(self) -> OverviewHistory:
        """All of it, a column for each line."""
        columns: dict[str, list[float | None]] = {
            line: [row.values[index] for row in self._rows] for index, line in enumerate(LINES)
        }
        columns["errors_per_minute"] = [row.errors for row in self._rows]
        return OverviewHistory(step_seconds=STEP_SECONDS, at=[row.at for row in self._rows], lines=columns)

    def load(self, *, now: int) -> None:
        """Restores what was saved in the last day before `now`."""
        if self._path is None:
            return
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            log.warning("the history for operators cannot be read; it begins anew: %s", error)
            return
        if kept.lines != LINES:
            return
        for row in kept.rows:
            is_next = row.at < now and (not self._rows or self._rows[-1].at < row.at)
            if is_next and len(row.values) == len(LINES):
                self._rows.append(row)
        self._forget(now)

    def save(self) -> None:
        """Writes it to its file, whole or not at all."""
        if self._path is None or not self._rows:
            return
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_bytes(msgspec.json.encode(_Kept(LINES, list(self._rows))))
            os.replace(fresh, self._path)
        except OSError as error:
            log.warning("the history for operators is not kept for now: %s", error)
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)

    def _forget(self, now: int) -> None:
        since = now - DAY_MILLISECONDS
        first = next((n for n, row in enumerate(self._rows) if row.at > since), len(self._rows))
        del self._rows[: max(first, len(self._rows) - ROWS_MOST)]


def _short(value: float | None) -> float | None:
    """Four digits are as many as a chart shows."""
    return value if value is None or isinstance(value, int) else float(f"{value:.4g}")
