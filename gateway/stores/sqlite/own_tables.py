"""The tables of applications: each has migrations of its own, and an account of those that were run.

The account is a table beside `user_version`, so that an older program still opens the file. A migration whose
tables are there although no account says so was run by a version that numbered all migrations together.
"""

from __future__ import annotations

import pathlib
import re
import sqlite3
from collections.abc import Mapping
from typing import Final

from gateway.errors import StoreFailed

_ACCOUNT: Final = (
    "CREATE TABLE IF NOT EXISTS application_schemas ("
    " application TEXT NOT NULL PRIMARY KEY, version INTEGER NOT NULL) STRICT, WITHOUT ROWID"
)
_NUMBERED: Final = re.compile(r"(\d{4})_\w+\.sql")
_MADE: Final = re.compile(r"^\s*CREATE TABLE (?:IF NOT EXISTS )?(\w+)", re.MULTILINE | re.IGNORECASE)


def migrate(connection: sqlite3.Connection, folders: Mapping[str, pathlib.Path]) -> None:
    """Makes or brings up to date the tables of these applications. Raises StoreFailed for tables of a newer
    one.
    """
    if folders:
        connection.execute(_ACCOUNT)
    for application, folder in folders.items():
        _bring_up_to_date(connection, application, scripts(folder))


def scripts(folder: pathlib.Path) -> list[tuple[int, str]]:
    """The migrations of a folder, NNNN_name.sql, in order."""
    found = ((_NUMBERED.fullmatch(file.name), file) for file in sorted(folder.iterdir()))
    return [(int(match[1]), file.read_text("utf-8")) for match, file in found if match]


def has_table(connection: sqlite3.Connection, table: str) -> bool:
    """True if there is a table of this name."""
    query = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?"
    return bool(connection.execute(query, (table,)).fetchone()[0])


def _bring_up_to_date(
    connection: sqlite3.Connection, application: str, migrations: list[tuple[int, str]]
) -> None:
    row = connection.execute(
        "SELECT version FROM application_schemas WHERE application = ?", (application,)
    ).fetchone()
    version, newest = row[0] if row else 0, migrations[-1][0] if migrations else 0
    if version > newest:
        raise StoreFailed(
            f"The tables of the application {application} are of schema {version}, the one that is installed "
            f"knows up to {newest}: install the newer one, or switch it off in [applications] enabled."
        )
    for number, script in migrations:
        if number <= version:
            continue
        made = _MADE.findall(script)
        done = bool(made) and all(has_table(connection, table) for table in made)
        connection.executescript(
            f"BEGIN;\n{'' if done else script}\n"
            "INSERT INTO application_schemas (application, version)"
            f" VALUES ('{application}', {number})"
            " ON CONFLICT DO UPDATE SET version = excluded.version;\nCOMMIT;"
        )
