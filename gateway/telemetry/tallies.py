"""What the counters said minute by minute, so that what is lately going on can be told from what once was.

Guarantees: nothing is counted here, and no hot path knows of it: the counters of `/metrics` are read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

from msgspec import Struct

from gateway.telemetry.metrics import Metrics

KEPT_SECONDS: Final = 15 * 60.0
HARMLESS_ENDS: Final = frozenset(
    {"end_turn", "cancelled", "max_tokens", "max_turn_requests", "refusal", "killed", "closed"}
)
"""Outcomes of turns that are no failure; the alert rules have the same."""
DEATHS: Final = frozenset({"exited", "start_failed", "wire_error", "limit_exceeded", "forkserver_lost"})
"""Why a worker ended by itself; the alert rules have the same."""


class CountedFamily(Protocol):
    """A counter or a histogram of `Metrics`."""

    def collect(self) -> Iterable[Any]: ...


class CountersAt(Struct, frozen=True):
    """The counters at one moment."""

    at: float
    counts: dict[str, float]


class Lately:
    """`note` the counters now and then; `since` says how much they have grown."""

    def __init__(self, metrics: Metrics, *, monotonic: Callable[[], float]) -> None:
        self._metrics = metrics
        self._monotonic = monotonic
        self._kept: deque[CountersAt] = deque([self.now()])

    def note(self) -> None:
        """Remembers what the counters say now."""
        now = self.now()
        while len(self._kept) > 1 and self._kept[1].at <= now.at - KEPT_SECONDS:
            self._kept.popleft()
        self._kept.append(now)

    def since(self, seconds: float, *, now: CountersAt | None = None) -> Growth:
        """How much each counter has grown over so many seconds, or over as many as are known; who asks for
        several times reads the counters once.
        """
        now = now or self.now()
        earlier = [kept for kept in self._kept if kept.at <= now.at - seconds]
        before = earlier[-1] if earlier else self._kept[0]
        grown = {name: count - before.counts.get(name, 0.0) for name, count in now.counts.items()}
        return Growth(seconds=max(1.0, now.at - before.at), counts={n: c for n, c in grown.items() if c > 0})

    def now(self) -> CountersAt:
        """What the counters say, since the gateway started."""
        return CountersAt(self._monotonic(), dict(_counted(self._metrics)))


class Growth(Struct, frozen=True):
    """Counter → how much it has grown in these seconds; those that have not are left out."""

    seconds: float
    counts: dict[str, float]

    def of(self, name: str) -> float:
        """How much this one has grown."""
        return self.counts.get(name, 0.0)

    def rate(self, name: str) -> float:
        """The same for each second."""
        return self.of(name) / self.seconds

    def labelled(self, prefix: str) -> dict[str, float]:
        """Those with a label, by that label: `errors/` → code → how many."""
        return {
            name.removeprefix(prefix): count for name, count in self.counts.items() if name.startswith(prefix)
        }


def _counted(metrics: Metrics) -> Iterator[tuple[str, float]]:
    turns = _by_label(metrics.turns, "outcome")
    yield "turns", sum(turns.values())
    yield "turns_failed", sum(count for outcome, count in turns.items() if outcome not in HARMLESS_ENDS)
    ends = _by_label(metrics.worker_ends, "reason")
    yield "worker_deaths", sum(count for reason, count in ends.items() if reason in DEATHS)
    calls = _by_label(metrics.model_seconds, "error_type")
    yield "model_calls", sum(calls.values())
    yield "model_failures", sum(count for error, count in calls.items() if error not in ("", "cancelled"))
    yield "store_failures", sum(_by_label(metrics.store_failures).values())
    yield "fenced", sum(_by_label(metrics.fenced).values())
    yield "task_failures", sum(_by_label(metrics.task_failures).values())
    yield "survivors", sum(_by_label(metrics.teardown_survivors).values())
    yield "failed_answers", _by_label(metrics.requests, "status").get("5xx", 0.0)
    for limit, count in _by_label(metrics.rejections, "limit").items():
        yield f"rejections/{limit}", count
    for code, count in _by_label(metrics.errors, "code").items():
        yield f"errors/{code}", count


def _by_label(family: CountedFamily, label: str = "") -> dict[str, float]:
    """The values of a counter, or the counts of a histogram, summed over all labels but this one."""
    sums: dict[str, float] = {}
    for metric in family.collect():
        for sample in metric.samples:
            if sample.name.endswith(("_total", "_count")):
                value = sample.labels.get(label, "")
                sums[value] = sums.get(value, 0.0) + sample.value
    return sums
