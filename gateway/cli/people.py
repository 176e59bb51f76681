"""`agent-gateway people`: who uses the gateway, and disabling somebody."""

from __future__ import annotations

import argparse

from gateway.answers import PersonSummary
from gateway.cli.options import add_common, configured, run_by
from gateway.cli.reach import asked
from gateway.client import GatewayClient
from gateway.config.tables import DEFAULT_TENANT
from gateway.telemetry import terminal


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    listing = actions.add_parser("ls", help="list people with what they have and have used today")
    listing.add_argument("--tenant", help="only of this tenant")
    listing.add_argument("--visitors", action="store_true", help="list anonymous visitors, too")
    disable = actions.add_parser(
        "disable", help="refuse a person and end what runs for them; nothing is erased"
    )
    enable = actions.add_parser("enable", help="serve a person again")
    for command in (disable, enable):
        command.add_argument(
            "name", metavar="NAME", help="TENANT/SUBJECT, or a subject of the tenant default"
        )
    for command in (listing, disable, enable):
        add_common(command)
        run_by(command, _people)


def _people(options: argparse.Namespace) -> int:
    async def act(client: GatewayClient) -> None:
        match options.action:
            case "ls":
                await _list_people(client, tenant=options.tenant, visitors=options.visitors)
            case "disable":
                _tell(await client.disable_person(*named(options.name)))
            case "enable":
                _tell(await client.enable_person(*named(options.name)))

    return asked(configured(options), act)


def named(name: str) -> tuple[str, str]:
    """The tenant and the subject that a NAME means; no tenant's name has a slash."""
    tenant, separator, subject = name.partition("/")
    return (tenant, subject) if separator else (DEFAULT_TENANT, name)


async def _list_people(client: GatewayClient, *, tenant: str | None, visitors: bool) -> None:
    """Every person, a line each."""
    numbers = f"{'LIVE':>5} {'STORED':>7} {'KEYS':>4} {'MESSAGES':>9} {'TOKENS':>11} {'COST':>9} {'MB':>8}"
    terminal.say(f"{'PERSON':32} {'STATE':8} {numbers}  {'LAST USED':24}  OWN KEYS")
    found = await client.people(tenant=tenant, visitors=visitors)
    for person in found.people:
        terminal.say(
            f"{person.tenant + '/' + person.subject:32} {_state(person):8} {person.sessions_live:5} "
            f"{person.sessions_stored:7} {person.keys:4} {person.messages:9} {person.tokens:11} "
            f"{person.cost_usd:9.2f} {person.stored_bytes / 1e6:8.1f}  {person.last_used_at or 'never':24}  "
            f"{', '.join(person.own_keys) or '-'}"
        )
    if found.has_more:
        terminal.complain(f"only the {len(found.people)} who were last active are listed; name a --tenant")


def _state(person: PersonSummary) -> str:
    return "disabled" if person.is_disabled else "enabled"


def _tell(person: PersonSummary) -> None:
    """What came of it."""
    name = f"{person.tenant}/{person.subject}"
    has = f"{person.sessions_stored} stored sessions, {person.keys} API keys"
    terminal.say(f"{name}: {_state(person)}; {has}")
    if not person.sessions_stored and not person.keys:
        terminal.complain(f"this gateway knows no session and no key of {name}: check the name")
