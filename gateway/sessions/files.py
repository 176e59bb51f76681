"""When a session's files are kept: as its worker starts, at the end of each turn, and when the worker ends.

Nobody waits for it but the next turn, for a moment: then it changes no file before the last one is read. If
that takes longer the turn begins all the same, and the snapshot says that it is not of one moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from gateway.events import facts as ev
from gateway.files.snapshots import Snapshots
from gateway.files.taking import Taken
from gateway.sessions.log import EventLog
from gateway.sessions.record import Record

TURN_WAITS_SECONDS: Final = 0.5
"""How long the next turn waits for a snapshot."""
PLACED_SECONDS: Final = 10.0
"""How long the first turn of a session with a repository waits for the snapshot of that: a moment, if its
contents were read when the workspace was made ready.
"""
LAST_SECONDS: Final = 20.0
"""How long a session that ends waits for its last one."""
TROUBLE: Final = "snapshots"
TOO_LARGE: Final = "snapshots_left_out"


class SessionFiles:
    """See the module."""

    def __init__(self, record: Record, log: EventLog, snapshots: Snapshots) -> None:
        self._record = record
        self._log = log
        self._snapshots = snapshots
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: set[str] = set()
        """What its people were told already."""
        self.putting_back = asyncio.Lock()
        """Held while files are put back."""
        self._is_stopped = False
        self._wait_seconds = TURN_WAITS_SECONDS
        self._is_touched = False
        """Somebody else than the agent has changed files since the last snapshot."""

    @property
    def _key(self) -> str:
        return self._record.key

    def touched(self) -> None:
        """A person or the gateway changed files between turns: the next turn's changes are not theirs."""
        self._is_touched = True

    def placed(self) -> None:
        """A repository is put there: what its first turn changes cannot be told before all of it was read."""
        self._is_touched, self._wait_seconds = True, PLACED_SECONDS

    def begin(self) -> None:
        """A worker is about to start: what there is now is not what its first turn makes."""
        self._is_touched = False
        self._soon(self._take(is_first=True))

    def ended(self, turn_id: str, seq: int) -> None:
        """A turn ended, with this event."""
        self._soon(self._take_turn(turn_id, seq))

    async def before_turn(self) -> None:
        """Called before the agent hears of a turn."""
        async with self.putting_back:
            pass
        if self._is_touched:
            self.begin()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._wait_seconds)
        self._wait_seconds = TURN_WAITS_SECONDS
        self._snapshots.disturb(self._key)

    async def until_kept(self) -> None:
        """Waits for what is under way, for a moment."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_SECONDS)

    def worker_ended(self) -> None:
        """The worker is gone: what it wrote last is kept, too."""
        self._soon(self._take())

    async def finish(self) -> None:
        """Waits until nothing is under way."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_SECONDS)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def stop(self) -> None:
        """Nothing more is kept: the session is deleted."""
        self._is_stopped = True
        self._snapshots.give_up(self._key)

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        if self._is_stopped or not self._snapshots.is_on:
            work.close()
            return
        task = asyncio.create_task(work, name=f"snapshot {self._key}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, *, is_first: bool = False) -> None:
        record = self._record.kept
        taken = await self._snapshots.take(record.key, record.uid, seq=self._log.last_seq, is_first=is_first)
        if taken is not None:
            self._tell(taken)

    async def _take_turn(self, turn_id: str, seq: int) -> None:
        record = self._record.kept
        taken = await self._snapshots.take(record.key, record.uid, seq=seq, turn_id=turn_id)
        if taken is None:
            return
        if taken.added or taken.changed or taken.removed:
            self._log.append(ev.FilesChanged(turn_id, seq, taken.added, taken.changed, taken.removed))
        self._tell(taken)

    def _tell(self, taken: Taken) -> None:
        """Says once what is not kept."""
        if taken.trouble:
            words = f"{taken.trouble} This conversation's files cannot be taken back for now."
            self._tell_once(TROUBLE, words, why=taken.trouble)
        elif taken.left_out:
            count = "1 file is" if taken.left_out == 1 else f"{taken.left_out} files are"
            words = f"{count} too large for snapshots: undo and forks leave such files out."
            self._tell_once(TOO_LARGE, words, files=taken.left_out)

    def _tell_once(self, code: str, words: str, **values: str | int) -> None:
        if code not in self._told:
            self._told.add(code)
            self._log.append(ev.Notice(code, "info", code, words, values=values))
