"""Resting: every worker stands still while its gateway cannot show that it may go on.

A gateway that shares its store with others, or could, says from time to time until when it may work. When
that moment has passed without another word, the fork server lets the workers rest, even if the gateway itself
stands still; they go on when the word comes, and end if it does not come in time. A worker that is started
meanwhile waits at a gate for that, before it does anything.

Guarantees: a gateway that never says so is not watched; what stood still before goes on standing still after;
nothing that rests runs another instruction before it is killed.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
from typing import Final, Literal

from worker.forkserver import tree
from worker.forkserver.groups import Group
from worker.sandbox import kernel
from worker.spec import GoOn

LOOK_MILLISECONDS: Final = 50
"""How often it is looked whether what rests still does: a process may have been on its way to another."""
LONGEST_MILLISECONDS: Final = 3_600_000
"""Longer than that nobody waits at once: poll(2) takes no more than 24 days."""
_STOPPED: Final = (b"T", b"t", b"Z", b"X")
_PASSES: Final = 5
"""A process that is stopped may have started another just before."""

Rule = Literal["go", "rest", "end"]


class Watch:
    """What the gateway's last word means now."""

    def __init__(self) -> None:
        self._word: GoOn | None = None

    def hear(self, word: GoOn) -> None:
        """The gateway's word; the last one counts."""
        self._word = word

    @property
    def is_on(self) -> bool:
        """True if the gateway has said until when it may work."""
        return self._word is not None

    def rule(self, now_ns: int) -> Rule:
        """What workers do at this moment of CLOCK_MONOTONIC."""
        if self._word is None or now_ns < self._word.until_ns:
            return "go"
        return "rest" if now_ns < self._word.end_ns else "end"

    def pause(self, now_ns: int) -> int | None:
        """Milliseconds until there is something to do; None: only if the gateway says so."""
        if self._word is None or self.rule(now_ns) == "end":
            return None
        if self.rule(now_ns) == "rest":
            return min(LOOK_MILLISECONDS, _milliseconds(self._word.end_ns - now_ns))
        return _milliseconds(self._word.until_ns - now_ns)


class Rest:
    """How one worker was made to rest, so that it goes on as it was."""

    def __init__(self, pid: int, *, has_init: bool, group: Group | None) -> None:
        """`has_init`: the first process only waits for the others, and need not be stopped."""
        self._pid = pid
        self._has_init = has_init
        self._group = group if group is not None and group.freezer_file() else None
        self._is_frozen = False
        self._stopped: dict[int, int] = {}
        """By pid, when it started: what was stopped here."""

    def hold(self) -> None:
        """Stops whatever of it runs."""
        if self._group is not None and self._group.is_frozen():
            return
        if self._group is not None and self._group.freeze():
            self._is_frozen = True
            return
        for _ in range(_PASSES):
            if not self._stop_those_that_run():
                return

    def _stop_those_that_run(self) -> bool:
        """True if there were any."""
        found = tree.descendants(self._pid) if self._has_init else [self._pid, *tree.descendants(self._pid)]
        running = [pid for pid in found if tree.state(pid) not in _STOPPED]
        for pid in running:
            self._stopped[pid] = tree.start_time(pid)
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGSTOP)
        return bool(running)

    def kill(self) -> None:
        """SIGKILL to all of it but the init, which tells how it ended; what is frozen dies as it thaws."""
        tree.kill_descendants(self._pid)

    def end(self) -> None:
        """Lets go on what was stopped here."""
        if self._is_frozen and self._group is not None:
            self._group.thaw()
        for pid, started in reversed(self._stopped.items()):
            if tree.start_time(pid) == started:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGCONT)


class BirthGate:
    """Where a worker waits that is started during a rest."""

    def __init__(self) -> None:
        self._inside, self._outside = os.pipe()

    def wait(self) -> None:
        """In the child: until it is opened. Ends with the fork server."""
        kernel.set_parent_death_signal(signal.SIGKILL)
        os.close(self._outside)
        if not os.read(self._inside, 1):
            os._exit(1)

    def open(self) -> None:
        """Lets it in; nobody waits here again."""
        os.write(self._outside, b"+")
        os.close(self._outside)
        os.close(self._inside)


def _milliseconds(nanoseconds: int) -> int:
    return max(0, min(math.ceil(nanoseconds / 1_000_000), LONGEST_MILLISECONDS))
