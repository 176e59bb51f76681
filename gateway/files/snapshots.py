"""The snapshots of sessions, for the loop: takes them, shows what a turn changed, undoes, fills a fork.

All work is done in threads of their own. One thing at a time is done for a session.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pathlib
import time
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal, TypeVar
from weakref import WeakValueDictionary

from msgspec import Struct
from msgspec.structs import replace

from gateway.config.files import FilesConfig
from gateway.errors import FilesNotRestored, NoSnapshot
from gateway.files.beneath import Folder
from gateway.files.blobs import Blobs
from gateway.files.manifest import WORK, Change, Entry, FilesManifest, changes, packed
from gateway.files.putting_back import PutBack, PuttingBack
from gateway.files.taking import STEPS, Taken, Taker, Taking
from gateway.files.travelling import TravellingBlobs
from gateway.files.workspaces_given import keep_for_fork, put_given
from gateway.telemetry.metrics import Metrics
from gateway.workers.workspace import Workspaces

log = logging.getLogger(__name__)

STALE_SECONDS: Final = 300.0
"""How often files are looked for that are of no use here any more."""
ABANDONED_SECONDS: Final = 6 * 3600.0
"""After so long what is kept of a session that is not stored is removed: it is not one that is being made. No
copy of files for a fork takes so long.
"""
THREADS: Final = 3
AT_ONCE: Final = 2
"""Of the threads, all but one work for sessions at large; one is there for those that start."""
TEXT_BYTES: Final = 256 * 1024
"""A longer text is not shown before and after."""
TEXTS_BYTES: Final = 2 * 1024 * 1024
"""All texts of one turn together; those after that are not shown."""
MOST_CHANGES: Final = 1_000
NOT_KEPT: Final = "There is no snapshot of the files of this moment."

T = TypeVar("T")


class FileChange(Struct, frozen=True):
    """A file that a turn changed. A text is null if it is too long or no text, or if there is none."""

    path: str
    change: str
    """`added`, `changed` or `removed`."""
    size_before: int | None
    size_after: int | None
    binary: bool
    before: str | None
    after: str | None


class TurnChanges(Struct, frozen=True):
    """What a turn changed in the working directory, by name."""

    turn: int
    files: list[FileChange]
    has_more: bool = False
    is_mixed: bool = False
    """The next turn began before all was read: some of its changes may be among these."""


class Undone(Struct, frozen=True):
    """What came of putting files back."""

    files: int
    failed: list[str]
    """Names that could not be put back."""
    seq: int = 0
    """That of the event that says so."""


class Filled(Struct, frozen=True):
    """Which files a fork got: `snapshot` those of the moment, `now` those of now, `none`: there were none.
    `missing` counts files that snapshots leave out because of their size.
    """

    files: Literal["snapshot", "now", "none"]
    missing: int = 0
    is_mixed: bool = False


class Brought(Struct, frozen=True):
    """What came of putting a session's files on this disk."""

    files: int = 0
    missing: int = 0
    """Files that snapshots leave out because of their size."""
    lost: int = 0
    """Files whose contents are damaged, or gone."""
    is_older: bool = False
    """They are not those of the newest snapshot: of that nothing is known, or it cannot be read."""


class Snapshots:
    """See the module."""

    def __init__(
        self,
        config: Callable[[], FilesConfig],
        *,
        blobs: Blobs,
        workspaces: Workspaces,
        metrics: Metrics,
        wall_ms: Callable[[], int],
    ) -> None:
        self._config = config
        self._blobs = blobs
        self.travelling = blobs if isinstance(blobs, TravellingBlobs) else None
        """If sessions find their files at whichever gateway they go on."""
        self._taker = Taker(blobs, travels=self.travelling is not None)
        self._workspaces = workspaces
        self._metrics = metrics
        self._wall_ms = wall_ms
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._taking: dict[str, Taking] = {}
        self._gone: set[str] = set()
        """Sessions with files here that were not stored when that was last looked at."""
        self._abandoned: dict[str, float] = {}
        """Sessions that are not stored and have something somewhere, and since when that is known."""
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="snapshots")
        self._places = asyncio.Semaphore(AT_ONCE)

    @property
    def is_on(self) -> bool:
        """True if snapshots are taken."""
        return self._config().snapshots

    async def open(self) -> None:
        """A place for contents that is not there now is said, and may come later. Raises OSError."""
        if self.travelling is None:
            return
        self.travelling.open()
        try:
            await self._in_thread(self.travelling.check)
        except OSError as error:
            log.error("the files of sessions cannot be kept for other gateways: %s", error)

    async def aclose(self) -> None:
        """Ends the threads, after what they are doing."""
        await asyncio.to_thread(self._threads.shutdown)
        if self.travelling is not None:
            await asyncio.to_thread(self.travelling.close)

    @contextlib.asynccontextmanager
    async def _only(self, key: str) -> AsyncIterator[None]:
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        async with lock:
            yield

    async def _in_thread(self, act: Callable[[], T], *, is_first: bool = False) -> T:
        """Not given up half way: what a thread writes, it writes to its end. `is_first` goes before what
        waits for a thread, and finds one that no other work takes.
        """
        async with contextlib.nullcontext() if is_first else self._places:
            work = asyncio.get_running_loop().run_in_executor(self._threads, act)
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                await asyncio.wait([work])
                raise

    def _root(self, key: str) -> pathlib.Path:
        return self._workspaces.path(key)

    # -- taking -----------------------------------------------------------------------------------------

    async def take(
        self, key: str, uid: int | None, *, seq: int, turn_id: str = "", is_first: bool = False
    ) -> Taken | None:
        """Takes a snapshot of the files as they are now: of the end of a turn, or between turns; `is_first`:
        before a turn that waits for it. None if snapshots are off, or if it failed for a reason that the log
        tells.
        """
        if not self.is_on:
            return None
        async with self._only(key):
            return await self._take(key, uid, seq=seq, turn_id=turn_id, is_first=is_first)

    async def _take(
        self, key: str, uid: int | None, *, seq: int, turn_id: str = "", is_first: bool = False
    ) -> Taken | None:
        worker_uid = self._workspaces.worker_uid(key, uid)
        taking = self._taking[key] = Taking(key, worker_uid, seq, turn_id, self._wall_ms())
        root, config = self._root(key), self._config()
        try:
            with self._metrics.snapshot_seconds.time():
                taken = await self._in_thread(lambda: self._taken(taking, root, config), is_first=is_first)
        except OSError as error:
            log.error("session %s: no snapshot of its files: %s", key, error)
            self._metrics.snapshots.labels("failed").inc()
            words = error.strerror or str(error)
            return Taken(seq=seq, turn_id=turn_id, unkept=words) if self.travelling is not None else None
        finally:
            self._taking.pop(key, None)
        if taken is None:
            return None
        outcome = "failed" if taken.trouble else "taken" if taken.is_written else "unchanged"
        self._metrics.snapshots.labels(outcome).inc()
        return taken

    def _taken(self, taking: Taking, root: pathlib.Path, config: FilesConfig) -> Taken | None:
        """None if the files on this disk are not the session's newest."""
        travelling = self.travelling
        if travelling is not None and not travelling.is_current(taking.key, travelling.stand(taking.key)):
            return None
        return self._taker.take(taking, root, config)

    # -- coming from elsewhere --------------------------------------------------------------------------

    async def bring(self, key: str, uid: int | None, *, is_used: bool) -> Brought | None:
        """Has the newest files of a session on this disk, in the place of older ones: what it took, or None
        if they were there. `is_used`: a worker or a person will change them. Raises OSError, in words.
        """
        if self.travelling is None or not self.is_on:
            return None
        async with self._only(key):
            return await self._in_thread(lambda: self._bring(key, uid, is_used=is_used), is_first=is_used)

    def _bring(self, key: str, uid: int | None, *, is_used: bool) -> Brought | None:
        travelling, brought = self.travelling, None
        assert travelling is not None  # noqa: S101 - see `bring`
        stand = travelling.stand(key)
        is_there = self._root(key).is_dir() or stand.place < 0
        if not (is_there and travelling.is_current(key, stand)):
            travelling.forget(key)
            began = time.monotonic()
            brought = self._put_there(key, uid, stand.place)
            travelling.arrived(key, stand)
            self._metrics.files_brought.observe(time.monotonic() - began)
        if is_used:
            travelling.use(key, stand)
        return brought

    def _put_there(self, key: str, uid: int | None, place: int) -> Brought | None:
        """None if nothing is kept: what is here is all there is."""
        newest, manifest = self._taker.manifest(key, place), self._taker.newest(key, is_good=True)
        if manifest is None:
            return None
        worker_uid, lost = self._workspaces.worker_uid(key, uid), list[bytes]()
        try:
            root = self._workspaces.begin_arrival(key, worker_uid)
            with Folder(root) as folder:
                putting = PuttingBack(folder, self._blobs, key, worker_uid)
                missing = putting.fill(manifest.entries, lost=lost)
            put_given(root, manifest.given)
            self._workspaces.end_arrival(key)
        except OSError:
            with contextlib.suppress(OSError):
                self._workspaces.give_up_arrival(key)
            raise
        files = sum(entry.kind != "folder" for entry in manifest.entries)
        is_older = newest is None or bool(newest.trouble)
        return Brought(files - missing - len(lost), missing, len(lost), is_older)

    async def clear_stale_for_ever(self) -> None:
        """The same, every few minutes."""
        while True:
            await asyncio.sleep(STALE_SECONDS)
            try:
                if cleared := await self.clear_stale():
                    log.info("the files of %d sessions that went elsewhere were removed here", cleared)
                if swept := await self.sweep():
                    log.info("the snapshots of %d sessions that are not stored any more were removed", swept)
            except OSError as error:
                log.warning("files of sessions that went elsewhere are not looked for: %s", error)

    async def clear_stale(self) -> int:
        """Removes directories of sessions that are not stored any more, or whose files were used elsewhere
        since: how many. Raises OSError.
        """
        travelling = self.travelling
        if travelling is None:
            return 0
        keys = await self._in_thread(self._workspaces.keys)
        gone = await self._in_thread(lambda: travelling.gone(keys)) - set(self._workspaces.expected())
        stale = await self._in_thread(lambda: travelling.held_elsewhere(keys))
        for key in gone & self._gone:  # twice: one that is being made is stored by then
            await self._workspaces.remove(key)
            travelling.notes.remove(key)
            self._workspaces.session_gone(key, None)
        gone, self._gone = gone & self._gone, gone - self._gone
        for key in stale - gone:
            async with self._only(key):
                await self._in_thread(lambda key=key: self._clear(key))  # type: ignore[misc]
        return len(stale | gone)

    async def sweep(self) -> int:
        """Removes what is kept of sessions that were deleted, or never stored, when nobody could remove it: a
        gateway had died, or the place was away. How many. Raises OSError.
        """
        travelling = self.travelling
        if travelling is None:
            return 0
        now, found = time.monotonic(), await self._in_thread(travelling.abandoned)
        self._abandoned = {key: self._abandoned.get(key, now) for key in found}
        old = [key for key, since in self._abandoned.items() if now - since >= ABANDONED_SECONDS]
        for key in old:
            async with self._only(key):
                await self._in_thread(lambda key=key: travelling.remove(key))  # type: ignore[misc]
        return len(old)

    async def tidy(self, key: str) -> None:
        """Removes contents that no snapshot of a session needs, which this gateway has: one that died had put
        them there, and not written its manifest. What cannot be removed is logged.
        """
        async with self._only(key):
            try:
                await self._in_thread(lambda: self._taker.tidy(key))
            except OSError as error:
                log.warning("session %s: old contents of its snapshots stay: %s", key, error)

    def _clear(self, key: str) -> None:
        travelling = self.travelling
        if travelling is None or travelling.is_current(key, travelling.stand(key)):
            return
        travelling.notes.remove(key)
        self._workspaces.clear(key)

    async def keep_tree(self, key: str, path: pathlib.Path) -> None:
        """Keeps the contents of a workspace's tree, once for all sessions that are given it: their first
        snapshot reads none of them. If that fails, each reads for itself.
        """
        if not self.is_on:
            return
        taking = self._taking[key] = Taking(key, None, 0, "", self._wall_ms())
        async with self._only(key):
            try:
                await self._in_thread(lambda: self._keep_tree(taking, path))
            except OSError as error:
                log.warning("%s: the contents of a workspace are not kept for snapshots: %s", key, error)
            finally:
                self._taking.pop(key, None)

    def _keep_tree(self, taking: Taking, path: pathlib.Path) -> None:
        if self._taker.newest(taking.key) is None and not taking.is_given_up:
            taken = self._taker.take(taking, path, self._config())
            if taken.trouble and not self._taker.was_too_large(taking.key):
                self._blobs.remove(taking.key)  # a full disk, say: it is tried again with the next tree

    async def forget_trees(self, prefix: str, *, kept: Collection[str] = ()) -> None:
        """Removes the contents of the trees that begin so, but for those that are kept."""
        for key in await self._in_thread(lambda: self._blobs.keys(prefix)):
            if key not in kept:
                await self.remove(key)

    def disturb(self, key: str) -> None:
        """The next turn begins: a snapshot that is being taken is not of one moment any more."""
        if (taking := self._taking.get(key)) is not None:
            taking.is_disturbed = True

    def give_up(self, key: str) -> None:
        """What is being taken is of no use any more: the session is being erased, or the tree replaced."""
        if (taking := self._taking.get(key)) is not None:
            taking.is_given_up = True

    async def settled(self, key: str, *, seconds: float) -> None:
        """Waits until nothing is being done for a session, but not for longer than this."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._only(key):
                pass

    # -- showing ----------------------------------------------------------------------------------------

    async def changes(self, key: str, turn: int) -> TurnChanges:
        """What the turn changed whose end has this number. Raises NoSnapshot."""
        async with self._only(key):
            return await self._in_thread(lambda: self._changes(key, turn))

    def _changes(self, key: str, turn: int) -> TurnChanges:
        before = self._taker.before(key, turn)
        after = self._taker.manifest(key, turn * STEPS)
        if before is None:
            raise NoSnapshot(NOT_KEPT)
        if after is None:
            return TurnChanges(turn, [], is_mixed=before.is_mixed)
        if after.trouble:
            raise NoSnapshot(after.trouble)
        found = changes(before.below(WORK), after.below(WORK))
        shown, left = [], TEXTS_BYTES
        for change in found[:MOST_CHANGES]:
            one = self._shown(key, change, left)
            left -= len(one.before or "") + len(one.after or "")
            shown.append(one)
        return TurnChanges(turn, shown, len(found) > MOST_CHANGES, before.is_mixed or after.is_mixed)

    def _shown(self, key: str, change: Change, left: int) -> FileChange:
        before, after = self._content(key, change.before, left), self._content(key, change.after, left)
        is_binary = any(isinstance(one, bytes) for one in (before, after))
        return FileChange(
            change.path.removeprefix(WORK + b"/").decode("utf-8", "replace"),
            change.kind,
            change.before.size if change.before is not None else None,
            change.after.size if change.after is not None else None,
            is_binary,
            None if is_binary or not isinstance(before, str) else before,
            None if is_binary or not isinstance(after, str) else after,
        )

    def _content(self, key: str, entry: Entry | None, left: int) -> str | bytes | None:
        """The text; bytes if it is none; None if it is too long, or not kept."""
        if entry is None:
            return None
        if entry.kind == "link":
            return entry.target.decode("utf-8", "replace")
        if not entry.digest or entry.size > min(TEXT_BYTES, left):
            return None
        try:
            data = b"".join(self._blobs.get(key, entry.digest))
            return data if b"\0" in data else data.decode()
        except UnicodeDecodeError:
            return data
        except (OSError, ValueError):
            return None

    # -- putting back -----------------------------------------------------------------------------------

    async def undo(self, key: str, uid: int | None, *, at_seq: int, seq: int) -> Undone:
        """Makes the working directory what it was at a moment, after a snapshot of what it is now (`seq`: the
        last number of the log). Raises NoSnapshot, FilesNotRestored; then nothing has changed.
        """
        if not self.is_on:
            raise NoSnapshot("Snapshots are switched off here.")
        async with self._only(key):
            taken = await self._take(key, uid, seq=seq)
            if taken is None or taken.trouble or taken.unkept:
                why = "" if taken is None else taken.trouble or f"{taken.unkept}."
                raise FilesNotRestored(
                    f"Nothing was changed, because the files of now could not be kept. {why}".rstrip()
                )
            try:
                return await self._in_thread(lambda: self._undo(key, uid, at_seq))
            except (OSError, PutBack) as error:
                raise FilesNotRestored(f"Nothing was changed: {error}.") from error

    def _undo(self, key: str, uid: int | None, at_seq: int) -> Undone:
        target = self._target(key, at_seq + 1)
        now = self._taker.newest(key, is_good=True)
        if target is None or now is None:
            raise NoSnapshot(NOT_KEPT)
        before, after = target.below(WORK), now.below(WORK)
        with Folder(self._root(key)) as folder:
            putting = PuttingBack(folder, self._blobs, key, self._workspaces.worker_uid(key, uid))
            files, failed = putting.undo(before, after, WORK)
        shown = [path.removeprefix(WORK + b"/").decode("utf-8", "replace") for path in failed]
        return Undone(files, shown[:MOST_CHANGES])

    def _target(self, key: str, before: int | None) -> FilesManifest | None:
        """The files of the moment below this number; None if they are not kept. Raises NoSnapshot if it is
        known why.
        """
        target = self._taker.newest(key, before=before)
        if target is not None and target.trouble:
            raise NoSnapshot(target.trouble)
        return self._taker.before(key, before) if target is None and before is not None else target

    # -- forks ------------------------------------------------------------------------------------------

    async def fill(
        self,
        source: str,
        target: str,
        *,
        uids: tuple[int | None, int | None],
        before: int | None,
        seq: int,
        is_beginning: bool = False,
    ) -> Filled:
        """Gives a new session the files that another had below a number of its log (None: the last it had),
        with the snapshots up to there; its log begins after `seq`. `uids`: theirs. Raises OSError; then
        remove what is there.
        """
        async with self._only(source):
            return await self._in_thread(
                lambda: self._fill(
                    source, target, uids=uids, before=before, seq=seq, is_beginning=is_beginning
                )
            )

    def _fill(
        self,
        source: str,
        target: str,
        *,
        uids: tuple[int | None, int | None],
        before: int | None,
        seq: int,
        is_beginning: bool = False,
    ) -> Filled:
        child_uid = self._workspaces.worker_uid(target, uids[1])
        if self.travelling is not None and self.is_on:
            self._bring(source, uids[0], is_used=False)
        if not self._root(source).is_dir():
            return Filled("none")
        self._workspaces.make(target, child_uid)
        try:
            manifest = self._target(source, before)
        except NoSnapshot:
            manifest = None
        if manifest is None and is_beginning and self.is_on:
            return Filled("none")  # there was nothing when the first turn began
        is_kept = manifest is not None
        if manifest is None:
            manifest = self._now(source, target, uids[0], seq)
        else:
            self._share(source, target, manifest, seq)
        keep_for_fork(self._root(source), self._root(target))
        with Folder(self._root(target)) as folder:
            missing = PuttingBack(folder, self._blobs, target, child_uid).fill(manifest.entries)
        return Filled("snapshot" if is_kept else "now", missing, manifest.is_mixed)

    def _now(self, source: str, target: str, uid: int | None, seq: int) -> FilesManifest:
        """The files as they are, kept as the first snapshot of the new session."""
        taking = Taking(target, self._workspaces.worker_uid(source, uid), seq, "", self._wall_ms())
        taken = self._taker.take(taking, self._root(source), self._config())
        manifest = self._taker.newest(target)
        if taken.trouble:
            raise OSError(0, taken.trouble)
        return manifest or FilesManifest(seq=seq)

    def _share(self, source: str, target: str, manifest: FilesManifest, seq: int) -> None:
        """The snapshots before, which the new session's own log tells of, and this one as the last."""
        places = [place for place in self._blobs.places(source) if place <= seq * STEPS]
        found = [self._taker.manifest(source, place) for place in places]
        digests = manifest.digests.union(*(one.digests for one in found if one is not None))
        self._blobs.share(source, target, places, digests)
        last = replace(manifest, seq=seq, turn_id="")
        self._blobs.put_manifest(target, (seq + 1) * STEPS - 1, packed(last))

    async def remove(self, key: str) -> None:
        """Removes all snapshots of a session. What cannot be removed is logged."""
        async with self._only(key):
            try:
                self._taker.forget(key)
                await self._in_thread(lambda: self._blobs.remove(key))
            except OSError as error:
                log.error("the snapshots of session %s could not all be removed: %s", key, error)
