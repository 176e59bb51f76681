"""What is remembered of the last minutes, and for no longer."""

from __future__ import annotations

import tracemalloc

from gateway.telemetry.recent import Recent


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_too_old_is_forgotten_although_nobody_reads() -> None:
    clock = Clock()
    recent = Recent(clock, window_seconds=60)

    def live(seconds: int) -> None:
        for _ in range(seconds):
            clock.now += 1.0
            recent.note(clock.now, "".join(["ten", "ant"]))

    live(60)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        live(6_000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 16_384
    assert recent.count_per_minute() <= 61
    assert recent.by_tenant().keys() == {"tenant"}
