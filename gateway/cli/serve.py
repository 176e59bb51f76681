"""`agent-gateway serve`: the gateway and its page."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import pathlib
import socket
import sys
import threading
import webbrowser
from typing import Final

import msgspec
import uvloop

from gateway.agents.catalogue import AgentCatalogue
from gateway.agents.help import programs_not_found
from gateway.app import Gateway
from gateway.cli.kept_keys import ask_for_keys
from gateway.cli.options import USAGE_ERROR, configured, presets_of, run_by
from gateway.config.addresses import is_loopback
from gateway.config.known_agents import KNOWN_AGENTS
from gateway.config.tables import Config
from gateway.errors import GatewayError, StoreFailed
from gateway.maintenance.lock import is_held
from gateway.server.server import listen, serve, tune
from gateway.server.succession import Predecessor
from gateway.server.systemd import passed_listener
from gateway.stores.opening import migrations_of
from gateway.stores.sqlite.schema import is_current
from gateway.telemetry import logs, processor, terminal
from gateway.version import VERSION
from gateway.workers import memory

log = logging.getLogger(__name__)

SWITCH_SECONDS: Final = 0.0005
"""So long a thread that stores events may keep the loop from the interpreter; Python's own 5 ms are most of
what an event takes from an agent to its reader.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (8080; 0: any free one)")
    parser.add_argument(
        "--data-dir", metavar="DIR", help="where sessions are kept (~/.local/share/agent-gateway)"
    )
    parser.add_argument("--config", type=pathlib.Path, metavar="FILE", help="a TOML file")
    parser.add_argument(
        "--agent",
        action="append",
        default=[],
        metavar="NAME[=COMMAND]",
        help="offer an ACP agent, the first one by default; may be repeated. Without a command one of: "
        + ", ".join(KNOWN_AGENTS),
    )
    parser.add_argument(
        "--agent-env",
        action="append",
        default=[],
        metavar="VARIABLE",
        help="pass this variable of the environment on to the agents named by --agent; may be repeated",
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        help="listen beyond this machine, although in open mode everyone who reaches it may use it",
    )
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="take the place of the gateway that runs on this data directory, which ends when its turns have",
    )
    run_by(parser, _serve)


def _serve(options: argparse.Namespace) -> int:
    config = configured(options)
    if not options.agent_env:
        try:
            if ask_for_keys(config, presets_of(options)):
                config = configured(options)
        except OSError as error:
            terminal.complain(f"agent-gateway: the key cannot be kept: {error}")
            return 1
    logs.configure(level=config.server.log_level, form=config.server.log_format)
    try:
        listener = passed_listener()
    except OSError as error:
        terminal.complain(f"agent-gateway: the service manager's socket: {error}")
        return 1
    predecessor = None
    if options.take_over and is_held(config.data_path):
        try:
            predecessor = _predecessor(config)
        except OSError as error:
            terminal.complain(f"agent-gateway: the gateway that runs there cannot hand over: {error}")
            return 1
        except GatewayError as error:
            terminal.complain(f"agent-gateway: {error}")
            return 1
        listener = predecessor.listener
    host = config.server.host if listener is None else str(listener.getsockname()[0])
    if "open" in config.auth.modes and not is_loopback(host) and not config.server.allow_remote:
        terminal.complain(
            f"agent-gateway: {host} is reached from other machines, and without credentials "
            "everybody who reaches it could run the agents. Ask for credentials (auth.modes), listen on "
            "127.0.0.1, or say --allow-remote."
        )
        return USAGE_ERROR
    server = config.server
    if listener is not None:
        tune(listener, half_open_seconds=server.half_open_seconds)
        config = msgspec.structs.replace(config, server=msgspec.structs.replace(server, host=host))
        return _run(options, config, listener, predecessor)
    try:
        listener = listen(server.host, server.port, half_open_seconds=server.half_open_seconds)
    except OSError as error:
        terminal.complain(
            f"agent-gateway: cannot listen on {config.server.host}:{config.server.port}: {error.strerror}. "
            "Choose another with --port."
        )
        return 1
    return _run(options, config, listener)


def _predecessor(config: Config) -> Predecessor:
    """The gateway that runs on the directory. Raises OSError, and StoreFailed in words."""
    if config.is_on_postgresql:
        raise StoreFailed(
            "On PostgreSQL a gateway takes no other's place: give each a cluster.url, start the new one "
            "beside the old one, and stop that."
        )
    if not is_current(config.database_path, migrations_of(config)):
        raise StoreFailed(
            "The gateway that runs is of a version with other tables than this program: stop it, and start "
            "this one."
        )
    return Predecessor.ask(config.data_path)


def _run(
    options: argparse.Namespace,
    config: Config,
    listener: socket.socket,
    predecessor: Predecessor | None = None,
) -> int:
    os.umask(0o077)
    memory.return_large_blocks()
    sys.setswitchinterval(SWITCH_SECONDS)
    processor.go_first()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve_until_signal(options, config, listener, predecessor))
    except (GatewayError, OSError) as error:
        terminal.complain(f"agent-gateway: {error}")
        return 1
    return 0


async def _serve_until_signal(
    options: argparse.Namespace, config: Config, listener: socket.socket, predecessor: Predecessor | None
) -> None:
    for words in programs_not_found(AgentCatalogue(config)):
        log.warning("%s", words)
    url = _url(config.server.host, listener.getsockname()[1])
    gateway = Gateway(config, reread=lambda: configured(options), predecessor=predecessor)
    await serve(gateway, listener, url=url, on_ready=lambda: _announce(url, is_opening=options.open))


def _announce(url: str, *, is_opening: bool) -> None:
    with contextlib.suppress(terminal.ReaderGone):  # it serves all the same
        terminal.say(f"agent-gateway {VERSION}: {url}", at_once=True)
    if is_opening:
        threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
