"""`agent-gateway nodes`: the gateways that share a database; ending one, putting out one that hangs."""

from __future__ import annotations

import argparse
from typing import Any

from gateway.cli.options import add_common, configured, run_by
from gateway.cli.reach import spoken
from gateway.config.tables import Config
from gateway.errors import StoreFailed
from gateway.stores.bulk_opening import of_postgresql
from gateway.telemetry import terminal


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    add_common(parser)
    actions = parser.add_subparsers(metavar="ACTION", dest="action")
    fence = actions.add_parser("fence", help="take one's place away: it writes nothing more, and ends")
    add_common(fence)
    fence.add_argument("name", metavar="NAME")
    drain = actions.add_parser(
        "drain", help="have one give its sessions to the others, let its turns end, and exit"
    )
    add_common(drain)
    drain.add_argument("name", metavar="NAME")
    drain.add_argument("--wait", action="store_true", help="return when it has left")
    run_by(fence, _fence)
    run_by(drain, _drain)
    run_by(parser, _list)


def looking(config: Config) -> Any:
    """What looks into the database. Raises StoreFailed if the store is not on PostgreSQL."""
    if not config.is_on_postgresql:
        raise StoreFailed("Only gateways on PostgreSQL share a store: this configuration has one of its own.")
    return of_postgresql("looking")


def _list(options: argparse.Namespace) -> int:
    return spoken(_listed(configured(options)))


async def _listed(config: Config) -> int:
    found = await looking(config).watched(config.store)
    terminal.say(f"{'NAME':20} {'STATE':9} {'BEAT':>7} {'SESSIONS':>8} {'WORKERS':>10}  {'VERSION':12} URL")
    for one in found:
        node, load = one.node, one.node.load
        workers = f"{load.workers}/{load.worker_limit}"
        terminal.say(
            f"{node.name:20} {load.state:9} {one.still_seconds:5.1f} s {load.sessions:8} {workers:>10}"
            f"  {node.version:12} {node.url or node.place}"
        )
    return 0


def _fence(options: argparse.Namespace) -> int:
    config = configured(options)

    async def act() -> int:
        if not await looking(config).fence(config.store, options.name):
            terminal.complain(f"agent-gateway: no gateway on this database is called {options.name}")
            return 1
        terminal.say(f"{options.name}: its place is gone; the others take over what it has")
        return 0

    return spoken(act())


def _drain(options: argparse.Namespace) -> int:
    config, name = configured(options), options.name

    def asked() -> None:
        terminal.say(f"{name}: it gives its sessions to the others, and ends when its turns have ended")

    async def act() -> int:
        if not await looking(config).drain(config.store, name, on_asked=asked, waits=options.wait):
            terminal.complain(f"agent-gateway: none of several gateways on this database is called {name}")
            return 1
        if options.wait:
            terminal.say(f"{name}: it has left")
        return 0

    return spoken(act())
