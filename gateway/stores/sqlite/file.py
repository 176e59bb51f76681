"""The file itself: connections, making it ready, and what is wrong inside it.

A file of a newer schema is refused, a damaged one is kept aside and said loudly, and one that is missing at
the start is not replaced by an empty one (file_watch.py).
"""

from __future__ import annotations

import logging
import pathlib
import re
import sqlite3
import time
from collections.abc import Sequence
from typing import Final, Literal

from gateway.errors import StoreFailed
from gateway.stores.migrations import Migrations
from gateway.stores.sqlite import file_watch, log_rows, schema

log = logging.getLogger(__name__)

BUSY_SECONDS: Final = 5.0
"""How long a lock of another process (a backup, the command line) is waited for."""
CACHE_KIB: Final = 8_192
ALL_FINDINGS: Final = 2**31 - 1
"""Of SQLite's own check, not the first hundred: the first may be a false alarm."""


def connect(path: pathlib.Path) -> sqlite3.Connection:
    """A connection with this store's settings, usable from the thread that calls it first."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    return connection


def prepare(path: pathlib.Path, migrations: Sequence[Migrations] = ()) -> None:
    """Makes the file, or brings it up to date. Raises StoreFailed, with what to do, if it cannot be used.

    `migrations` are those of applications. A damaged file is moved aside, never deleted, and a new one begun.
    """
    file_watch.refuse_missing(path)
    try:
        _migrate(path, migrations)
    except sqlite3.DatabaseError as error:
        if not log_rows.is_damage(error):
            raise StoreFailed(f"The database {path} cannot be opened: {error}.") from error
        _set_aside(path, error)
        file_watch.forget(path)
        _migrate(path, migrations)


def _migrate(path: pathlib.Path, migrations: Sequence[Migrations]) -> None:
    is_new = not path.exists()
    connection = connect(path)
    try:
        if is_new:
            path.chmod(0o600)
        else:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            file_watch.refuse_another(path, connection)
        schema.migrate(connection, path, migrations)
        file_watch.remember(path, connection)
    finally:
        connection.close()


def damage(path: pathlib.Path) -> str | None:
    """What is wrong inside a file, which is read from end to end and not written. Raises sqlite3.Error."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return findings(connection, "quick_check")
    except sqlite3.DatabaseError as error:
        if not log_rows.is_damage(error):
            raise
        return str(error)
    finally:
        connection.close()


def findings(connection: sqlite3.Connection, check: Literal["quick_check", "integrity_check"]) -> str | None:
    """The first thing that SQLite's own check finds wrong. Raises sqlite3.Error."""
    for (found,) in connection.execute(f"PRAGMA {check}({ALL_FINDINGS})"):
        if found != "ok" and not _is_false_alarm(connection, found):
            return str(found)
    return None


def _is_false_alarm(connection: sqlite3.Connection, found: str) -> bool:
    """SQLite 3.40 mixes up the columns of a table WITHOUT ROWID whose key is not its first ones, such as
    `gaps`, and says that one is NULL which is not.
    """
    named = re.fullmatch(r"NULL value in (\w+)\.(\w+)", found)
    if named is None:
        return False
    query = f"SELECT count(*) FROM {named[1]} WHERE typeof({named[2]}) = 'null'"  # noqa: S608 - both are names
    return not connection.execute(query).fetchone()[0]


def _set_aside(path: pathlib.Path, error: sqlite3.Error) -> None:
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    log.critical("THE DATABASE IS DAMAGED (%s). It is kept as %s; a new, empty one is begun.", error, aside)


def size_bytes(path: pathlib.Path) -> int:
    """How large the file is, with its journal."""
    return sum(_size(pathlib.Path(f"{path}{end}")) for end in ("", "-wal"))


def _size(path: pathlib.Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
