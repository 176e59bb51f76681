"""What the command line does besides serving: look after sessions, and say whether all is well.

`sessions` speaks HTTP to the gateway that holds the data directory; where none does, to one that it runs
itself for the moment, so that there is one way to read and erase, not two.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import pathlib
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Container,
    Coroutine,
    Iterable,
    Sequence,
)
from typing import Final

import aiohttp

from gateway.agents.catalogue import AgentCatalogue
from gateway.answers import MintedKey, SessionSummary
from gateway.api.credentials import NAME_WORDS, is_name
from gateway.app import Gateway
from gateway.cli import sizing
from gateway.client import GatewayClient, Refused
from gateway.config.tables import Config
from gateway.errors import GatewayError
from gateway.http.gate import is_subject
from gateway.maintenance import backup
from gateway.maintenance.archive import BackupFailed
from gateway.maintenance.disk import free_bytes
from gateway.maintenance.lock import holder, is_held
from gateway.server.operators_socket import address, read_token
from gateway.server.server import listen, running
from gateway.sights import OwnedSession
from gateway.stores.sqlite.file import damage
from gateway.stores.sqlite.schema import newest, schema_version
from gateway.telemetry import terminal
from gateway.workers.peer_identity import PeerIdentity
from gateway.workers.walls import WalledSpawner, counting_words
from gateway.workers.workspace import Workspaces

DRAIN_EXTRA_SECONDS: Final = 30.0
"""Beyond the turns' grace: for connections, workers and the store to close."""
DRAIN_POLL_SECONDS: Final = 0.05


class NotMade(Exception):
    """No key was made; `mistakes` say why."""

    def __init__(self, file: pathlib.Path, mistakes: list[str]) -> None:
        self.mistakes = [*(f"{file}: {words}" for words in mistakes), "no key was made"]
        super().__init__("; ".join(self.mistakes))


class NothingThere(Exception):
    """No gateway runs on the data directory, and it holds no store that a command could read."""


def sessions(
    config: Config, action: str, ids: list[str], *, form: str, is_all: bool, owner: str | None
) -> int:
    """`agent-gateway sessions ls|show|export|rm`, of an owner TENANT/SUBJECT or one's own; the exit code."""
    return _spoken(_sessions(config, action, ids, form=form, is_all=is_all, owner=owner))


def keys(config: Config, act: Callable[[GatewayClient], Awaitable[None]], *, makes_keys: bool = False) -> int:
    """Does something with keys, tenants or the configuration of the running gateway; the exit code."""
    is_absent = not is_held(config.data_path)

    async def spoken() -> int:
        async with _gateway(config) as client:
            await act(client)
        if makes_keys and is_absent:
            terminal.complain(f"no gateway runs on {config.data_path}: its next start knows the key")
        return 0

    return _spoken(spoken())


def _spoken(work: Coroutine[None, None, int]) -> int:
    try:
        return asyncio.run(work)
    except NotMade as error:
        for mistake in error.mistakes:
            terminal.complain(f"agent-gateway: {mistake}")
        return 1
    except (Refused, GatewayError, NothingThere, aiohttp.ClientError, OSError) as error:
        terminal.complain(f"agent-gateway: {error}")
        return 1


def reload_running(config: Config) -> int:
    """`agent-gateway config reload`; the exit code. It is about a gateway that runs, never one of our own."""
    if not is_held(config.data_path):
        terminal.complain(f"agent-gateway: no gateway runs on {config.data_path}: nothing to reload")
        return 1
    return keys(config, reload)


async def list_keys(client: GatewayClient) -> None:
    """Every key, a line each."""
    terminal.say(f"{'KEY':12} {'STATE':8} {'TENANT':14} {'SUBJECT':20} {'SCOPES':20} {'LAST USED':24}  NAME")
    for key in await client.keys():
        terminal.say(
            f"{key.id:12} {key.state:8} {key.tenant:14} {key.subject:20} {' '.join(key.scopes):20} "
            f"{key.last_used_at or 'never':24}  {key.name}"
        )


async def make_keys(
    client: GatewayClient, file: pathlib.Path, *, tenant: str, scopes: Sequence[str], days: float | None
) -> None:
    """A key for each name in a file: all of them and each printed, or none. Raises NotMade."""
    known = {key.name for key in await client.keys() if key.state == "good" and key.tenant == tenant}
    names = _names(file, known)
    made: list[MintedKey] = []
    try:
        for name in names:
            one = await client.mint_key(name, tenant=tenant, scopes=scopes, days=days)
            made.append(one)
        for one in made:
            terminal.say_part(f"{one.summary.name}\t{one.key}\n")
        terminal.flush()
    except BaseException:
        for one in made:
            await client.revoke_key(one.summary.id)
        raise
    terminal.complain(f"{len(made)} keys of {tenant}, for {' '.join(scopes)}; they are shown this once")


def _names(file: pathlib.Path, known: Container[str]) -> list[str]:
    """The names in a file, a name a line; empty lines count for nothing. Raises NotMade."""
    try:
        lines = file.read_text("utf-8-sig").split("\n")
    except OSError as error:
        raise NotMade(file, [error.strerror or str(error)]) from error
    except UnicodeDecodeError as error:
        raise NotMade(file, ["not text in UTF-8"]) from error
    first: dict[str, int] = {}
    mistakes = []
    for number, name in enumerate((line.strip() for line in lines), 1):
        if not name:
            continue
        if not is_name(name) or not is_subject(name):
            mistakes.append(f"line {number}: a name is {NAME_WORDS}, without ~ first: {name[:40]}")
        elif name in first:
            mistakes.append(f"line {number}: {name} is in line {first[name]} already")
        elif name in known:
            mistakes.append(f"line {number}: {name} has a key already; a new one for it: keys rotate")
        first.setdefault(name, number)
    if not first:
        mistakes.append("no name in it")
    if mistakes:
        raise NotMade(file, mistakes)
    return list(first)


def told(minted: MintedKey) -> None:
    """A new key: its text alone on standard output, everything else beside it."""
    terminal.say(minted.key)
    summary = minted.summary
    terminal.complain(
        f"of {summary.tenant}/{summary.subject}, for {' '.join(summary.scopes)}; it is shown this once"
    )


async def list_tenants(client: GatewayClient) -> None:
    """Every tenant, a line each."""
    numbers = f"{'LIVE':>5} {'STORED':>7} {'TURNS':>5} {'MESSAGES':>9} {'TOKENS':>11} {'MB':>8}"
    terminal.say(f"{'TENANT':18} {numbers}  TITLE")
    for tenant in await client.tenants():
        state = " (disabled)" if tenant.is_disabled else ""
        terminal.say(
            f"{tenant.name:18} {tenant.sessions_live:5} {tenant.sessions_stored:7} "
            f"{tenant.concurrent_turns:5} {tenant.messages:9} {tenant.tokens:11} "
            f"{tenant.stored_bytes / 1e6:8.1f}  {tenant.title}{state}"
        )


async def reload(client: GatewayClient) -> None:
    """Makes the gateway read its configuration again, and says what came of it."""
    done = await client.reload()
    terminal.say(f"changed: {', '.join(done.changed) or 'nothing'}")
    if done.needs_restart:
        terminal.say(f"after a restart: {', '.join(done.needs_restart)}")


async def _sessions(
    config: Config, action: str, ids: list[str], *, form: str, is_all: bool, owner: str | None
) -> int:
    async with _gateway(config, owner=owner) as client:
        if action == "ls":
            found = await client.sessions()
            _print_table(found)
            if not found and not owner and (await client.owned_sessions(limit=1)).sessions:
                terminal.complain("others have sessions here: say --all, --tenant TENANT or --owner OWNER")
            return 0
        names = [session.session_id for session in await client.sessions()] if is_all else ids
        for session_id in names:
            await _one(client, action, session_id, form=form)
    return 0


def owned_sessions(config: Config, *, tenant: str | None) -> int:
    """`agent-gateway sessions ls --all|--tenant`: everybody's sessions with their owners; the exit code."""

    async def act(client: GatewayClient) -> None:
        found = await client.owned_sessions(tenant=tenant)
        width = max([32, *(len(session.owner) for session in found.sessions)])
        terminal.say(f"{'OWNER':{width}} {_HEAD}")
        for session in found.sessions:
            terminal.say(f"{session.owner:{width}} {_row(session)}")
        if found.has_more:
            terminal.complain(
                f"only the {len(found.sessions)} that were active last; name a --tenant or an --owner"
            )

    return keys(config, act)


async def _one(client: GatewayClient, action: str, session_id: str, *, form: str) -> None:
    if action == "show":
        session = await client.session(session_id)
        for name in session.__struct_fields__:
            terminal.say(f"{name:15} {getattr(session, name)}")
    elif action == "export":
        await _export(client.export(session_id, form=form))
    else:
        receipt = (await client.delete(session_id)).receipt
        terminal.say(f"{session_id}: erased; {receipt.processes} processes ended, {receipt.survivors} left")


async def _export(chunks: AsyncIterator[bytes]) -> None:
    """To a file or a program as it is; to a terminal without what could do more than stand there."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace") if sys.stdout.isatty() else None
    async for chunk in chunks:
        if decoder is None:
            terminal.say_raw(chunk)
        else:
            terminal.say_part(decoder.decode(chunk))
    terminal.flush()


@contextlib.asynccontextmanager
async def _gateway(config: Config, *, owner: str | None = None) -> AsyncIterator[GatewayClient]:
    """A client of the gateway that holds the data directory, or of one of our own for the moment; over its
    operator's socket. Raises NothingThere if there is neither a gateway nor a store: only `serve` and
    `restore` make one.
    """
    async with contextlib.AsyncExitStack() as stack:
        if not is_held(config.data_path):
            _check_there(config)
            await stack.enter_async_context(running(Gateway(config), listen("127.0.0.1", 0)))
        client = GatewayClient(
            "http://localhost",
            token=read_token(config.data_path),
            unix_path=stack.enter_context(address(config.data_path)),
            headers={"X-On-Behalf-Of": owner} if owner else None,
        )
        yield await stack.enter_async_context(client)


def _check_there(config: Config) -> None:
    """Raises NothingThere if a gateway of our own would begin with an empty store."""
    data = config.data_path
    if config.is_in_memory:
        raise NothingThere(f"no gateway runs on {data}, and a store in memory is gone with its gateway")
    if not config.database_path.exists():
        raise NothingThere(
            f"no gateway runs on {data}, and there is no database {config.database_path}. Name the data "
            f"directory of a gateway with --data-dir, or start one: agent-gateway serve --data-dir {data}"
        )


_HEAD: Final = f"{'SESSION':32} {'STATE':12} {'AGENT':14} {'MESSAGES':>8}  {'LAST ACTIVE':24}  TITLE"


def _print_table(found: Iterable[SessionSummary]) -> None:
    terminal.say(_HEAD)
    for session in found:
        terminal.say(_row(session))


def _row(session: SessionSummary | OwnedSession) -> str:
    return (
        f"{session.session_id:32} {session.state:12} {session.agent:14} {session.messages:8}  "
        f"{session.last_active_at:24}  {session.title or ''}"
    )


# -- data care --------------------------------------------------------------------------------------------


def back_up(config: Config, target: pathlib.Path) -> int:
    """`agent-gateway backup`; the exit code. The file's name alone goes to standard output."""

    def act() -> None:
        made = backup.back_up(config, target)
        terminal.say(str(made.path))
        terminal.complain(f"{made.manifest.sessions} sessions, {made.size_bytes / 1e6:.1f} MB")
        if made.left_out:
            what = "files or directories could not be read, or have too long a path, and are left out"
            terminal.complain(f"{made.left_out} {what}")

    return _careful(act)


def restore(config: Config, source: pathlib.Path, *, is_replacing: bool) -> int:
    """`agent-gateway restore`; the exit code."""

    def act() -> None:
        done = backup.restore(config, source, is_replacing=is_replacing)
        terminal.say(f"{config.data_path}: {done.manifest.sessions} sessions as of {done.manifest.made_at}")
        _tell_ended(done, days=config.sessions.tombstone_days)
        if done.aside is not None:
            terminal.say(f"what was there is kept in {done.aside}; remove it when all is well")

    return _careful(act)


def _tell_ended(done: backup.Restored, *, days: float) -> None:
    ended, is_back = done.ended, "is back: erase and revoke it again"
    if ended.told_by:
        terminal.say(
            f"erased again, as it was erased after that: {ended.sessions} sessions; ended again: "
            f"{ended.keys} API keys, {ended.sign_ins} people's sign-ins, {ended.links} shared links"
        )
    for path in ended.unread:
        terminal.complain(f"{path} cannot be read: what only it knows to be erased or revoked {is_back}")
    if not ended.told_by and not ended.unread:
        terminal.complain(f"no database was there to tell what was erased or revoked since: it {is_back}")
    if ended.told_by and done.is_forgotten:
        terminal.complain(f"the backup is older than {days:g} days: what was erased longer ago {is_back}")


def check_backup(source: pathlib.Path) -> int:
    """`agent-gateway restore --check`; the exit code."""

    def act() -> None:
        found = backup.verify(source)
        words = f"{found.sessions} sessions as of {found.made_at}, schema {found.schema}"
        terminal.say(f"{source}: whole; {words}, made by {found.version}")

    return _careful(act)


def _careful(act: Callable[[], None]) -> int:
    try:
        act()
    except (BackupFailed, GatewayError, OSError) as error:
        terminal.complain(f"agent-gateway: {error}")
        return 1
    return 0


def drain(config: Config) -> int:
    """`agent-gateway drain`: ends the gateway as SIGTERM does, and returns when it is gone; the exit code."""
    if not is_held(config.data_path):
        terminal.complain(f"agent-gateway: no gateway runs on {config.data_path}")
        return 1
    return _spoken(_drained(config))


async def _drained(config: Config) -> int:
    began = time.monotonic()
    async with _gateway(config) as client:
        begun = await client.drain()
    bound = begun.grace_seconds + DRAIN_EXTRA_SECONDS
    while is_held(config.data_path):
        if time.monotonic() - began > bound:
            terminal.complain(f"agent-gateway: it has not ended after {bound:g} s")
            return 1
        await asyncio.sleep(DRAIN_POLL_SECONDS)
    terminal.say(f"drained in {time.monotonic() - began:.1f} s")
    return 0


# -- doctor -----------------------------------------------------------------------------------------------


def doctor(config: Config) -> int:
    """Looks at what a gateway needs, a line each; 1 where something is wrong."""
    findings = [
        *_data_directory(config),
        *_database(config.database_path),
        *_agents(config),
        *asyncio.run(_walls(config)),
    ]
    for is_well, words in findings:
        terminal.say(f"{'ok  ' if is_well else 'FAIL'}  {words}")
    return 0 if all(is_well for is_well, _ in findings) else 1


def size(config: Config, *, gigabytes: float | None) -> int:
    """`agent-gateway doctor --sizing`; the exit code."""

    async def measured() -> int:
        found = await sizing.measure(config)
        memory = found.machine if gigabytes is None else round(gigabytes * 1e9)
        for line in sizing.table(found, memory=memory):
            terminal.say(line)
        return 0

    return _spoken(measured())


def _data_directory(config: Config) -> list[tuple[bool, str]]:
    path = config.data_path
    known = next(parent for parent in (path, *path.parents) if parent.exists())
    is_writable = known.is_dir() and os.access(known, os.W_OK | os.X_OK)
    findings = [(is_writable, f"data directory {path} {'can' if is_writable else 'cannot'} be written")]
    free = free_bytes(known)
    findings.append((free > config.server.low_disk_bytes, f"disk: {free // 1024**2} MiB free"))
    held = holder(path)
    if is_held(path):
        findings.append((True, f"in use by the gateway at {held.url}" if held else "in use by a gateway"))
    return findings


def _database(path: pathlib.Path) -> list[tuple[bool, str]]:
    if not path.exists():
        return [(True, f"database {path}: none yet")]
    try:
        version = schema_version(path)
    except sqlite3.Error as error:
        return [(False, f"database {path}: {error}")]
    words = f"database {path}: schema {version}, this program's is {newest()}"
    findings = [(version <= newest(), words)]
    if (wrong := damage(path)) is not None:
        findings.append((False, f"database {path} is DAMAGED: {wrong}. Restore a backup, look at the disk"))
    aside = sorted(path.parent.glob(f"{path.name}.damaged-*[0-9]"))
    return findings + [(False, f"a damaged database is kept as {damaged}") for damaged in aside]


async def _walls(config: Config) -> list[tuple[bool, str]]:
    """Builds the walls round a real worker, as the gateway does at its start."""
    workers = config.workers
    with tempfile.TemporaryDirectory() as directory:
        spawner = WalledSpawner(workers, directory=pathlib.Path(directory))
        try:
            await spawner.open()
        except OSError as error:
            return [(False, f"walls: {error}")]
        profile, missing, counting = spawner.profile, spawner.missing, spawner.counting
        told = _told_apart(config, spawner)
        await spawner.close()
    why = "; ".join(f"not {stricter}: {words}" for stricter, words in missing.items())
    is_walled = profile != "none" or workers.sandbox == "none"
    walls = f"walls: {profile}" + (f" ({why})" if why else "")
    return [(is_walled, walls), (True, f"limits of a whole worker: {counting_words(counting)}"), told]


def _told_apart(config: Config, spawner: WalledSpawner) -> tuple[bool, str]:
    """By what connections of agents are told from others."""
    if config.server.allow_agent_connections:
        return (False, "connections of agents: served like any other (server.allow_agent_connections)")
    is_worker_uid = Workspaces(config.data_path, config.workers).is_worker_uid
    peers = PeerIdentity(spawner, is_worker_uid=is_worker_uid)
    peers.open()
    if peers.method:
        return (True, f"connections of agents: told from others by {peers.method}, and refused")
    objection = peers.objection(config, AgentCatalogue(config).sharing_network())
    return (not objection, f"connections of agents: {objection or f'cannot be told: {peers.missing}'}")


def _agents(config: Config) -> list[tuple[bool, str]]:
    findings = []
    for agent in AgentCatalogue(config).all():
        command = agent.argv[0]
        where = shutil.which(command)
        words = f"{where}, network {agent.sandbox.network}" if where else f"{command} is not installed"
        findings.append((where is not None, f"agent {agent.name}: {words}"))
    return findings
