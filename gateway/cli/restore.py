"""`agent-gateway restore`: a backup back into the data directory."""

from __future__ import annotations

import argparse
import pathlib

from gateway.cli.backup import careful
from gateway.cli.options import add_common, configured, run_by
from gateway.config.tables import Config
from gateway.maintenance import backup
from gateway.telemetry import terminal


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("source", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--check", action="store_true", help="only read it and say whether it is whole")
    parser.add_argument("--replace", action="store_true", help="keep aside what is in the data directory")
    add_common(parser)
    run_by(parser, _restore)


def _restore(options: argparse.Namespace) -> int:
    config = configured(options)
    if options.check:
        return _checked(options.source)
    return _restored(config, options.source, is_replacing=options.replace)


def _restored(config: Config, source: pathlib.Path, *, is_replacing: bool) -> int:

    def act() -> None:
        done = backup.restore(config, source, is_replacing=is_replacing)
        terminal.say(f"{config.data_path}: {done.manifest.sessions} sessions as of {done.manifest.made_at}")
        _tell_ended(done, days=config.sessions.tombstone_days)
        if done.aside is not None:
            terminal.say(f"what was there is kept in {done.aside}; remove it when all is well")

    return careful(act)


def _tell_ended(done: backup.Restored, *, days: float) -> None:
    ended, is_back = done.ended, "is back: erase and revoke it again"
    if ended.told_by:
        terminal.say(
            f"erased again, as it was erased after that: {ended.sessions} sessions; ended again: "
            f"{ended.keys} API keys, {ended.sign_ins} people's sign-ins, {ended.links} shared links, "
            f"{ended.secrets} keys and credentials of people and tenants; "
            f"disabled again: {ended.people} people, {ended.tenants} tenants"
        )
    for path in ended.unread:
        terminal.complain(f"{path} cannot be read: what only it knows to be erased or revoked {is_back}")
    if not ended.told_by and not ended.unread:
        terminal.complain(f"no database was there to tell what was erased or revoked since: it {is_back}")
    if ended.told_by and done.is_forgotten:
        terminal.complain(f"the backup is older than {days:g} days: what was erased longer ago {is_back}")


def _checked(source: pathlib.Path) -> int:

    def act() -> None:
        found = backup.verify(source)
        words = f"{found.sessions} sessions as of {found.made_at}, schema {found.schema}"
        terminal.say(f"{source}: whole; {words}, made by {found.version}")

    return careful(act)
