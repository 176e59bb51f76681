"""Which migrations a file has had, and applying the others.

`PRAGMA user_version` is the number of the core's last migration. What an application's package has had is
noted in `package_migrations`. Until packages had their own there was one numbering for all: on a file of that
time a package's migration counts as applied if the numbering had reached it and its tables are there.

Tables and indexes that an earlier program can do without are a package of the core's (`OWN`), beside its
numbering: a program without them still opens the file, and the way back is open.

Guarantees: each migration is one transaction together with the note of it; the core's come before those of
packages, which may refer to the core's tables.
"""

from __future__ import annotations

import pathlib
import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final

from gateway.errors import StoreFailed
from gateway.stores import migrations as files
from gateway.stores.migrations import Migrations

MIGRATIONS: Final = pathlib.Path(__file__).parent / "migrations"
_PACKAGES: Final = (
    *("files", "forks", "labels", "ledger", "options", "people", "search", "secrets", "sharing", "tail"),
    *("tenants", "uploads"),
)
OWN: Final = tuple(Migrations(name, MIGRATIONS / name) for name in _PACKAGES)
_RECORD: Final = (
    "CREATE TABLE IF NOT EXISTS package_migrations (package TEXT NOT NULL, number INTEGER NOT NULL,"
    " PRIMARY KEY (package, number)) STRICT, WITHOUT ROWID;"
)
_NOTE: Final = "INSERT INTO package_migrations (package, number) VALUES"
_CREATED: Final = re.compile(r"^CREATE TABLE (\w+)", re.MULTILINE)
_NAME: Final = re.compile(r"\w+")


def numbered() -> list[tuple[int, str]]:
    """The core's migrations in order."""
    return files.numbered(MIGRATIONS)


def newest() -> int:
    """The schema that this program makes: the number of the core's last migration."""
    return numbered()[-1][0]


def schema_version(path: pathlib.Path) -> int:
    """The schema of a file, which is only read. Raises sqlite3.Error."""
    connection = _read_only(path)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        return _version(connection)
    finally:
        connection.close()


def is_current(path: pathlib.Path, packages: Sequence[Migrations]) -> bool:
    """True if a file, which is only read, has had exactly this program's migrations. Raises sqlite3.Error."""
    connection = _read_only(path)
    try:
        version = _version(connection)
        return version == newest() and not any(_pending(connection, (*OWN, *packages), version))
    finally:
        connection.close()


def has_table(connection: sqlite3.Connection, table: str) -> bool:
    """True if there is a table of this name."""
    query = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?"
    return bool(connection.execute(query, (table,)).fetchone()[0])


def migrate(connection: sqlite3.Connection, path: pathlib.Path, packages: Sequence[Migrations]) -> None:
    """Applies what a file has not had. Raises StoreFailed if a newer program wrote it."""
    version = _version(connection)
    if version > newest():
        raise StoreFailed(
            f"The database {path} is of schema {version}, this program knows up to {newest()}: "
            "run the newer program, or restore a backup of before the upgrade."
        )
    packages = (*OWN, *packages)
    _refuse_newer(connection, path, packages)
    for number, script in numbered():
        if number > version:
            connection.executescript(f"BEGIN;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
    for package, number, script in list(_pending(connection, packages, version)):
        connection.executescript(f"BEGIN;\n{script}\n{_RECORD}\n{_NOTE} ('{package}', {number});\nCOMMIT;")


def _refuse_newer(connection: sqlite3.Connection, path: pathlib.Path, packages: Sequence[Migrations]) -> None:
    for package, directory in packages:
        known = [number for number, _ in files.numbered(directory)]
        last, had = max(known, default=0), max(_noted(connection, package), default=0)
        if had > last:
            raise StoreFailed(
                f"The tables of {package} in the database {path} are of version {had}, this program knows up "
                f"to {last}: run the newer program, or restore a backup of before the upgrade."
            )


def _pending(
    connection: sqlite3.Connection, packages: Sequence[Migrations], version: int
) -> Iterator[tuple[str, int, str]]:
    """(package, number, script) of what packages have not had in a file that was of this version."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    for package, directory in packages:
        if not _NAME.fullmatch(package):
            raise ValueError(f"the name of a package is letters, digits and _: {package!r}")
        noted = _noted(connection, package)
        for number, script in files.numbered(directory):
            created = set(_CREATED.findall(script))
            was_shared = number <= version and created and created <= tables
            if number not in noted and not was_shared:
                yield package, number, script


def _noted(connection: sqlite3.Connection, package: str) -> set[int]:
    """The numbers of a package's migrations that are noted as applied."""
    if not has_table(connection, "package_migrations"):
        return set()
    rows = connection.execute("SELECT number FROM package_migrations WHERE package = ?", (package,))
    return {number for (number,) in rows}


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _read_only(path: pathlib.Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True)
