"""`agent-gateway sessions`: list, show, export and erase them; say which gateway has one."""

from __future__ import annotations

import argparse
import codecs
import sys
from collections.abc import AsyncIterator, Iterable
from typing import Final

from gateway.answers import SessionSummary
from gateway.cli.options import USAGE_ERROR, add_common, configured, run_by
from gateway.cli.reach import asked, reached, spoken
from gateway.client import GatewayClient
from gateway.config.tables import Config
from gateway.principal import LOCAL
from gateway.sights import OwnedSession
from gateway.telemetry import logs, terminal

_HEAD: Final = f"{'SESSION':32} {'STATE':12} {'AGENT':14} {'MESSAGES':>8}  {'LAST ACTIVE':24}  TITLE"


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    for action, words in (
        ("ls", "list them"),
        ("show", "what is known of one"),
        ("export", "write its events, or its conversation, to standard output"),
        ("rm", "end it and erase everything of it"),
        ("where", "which of several gateways has it"),
    ):
        command = actions.add_parser(action, help=words)
        add_common(command)
        if action != "ls":
            command.add_argument("ids", nargs="*", metavar="SESSION")
            command.add_argument("--all", action="store_true", help="every session of the owner")
        else:
            command.add_argument("--all", action="store_true", help="everybody's, with their owners")
            command.add_argument(
                "--tenant", metavar="TENANT", help="everybody's of a tenant, with their owners"
            )
        command.add_argument("--format", choices=("jsonl", "markdown"), default="jsonl")
        command.add_argument("--owner", metavar="TENANT/SUBJECT", help="whose; else one's own at the machine")
        run_by(command, _sessions)


def _sessions(options: argparse.Namespace) -> int:
    config = configured(options)
    logs.configure(level="error", form="text")
    ids, is_all = getattr(options, "ids", []), getattr(options, "all", False)
    if options.action != "ls" and not ids and not is_all:
        terminal.complain("agent-gateway: name a session, or say --all")
        return USAGE_ERROR
    if options.action == "ls" and (is_all or options.tenant):
        if options.owner:
            terminal.complain(
                "agent-gateway: --owner is one owner, --all and --tenant are all: say one of them"
            )
            return USAGE_ERROR
        return _owned_sessions(config, tenant=options.tenant)
    if options.action == "where":
        return spoken(_placed(config, ids, owner=options.owner or LOCAL.owner))
    return spoken(
        _acted(config, options.action, ids, form=options.format, is_all=is_all, owner=options.owner)
    )


async def _acted(
    config: Config, action: str, ids: list[str], *, form: str, is_all: bool, owner: str | None
) -> int:
    async with reached(config, owner=owner) as client:
        if action == "ls":
            found = await client.sessions()
            _print_table(found)
            if not found and not owner and (await client.owned_sessions(limit=1)).sessions:
                terminal.complain("others have sessions here: say --all, --tenant TENANT or --owner OWNER")
            return 0
        names = [session.session_id for session in await client.sessions()] if is_all else ids
        for session_id in names:
            await _one(client, action, session_id, form=form)
        if action == "rm" and is_all and owner and (removed := await client.erase_own_keys()):
            terminal.say(f"{owner}: {removed} keys of their own erased")
    return 0


async def _placed(config: Config, ids: list[str], *, owner: str) -> int:
    """Asks the database, not a gateway: one may hang."""
    from gateway.cli.nodes import looking  # an engine of the store, which the other actions do not need

    code = 0
    for session_id in ids:
        found = await looking(config).where(config.store, owner, session_id)
        if found is None:
            code = 1
            terminal.say(f"{session_id}: {owner} has no such session")
        elif found.place is None:
            terminal.say(f"{session_id}: no gateway has it; the next that is asked takes it")
        else:
            doing = ", which answers in it now" if found.is_answering else ""
            terminal.say(f"{session_id}: {found.place.name} at {found.place.url}{doing}")
    return code


def _owned_sessions(config: Config, *, tenant: str | None) -> int:
    """Everybody's sessions with their owners; the exit code."""

    async def act(client: GatewayClient) -> None:
        found = await client.owned_sessions(tenant=tenant)
        width = max([32, *(len(session.owner) for session in found.sessions)])
        terminal.say(f"{'OWNER':{width}} {_HEAD}")
        for session in found.sessions:
            terminal.say(f"{session.owner:{width}} {_row(session)}")
        if found.has_more:
            terminal.complain(
                f"only the {len(found.sessions)} that were active last; name a --tenant or an --owner"
            )

    return asked(config, act)


async def _one(client: GatewayClient, action: str, session_id: str, *, form: str) -> None:
    if action == "show":
        session = await client.session(session_id)
        for name in session.__struct_fields__:
            terminal.say(f"{name:15} {getattr(session, name)}")
    elif action == "export":
        await _export(client.export(session_id, form=form))
    else:
        receipt = (await client.delete(session_id)).receipt
        terminal.say(f"{session_id}: erased; {receipt.processes} processes ended, {receipt.survivors} left")


async def _export(chunks: AsyncIterator[bytes]) -> None:
    """To a file or a program as it is; to a terminal without what could do more than stand there."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace") if sys.stdout.isatty() else None
    async for chunk in chunks:
        if decoder is None:
            terminal.say_raw(chunk)
        else:
            terminal.say_part(decoder.decode(chunk))
    terminal.flush()


def _print_table(found: Iterable[SessionSummary]) -> None:
    terminal.say(_HEAD)
    for session in found:
        terminal.say(_row(session))


def _row(session: SessionSummary | OwnedSession) -> str:
    return (
        f"{session.session_id:32} {session.state:12} {session.agent:14} {session.messages:8}  "
        f"{session.last_active_at:24}  {session.title or ''}"
    )
