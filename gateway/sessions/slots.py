"""How many workers run at once: a number, and who gives way when it is reached."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from gateway.errors import WorkerLimit


class SlotHolder(Protocol):
    """Somebody with a worker."""

    def may_park(self) -> bool:
        """Whether the worker can be stopped without loss."""

    def ask_to_park(self) -> None:
        """Asks for it."""

    @property
    def idle_seconds(self) -> float:
        """How long it has not been used."""


class WorkerSlots:
    """`take` one before a worker is started, `give` it back when the worker is gone."""

    def __init__(self, limit: int, holders: Callable[[], Iterable[SlotHolder]]) -> None:
        self.limit = limit
        self._holders = holders
        self.taken = 0

    def take(self) -> None:
        """Takes a slot. If all are taken, asks the longest idle session to park and raises WorkerLimit."""
        if self.taken >= self.limit:
            idle = [holder for holder in self._holders() if holder.may_park()]
            if idle:
                max(idle, key=lambda holder: holder.idle_seconds).ask_to_park()
            raise WorkerLimit(retry_after_seconds=1 if idle else 10)
        self.taken += 1

    def give(self) -> None:
        """Gives one back."""
        self.taken -= 1
