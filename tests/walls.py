"""Workers behind walls, without a gateway: `async with yard(tmp_path, "strict") as here` and then
`here.run(program)`.

`user="nobody"` lets the fork server give up root before it serves, as an ordinary user's would be: it is the
fork server that builds walls, the tests beside it may stay what they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, Literal

import msgspec

from gateway.agents import grants
from gateway.config.tables import WorkersConfig
from gateway.workers import forks
from gateway.workers.forks import ForkWorker
from gateway.workers.spawner import base_environment
from gateway.workers.walls import WalledSpawner
from tests.patience import soon, within
from worker.spec import Limits, Network, Profile, Sandbox, SpawnRequest

User = Literal["root", "nobody"]
USERS: Final[list[User]] = ["root", "nobody"] if os.geteuid() == 0 else ["nobody"]
NOBODY: Final = 61_234
"""An ordinary user: not 65534, which is also what the kernel calls a user that it does not know."""
PATIENCE_SECONDS: Final = 60
FIRST_UID: Final = 210_000
_AS_NOBODY: Final = (
    "import ctypes, os, sys; sys.path += sys.argv[3:]; import worker.forkserver.server as server; "
    f"os.setgroups([]); os.setresgid(*[{NOBODY}] * 3); os.setresuid(*[{NOBODY}] * 3); "
    "ctypes.CDLL(None).prctl(4, 1, 0, 0, 0); "
    "server.main(int(sys.argv[1]), sys.argv[2])"
)
"""The second last line: what is executed by an ordinary user is dumpable, what becomes one is not (prctl(2)).
"""


class Yard:
    """A fork server, and the directories of sessions behind one kind of walls."""

    def __init__(self, spawner: WalledSpawner, root: pathlib.Path, user: User) -> None:
        self.spawner = spawner
        self.root = root
        self.user = user
        self._count = 0

    def request(self, *argv: str, network: Network = "shared", **changes: object) -> SpawnRequest:
        """A session of its own: its directories, its uid, its command (none: the built-in agent)."""
        self._count += 1
        place = self.root / f"session-{self._count}"
        uid = FIRST_UID + self._count if self.user == "root" else None
        owner = uid if uid is not None else NOBODY if os.geteuid() == 0 else os.geteuid()
        for path in (place, place / "home", place / "work"):
            path.mkdir(mode=0o700)
            os.chown(path, owner, owner)
        home = str(place / "home")
        walls = Sandbox(network=network, readable=grants.of_command(argv, os.environ.get("PATH")))
        made = SpawnRequest(
            argv=argv,
            env=base_environment(home),
            cwd=str(place / "work"),
            home=home,
            session_key=place.name,
            uid=None if self.spawner.profile == "none" else uid,
            is_built_in=not argv,
            sandbox=walls,
            limits=Limits(),
        )
        return msgspec.structs.replace(made, **changes)

    async def spawn(self, *argv: str, **changes: object) -> Inmate:
        """A worker that runs a command."""
        return Inmate(await self.spawner.spawn(self.request(*argv, **changes)))  # type: ignore[arg-type]

    async def run(self, *argv: str, **changes: object) -> str:
        """What a command writes to stdout and stderr until it ends."""
        async with await self.spawn(*argv, **changes) as inmate:
            said = await inmate.read_all()
            return said + inmate.worker.stderr_tail()


class Inmate:
    """A worker with its pipes in hand; leaving the block ends it."""

    def __init__(self, worker: ForkWorker) -> None:
        self.worker = worker
        self.receipt = None
        os.set_blocking(worker.stdout, False)

    async def __aenter__(self) -> Inmate:
        return self

    async def __aexit__(self, *_: object) -> None:
        receipt = await self.worker.stop(grace_seconds=0)
        for fd in (self.worker.stdin, self.worker.stdout):
            with contextlib.suppress(OSError):
                os.close(fd)
        assert receipt.survivors == 0

    def send(self, data: bytes) -> None:
        """Writes to its stdin."""
        os.write(self.worker.stdin, data)

    async def read(self, until: Callable[[bytes], bool], *, seconds: float = PATIENCE_SECONDS) -> bytes:
        """Its output until a condition holds or it ends."""
        loop, data = asyncio.get_running_loop(), b""
        async with within(seconds):
            while not until(data):
                readable = loop.create_future()
                loop.add_reader(self.worker.stdout, _wake, readable)
                try:
                    await readable
                finally:
                    loop.remove_reader(self.worker.stdout)
                chunk = os.read(self.worker.stdout, 65_536)
                if not chunk:
                    break
                data += chunk
        return data

    async def read_line(self, *, seconds: float = PATIENCE_SECONDS) -> str:
        """Its first line."""
        return (await self.read(lambda data: b"\n" in data, seconds=seconds)).decode().strip()

    async def read_all(self) -> str:
        """Its output to the end."""
        said = await self.read(lambda _: False)
        await soon(asyncio.shield(self.worker.exited), PATIENCE_SECONDS)
        return said.decode("utf-8", "replace")


@contextlib.asynccontextmanager
async def yard(
    profile: Profile,
    *,
    user: User = USERS[0],
    cgroups: Literal["auto", "off"] = "auto",
    inside: Sequence[str] = (),
) -> AsyncIterator[Yard]:
    """A fork server with walls of one profile. `inside` are control groups, of version 1, that it is to be in
    from its start.
    """
    program = forks._PROGRAM
    with tempfile.TemporaryDirectory(prefix="yard-", ignore_cleanup_errors=True) as directory:
        root = pathlib.Path(directory)
        root.chmod(0o755)
        spawner = WalledSpawner(WorkersConfig(sandbox=profile, cgroups=cgroups), directory=root)
        if user == "nobody" and os.geteuid() == 0:
            forks._PROGRAM = _AS_NOBODY  # type: ignore[misc]
        entering = "".join(f"open({path + '/tasks'!r}, 'w').write('0'); " for path in inside)
        forks._PROGRAM = entering + forks._PROGRAM  # type: ignore[misc]
        try:
            await spawner._start()
            spawner.profile = profile
            spawner._tasks.start("watchdog", spawner._watchdog.run)
            yield Yard(spawner, root, user)
        finally:
            forks._PROGRAM = program  # type: ignore[misc]
            await spawner.close()


def finds(pid: int, text: str) -> bool:
    """Whether a process has these bytes in its memory."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, permissions = line.split()[:2]
            if "r" not in permissions or "[v" in line:
                continue
            start, end = (int(word, 16) for word in span.split("-"))
            with contextlib.suppress(OSError):
                memory.seek(start)
                if text.encode() in memory.read(end - start):
                    return True
    return False


def _wake(readable: asyncio.Future[None]) -> None:
    if not readable.done():
        readable.set_result(None)


PYTHON: Final = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
"""For programs in the yard: an interpreter that every user may execute."""
