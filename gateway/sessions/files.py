"""When a session's files are kept: as its worker starts, at the end of each turn, and when the worker ends.

Nobody waits for it but the next turn, for a moment: then it changes no file before the last one is read. If
that takes longer the turn begins all the same, and the snapshot says that it is not of one moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from gateway.errors import FilesNotHere
from gateway.events import facts as ev
from gateway.files.snapshots import Brought, Snapshots
from gateway.files.taking import NEARLY, Taken
from gateway.sessions.log import EventLog
from gateway.sessions.record import Record
from gateway.stores.sessions import SessionRecord

TURN_WAITS_SECONDS: Final = 0.5
"""How long the next turn waits for a snapshot."""
PLACED_SECONDS: Final = 10.0
"""How long the first turn of a session with a repository waits for the snapshot of that: a moment, if its
contents were read when the workspace was made ready.
"""
LAST_SECONDS: Final = 20.0
"""How long a session that ends waits for its last one."""
RETRY_SECONDS: Final = 15.0
"""After so long a snapshot is tried again that could not be kept, twice as long the next time."""
MOST_RETRY_SECONDS: Final = 600.0
FETCH_SECONDS: Final = 5.0
"""When to ask again for files that could not be fetched."""
TROUBLE: Final = "snapshots"
NEARLY_FULL: Final = "snapshots_nearly_full"
UNKEPT: Final = "snapshots_unkept"
BROUGHT: Final = "files_brought"
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
        self._is_tidied = snapshots.travelling is None
        """What another gateway has left half done is removed."""
        self._wait_seconds = TURN_WAITS_SECONDS
        self._is_touched = False
        """Somebody else than the agent has changed files since the last snapshot."""
        self.are_here = snapshots.travelling is None
        """Its newest files are on this disk; False: it is not known yet."""
        self._is_cut = False
        """Its last turn ended with the gateway that ran it."""
        self._retry: asyncio.TimerHandle | None = None
        self._retry_seconds = RETRY_SECONDS

    @property
    def _key(self) -> str:
        return self._record.key

    def are_new(self) -> None:
        """The session was made here a moment ago: nobody else has any of its files."""
        self.are_here = True

    async def bring(self) -> None:
        """Has its files on this disk, if it was at another gateway; called before anybody changes them, or
        looks at them on its behalf. Raises FilesNotHere.
        """
        if self.are_here:
            return
        record = self._record.kept
        try:
            brought = await self._snapshots.bring(record.key, record.uid, is_used=True)
        except OSError as error:
            raise _not_here(error) from error
        self.are_here = True
        if brought is not None:
            self._log.append(_brought(brought, is_cut=self._is_cut))
        self._is_cut = False

    def cut(self) -> None:
        """A gateway ended in the middle of a turn: what that changed may be nowhere else."""
        self._is_cut = True

    def touched(self) -> None:
        """A person or the gateway changed files between turns: the next turn's changes are not theirs."""
        self._is_touched = True

    def placed(self) -> None:
        """A repository is put there: what its first turn changes cannot be told before all of it was read."""
        self._is_touched, self._wait_seconds = True, PLACED_SECONDS

    def changed(self) -> None:
        """A person has changed files, which may be wanted elsewhere before the next turn ends."""
        if self._snapshots.travelling is not None:
            self._soon(self._take())

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
        self._soon(self._take_last())

    async def finish(self) -> None:
        """Waits until nothing is under way."""
        self._cancel_retry()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_SECONDS)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._cancel_retry()  # the last one may have failed, too

    def stop(self) -> None:
        """Nothing more is kept: the session is deleted."""
        self._cancel_retry()
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

    async def _take_last(self) -> None:
        await self._take()
        if not self._is_tidied and self.are_here:
            self._is_tidied = True
            await self._snapshots.tidy(self._key)

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
        if taken.unkept:
            self._try_again(taken.unkept)
            return
        self._cancel_retry()
        self._retry_seconds = RETRY_SECONDS
        self._told.discard(UNKEPT)
        if taken.trouble:
            words = f"{taken.trouble} This conversation's files cannot be taken back for now."
            if self._snapshots.travelling is not None:
                words += " If it goes on at another gateway, they are those of an earlier turn."
            self._tell_once(TROUBLE, words, why=taken.trouble)
        elif taken.left_out:
            count = "1 file is" if taken.left_out == 1 else f"{taken.left_out} files are"
            words = f"{count} too large for snapshots: undo and forks leave such files out."
            self._tell_once(TOO_LARGE, words, files=taken.left_out)

        elif taken.full >= NEARLY:
            part = f"{min(99, int(taken.full * 100))}"
            words = (
                f"The files of this conversation take {part} % of what can be kept of them. Past that "
                "nothing new is kept, and it is lost if the conversation goes on at another gateway. "
                "Packages, caches and what .gitignore names do not count."
            )
            self._tell_once(NEARLY_FULL, words, percent=part)
        elif not taken.full:
            self._told.discard(NEARLY_FULL)

    def _try_again(self, why: str) -> None:
        words = (
            f"The newest files of this conversation could not be kept: {why}. That is tried again; until it "
            "is done, they are lost if the conversation goes on at another gateway."
        )
        self._tell_once(UNKEPT, words, why=why)
        self._cancel_retry()
        if not self._is_stopped:
            loop = asyncio.get_running_loop()
            self._retry = loop.call_later(self._retry_seconds, lambda: self._soon(self._take()))
            self._retry_seconds = min(2 * self._retry_seconds, MOST_RETRY_SECONDS)

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _tell_once(self, code: str, words: str, **values: str | int) -> None:
        if code not in self._told:
            self._told.add(code)
            self._log.append(ev.Notice(code, "info", code, words, values=values))


async def brought_to_read(snapshots: Snapshots, record: SessionRecord) -> None:
    """Has the newest files of a session on this disk, where nobody changes them. Raises FilesNotHere."""
    try:
        await snapshots.bring(record.key, record.uid, is_used=False)
    except OSError as error:
        raise _not_here(error) from error


def _not_here(error: OSError) -> FilesNotHere:
    words = f"{FilesNotHere().message} {error.strerror or error}."
    return FilesNotHere(words, retry_after_seconds=FETCH_SECONDS)


def _brought(brought: Brought, *, is_cut: bool) -> ev.Notice:
    """What its people are told when its files were put on this disk."""
    words = ["This conversation goes on at another gateway, with the files of its last snapshot."]
    if brought.is_older:
        words[0] = (
            "This conversation goes on at another gateway, with the files of an earlier turn: those of the "
            "last one were not kept."
        )
    if is_cut:
        words.append("What the turn that was cut had changed in them is lost.")
    if brought.missing:
        words.append(f"{_count(brought.missing)} too large to be kept and not among them.")
    if brought.lost:
        words.append(f"{_count(brought.lost)} damaged where they were kept, and lost.")
    words.append("Packages and caches that can be made again were left behind.")
    is_whole = not (is_cut or brought.is_older or brought.missing or brought.lost)
    values: dict[str, str | int] = {"files": brought.files, "missing": brought.missing, "lost": brought.lost}
    if brought.is_older:
        values["kind"] = "older"
    return ev.Notice(BROUGHT, "info" if is_whole else "warning", BROUGHT, " ".join(words), values=values)


def _count(files: int) -> str:
    return "1 file was" if files == 1 else f"{files} files were"
