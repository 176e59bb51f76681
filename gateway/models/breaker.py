"""Breaker: stops calling a provider that fails, so that nobody waits for it in vain. Pure but for its clock.

Five failures in a row within 30 s open it for 15 s; a refused key opens it at once. After that one call is
let through, which closes it or opens it again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

FAILURES: Final = 5
WINDOW_SECONDS: Final = 30.0
OPEN_SECONDS: Final = 15.0


class Breaker:
    """See the module. `admits` before a call, then one of `succeeded`, `failed`, `abandoned`."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._failures: deque[float] = deque(maxlen=FAILURES)
        self._opened_at: float | None = None
        self._is_trying = False
        self.why = ""
        """The last failure, in words for the operator."""

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, but for the one that tries again."""
        return self._opened_at is not None

    @property
    def seconds_left(self) -> float:
        """Until a call is let through; 0 if it is closed or tries."""
        if self._opened_at is None:
            return 0.0
        return max(0.0, self._opened_at + OPEN_SECONDS - self._monotonic())

    def admits(self) -> bool:
        """Whether a call may be made; it may be the one that tries."""
        if self._opened_at is None:
            return True
        if self.seconds_left or self._is_trying:
            return False
        self._is_trying = True
        return True

    def succeeded(self) -> bool:
        """The provider answered, whatever the answer; whether that closed it."""
        was_open = self.is_open
        self._failures.clear()
        self._opened_at, self._is_trying = None, False
        return was_open

    def failed(self, why: str, *, at_once: bool = False) -> bool:
        """The provider failed; whether that opened it. `at_once`: one failure is enough."""
        now = self._monotonic()
        self.why = why
        self._failures.append(now)
        lately = [at for at in self._failures if now - at <= WINDOW_SECONDS]
        was_open = self.is_open
        if at_once or self._is_trying or len(lately) >= FAILURES:
            self._opened_at = now
        self._is_trying = False
        return self.is_open and not was_open

    def abandoned(self) -> None:
        """The call ended without an answer, by its caller's will."""
        self._is_trying = False
