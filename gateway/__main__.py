"""The command line: `agent-gateway serve | sessions | doctor`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import pathlib
import socket
import sys
import threading
import webbrowser
from typing import Any

from gateway import logs
from gateway.api.guard import is_loopback
from gateway.config import Config, ConfigError, load
from gateway.errors import GatewayError
from gateway.version import VERSION

log = logging.getLogger(__name__)

USAGE_ERROR = 2


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except ConfigError as error:
        for mistake in error.mistakes:
            print(f"agent-gateway: {mistake}", file=sys.stderr)
        return USAGE_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agent-gateway", description="Serve any ACP agent to many people from one box."
    )
    parser.add_argument("--version", action="version", version=f"agent-gateway {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the gateway and its page")
    serve.add_argument("--host", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on (8080; 0: any free one)")
    serve.add_argument("--data-dir", metavar="DIR", help="where sessions keep their files")
    serve.add_argument("--config", type=pathlib.Path, metavar="FILE", help="a TOML file")
    serve.add_argument(
        "--agent",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="offer an ACP agent; may be repeated",
    )
    serve.add_argument("--open", action="store_true", help="open the page in a browser")
    serve.add_argument(
        "--allow-remote",
        action="store_true",
        help="listen beyond this machine, although without credentials whoever reaches it may use it",
    )
    serve.set_defaults(run=_serve)
    _add_sessions(commands)
    doctor = commands.add_parser("doctor", help="look at what a gateway needs")
    _add_common(doctor)
    doctor.set_defaults(run=_doctor)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", metavar="DIR", help="where sessions are kept")
    parser.add_argument("--config", type=pathlib.Path, metavar="FILE", help="a TOML file")


def _add_sessions(commands: Any) -> None:
    parser = commands.add_parser("sessions", help="list, show, export and erase sessions")
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    for action, words in (
        ("ls", "list them"),
        ("show", "what is known of one"),
        ("export", "write its events, or its conversation, to standard output"),
        ("rm", "end it and erase everything of it"),
    ):
        command = actions.add_parser(action, help=words)
        _add_common(command)
        if action != "ls":
            command.add_argument("ids", nargs="*", metavar="SESSION")
            command.add_argument("--all", action="store_true", help="every session")
        command.add_argument("--format", choices=("jsonl", "markdown"), default="jsonl")
        command.set_defaults(run=_sessions)


def _sessions(options: argparse.Namespace) -> int:
    from gateway import commands  # heavy

    config = _configured(options)
    logs.configure(level="error", form="text")
    ids, is_all = getattr(options, "ids", []), getattr(options, "all", False)
    if options.action != "ls" and not ids and not is_all:
        print("agent-gateway: name a session, or say --all", file=sys.stderr)
        return USAGE_ERROR
    return commands.sessions(config, options.action, ids, form=options.format, is_all=is_all)


def _doctor(options: argparse.Namespace) -> int:
    from gateway import commands  # heavy

    return commands.doctor(_configured(options))


def _serve(options: argparse.Namespace) -> int:
    config = _configured(options)
    logs.configure(level=config.server.log_level, form=config.server.log_format)
    if not is_loopback(config.server.host) and not config.server.allow_remote:
        print(
            f"agent-gateway: {config.server.host} is reached from other machines, "
            "and there are no credentials yet: everybody who reaches it could run "
            "the agents. Listen on 127.0.0.1, or say --allow-remote.",
            file=sys.stderr,
        )
        return USAGE_ERROR
    from gateway.server import listen  # heavy: only `serve` needs it

    try:
        server = config.server
        listener = listen(server.host, server.port, half_open_seconds=server.half_open_seconds)
    except OSError as error:
        print(
            f"agent-gateway: cannot listen on {config.server.host}:{config.server.port}: {error.strerror}. "
            "Choose another with --port.",
            file=sys.stderr,
        )
        return 1
    return _run(config, listener, is_opening=options.open)


def _run(config: Config, listener: socket.socket, *, is_opening: bool) -> int:
    import uvloop

    os.umask(0o077)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve_until_signal(config, listener, is_opening=is_opening))
    except (GatewayError, OSError) as error:
        print(f"agent-gateway: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve_until_signal(config: Config, listener: socket.socket, *, is_opening: bool) -> None:
    from gateway.app import Gateway
    from gateway.server import serve

    url = _url(config.server.host, listener.getsockname()[1])
    await serve(Gateway(config), listener, url=url, on_ready=lambda: _announce(url, is_opening=is_opening))


def _announce(url: str, *, is_opening: bool) -> None:
    print(f"agent-gateway {VERSION}: {url}", flush=True)
    if is_opening:
        threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()


def _configured(options: argparse.Namespace) -> Config:
    overrides: dict[str, Any] = {
        "server.host": getattr(options, "host", None),
        "server.port": getattr(options, "port", None),
        "server.allow_remote": getattr(options, "allow_remote", None) or None,
        "data_dir": options.data_dir,
    }
    mistakes = []
    for item in getattr(options, "agent", []):
        name, separator, command = item.partition("=")
        if separator and name and command:
            overrides[f"agents.{name}.command"] = command
        else:
            mistakes.append(f"--agent {item}: write NAME=COMMAND")
    path = options.config or (pathlib.Path(p) if (p := os.environ.get("AGENT_GATEWAY_CONFIG")) else None)
    config = load(path, overrides={name: value for name, value in overrides.items() if value is not None})
    if mistakes:
        raise ConfigError(mistakes)
    return config


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


if __name__ == "__main__":
    sys.exit(main())
