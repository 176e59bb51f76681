"""`agent-gateway doctor`: what a gateway needs, a line each, and what this machine holds."""

from __future__ import annotations

import argparse
import asyncio
import os
import pathlib
import shutil
import sqlite3
import tempfile

from gateway.agents.catalogue import AgentCatalogue
from gateway.cli import sizing
from gateway.cli.options import add_common, configured, run_by
from gateway.cli.reach import spoken
from gateway.config.applications import enabled, resolved
from gateway.config.cluster import MIB
from gateway.config.file import ConfigError
from gateway.config.tables import Config
from gateway.errors import StoreFailed
from gateway.files.place import outside
from gateway.maintenance.disk import free_bytes
from gateway.maintenance.lock import holder, is_held
from gateway.stores.bulk_opening import of_postgresql
from gateway.stores.sqlite.file import damage
from gateway.stores.sqlite.schema import newest, schema_version
from gateway.telemetry import logs, terminal
from gateway.workers.peer_identity import PeerIdentity
from gateway.workers.walls import WalledSpawner, counting_words
from gateway.workers.workspace import Workspaces
from worker.spec import Network


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    add_common(parser)
    parser.add_argument("--sizing", action="store_true", help="measure how many sessions this machine holds")
    parser.add_argument("--gigabytes", type=float, help="size for so much memory instead of this machine's")
    run_by(parser, _doctor)


def _doctor(options: argparse.Namespace) -> int:
    config = configured(options)
    if options.sizing:
        logs.configure(level="error", form="text")
        return _size(config, gigabytes=options.gigabytes)
    return _examine(config)


def _examine(config: Config) -> int:
    """Looks at what a gateway needs, a line each; 1 where something is wrong."""
    findings = [
        *_data_directory(config),
        *_store(config),
        *_files(config),
        *asyncio.run(_applications(config)),
        *asyncio.run(_walls(config)),
    ]
    for is_well, words in findings:
        terminal.say(f"{'ok  ' if is_well else 'FAIL'}  {words}")
    return 0 if all(is_well for is_well, _ in findings) else 1


def _size(config: Config, *, gigabytes: float | None) -> int:
    """Measures and prints a table; the exit code."""

    async def measured() -> int:
        found = await sizing.measure(config)
        memory = found.machine if gigabytes is None else round(gigabytes * 1e9)
        for line in sizing.table(found, memory=memory):
            terminal.say(line)
        return 0

    return spoken(measured())


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


def _store(config: Config) -> list[tuple[bool, str]]:
    if config.is_in_memory:
        return [(True, "store in memory: it is gone with the gateway")]
    if not config.is_on_postgresql:
        return _database(config.database_path)
    try:
        found: list[tuple[bool, str]] = asyncio.run(of_postgresql("health").examine(config.store))
    except StoreFailed as error:
        return [(False, error.message)]
    return found


async def _applications(config: Config) -> list[tuple[bool, str]]:
    found: list[tuple[bool, str]] = []
    for one in enabled(config):
        if one.examine:
            found += await resolved(one.examine)(config)
    return found


def _files(config: Config) -> list[tuple[bool, str]]:
    """The place where several gateways keep the files of sessions, if it is not the store itself."""
    place = config.cluster.files_place
    if place == "folder":
        return []
    if place == "store":
        most = config.cluster.files_max_bytes // MIB
        return [(True, f"files of sessions: in the store, up to {most} MiB a session")]
    shown = config.cluster.files.partition("?")[0]
    try:
        contents = outside(config.cluster.files)
        try:
            contents.check()
        finally:
            contents.close()
    except ConfigError as error:
        return [(False, str(error))]
    except OSError as error:
        return [(False, f"files of sessions: {shown}: {error.strerror}")]
    return [(True, f"files of sessions: {shown} can be written")]


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
        spawner = WalledSpawner(workers, directory=pathlib.Path(directory), needs_broker=config.needs_broker)
        try:
            await spawner.open()
        except OSError as error:
            return [*_agents(AgentCatalogue(config)), (False, f"walls: {error}")]
        profile, missing, counting = spawner.profile, spawner.missing, spawner.counting
        agents = AgentCatalogue(config, holds_broker=spawner.holds_broker)
        told = _told_apart(config, spawner, agents)
        lacks = spawner.broker_lacks
        await spawner.close()
    why = "; ".join(f"not {stricter}: {words}" for stricter, words in missing.items())
    is_walled = profile != "none" or workers.sandbox == "none"
    walls = f"walls: {profile}" + (f" ({why})" if why else "")
    counted = (True, f"limits of a whole worker: {counting_words(counting)}")
    return [*_agents(agents), (is_walled, walls), counted, told, *_networks(agents, lacks)]


def _networks(agents: AgentCatalogue, lacks: str) -> list[tuple[bool, str]]:
    """What holds the networks of workers, by the mode that agents have, and how those that share the
    machine's could be moved.
    """
    names: dict[Network, list[str]] = {}
    for agent in agents.all():
        names.setdefault(agent.sandbox.network, []).append(agent.name)
    modes = [_network(mode, ", ".join(those), lacks) for mode, those in names.items()]
    return [*modes, *((True, f"note: {line}") for line in agents.advice())]


def _network(mode: Network, names: str, lacks: str) -> tuple[bool, str]:
    match mode:
        case "broker" if lacks:
            return (False, f"network broker: {names} will not start: {lacks}")
        case "broker":
            return (True, f"network broker: {names} reach the hosts of their lists, through the gateway")
        case "none":
            return (True, f"network none, from which no host is reached: {names}")
    return (True, f"network shared: {names} reach whatever this machine reaches; no list holds")


def _told_apart(config: Config, spawner: WalledSpawner, agents: AgentCatalogue) -> tuple[bool, str]:
    """By what connections of agents are told from others."""
    if config.server.allow_agent_connections:
        return (False, "connections of agents: served like any other (server.allow_agent_connections)")
    is_worker_uid = Workspaces(config.data_path, config.workers).is_worker_uid
    peers = PeerIdentity(spawner, is_worker_uid=is_worker_uid)
    peers.open()
    if peers.method:
        return (True, f"connections of agents: told from others by {peers.method}, and refused")
    objection = peers.objection(config, agents.on_network("shared"))
    return (not objection, f"connections of agents: {objection or f'cannot be told: {peers.missing}'}")


def _agents(agents: AgentCatalogue) -> list[tuple[bool, str]]:
    findings = []
    for agent in agents.all():
        command = agent.argv[0]
        where = shutil.which(command)
        words = f"{where}, network {agent.sandbox.network}" if where else f"{command} is not installed"
        findings.append((where is not None, f"agent {agent.name}: {words}"))
    return findings
