"""Choosing an engine: by the scheme of a URL, or a path, which is a file of SQLite's.

A new engine is a folder beside `memory/` and `sqlite/` and a line in `ENGINES`; its outside library is
imported by its folder alone.
"""

from __future__ import annotations

import importlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from gateway.config.applications import enabled
from gateway.config.cluster import ClusterConfig
from gateway.config.file import ConfigError
from gateway.config.tables import Config, unknown_store
from gateway.stores.contract import OnBeat, Store
from gateway.stores.database import Tables
from gateway.stores.directory import NodeLoad, NodesSeen
from gateway.stores.memory.store import MemoryStore
from gateway.stores.migrations import Migrations
from gateway.stores.sqlite.store import SqliteStore


class Options(Struct, frozen=True, kw_only=True):
    """What a store is given; an engine takes what it needs of it."""

    migrations: Sequence[Migrations] = ()
    """Of applications, in the order in which they are applied."""
    max_events: int = 20_000
    """Of each session, for an engine that drops the oldest."""
    max_bytes: int = 8 * 1024 * 1024
    on_commit: Callable[[float, bool], None] = lambda _seconds, _is_done: None
    """Hears, in any thread, how many seconds a commit took and if it was done."""
    on_trouble: Callable[[bool], None] = lambda _is_lost: None
    """Hears, in any thread, when what is written may be lost (True), and when all is well again (False)."""
    on_end: Callable[[str], None] = lambda _words: None
    """Hears, on the loop, why nothing can be stored any more."""
    on_healed: Callable[[int, bool], None] = lambda _commits, _is_all: None
    """Hears, on the loop, how many commits a database had lost and were done again, and if that was all."""
    on_doubt: Callable[[], None] = lambda: None
    """Hears, on the loop and again and again, that nobody should wait any longer for what is being written:
    only when the database is back will it be known whether it is.
    """
    cluster: ClusterConfig = ClusterConfig()
    """Of a store that is shared."""
    on_beat: OnBeat = lambda _sent, _is_there: None
    """Hears, on the loop, of each answer that a store which is shared gave."""
    on_seen: Callable[[NodesSeen], None] = lambda _seen: None
    """Hears before that, where several gateways share it, which there are."""
    load: Callable[[], NodeLoad] = NodeLoad
    """What this one says of itself to the others."""
    version: str = ""
    """Of this program."""
    mark: Callable[[], str] = str
    """Of the data directory, which this gateway has locked when it opens the store."""


def _memory(_url: str, options: Options) -> Store:
    return MemoryStore(max_events=options.max_events, max_bytes=options.max_bytes)


def _sqlite(url: str, options: Options) -> Store:
    rest = url.removeprefix("sqlite://")
    if not rest.strip("/"):
        raise ConfigError([f"store: {url!r} names no file: sqlite:///FILE"])
    return _sqlite_file(pathlib.Path("/" + rest.lstrip("/")), options)


def _sqlite_file(path: pathlib.Path, options: Options) -> Store:
    return SqliteStore(
        path,
        migrations=options.migrations,
        on_commit=options.on_commit,
        on_trouble=options.on_trouble,
        on_end=options.on_end,
    )


def postgresql_module(name: str, missing: Exception) -> Any:
    """A module of the engine's, imported only now: SQLite needs nothing installed. Raises `missing` if its
    library is.
    """
    try:
        return importlib.import_module(f"gateway.stores.postgresql.{name}")
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise missing from None


def _of_postgresql(name: str) -> Any:
    return postgresql_module(name, ConfigError([f"store: for PostgreSQL: {INSTALL_POSTGRESQL}"]))


def _postgresql(url: str, options: Options) -> Store:
    store: Store = _of_postgresql("store").PostgresqlStore(
        url,
        migrations=options.migrations,
        on_commit=options.on_commit,
        on_end=options.on_end,
        on_healed=options.on_healed,
        on_doubt=options.on_doubt,
        cluster=options.cluster,
        on_beat=options.on_beat,
        on_seen=options.on_seen,
        load=options.load,
        version=options.version,
        mark=options.mark,
    )
    return store


INSTALL_POSTGRESQL: Final = "pip install 'agent-gateway[postgres]'"

ENGINES: Final[dict[str, Callable[[str, Options], Store]]] = {
    **{"memory": _memory, "sqlite": _sqlite},
    **{"postgresql": _postgresql, "postgres": _postgresql},
}
"""By scheme; given the whole URL."""


def open_store(where: str | pathlib.Path, options: Options | None = None) -> Store:
    """The store at a URL or a path; its `open` is still to be awaited.

    Raises ConfigError, which names the schemes that are known, if there is no such engine.
    """
    options = options or Options()
    if isinstance(where, pathlib.Path):
        return _sqlite_file(where, options)
    scheme, separator, _ = where.partition(":")
    if not separator:
        return _sqlite_file(pathlib.Path(where), options)
    engine = ENGINES.get(scheme)
    if engine is None:
        raise ConfigError([unknown_store(scheme)])
    return engine(where, options)


def migrations_of(config: Config) -> list[Migrations]:
    """Those of the applications that run, in the order in which they are applied."""
    return [Migrations(one.name, one.migrations) for one in enabled(config) if one.migrations is not None]


def configured_store(config: Config, options: Options | None = None) -> Store:
    """The store that the configuration names, with its bounds and the migrations of its applications; it is
    not opened yet.
    """
    configured = msgspec.structs.replace(
        options or Options(),
        migrations=migrations_of(config),
        cluster=config.cluster,
        max_events=config.limits.events_per_session,
        max_bytes=2 * config.limits.event_bytes_per_session,
    )
    return open_store(config.store or config.database_path, configured)


class OpenTables(Protocol):
    """The tables of applications, for a program without sessions."""

    @property
    def tables(self) -> Tables:
        """What applications use."""

    async def open(self) -> None:
        """Raises StoreFailed if they cannot be."""

    async def close(self) -> None:
        """Lets go."""


def tables_beside(config: Config) -> OpenTables:
    """Those of the store that the configuration names, whether or not a gateway runs on it."""
    if not config.is_on_postgresql:
        return configured_store(config)  # a file that several processes may have open
    found: OpenTables = _of_postgresql("beside").PostgresqlTables(
        config.store, migrations=migrations_of(config)
    )
    return found
