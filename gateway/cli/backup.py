"""`agent-gateway backup`: everything that is kept, in one file."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable

from gateway.cli.options import add_common, configured, run_by
from gateway.errors import GatewayError
from gateway.maintenance import backup
from gateway.maintenance.archive import BackupFailed
from gateway.telemetry import terminal


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument(
        "target", type=pathlib.Path, metavar="FILE|DIR", help="a new file, or where to make one"
    )
    add_common(parser)
    run_by(parser, _backup)


def _backup(options: argparse.Namespace) -> int:
    """The file's name alone goes to standard output."""
    config = configured(options)

    def act() -> None:
        made = backup.back_up(config, options.target)
        terminal.say(str(made.path))
        terminal.complain(f"{made.manifest.sessions} sessions, {made.size_bytes / 1e6:.1f} MB")
        if made.left_out:
            what = "files or directories could not be read, or have too long a path, and are left out"
            terminal.complain(f"{made.left_out} {what}")

    return careful(act)


def careful(act: Callable[[], None]) -> int:
    """Does it; the exit code, with what went wrong in words."""
    try:
        act()
    except (BackupFailed, GatewayError, OSError) as error:
        terminal.complain(f"agent-gateway: {error}")
        return 1
    return 0
