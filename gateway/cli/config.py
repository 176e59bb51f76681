"""`agent-gateway config`: check, show and reload the configuration."""

from __future__ import annotations

import argparse
import os

from gateway.agents.catalogue import AgentCatalogue
from gateway.agents.help import programs_not_found
from gateway.cli.options import add_common, configured, run_by
from gateway.cli.reach import asked
from gateway.client import GatewayClient
from gateway.config.egress_warnings import warnings
from gateway.config.file import shown
from gateway.config.tables import Config
from gateway.maintenance.lock import is_held
from gateway.telemetry import terminal


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    for action, words in (
        ("check", "name every mistake"),
        ("show", "print every setting, secrets masked"),
        ("reload", "make the running gateway read it again"),
    ):
        command = actions.add_parser(action, help=words)
        add_common(command)
        run_by(command, _config)


def _config(options: argparse.Namespace) -> int:
    config = configured(options)
    match options.action:
        case "check":
            agents = AgentCatalogue(config, holds_broker=config.workers.may_hold_broker)
            missing = programs_not_found(agents)
            for words in missing:
                terminal.complain(f"agent-gateway: {words}")
            warned = [*warnings(config, os.environ), *agents.advice()]
            for words in warned:
                terminal.complain(f"agent-gateway: warning: {words}")
            found = f"; programs that are not found here: {len(missing)}" if missing else ""
            found += f"; warnings: {len(warned)}" if warned else ""
            terminal.say(f"the configuration has no mistakes{found}")
        case "show":
            for line in shown(config).split("\n"):
                terminal.say(line)
        case "reload":
            return _reload_running(config)
    return 0


def _reload_running(config: Config) -> int:
    """The exit code. It is about a gateway that runs, never one of our own."""
    if not is_held(config.data_path):
        terminal.complain(f"agent-gateway: no gateway runs on {config.data_path}: nothing to reload")
        return 1
    return asked(config, _reload)


async def _reload(client: GatewayClient) -> None:
    """Makes the gateway read its configuration again, and says what came of it."""
    done = await client.reload()
    terminal.say(f"changed: {', '.join(done.changed) or 'nothing'}")
    if done.needs_restart:
        terminal.say(f"after a restart: {', '.join(done.needs_restart)}")
