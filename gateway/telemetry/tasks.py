"""Background tasks: what runs beside the requests for as long as the gateway does.

Guarantees: one that fails, or ends, is logged with its cause and starts again after a pause, which grows
while it keeps failing; until then it is known as down; no other task and no request notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
"""A task that ran for longer than this begins again with the first pause."""

TaskRun = Callable[[], Awaitable[None]]


class BackgroundTasks:
    """Keeps tasks running, by name; see the module."""

    def __init__(
        self,
        *,
        on_change: Callable[[str, bool], None] = lambda _name, _is_up: None,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        """`on_change` hears when a task starts (True) and when it has failed (False)."""
        self._on_change = on_change
        self._first_pause_seconds = first_pause_seconds
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._down: set[str] = set()

    def start(self, name: str, run: TaskRun) -> None:
        """Runs `run()` from now on, again and again."""
        self._tasks[name] = asyncio.create_task(self._keep_running(name, run), name=name)

    async def stop(self, name: str) -> None:
        """Ends a task for good; nothing to do if it never started."""
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._down.discard(name)

    @contextlib.asynccontextmanager
    async def running(self, runs: Mapping[str, TaskRun]) -> AsyncIterator[None]:
        """Starts tasks, by name; leaving ends them, the last one first."""
        async with contextlib.AsyncExitStack() as stack:
            for name, run in runs.items():
                self.start(name, run)
                stack.push_async_callback(self.stop, name)
            yield

    @property
    def down(self) -> list[str]:
        """The names of those that have failed and wait for their next start."""
        return sorted(self._down)

    async def _keep_running(self, name: str, run: TaskRun) -> None:
        pause = self._first_pause_seconds
        while True:
            began = time.monotonic()
            self._down.discard(name)
            self._on_change(name, True)
            try:
                await run()
                log.error("the background task %s ended; it starts again in %g s", name, pause)
            except asyncio.CancelledError:
                if _is_cancelled():
                    raise
                log.exception("the background task %s was cancelled; it starts again in %g s", name, pause)
            except Exception:
                log.exception("the background task %s failed; it starts again in %g s", name, pause)
            self._down.add(name)
            self._on_change(name, False)
            if time.monotonic() - began > LONGEST_PAUSE_SECONDS:
                pause = self._first_pause_seconds
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _is_cancelled() -> bool:
    """Whether it is this task that was asked to end, not something that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
