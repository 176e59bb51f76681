"""A pooler in front of PostgreSQL: PgBouncer, which gives a server's connection to somebody else after each
transaction. The program is the machine's, or Debian's package.

    async with pooler() as behind:
        url = behind(await server.database())
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import pathlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.debian import together
from tests.patience import within
from tests.postgres import ROLE, as_ordinary
from tests.shared import free_port

SERVER_CONNECTIONS: Final = 3
"""Fewer than those of one gateway, so that they must be shared."""
_SETTINGS: Final = """
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = {connections}
server_round_robin = 1
log_connections = 0
log_disconnections = 0
"""


def _program(place: pathlib.Path) -> str:
    """The program; Debian's is put into the place with its library, where an ordinary user may reach it.
    Skips the test if there is none, but in CI.
    """
    if (found := shutil.which("pgbouncer")) is not None:
        return found
    unpacked = together("pgbouncer", "pgbouncer", "libc-ares2")
    if unpacked is None:
        words = "no PgBouncer on this machine, and Debian's cannot be fetched"
        if os.environ.get("CI"):
            raise FileNotFoundError(words)
        pytest.skip(words)
    for file in (
        unpacked / "usr" / "sbin" / "pgbouncer",
        *unpacked.glob("usr/lib/*-linux-gnu/libcares.so.2"),
    ):
        shutil.copy(file, place / file.name)
    return str(place / "pgbouncer")


@contextlib.asynccontextmanager
async def pooler(url: str) -> AsyncIterator[Callable[[str], str]]:
    """Runs one in front of the server of a database; gives the URL of a database behind it."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as made:
        place = pathlib.Path(made)
        place.chmod(0o755)
        settings = {"server": urlsplit(url).port, "port": port, "connections": SERVER_CONNECTIONS}
        (place / "users").write_text(f'"{ROLE}" ""\n')
        (place / "ini").write_text(_SETTINGS.format(users=place / "users", **settings))
        with (place / "log").open("wb") as log:
            running = await asyncio.create_subprocess_exec(
                *(_program(place), str(place / "ini")),
                stdout=log,
                stderr=log,
                env={**os.environ, "LD_LIBRARY_PATH": str(place)},
                **as_ordinary(),
            )
        behind = functools.partial(_at, port)
        try:
            async with within(10):
                while not await _answers(behind(url)):
                    assert running.returncode is None, (place / "log").read_text()[-2000:]
                    await asyncio.sleep(0.02)
            yield behind
        finally:
            running.kill()
            await running.wait()


def _at(port: int, url: str) -> str:
    return urlsplit(url)._replace(netloc=f"{ROLE}@127.0.0.1:{port}").geturl()


async def _answers(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url, statement_cache_size=0)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    await connection.close()
    return True
