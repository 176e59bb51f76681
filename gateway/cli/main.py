"""The command line: `agent-gateway serve | sessions | keys | people | tenants | usage | nodes | config |
egress | top | mcp | doctor | backup | restore | store | drain`.

Each command has a module, which is imported only if its command is asked for: `--version` and `--help` import
none of them, `keys` no server.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import sys
from typing import Any, Final, NamedTuple

from gateway.telemetry import hollow, terminal
from gateway.version import VERSION

READER_GONE: Final = 141
"""As a shell tells of a program that SIGPIPE ended."""


class Command(NamedTuple):
    """A command: `module` has `add(parser)`, which declares its arguments and what runs it."""

    module: str
    words: str


COMMANDS: Final = {
    "serve": Command("serve", "run the gateway and its page"),
    "sessions": Command("sessions", "list, show, export and erase sessions"),
    "keys": Command("keys", "make, list, rotate and revoke API keys of the running gateway"),
    "people": Command("people", "list, disable and enable the people of the running gateway"),
    "tenants": Command("tenants", "what the tenants of the running gateway use"),
    "usage": Command("usage", "what was used and what it cost, by day, model, agent, person, …"),
    "nodes": Command("nodes", "the gateways that share a database; take the place of one that hangs away"),
    "config": Command("config", "check, show and reload the configuration"),
    "egress": Command("egress", "say whether workers may reach a host, and by which line"),
    "top": Command("top", "watch the running gateway: sessions, memory, rates, tenants"),
    "doctor": Command("doctor", "look at what a gateway needs"),
    "mcp": Command("mcp", "serve the tools of applications to a desktop MCP client"),
    "backup": Command("backup", "write everything that is kept to one file, while the gateway runs"),
    "restore": Command("restore", "put a backup into the data directory; no gateway may run there"),
    "store": Command("store", "copy a store into another, of any engine, and compare two"),
    "drain": Command("drain", "let the running gateway finish its turns and exit; wait for it"),
}


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; its exit code."""
    terminal.open_streams()
    try:
        try:
            return _commanded(sys.argv[1:] if arguments is None else arguments)
        finally:
            terminal.flush()
    except terminal.ReaderGone:
        terminal.forsake()
        return READER_GONE
    except OSError as error:  # standard output cannot be written
        terminal.forsake()
        terminal.complain(f"agent-gateway: {error}")
        return 1


def _commanded(arguments: list[str]) -> int:
    asked = next((word for word in arguments if not word.startswith("-")), "")
    options = _parser(asked).parse_args(arguments)
    return int(options.run(options))


def _parser(asked: str) -> argparse.ArgumentParser:
    """Every command by its name; the arguments of the one that is asked for."""
    parser = argparse.ArgumentParser(
        prog="agent-gateway", description="Serve any ACP agent to many people from one box."
    )
    parser.add_argument("--version", action="version", version=f"agent-gateway {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        its_parser = commands.add_parser(name, help=command.words)
        if name == asked:
            _imported(f"gateway.cli.{command.module}").add(its_parser)
    return parser


def _imported(name: str) -> Any:
    """A module, with all that it imports. Nothing of it is garbage, so no circles of that are looked for."""
    for hollowed, places in hollow.HOLLOW.items():
        hollow.hollow(hollowed, places)
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()
