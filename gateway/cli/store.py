"""`agent-gateway store copy FROM TO` and `store check A B`: stores of any engine, moved and compared."""

from __future__ import annotations

import argparse
import contextlib
import pathlib
from collections.abc import Coroutine, Iterator
from typing import Any, Final

from gateway.cli.options import add_common, configured, run_by
from gateway.cli.reach import spoken
from gateway.config.tables import Config
from gateway.errors import StoreFailed
from gateway.maintenance import copying
from gateway.maintenance.lock import DataLock
from gateway.stores.bulk_opening import file_of
from gateway.telemetry import terminal

INTERRUPTED: Final = 130
"""As a shell tells of a program that SIGINT ended."""
_WHERE: Final = "a file, a data directory, sqlite:///FILE, postgresql://…, or @FILE, which holds such a URL"


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    copy = commands.add_parser(
        "copy", help="copy everything into an empty store, and compare; goes on if cut"
    )
    copy.add_argument("source", metavar="FROM", help=_WHERE)
    copy.add_argument("target", metavar="TO", help="a new file, or an empty database")
    add_common(copy)
    run_by(copy, _copy)
    check = commands.add_parser("check", help="compare two stores; exit code 1 if they differ")
    check.add_argument("source", metavar="A", help=_WHERE)
    check.add_argument("target", metavar="B")
    add_common(check)
    run_by(check, _check)


def _copy(options: argparse.Namespace) -> int:
    config = configured(options)

    async def act() -> int:
        source, target = _where(options.source), _where(options.target)
        with _locked(config, source, target):
            done = await copying.copy(source, target, say=terminal.complain)
            size = done.events_bytes / 1e6
            terminal.complain(f"copied {done.rows} rows, {size:.1f} MB of events in {done.seconds:.1f} s")
            return await _compared(source, target)

    return _spoken(act())


def _check(options: argparse.Namespace) -> int:
    config = configured(options)

    async def act() -> int:
        source, target = _where(options.source), _where(options.target)
        with _locked(config, source, target):
            return await _compared(source, target)

    return _spoken(act())


async def _compared(source: str, target: str) -> int:
    found = await copying.check(source, target)
    for line in found.differences:
        terminal.say(f"differs: {line}")
    words = f"{found.tables} tables, {found.sessions} logs, {found.events} events"
    if found.differences:
        terminal.say(f"the stores differ ({words} compared)")
        return 1
    terminal.say(f"both are the same: {words}, digest {found.digest}")
    return 0


def _where(named: str) -> str:
    """`@FILE` is a URL in a file, so that no list of processes shows its password. Raises StoreFailed."""
    if not named.startswith("@"):
        return named
    path = pathlib.Path(named[1:])
    try:
        return path.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreFailed(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or 'no text'}."
        ) from error


@contextlib.contextmanager
def _locked(config: Config, *stores: str) -> Iterator[None]:
    """No gateway runs on a file that is read or filled. Raises StoreFailed."""
    files = [path for path in map(file_of, stores) if path is not None]
    directories = {path.parent for path in files if path.parent.is_dir()}
    if config.database_path in files:
        directories.add(config.data_path)
    locks = [DataLock(directory) for directory in directories]
    try:
        for lock in locks:
            lock.take()
        yield
    finally:
        for lock in locks:
            lock.release()


def _spoken(act: Coroutine[Any, Any, int]) -> int:
    try:
        return spoken(act)
    except KeyboardInterrupt:
        terminal.complain("agent-gateway: stopped; a copy goes on if it is run again")
        return INTERRUPTED
