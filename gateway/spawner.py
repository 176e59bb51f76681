"""Workers as processes: start one, watch it, end it and everything it started, and prove it.

`Spawner` is the contract. `PlainSpawner` starts a plain child in a process group of its own, with an
allow-listed environment, its own HOME and working directory and, where the gateway runs as root, a uid of its
own. It is no sandbox: it keeps sessions out of each other's files (by uid), not out of the machine.

Stopping is a ladder: close stdin, wait, SIGTERM the group, wait, SIGKILL everything that descends from the
worker. It is shielded, every wait is bounded, and it ends with a receipt. Processes that left the group
(setsid, double fork) are found because the gateway is their subreaper and their environment carries the
session's key.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import pathlib
import signal
import subprocess
import time
from collections import deque
from typing import Final, Protocol

import psutil

from gateway.lifecycle import WorkerEnd
from worker.spec import Exit, Limits, Receipt, SpawnRequest

log = logging.getLogger(__name__)

PASSED_VARIABLES: Final = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""What every worker gets of the gateway's own environment; secrets are not among it."""
KEY_VARIABLE: Final = "AGENT_GATEWAY_SESSION_KEY"
"""By this variable a process that left its group is still known as a session's."""
STDERR_KEPT_LINES: Final = 20
STDERR_LINE_CHARACTERS: Final = 500
KILL_WAIT_SECONDS: Final = 2.0
POLL_SECONDS: Final = 0.01
_PR_SET_CHILD_SUBREAPER: Final = 36


class StartFailed(Exception):
    """A worker could not be started; the text says why, in words for the user."""


class Worker(Protocol):
    """A running worker. The pipes are raw file descriptors that the caller owns from here on."""

    pid: int
    stdin: int
    stdout: int

    @property
    def cwd(self) -> str:
        """The working directory as the worker sees it."""

    @property
    def profile(self) -> str:
        """The walls it is behind."""

    @property
    def exited(self) -> asyncio.Future[Exit]:
        """Done when the worker's first process has ended."""

    def stderr_tail(self) -> str:
        """The last lines of its stderr, for the words of a failure."""

    def memory_bytes(self) -> int:
        """Resident memory of the worker's processes."""

    async def stop(self, *, grace_seconds: float) -> Receipt:
        """Ends the worker and everything that it started. Never raises, never takes longer than its
        bounds.
        """


class Spawner(Protocol):
    """Starts workers."""

    async def open(self) -> None:
        """Makes ready."""

    async def close(self) -> None:
        """Lets go; workers have been stopped before."""

    async def spawn(self, request: SpawnRequest) -> Worker:
        """Starts one. Raises StartFailed."""


class StderrTail:
    """Drains a worker's stderr without end and keeps its last lines."""

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop) -> None:
        self._fd = fd
        self._loop = loop
        self._lines: deque[str] = deque(maxlen=STDERR_KEPT_LINES)
        self._rest = b""
        os.set_blocking(fd, False)
        loop.add_reader(fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[:STDERR_LINE_CHARACTERS]
        for line in lines[-STDERR_KEPT_LINES:]:
            self._keep(line)

    def _keep(self, line: bytes) -> None:
        if text := line.decode("utf-8", "replace").strip():
            self._lines.append(text[:STDERR_LINE_CHARACTERS])

    def tail(self) -> str:
        self._read_rest()
        return "\n".join(self._lines)

    def _read_rest(self) -> None:
        if self._fd >= 0:
            self._read()
        if self._rest:
            self._keep(self._rest)
            self._rest = b""

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


class PlainWorker:
    """A plain child and what descends from it."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        request: SpawnRequest,
        stdin: int,
        stdout: int,
        stderr: int,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.pid = process.pid
        self.stdin = stdin
        self.stdout = stdout
        self._process = process
        self.cwd = request.cwd
        self.profile = "none"
        self._key = request.session_key
        self._stderr = StderrTail(stderr, loop)
        self._exited: asyncio.Future[Exit] = loop.create_future()
        self._pidfd = os.pidfd_open(self.pid)
        loop.add_reader(self._pidfd, self._reap)

    @property
    def exited(self) -> asyncio.Future[Exit]:
        return self._exited

    def stderr_tail(self) -> str:
        return self._stderr.tail()

    def memory_bytes(self) -> int:
        return sum(_rss(process) for process in self._family())

    def _reap(self) -> None:
        """The pidfd says that the process has ended: takes its status."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        _, status, usage = os.wait4(self.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        code = self._process.returncode
        cpu = usage.ru_utime + usage.ru_stime
        end = Exit(signal=-code, cpu_seconds=cpu) if code < 0 else Exit(code=code, cpu_seconds=cpu)
        if not self._exited.done():
            self._exited.set_result(end)

    async def stop(self, *, grace_seconds: float) -> Receipt:
        return await asyncio.shield(asyncio.create_task(self._stop(grace_seconds), name=f"stop {self.pid}"))

    async def _stop(self, grace_seconds: float) -> Receipt:
        began = time.monotonic()
        family = self._family()
        freed = sum(_rss(process) for process in family)
        if not await self._exits_within(grace_seconds):
            self._signal_group(signal.SIGTERM)
            await self._exits_within(grace_seconds)
        known = {process.pid: process for process in (*family, *self._family())}
        survivors = await self._kill_all(known)
        self._stderr.close()
        return Receipt(
            processes=max(1, len(known)),
            survivors=survivors,
            bytes_freed=freed,
            milliseconds=round((time.monotonic() - began) * 1000),
        )

    async def _exits_within(self, seconds: float) -> bool:
        await asyncio.wait([self._exited], timeout=seconds)
        return self._exited.done()

    async def _kill_all(self, known: dict[int, psutil.Process]) -> int:
        """SIGKILL until nothing is left; how many were left when the time was up."""
        deadline = time.monotonic() + KILL_WAIT_SECONDS
        while True:
            self._signal_group(signal.SIGKILL)
            for process in self._family():
                known[process.pid] = process
            left = [process for process in known.values() if _is_running(process)]
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            _reap_adopted({pid: process for pid, process in known.items() if pid != self.pid})
            if (not left and self._exited.done()) or time.monotonic() > deadline:
                return len(left)
            await asyncio.sleep(POLL_SECONDS)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _family(self) -> list[psutil.Process]:
        """The worker, its descendants, and those that left and were adopted by the gateway."""
        family: list[psutil.Process] = []
        if not self._exited.done():
            with contextlib.suppress(psutil.Error):
                leader = psutil.Process(self.pid)
                family = [leader, *leader.children(recursive=True)]
        for pid in adopted_pids():
            with contextlib.suppress(psutil.Error, OSError):
                stray = psutil.Process(pid)
                if pid != self.pid and stray.environ().get(KEY_VARIABLE) == self._key:
                    family += [stray, *stray.children(recursive=True)]
        return family


class PlainSpawner:
    """Starts workers as plain children; see the module."""

    def __init__(self) -> None:
        self._has_warned = False

    async def open(self) -> None:
        """Becomes the reaper of whatever workers leave behind."""
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    async def close(self) -> None:
        """Nothing is held between workers."""

    async def spawn(self, request: SpawnRequest) -> PlainWorker:
        """Starts one. The start itself cannot be cancelled: where the caller is, it is ended right after."""
        starting = asyncio.create_task(self._started(request), name=f"spawn {request.session_key}")
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait([starting])
            if starting.exception() is None:
                await _discard(starting.result())
            raise

    async def _started(self, request: SpawnRequest) -> PlainWorker:
        try:
            return await self._spawn(request)
        except FileNotFoundError as error:
            if error.filename == request.cwd:
                raise StartFailed("The session's working directory is gone.") from error
            raise StartFailed(f"The agent's command is not there: {request.argv[0]}") from error
        except OSError as error:
            raise StartFailed(f"The agent's command cannot be run: {error.strerror}") from error

    async def _spawn(self, request: SpawnRequest) -> PlainWorker:
        ours, theirs = [], []
        try:
            for end in (1, 0, 0):
                pipe = os.pipe()
                ours.append(pipe[end])
                theirs.append(pipe[1 - end])
            process = await asyncio.to_thread(_popen, request, self._uid_for(request), theirs)
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        return PlainWorker(process, request, *ours)

    def _uid_for(self, request: SpawnRequest) -> int | None:
        """The uid to run as, or None where that uid could not even execute the command."""
        if request.uid is None:
            return None
        closed = [path for path in (request.argv[0], *_parents(request)) if not _is_open_to_others(path)]
        if not closed:
            return request.uid
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "other users may not enter the directory of %s: workers run as the gateway's own user",
                closed[0],
            )
        return None


async def _discard(worker: PlainWorker) -> None:
    """Ends a worker that nobody waits for any more."""
    for fd in (worker.stdin, worker.stdout):
        os.close(fd)
    await worker.stop(grace_seconds=0)


def _parents(request: SpawnRequest) -> list[str]:
    """Where the session's own directories lie; they themselves belong to its uid."""
    return [os.path.dirname(os.path.dirname(path)) for path in (request.cwd, request.home)]


def _popen(request: SpawnRequest, uid: int | None, pipes: list[int]) -> subprocess.Popen[bytes]:
    """Blocks for some milliseconds; called in a thread."""
    stdin, stdout, stderr = pipes
    return subprocess.Popen(
        request.argv,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=request.cwd,
        env={**request.env, KEY_VARIABLE: request.session_key},
        start_new_session=True,
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
    )


_MEGABYTE: Final = 1_000_000


def why_ended(end: Exit, limits: Limits) -> tuple[WorkerEnd, str] | None:
    """The words for an end that was not the agent's own doing; None where it was."""
    sizes = {"memory": limits.memory_bytes, "disk": limits.disk_bytes, "file_size": limits.file_bytes}
    megabytes = f"{sizes.get(end.cause, 0) // _MEGABYTE:,} MB"
    words = {
        "memory": f"The agent used more memory than the {megabytes} it may, and was ended.",
        "disk": f"The session's files took more than the {megabytes} they may, and the agent was ended.",
        "file_size": f"The agent wrote a file larger than the {megabytes} it may, and was ended.",
        "cpu": f"The agent used more than the {limits.cpu_seconds} seconds of CPU it may, and was ended.",
    }
    if end.cause == "forkserver_lost":
        lost = "The fork server ended, and every agent with it; the next message starts a new one."
        return WorkerEnd.FORKSERVER_LOST, lost
    return (WorkerEnd.LIMIT_EXCEEDED, words[end.cause]) if end.cause else None


def base_environment(home: str) -> dict[str, str]:
    """What every worker's environment begins with."""
    passed = {name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **passed, "HOME": home, "TMPDIR": home}


def adopted_pids() -> list[int]:
    """The gateway's direct children, workers and adopted strays alike."""
    pids: list[int] = []
    for listing in pathlib.Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            pids += [int(word) for word in listing.read_text().split()]
    return pids


def _reap_adopted(known: dict[int, psutil.Process]) -> None:
    """Takes the status of dead strays, so that no zombie is left; the worker itself is reaped by its
    pidfd.
    """
    for pid in set(adopted_pids()) & known.keys():
        with contextlib.suppress(ChildProcessError, psutil.Error):
            if known[pid].status() == psutil.STATUS_ZOMBIE and known[pid].ppid() == os.getpid():
                os.waitpid(pid, os.WNOHANG)


def _is_running(process: psutil.Process) -> bool:
    """By pid and start time, so that a reused pid is not taken for the worker's."""
    with contextlib.suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _rss(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


def _is_open_to_others(command: str) -> bool:
    """Whether a user without privileges can reach and execute a command."""
    path = pathlib.Path(command)
    if not path.is_absolute():
        return True
    with contextlib.suppress(OSError):
        path = path.resolve()
        return all(parent.stat().st_mode & 0o001 for parent in (path, *path.parents))
    return False
