"""Choosing an engine for a store that is read or filled whole: by a URL, or a path, which is SQLite's."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from gateway.config.tables import DATABASE_NAME, POSTGRESQL_SCHEMES, SQLITE_SCHEME
from gateway.errors import StoreFailed
from gateway.stores.bulk import Opener
from gateway.stores.migrations import Migrations
from gateway.stores.opening import INSTALL_POSTGRESQL, postgresql_module
from gateway.stores.sqlite.bulk import SqliteBulk


def opener(where: str, migrations: Sequence[Migrations]) -> Opener:
    """Raises StoreFailed if there is no such engine."""
    if where.partition("://")[0] in POSTGRESQL_SCHEMES:
        made: Opener = of_postgresql("bulk").PostgresqlBulk(where, migrations)
        return made
    path = file_of(where)
    if path is None:
        raise StoreFailed("Name a file, sqlite:///FILE, postgresql://…, or @FILE, which holds such a URL.")
    return SqliteBulk(path, migrations)


def file_of(where: str) -> pathlib.Path | None:
    """The file of a store on SQLite; of a directory, the database that a gateway has in it."""
    if where.startswith(SQLITE_SCHEME):
        return pathlib.Path("/" + where.removeprefix(SQLITE_SCHEME).lstrip("/"))
    if "://" in where or where.startswith("memory:"):
        return None
    path = pathlib.Path(where).expanduser().absolute()
    return path / DATABASE_NAME if path.is_dir() else path


def of_postgresql(name: str) -> Any:
    """A module of that engine's. Raises StoreFailed."""
    return postgresql_module(name, StoreFailed(f"For PostgreSQL: {INSTALL_POSTGRESQL}"))
