"""Workers as processes: what a spawner promises, and the words that all of them use.

`Spawner` is the contract: start a worker, watch it, end it and everything that it started, and prove it with
a receipt. `gateway/workers/walls.py` keeps it with the fork server and the sandbox.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from gateway.events.lifecycle import WorkerEnd
from gateway.workers.doors import DoorSockets
from gateway.workers.freezing import Freezer
from worker.spec import APPARENT_FACTOR, EndCause, Exit, Limits, Receipt, SpawnRequest

log = logging.getLogger(__name__)

PASSED_VARIABLES: Final = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""What every worker gets of the gateway's own environment; secrets are not among it."""
STDERR_KEPT_LINES: Final = 20
STDERR_LINE_CHARACTERS: Final = 500


class StartFailed(Exception):
    """A worker could not be started; the text says why, in words for the user."""


class Worker(Protocol):
    """A running worker. The pipes are raw file descriptors that the caller owns from here on."""

    pid: int
    stdin: int
    stdout: int
    cpu_file: str
    """In which the kernel counts its CPU time; empty if it does not."""
    doors: DoorSockets | None
    """Of its own network, if it has one that leads to the gateway."""
    freezer: Freezer
    """Stops it where it is."""

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

    def charged_bytes(self) -> int:
        """The same, quickly: what its control group counts, else shared pages in full."""

    def begin_turn(self) -> None:
        """From here on its CPU time is that of a new turn."""

    def end_turn(self) -> None:
        """From here on its CPU time is counted for no turn."""

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


_MEGABYTE: Final = 1_000_000


_SETTINGS: Final[dict[EndCause, str]] = {
    "memory": "memory_bytes",
    "processes": "processes",
    "disk": "disk_bytes",
    "apparent": "disk_bytes",
    "files": "files",
    "file_size": "file_bytes",
    "cpu": "cpu_seconds",
    "turn_cpu": "turn_cpu_seconds",
}
"""The limit that was passed → its name in the configuration."""


def why_ended(
    end: Exit, limits: Limits, raised_by: Callable[[str], str] = lambda _setting: ""
) -> tuple[WorkerEnd, str] | None:
    """The words for an end that was not the agent's own doing; None if it was. `raised_by`: a limit's name →
    a sentence about who can raise it.
    """
    sizes = {
        "memory": limits.memory_bytes,
        "disk": limits.disk_bytes,
        "apparent": limits.apparent_bytes,
        "file_size": limits.file_bytes,
    }
    megabytes = f"{sizes.get(end.cause, 0) // _MEGABYTE:,} MB"
    words = {
        "memory": f"The agent used more memory than the {megabytes} it may, and was ended.",
        "machine_memory": "The machine ran out of memory, and the agent was ended.",
        "processes": f"The agent was refused more than its {limits.processes} processes, and ended.",
        "disk": f"The session's files took more than the {megabytes} they may, and the agent was ended.",
        "apparent": (
            f"The sizes of the session's files add up to more than the {megabytes} they may, holes included "
            f"({APPARENT_FACTOR} times the {limits.disk_bytes // _MEGABYTE:,} MB they may take on the disk), "
            "and the agent was ended."
        ),
        "files": f"The session has more than the {limits.files:,} files it may, and the agent was ended.",
        "file_size": f"The agent wrote a file larger than the {megabytes} it may, and was ended.",
        "cpu": f"The agent used more than the {limits.cpu_seconds} seconds of CPU it may, and was ended.",
        "turn_cpu": f"The agent used more than the {limits.turn_cpu_seconds} seconds of CPU that one answer "
        "may take, or used them after it, and was ended.",
    }
    if end.cause == "forkserver_lost":
        lost = "The fork server ended, and every agent with it; the next message starts a new one."
        return WorkerEnd.FORKSERVER_LOST, lost
    if end.cause == "lease":
        return WorkerEnd.LEASE_LOST, (
            "The gateway stood still, or was cut off from its store, for so long that the agent was ended. "
            "Send the message again."
        )
    if not end.cause:
        return None
    setting = _SETTINGS.get(end.cause, "")
    advice = raised_by(setting) if setting else ""
    return WorkerEnd.LIMIT_EXCEEDED, f"{words[end.cause]} {advice}".strip()


def base_environment(home: str) -> dict[str, str]:
    """What every worker's environment begins with."""
    passed = {name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **passed, "HOME": home, "TMPDIR": home}
