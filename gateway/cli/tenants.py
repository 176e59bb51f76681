"""`agent-gateway tenants`: what they use."""

from __future__ import annotations

import argparse

from gateway.cli.options import add_common, configured, run_by
from gateway.cli.reach import asked
from gateway.client import GatewayClient
from gateway.telemetry import terminal


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    listing = actions.add_parser("ls", help="list them")
    add_common(listing)
    run_by(listing, lambda options: asked(configured(options), _list_tenants))


async def _list_tenants(client: GatewayClient) -> None:
    """Every tenant, a line each."""
    numbers = f"{'LIVE':>5} {'STORED':>7} {'TURNS':>5} {'MESSAGES':>9} {'TOKENS':>11} {'MB':>8}"
    terminal.say(f"{'TENANT':18} {numbers}  TITLE")
    for tenant in await client.tenants():
        state = " (disabled)" if tenant.is_disabled else ""
        terminal.say(
            f"{tenant.name:18} {tenant.sessions_live:5} {tenant.sessions_stored:7} "
            f"{tenant.concurrent_turns:5} {tenant.messages:9} {tenant.tokens:11} "
            f"{tenant.stored_bytes / 1e6:8.1f}  {tenant.title}{state}"
        )
