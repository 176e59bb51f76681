"""`agent-gateway keys`: make, list, rotate and revoke API keys."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Container, Sequence

from gateway.answers import MintedKey
from gateway.auth.keys import NAME_WORDS, is_name
from gateway.cli.options import USAGE_ERROR, add_common, configured, run_by
from gateway.cli.reach import Mistakes, asked
from gateway.client import GatewayClient
from gateway.config.tables import DEFAULT_TENANT
from gateway.principal import is_subject
from gateway.telemetry import terminal


class NotMade(Mistakes):
    """No key was made."""

    def __init__(self, file: pathlib.Path, mistakes: list[str]) -> None:
        super().__init__([*(f"{file}: {words}" for words in mistakes), "no key was made"])


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    create = actions.add_parser("create", help="make a key and print it, this once")
    create.add_argument("name", nargs="?", metavar="NAME", help="what people call it")
    create.add_argument(
        "--file",
        type=pathlib.Path,
        metavar="FILE",
        help="make one for each name in a file, a name a line; prints a name, a tab and a key a line",
    )
    create.add_argument("--tenant", default=DEFAULT_TENANT)
    create.add_argument("--subject", help="on whose behalf it acts (its name)")
    scopes = "of read, chat, approve, support, operate, admin; with commas"
    create.add_argument("--scopes", default="chat", help=scopes)
    create.add_argument("--days", type=float, help="until it expires")
    rotate = actions.add_parser("rotate", help="make a key of the same rights in place of one")
    rotate.add_argument("id", metavar="KEY")
    rotate.add_argument("--overlap-hours", type=float, default=24, help="how long the old one goes on")
    revoke = actions.add_parser("revoke", help="end a key at once")
    revoke.add_argument("id", metavar="KEY")
    for command in (create, rotate, revoke, actions.add_parser("ls", help="list them")):
        add_common(command)
        run_by(command, _keys)


def _keys(options: argparse.Namespace) -> int:
    if options.action == "create" and (options.name is None) == (options.file is None):
        terminal.complain("agent-gateway: say one NAME, or the --file with a name a line")
        return USAGE_ERROR
    if options.action == "create" and options.file and options.subject:
        terminal.complain("agent-gateway: with --file everybody's subject is their name: leave out --subject")
        return USAGE_ERROR

    async def act(client: GatewayClient) -> None:
        match options.action:
            case "ls":
                await _list_keys(client)
            case "create":
                scopes = [scope.strip() for scope in options.scopes.split(",") if scope.strip()]
                if options.file:
                    rights = {"tenant": options.tenant, "scopes": scopes, "days": options.days}
                    return await _make_keys(client, options.file, **rights)
                _told(
                    await client.mint_key(
                        options.name,
                        tenant=options.tenant,
                        subject=options.subject,
                        scopes=scopes,
                        days=options.days,
                    )
                )
            case "rotate":
                _told(await client.rotate_key(options.id, overlap_hours=options.overlap_hours))
            case "revoke":
                terminal.say(f"{(await client.revoke_key(options.id)).id}: revoked")

    return asked(configured(options), act, makes_keys=options.action in ("create", "rotate"))


async def _list_keys(client: GatewayClient) -> None:
    """Every key, a line each."""
    terminal.say(f"{'KEY':12} {'STATE':8} {'TENANT':14} {'SUBJECT':20} {'SCOPES':20} {'LAST USED':24}  NAME")
    for key in await client.keys():
        terminal.say(
            f"{key.id:12} {key.state:8} {key.tenant:14} {key.subject:20} {' '.join(key.scopes):20} "
            f"{key.last_used_at or 'never':24}  {key.name}"
        )


async def _make_keys(
    client: GatewayClient, file: pathlib.Path, *, tenant: str, scopes: Sequence[str], days: float | None
) -> None:
    """A key for each name in a file: all of them and each printed, or none. Raises NotMade."""
    known = {key.name for key in await client.keys() if key.state == "good" and key.tenant == tenant}
    names = _names(file, known)
    made: list[MintedKey] = []
    try:
        for name in names:
            one = await client.mint_key(name, tenant=tenant, scopes=scopes, days=days)
            made.append(one)
        for one in made:
            terminal.say_part(f"{one.summary.name}\t{one.key}\n")
        terminal.flush()
    except BaseException:
        for one in made:
            await client.revoke_key(one.summary.id)
        raise
    terminal.complain(f"{len(made)} keys of {tenant}, for {' '.join(scopes)}; they are shown this once")


def _names(file: pathlib.Path, known: Container[str]) -> list[str]:
    """The names in a file, a name a line; empty lines count for nothing. Raises NotMade."""
    try:
        lines = file.read_text("utf-8-sig").split("\n")
    except OSError as error:
        raise NotMade(file, [error.strerror or str(error)]) from error
    except UnicodeDecodeError as error:
        raise NotMade(file, ["not text in UTF-8"]) from error
    first: dict[str, int] = {}
    mistakes = []
    for number, name in enumerate((line.strip() for line in lines), 1):
        if not name:
            continue
        if not is_name(name) or not is_subject(name):
            mistakes.append(f"line {number}: a name is {NAME_WORDS}, without ~ first: {name[:40]}")
        elif name in first:
            mistakes.append(f"line {number}: {name} is in line {first[name]} already")
        elif name in known:
            mistakes.append(f"line {number}: {name} has a key already; a new one for it: keys rotate")
        first.setdefault(name, number)
    if not first:
        mistakes.append("no name in it")
    if mistakes:
        raise NotMade(file, mistakes)
    return list(first)


def _told(minted: MintedKey) -> None:
    """A new key: its text alone on standard output, everything else beside it."""
    terminal.say(minted.key)
    summary = minted.summary
    terminal.complain(
        f"of {summary.tenant}/{summary.subject}, for {' '.join(summary.scopes)}; it is shown this once"
    )
