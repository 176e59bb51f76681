"""Where the files of a session are, whose they are, and the threads in which they are read.

Guarantees: everything is opened beneath the session's working directory with the rights of its uid; nothing
waits for a disk on the loop; of the threads, one owner uses at most half, so that nobody's million files hold
up the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from gateway.files.beneath import Folder, Unsafe, as_user
from gateway.workers.workspace import Workspaces

P = ParamSpec("P")
T = TypeVar("T")

THREADS: Final = 4
THREADS_OF_ONE: Final = 2


class WorkFolder:
    """The working directory of one session, for a thread: `with work.opened() as folder`."""

    def __init__(self, path: str, uid: int | None) -> None:
        self._path = path
        self._uid = uid

    @contextlib.contextmanager
    def opened(self) -> Iterator[Folder | None]:
        """The folder, with the rights of the session until the end of the block; None before any file was
        made, and after the session was erased. Raises Unsafe, OSError.

        The gateway itself opens it: the folders above may be closed to the session's uid.
        """
        try:
            folder = Folder(self._path)
        except FileNotFoundError:
            yield None
            return
        with folder:
            owner = os.fstat(folder.descriptor).st_uid
            if self._uid is not None and owner != self._uid:
                raise Unsafe(errno.EPERM, "the folder belongs to somebody else", "")
            with as_user(owner):  # also of a session that has no uid of its own yet
                yield folder


class FileThreads:
    """Runs what waits for a disk."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="files out")
        self._turns: dict[str, tuple[asyncio.Semaphore, int]] = {}

    async def run(self, owner: str, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `act` answers, in a thread, when it is this owner's turn."""
        loop, turn = asyncio.get_running_loop(), contextlib.AsyncExitStack()
        await turn.enter_async_context(self._turn(owner))

        def over(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(lambda: loop.create_task(turn.aclose()))

        running = self._threads.submit(lambda: act(*args, **kwargs))
        running.add_done_callback(over)  # also of one that nobody waits for any more
        return await asyncio.wrap_future(running)

    @contextlib.asynccontextmanager
    async def _turn(self, owner: str) -> AsyncIterator[None]:
        turns, users = self._turns.get(owner, (asyncio.Semaphore(THREADS_OF_ONE), 0))
        self._turns[owner] = turns, users + 1
        try:
            async with turns:
                yield
        finally:
            turns, users = self._turns.pop(owner)
            if users > 1:
                self._turns[owner] = turns, users - 1


def work_folder(workspaces: Workspaces, key: str, uid: int | None) -> WorkFolder:
    """The working directory of the session with this key."""
    return WorkFolder(workspaces.work(key), workspaces.worker_uid(key, uid))
