"""The alarms that a gateway raises about itself: those of deploy/prometheus/rules.yml, without Prometheus.

Pure: `raised` looks at signals and says which rules hold. A rule here has the name that it has there, without
its first words; docs/alarms.md says what to do about each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Literal

from msgspec import Struct

from gateway.telemetry.tallies import Growth

Severity = Literal["critical", "warning"]

FAILED_SHARE: Final = 0.1
FEWEST: Final = 5
"""Of fewer than so many, a share says nothing."""
WORKERS_SHARE: Final = 0.9
REJECTS_PER_SECOND: Final = 1.0
SLOW_START_SECONDS: Final = 2.5
LATE_LOOP_SECONDS: Final = 0.25
DEATHS_PER_SECOND: Final = 0.2
STORE_BEHIND: Final = 10_000


class Signals(Struct, frozen=True, kw_only=True):
    """What the rules look at. Growth is of the last five, ten and fifteen minutes."""

    five: Growth
    ten: Growth
    fifteen: Growth
    workers: int
    worker_limit: int
    start_p99_seconds: float | None
    loop_lag_p99_seconds: float | None
    store_waiting: int
    is_store_lost: bool
    damaged: float
    """Answers so far that said that the store is damaged."""
    disk_free_bytes: float
    disk_low_bytes: float
    tasks_down: int
    is_memory_short: bool


class Raised(Struct, frozen=True):
    """A rule that holds, and the figure that it is about."""

    name: str
    severity: Severity
    value: float


class _Rule(Struct, frozen=True):
    name: str
    severity: Severity
    value: Callable[[Signals], float | None]
    """None while the rule does not hold."""


def raised(signals: Signals) -> Iterator[Raised]:
    """The rules that hold, the critical ones first."""
    for rule in RULES:
        value = rule.value(signals)
        if value is not None:
            yield Raised(rule.name, rule.severity, round(value, 4))


def _above(value: float | None, most: float) -> float | None:
    return value if value is not None and value > most else None


def _below(value: float, least: float) -> float | None:
    return value if value < least else None


def _share(growth: Growth, part: str, whole: str) -> float | None:
    count = growth.of(whole)
    return _above(growth.of(part) / count, FAILED_SHARE) if count >= FEWEST else None


def _per_second(growth: Growth, prefix: str) -> float:
    return max(growth.labelled(prefix).values(), default=0.0) / growth.seconds


RULES: Final = (
    _Rule("StoreLost", "critical", lambda s: 1.0 if s.is_store_lost else None),
    _Rule("StoreDamaged", "critical", lambda s: _above(s.damaged, 0)),
    _Rule("StoreFails", "critical", lambda s: _above(s.five.of("store_failures"), 0)),
    _Rule("StoreSilent", "critical", lambda s: _above(s.five.of("errors/store_unreachable"), 0)),
    _Rule("DiskFills", "critical", lambda s: _below(s.disk_free_bytes, s.disk_low_bytes)),
    _Rule("TaskFails", "critical", lambda s: _above(max(s.fifteen.of("task_failures"), s.tasks_down), 0)),
    _Rule("Survivors", "critical", lambda s: _above(s.ten.of("survivors"), 0)),
    _Rule("TurnsFail", "warning", lambda s: _share(s.five, "turns_failed", "turns")),
    _Rule("WorkersNearlyAll", "warning", lambda s: _above(s.workers / max(1, s.worker_limit), WORKERS_SHARE)),
    _Rule("Rejects", "warning", lambda s: _above(_per_second(s.five, "rejections/"), REJECTS_PER_SECOND)),
    _Rule("SlowStarts", "warning", lambda s: _above(s.start_p99_seconds, SLOW_START_SECONDS)),
    _Rule("LoopLags", "warning", lambda s: _above(s.loop_lag_p99_seconds, LATE_LOOP_SECONDS)),
    _Rule("MemoryShort", "warning", lambda s: 1.0 if s.is_memory_short else None),
    _Rule("StoreBehind", "warning", lambda s: _above(s.store_waiting, STORE_BEHIND)),
    _Rule("PlaceLost", "warning", lambda s: _above(s.ten.of("fenced"), 0)),
    _Rule("WorkersDie", "warning", lambda s: _above(s.five.rate("worker_deaths"), DEATHS_PER_SECOND)),
    _Rule("ModelFails", "warning", lambda s: _share(s.five, "model_failures", "model_calls")),
)
"""The critical ones first. `AgentGatewayDown` is not among them: a gateway that is down says nothing."""
