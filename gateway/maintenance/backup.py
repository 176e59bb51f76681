"""Backups: the store and the sessions' files as one tar file, made while the gateway runs.

It contains the database as of one moment (SQLite's own backup), the secret that signs cookies if the gateway
generated it, and the files of every session that the database names. It does not contain the configuration,
or what only the running process needs (lock, operator's socket and token). Files are read after the database,
each as it is at that moment.

Guarantees: a file is a backup only once its last member is written, which counts and digests the others;
nothing outside a session's directory is ever read, whatever links its agent makes; a restore touches what is
there only after everything has been checked, keeps what it replaces, and is never half visible to a gateway;
what was erased or revoked since is so after it, too, as far as the replaced database tells (erasures.py).
"""

from __future__ import annotations

import calendar
import contextlib
import os
import pathlib
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator
from typing import IO, Final

import msgspec
from msgspec import Struct

from gateway.auth.tickets import SECRET_NAME
from gateway.config.applications import installed
from gateway.config.tables import Config
from gateway.files.blobs import FOLDER as SNAPSHOTS
from gateway.maintenance.archive import (
    DATABASE,
    EXTRA_BYTES,
    FILES,
    MANIFEST,
    TRAILER,
    BackupFailed,
    Trailer,
    Writing,
    add_files,
    info_of,
    taken_apart,
)
from gateway.maintenance.dumps import RemoteDatabase, remote_database
from gateway.maintenance.erasures import EndedAgain, end_again
from gateway.maintenance.lock import UNFINISHED_NAME, DataLock
from gateway.stores.sqlite.file import findings
from gateway.stores.sqlite.file_watch import ID_SUFFIX
from gateway.stores.sqlite.reservations import CALLS_SUFFIX
from gateway.stores.sqlite.schema import newest
from gateway.version import VERSION
from gateway.workers import trees

FORMAT: Final = 1
TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"
DAY_SECONDS: Final = 86_400
SKIPPED_SEQS: Final = 10_000_000
"""Numbers that clients may have seen between a backup and its restore: they are never used again, and a
reader with a cursor among them must start again.
"""


class Manifest(Struct, frozen=True, kw_only=True):
    """What a backup is of."""

    format: int
    version: str
    schema: int
    made_at: str
    sessions: int

    @property
    def made_at_seconds(self) -> int:
        """`made_at` as seconds since 1970 UTC."""
        return calendar.timegm(time.strptime(self.made_at, TIME_FORMAT))


class Made(Struct, frozen=True):
    """A backup that was made."""

    path: pathlib.Path
    manifest: Manifest
    size_bytes: int
    left_out: int = 0


class Restored(Struct, frozen=True, kw_only=True):
    """A backup that was put in place."""

    manifest: Manifest
    aside: pathlib.Path | None
    """Where what it replaced is kept; None if there was nothing."""
    ended: EndedAgain
    is_forgotten: bool
    """Whether it is older than tombstones are kept: then not every erasure since is known."""


# -- making one -------------------------------------------------------------------------------------------


def back_up(config: Config, target: pathlib.Path) -> Made:
    """Writes a backup to a new file, or into a directory under a name with the time; a gateway may run
    meanwhile.

    Raises BackupFailed.
    """
    _check_store(config)
    database, remote = config.database_path, remote_database(config)
    if remote is None and not database.exists():
        raise BackupFailed(f"There is no database {database}: nothing to back up.")
    path = target / time.strftime("agent-gateway-%Y%m%d-%H%M%S.tar") if target.is_dir() else target
    if path.exists():
        raise BackupFailed(f"{path} exists already; name a new file.")
    if not path.parent.is_dir():
        raise BackupFailed(f"There is no directory {path.parent}: make it, or name another place.")
    partial = path.with_name(path.name + ".partial")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".backup-") as directory:
            copy = pathlib.Path(directory) / DATABASE
            if remote is None:
                _copy(database, copy)
            else:
                remote.dump(copy)
            manifest, keys = _described(copy)
            with _created(partial) as file:
                trailer = _write(file, config, copy, manifest, keys)
                file.flush()
                os.fsync(file.fileno())
        os.link(partial, path)  # never over another one
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise BackupFailed(f"No backup was made: {where}{error.strerror or error}.") from error
    except sqlite3.Error as error:
        raise BackupFailed(f"No backup was made: {error}.") from error
    finally:
        partial.unlink(missing_ok=True)
    return Made(path, manifest, path.stat().st_size, trailer.left_out)


def _check_store(config: Config) -> None:
    if config.is_in_memory:
        raise BackupFailed("A store in memory cannot be backed up or restored: store = memory://.")


def _check_source(source: pathlib.Path) -> None:
    if not source.exists():
        raise BackupFailed(f"There is no file {source}.")


@contextlib.contextmanager
def _created(path: pathlib.Path) -> Iterator[IO[bytes]]:
    """A new file that only this user may read, because a backup contains every conversation."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        yield file


def _copy(database: pathlib.Path, copy: pathlib.Path) -> None:
    """Copies the database as of one moment, while others write."""
    with (
        contextlib.closing(sqlite3.connect(database)) as source,
        contextlib.closing(sqlite3.connect(copy)) as kept,
    ):
        source.backup(kept)


def _described(copy: pathlib.Path) -> tuple[Manifest, list[str]]:
    """Checks a copy; its manifest, and the keys of its sessions."""
    with contextlib.closing(sqlite3.connect(copy)) as kept:
        kept.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        _check_database(kept)
        keys = [row[0] for row in kept.execute("SELECT key FROM sessions ORDER BY key")]
        manifest = Manifest(
            format=FORMAT,
            version=VERSION,
            schema=kept.execute("PRAGMA user_version").fetchone()[0],
            made_at=time.strftime(TIME_FORMAT, time.gmtime()),
            sessions=len(keys),
        )
    return manifest, keys


def _check_database(connection: sqlite3.Connection) -> None:
    if (found := findings(connection, "integrity_check")) is not None:
        raise BackupFailed(f"The database is damaged: {found}.")
    if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
        raise BackupFailed("The database is damaged: rows without their session.")


def _write(
    file: IO[bytes], config: Config, database: pathlib.Path, manifest: Manifest, keys: list[str]
) -> Trailer:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        writing = Writing(tar)
        writing.add_bytes(MANIFEST, msgspec.json.encode(manifest))
        with database.open("rb") as content:
            writing.add(info_of(DATABASE, os.fstat(content.fileno())), content)
        secret = config.data_path / SECRET_NAME
        if not config.auth.secret_file and secret.exists():
            writing.add_bytes(SECRET_NAME, secret.read_bytes())
        for key in keys:
            add_files(writing, config.data_path / FILES, key)
        trailer = writing.trailer()
        writing.add_bytes(TRAILER, msgspec.json.encode(trailer))
    return trailer


# -- restoring one ----------------------------------------------------------------------------------------


def restore(config: Config, source: pathlib.Path, *, is_replacing: bool = False) -> Restored:
    """Puts a backup into the data directory, but for what was ended since.

    Raises StoreFailed if a gateway runs there, BackupFailed if the backup is not whole or the
    directory is in use and `is_replacing` is not set; then nothing has changed.
    """
    _check_store(config)
    _check_source(source)
    data = config.data_path
    lock = DataLock(data)
    lock.take()
    try:
        remote = remote_database(config)
        is_there = config.database_path.exists() if remote is None else not remote.is_empty()
        if is_there and not (is_replacing or (data / UNFINISHED_NAME).exists()):
            what = (
                f"There is a database {config.database_path}" if remote is None else "The database has rows"
            )
            raise BackupFailed(f"{what} already. Say --replace, and it is kept aside.")
        with _staging(data, ".restore-") as staged:
            manifest = read(source, staged)
            place = data / time.strftime("replaced-%Y%m%d-%H%M%S")
            if remote is not None and is_there:
                place.mkdir(mode=0o700, exist_ok=True)
                remote.dump(place / DATABASE)
            _forget_the_time_between(staged / DATABASE)
            ended = end_again(
                staged / DATABASE,
                staged / FILES,
                _known(config, manifest, remote),
                outliving=[table for one in installed().values() for table in one.outliving],
            )
            (data / UNFINISHED_NAME).touch(0o600)
            aside = _set_aside(config, place, is_file=remote is None)
            if remote is not None:
                remote.replace(staged / DATABASE)
                (staged / DATABASE).unlink()
            _move_in(staged, config)
            os.sync()
            (data / UNFINISHED_NAME).unlink()
    except (OSError, sqlite3.Error) as error:
        raise BackupFailed(f"The restore did not end: {error}. Run it again.") from error
    finally:
        lock.release()
    kept_seconds = config.sessions.tombstone_days * DAY_SECONDS
    is_forgotten = time.time() - manifest.made_at_seconds > kept_seconds
    return Restored(manifest=manifest, aside=aside, ended=ended, is_forgotten=is_forgotten)


def _known(config: Config, manifest: Manifest, remote: RemoteDatabase | None) -> list[pathlib.Path]:
    """The databases that may tell what has ended since: the one in place, those that were damaged since, and
    the one that a restore which was cut short has moved away. What was in PostgreSQL has been copied out.
    """
    database, data = config.database_path, config.data_path
    if remote is not None:
        return sorted(data.glob(f"replaced-*/{DATABASE}"))[-1:]
    damaged = [
        path
        for path in sorted(database.parent.glob(f"{database.name}.damaged-*[0-9]"))
        if path.stat().st_mtime >= manifest.made_at_seconds
    ]
    moved = sorted(data.glob(f"replaced-*/{database.name}")) if (data / UNFINISHED_NAME).exists() else []
    return [*moved[-1:], *damaged, *([database] if database.exists() else [])]


def verify(source: pathlib.Path) -> Manifest:
    """Reads a whole backup and checks it as a restore does. Raises BackupFailed."""
    _check_source(source)
    with _staging(source.parent, ".verify-") as directory:
        return read(source, directory)


@contextlib.contextmanager
def _staging(parent: pathlib.Path, prefix: str) -> Iterator[pathlib.Path]:
    """A directory for what is taken apart, which may be nested deeper than any path reaches."""
    directory = pathlib.Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
    try:
        yield directory
    finally:
        trees.remove(directory)


def read(source: pathlib.Path, target: pathlib.Path) -> Manifest:
    """Takes a backup apart into an empty directory and checks it. Raises BackupFailed."""
    try:
        with source.open("rb") as file:
            trailer, written = taken_apart(file, target)
        manifest = _manifest(target / MANIFEST)
        if trailer is None or (trailer.members, trailer.sha256) != (written.members, written.sha256):
            raise BackupFailed(
                f"{source} is damaged: it does not hold what was written. Take another backup."
            )
        _check_restorable(source, manifest, target / DATABASE)
    except _NOT_OURS as error:
        raise BackupFailed(f"{source} is no whole backup of a gateway: {error}.") from error
    except (OSError, sqlite3.Error) as error:
        raise BackupFailed(f"{source} cannot be read: {error}.") from error
    return manifest


_NOT_OURS: Final = (
    tarfile.TarError,
    msgspec.MsgspecError,
    FileNotFoundError,
    EOFError,
    ValueError,
    ArithmeticError,
    LookupError,
    RecursionError,
)
"""What reading something else, or a forged file, may come to: tarfile parses heads that may say anything."""


def _manifest(path: pathlib.Path) -> Manifest:
    if path.stat().st_size > EXTRA_BYTES:
        raise BackupFailed(f"The {MANIFEST} in it is too large for what it is.")
    return msgspec.json.decode(path.read_bytes(), type=Manifest)


def _check_restorable(source: pathlib.Path, manifest: Manifest, database: pathlib.Path) -> None:
    if manifest.format > FORMAT or manifest.schema > newest():
        raise BackupFailed(
            f"{source} was made by version {manifest.version}, which is newer than this program ({VERSION}): "
            "restore it with that one."
        )
    with contextlib.closing(sqlite3.connect(database)) as connection:
        _check_database(connection)


def _forget_the_time_between(database: pathlib.Path) -> None:
    """Clients may have seen more than the backup holds; those numbers are not used twice."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE sessions SET reserved_seq = reserved_seq + ?", (SKIPPED_SEQS,))


def _set_aside(config: Config, aside: pathlib.Path, *, is_file: bool) -> pathlib.Path | None:
    """Moves what a gateway left in the directory to a place of its own; None if there was nothing."""
    database, data = config.database_path, config.data_path
    parts = [database.with_name(database.name + end) for end in ("", "-wal", "-shm", CALLS_SUFFIX, ID_SUFFIX)]
    found = [path for path in (*(parts if is_file else ()), data / FILES, data / SNAPSHOTS) if path.exists()]
    if not found and not aside.exists():
        return None
    aside.mkdir(mode=0o700, exist_ok=True)
    secret = data / SECRET_NAME
    if secret.exists():
        shutil.copy2(secret, aside / SECRET_NAME)
    for path in found:
        shutil.move(path, aside / path.name)
    return aside


def _move_in(staged: pathlib.Path, config: Config) -> None:
    """The database last: before it nothing else is of use."""
    data = config.data_path
    (staged / FILES).mkdir(mode=0o711, exist_ok=True)
    moves = [
        (staged / FILES, data / FILES),
        (staged / SECRET_NAME, data / SECRET_NAME),
        (staged / DATABASE, config.database_path),
    ]
    for come, go in moves:
        if come.exists():
            go.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(come, go)
