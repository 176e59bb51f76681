"""What the command line does besides serving: look after sessions, and say whether all is well.

`sessions` speaks HTTP to the gateway that holds the data directory; where none does, to one that it runs
itself for the moment, so that there is one way to read and erase, not two.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable
from typing import Final

import aiohttp

from gateway.agents import AgentCatalogue
from gateway.answers import SessionSummary
from gateway.app import Gateway
from gateway.client import GatewayClient, Refused
from gateway.config import Config, WorkersConfig
from gateway.errors import GatewayError
from gateway.lock import holder, is_held
from gateway.server import listen, running
from gateway.stores.sqlite import numbered, schema_version
from gateway.walls import WalledSpawner

LOW_DISK_BYTES: Final = 512 * 1024 * 1024
"""Below this the doctor warns: a full disk takes no new message."""


def sessions(config: Config, action: str, ids: list[str], *, form: str, is_all: bool) -> int:
    """`agent-gateway sessions ls|show|export|rm`; the exit code."""
    try:
        return asyncio.run(_sessions(config, action, ids, form=form, is_all=is_all))
    except (Refused, GatewayError, aiohttp.ClientError) as error:
        print(f"agent-gateway: {error}", file=sys.stderr)
        return 1


async def _sessions(config: Config, action: str, ids: list[str], *, form: str, is_all: bool) -> int:
    async with _gateway(config) as url, GatewayClient(url) as client:
        if action == "ls":
            _print_table(await client.sessions())
            return 0
        names = [session.session_id for session in await client.sessions()] if is_all else ids
        for session_id in names:
            await _one(client, action, session_id, form=form)
    return 0


async def _one(client: GatewayClient, action: str, session_id: str, *, form: str) -> None:
    if action == "show":
        session = await client.session(session_id)
        for name in session.__struct_fields__:
            print(f"{name:15} {getattr(session, name)}")
    elif action == "export":
        async for chunk in client.export(session_id, form=form):
            sys.stdout.buffer.write(chunk)
        sys.stdout.flush()
    else:
        receipt = (await client.delete(session_id)).receipt
        print(f"{session_id}: erased; {receipt.processes} processes ended, {receipt.survivors} left")


@contextlib.asynccontextmanager
async def _gateway(config: Config) -> AsyncIterator[str]:
    """The address of the gateway that holds the data directory, or of one of our own for the moment."""
    known = holder(config.data_path)
    if known is not None and is_held(config.data_path):
        yield known.url
        return
    listener = listen("127.0.0.1", 0)
    async with running(Gateway(config), listener):
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def _print_table(found: Iterable[SessionSummary]) -> None:
    print(f"{'SESSION':32} {'STATE':12} {'AGENT':14} {'MESSAGES':>8}  {'LAST ACTIVE':24}  TITLE")
    for session in found:
        title = "".join(letter if letter.isprintable() else " " for letter in session.title or "")
        print(
            f"{session.session_id:32} {session.state:12} {session.agent:14} {session.messages:8}  "
            f"{session.last_active_at:24}  {title}"
        )


# -- doctor -----------------------------------------------------------------------------------------------


def doctor(config: Config) -> int:
    """Looks at what a gateway needs, a line each; 1 where something is wrong."""
    findings = [
        *_data_directory(config.data_path),
        *_database(config.database_path),
        *_agents(config),
        asyncio.run(_walls(config.workers)),
    ]
    for is_well, words in findings:
        print(f"{'ok  ' if is_well else 'FAIL'}  {words}")
    return 0 if all(is_well for is_well, _ in findings) else 1


def _data_directory(path: pathlib.Path) -> list[tuple[bool, str]]:
    known = next(parent for parent in (path, *path.parents) if parent.exists())
    is_writable = known.is_dir() and os.access(known, os.W_OK | os.X_OK)
    findings = [(is_writable, f"data directory {path} {'can' if is_writable else 'cannot'} be written")]
    free = shutil.disk_usage(known).free
    findings.append((free > LOW_DISK_BYTES, f"disk: {free // 1024**2} MiB free"))
    held = holder(path)
    if is_held(path):
        findings.append((True, f"in use by the gateway at {held.url}" if held else "in use by a gateway"))
    return findings


def _database(path: pathlib.Path) -> list[tuple[bool, str]]:
    newest = numbered()[-1][0]
    if not path.exists():
        return [(True, f"database {path}: none yet")]
    try:
        version = schema_version(path)
    except sqlite3.Error as error:
        return [(False, f"database {path}: {error}")]
    words = f"database {path}: schema {version}, this program's is {newest}"
    findings = [(version <= newest, words)]
    aside = sorted(path.parent.glob(f"{path.name}.damaged-*[0-9]"))
    return findings + [(False, f"a damaged database is kept as {damaged}") for damaged in aside]


async def _walls(workers: WorkersConfig) -> tuple[bool, str]:
    """Builds the walls round a real worker, as the gateway does at its start."""
    with tempfile.TemporaryDirectory() as directory:
        spawner = WalledSpawner(workers, directory=pathlib.Path(directory))
        try:
            await spawner.open()
        except OSError as error:
            return False, f"walls: {error}"
        profile, missing = spawner.profile, spawner.missing
        await spawner.close()
    why = "; ".join(f"not {stricter}: {words}" for stricter, words in missing.items())
    return profile != "none" or workers.sandbox == "none", f"walls: {profile}" + (f" ({why})" if why else "")


def _agents(config: Config) -> list[tuple[bool, str]]:
    findings = []
    for agent in AgentCatalogue(config).all():
        command = agent.argv[0]
        where = shutil.which(command)
        findings.append((where is not None, f"agent {agent.name}: {where or f'{command} is not installed'}"))
    return findings
