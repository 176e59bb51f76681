"""A session's files: its HOME and its working directory, shared with no other session, kept until it is
purged.

Below the data directory, `sessions/KEY/home` and `sessions/KEY/work`, mode 0700, owned by the session's own
uid where the gateway runs as root. Directories are made when the first worker needs them: a parked session
costs no inode. The first worker of a new session starts while the session is being stored: until it is, its
key is noted in `sessions.new`, so that the next gateway finds what is left of one that never was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pathlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from gateway.config.tables import WorkersConfig
from gateway.workers import trees

log = logging.getLogger(__name__)

COMING: Final = ".coming"
"""Ends the name of a directory whose files are on their way."""
THREADS: Final = 2
"""Of their own, so that a session with a million files holds up nothing but the removal of another one."""


class Workspaces:
    """Makes and removes the directories of sessions, and hands out uids."""

    def __init__(
        self, data_path: pathlib.Path, workers: WorkersConfig, *, has_own_uids: bool = False
    ) -> None:
        """`has_own_uids`: a session has another uid on each machine that it comes to, whatever is stored."""
        self._root = data_path / "sessions"
        self._new = data_path / "sessions.new"
        self._workers = workers
        self._next_uid = 0
        self._taken: set[int] = set()
        self.has_own_uids = has_own_uids
        self._own: dict[str, int] = {}
        """The uids that sessions have here, by their keys."""
        self.has_uids = os.geteuid() == 0
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="files")
        self._making = threading.Lock()
        """A worker that starts and uploads in threads may make the directories of one session at once."""

    def open(self) -> None:
        """Makes the root. Raises OSError."""
        self._root.mkdir(parents=True, exist_ok=True)
        for path in (self._root.parent, self._root) if self.has_uids else (self._root,):
            path.chmod(0o711)  # a session's own uid passes through, and lists nothing
        self._new.mkdir(mode=0o700, exist_ok=True)
        for path in self._root.glob(f"*{COMING}"):
            trees.remove(path)
        if self.has_own_uids and self.has_uids:
            self._learn_uids()

    def _learn_uids(self) -> None:
        """The owner of a session's files says which uid it has here."""
        for entry in os.scandir(self._root):
            with contextlib.suppress(FileNotFoundError):
                uid = entry.stat(follow_symlinks=False).st_uid
                if self._is_to_hand_out(uid):
                    self._own[entry.name] = uid
        self._taken |= set(self._own.values())

    def _is_to_hand_out(self, uid: int) -> bool:
        return self._workers.first_uid <= uid < self._workers.first_uid + self._workers.uid_count

    def expect(self, key: str) -> None:
        """Notes a session that is about to be stored. On a full disk it is not noted, nor stored."""
        with contextlib.suppress(OSError):
            (self._new / key).touch()

    def stored(self, key: str) -> None:
        """It is stored, or all that was of it is erased."""
        with contextlib.suppress(OSError):
            (self._new / key).unlink()

    def expected(self) -> list[str]:
        """The keys of sessions that were about to be stored when the last gateway ended."""
        return os.listdir(self._new)

    def path(self, key: str) -> pathlib.Path:
        """The directory of a session."""
        return self._root / key

    def home(self, key: str) -> str:
        """The session's HOME."""
        return str(self._root / key / "home")

    def work(self, key: str) -> str:
        """The session's working directory."""
        return str(self._root / key / "work")

    def make(self, key: str, uid: int | None) -> None:
        """Makes both directories where they are not there yet. Raises OSError (a full disk, say). Callable
        from any thread: when it returns they are there and belong to the session.
        """
        with self._making:
            for path in (self._root / key, self._root / key / "home", self._root / key / "work"):
                if not path.is_dir():
                    path.mkdir(mode=0o700)
                if uid is not None:
                    _hand_over(path, uid)

    def keys(self) -> list[str]:
        """Of sessions that have files here."""
        return [name for name in os.listdir(self._root) if not name.endswith(COMING)]

    def clear(self, key: str) -> None:
        """Erases the files of a session that has gone elsewhere. Raises OSError."""
        trees.remove(self._root / key)
        self.session_gone(key, None)

    def begin_arrival(self, key: str, uid: int | None) -> pathlib.Path:
        """An empty directory like that of a session, which `end_arrival` puts in its place. Raises
        OSError.
        """
        trees.remove(self._root / f"{key}{COMING}")
        self.make(f"{key}{COMING}", uid)
        return self._root / f"{key}{COMING}"

    def end_arrival(self, key: str) -> None:
        """What arrived is the session's now; what was there before is gone. Raises OSError."""
        trees.remove(self._root / key)
        (self._root / f"{key}{COMING}").rename(self._root / key)

    def give_up_arrival(self, key: str) -> None:
        """Removes what did not arrive as a whole. Raises OSError."""
        trees.remove(self._root / f"{key}{COMING}")

    async def give(self, key: str, uid: int) -> None:
        """Makes a uid the owner of a session's files, following no link out of them. Raises OSError."""
        if not (self._root / key).is_dir():
            return  # made when the first worker needs them
        await self._in_thread(trees.give, self._root / key, uid)

    async def remove(self, key: str) -> None:
        """Erases both, following no link out of them. Whatever cannot be erased is logged."""
        try:
            await self._in_thread(trees.remove, self._root / key)
        except OSError as error:
            log.error("the files of session %s could not all be erased: %s", key, error)

    async def _in_thread(self, act: Callable[..., None], *arguments: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, act, *arguments)

    def take_uid(self) -> int | None:
        """A uid that no stored session has; None if the gateway is not root, or if all are taken."""
        if not self.has_uids:
            return None
        for _ in range(self._workers.uid_count):
            uid = self._workers.first_uid + self._next_uid
            self._next_uid = (self._next_uid + 1) % self._workers.uid_count
            if uid not in self._taken:
                self._taken.add(uid)
                return uid
        return None

    def settle_uid(self, key: str, uid: int | None) -> None:
        """A new session has this uid here."""
        if self.has_own_uids and uid is not None:
            self._own[key] = uid

    def worker_uid(self, key: str, uid: int | None) -> int | None:
        """The uid that a session's worker can be given here: none if the gateway is not root, whatever is
        stored. `uid` is what is stored, which another machine may have handed out.
        """
        if not self.has_uids:
            return None
        if not self.has_own_uids:
            return uid
        if key not in self._own and (taken := self.take_uid()) is not None:
            self._own[key] = taken
        return self._own.get(key)

    def is_worker_uid(self, uid: int) -> bool:
        """Whether a uid is one that workers run as: of those to hand out, or that a stored session has."""
        workers = self._workers
        is_in_range = workers.first_uid <= uid <= workers.first_uid + workers.uid_count
        return self.has_uids and (is_in_range or uid in self._taken)

    @property
    def taken_uids(self) -> set[int]:
        """Those that are not to be handed out."""
        return set(self._taken)

    def claim_uids(self, uids: set[int]) -> None:
        """Stored sessions have these uids."""
        if not self.has_own_uids:
            self._taken |= uids

    def session_gone(self, key: str, uid: int | None) -> None:
        """The session is purged, its files here are gone; `uid` is what was stored."""
        self.give_back_uid(self._own.pop(key, None) if self.has_own_uids else uid)

    def give_back_uid(self, uid: int | None) -> None:
        """Nothing belongs to this uid any more."""
        if uid is not None:
            self._taken.discard(uid)


def _hand_over(path: pathlib.Path, uid: int) -> None:
    """Gives a directory that is still the gateway's to a session; one that a gateway was killed over, too."""
    if path.lstat().st_uid != os.geteuid():
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(descriptor, uid, uid)
    finally:
        os.close(descriptor)
