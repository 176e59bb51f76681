"""Freezing a worker: everything in its control group stops where it is, keeps its memory and takes no CPU
time (cgroups(7): the freezer of version 1, `cgroup.freeze` of version 2).

A frozen worker answers nothing, so whoever writes to it thaws it first. In version 1 a frozen process cannot
even die: it is thawed before it is told to.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import threading
from collections.abc import Iterator
from typing import Final

log = logging.getLogger(__name__)

_WORDS: Final = {"freezer.state": ("FROZEN", "THAWED"), "cgroup.freeze": ("1", "0")}
_SWAP_FILE: Final = "memory.swap.max"


class Freezer:
    """Of one worker; `file` is empty if this machine freezes none."""

    def __init__(self, file: str = "", memory_events: str = "") -> None:
        self._file = file
        self._memory = pathlib.Path(memory_events).parent if memory_events else None
        self._swap = ""
        """What its group may swap, as it was before it was frozen."""
        self._lock = threading.Lock()
        """What it may swap is changed while it is frozen, and by one thread at a time."""
        self.is_frozen = False

    def freeze(self) -> bool:
        """Freezes it; False if that cannot be done here. Returns at once."""
        if self._file and not self.is_frozen:
            self.is_frozen = self._write(0)
        return self.is_frozen

    def thaw(self) -> None:
        """Lets it go on, if it is frozen."""
        if self.is_frozen:
            with self._lock:
                self.is_frozen = False
                swap, self._swap = self._swap, ""
            self._write(1)
            if swap and self._memory is not None:
                with contextlib.suppress(OSError):
                    (self._memory / _SWAP_FILE).write_text(swap)

    def _write(self, index: int) -> bool:
        try:
            with open(self._file, "w", encoding="ascii") as file:
                file.write(_WORDS[os.path.basename(self._file)][index])
        except OSError as error:
            log.warning("%s could not be written: %s", self._file, error.strerror)
            return False
        return True

    def reclaim(self) -> None:
        """Has the kernel move what it holds to swap, if the machine has any (`memory.reclaim`, Linux 5.19).
        Takes as long as the disk does: for a thread.
        """
        place = self._memory
        if place is None or not (place / "memory.reclaim").exists():
            return
        with contextlib.suppress(OSError):
            held = (place / "memory.current").read_text()
            with self._lock:
                if not self.is_frozen:
                    return  # it was needed before its turn came
                self._swap = self._swap or (place / _SWAP_FILE).read_text().strip()
                (place / _SWAP_FILE).write_text("max")
            (place / "memory.reclaim").write_text(held)


def thaw_all(group: str) -> None:
    """Thaws every group below one: what a gateway that was killed left frozen could not be ended."""
    for folder in below(group):
        for name, (_, thawed) in _WORDS.items():
            path = folder / name
            with contextlib.suppress(OSError):
                if path.exists():
                    path.write_text(thawed)


def below(group: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """A control group and those in it, each before those in it; they may go meanwhile."""
    for folder, _, _ in os.walk(group):
        yield pathlib.Path(folder)
