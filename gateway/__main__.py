"""The command line: `agent-gateway serve | sessions | keys | tenants | config | top | mcp | doctor | backup |
restore | drain`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import pathlib
import shlex
import socket
import sys
import threading
import webbrowser
from typing import Any

import msgspec

from gateway.config.addresses import is_loopback
from gateway.config.file import ConfigError, load, shown
from gateway.config.known_agents import KNOWN_AGENTS, started_by
from gateway.config.tables import DEFAULT_TENANT, Config
from gateway.errors import GatewayError
from gateway.server.systemd import passed_listener
from gateway.telemetry import logs, terminal
from gateway.version import VERSION
from gateway.workers import memory

log = logging.getLogger(__name__)

USAGE_ERROR = 2
READER_GONE = 141
"""As a shell tells of a program that SIGPIPE ended."""


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; its exit code."""
    terminal.open_streams()
    try:
        try:
            return _commanded(arguments)
        finally:
            terminal.flush()
    except terminal.ReaderGone:
        terminal.forsake()
        return READER_GONE
    except OSError as error:  # standard output cannot be written
        terminal.forsake()
        terminal.complain(f"agent-gateway: {error}")
        return 1


def _commanded(arguments: list[str] | None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except ConfigError as error:
        for mistake in error.mistakes:
            terminal.complain(f"agent-gateway: {mistake}")
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
        metavar="NAME[=COMMAND]",
        help="offer an ACP agent, the first one by default; may be repeated. Without a command one of: "
        + ", ".join(KNOWN_AGENTS),
    )
    serve.add_argument(
        "--agent-env",
        action="append",
        default=[],
        metavar="VARIABLE",
        help="pass this variable of the environment on to the agents named by --agent; may be repeated",
    )
    serve.add_argument("--open", action="store_true", help="open the page in a browser")
    serve.add_argument(
        "--allow-remote",
        action="store_true",
        help="listen beyond this machine although in open mode whoever reaches it may use it",
    )
    serve.set_defaults(run=_serve)
    _add_sessions(commands)
    _add_keys(commands)
    _add_tenants(commands)
    _add_config(commands)
    _add_top(commands)
    doctor = commands.add_parser("doctor", help="look at what a gateway needs")
    _add_common(doctor)
    doctor.add_argument("--sizing", action="store_true", help="measure how many sessions this machine holds")
    doctor.add_argument("--gigabytes", type=float, help="size for so much memory instead of this machine's")
    doctor.set_defaults(run=_doctor)
    _add_mcp(commands)
    _add_care(commands)
    return parser


def _add_mcp(commands: Any) -> None:
    parser = commands.add_parser("mcp", help="serve the tools of applications to a desktop MCP client")
    parser.add_argument("--stdio", action="store_true", required=True, help="over standard input and output")
    parser.add_argument("--session", metavar="NAME", help="go on with the conversation of this name")
    _add_common(parser)
    parser.set_defaults(run=_mcp)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", metavar="DIR", help="where sessions are kept")
    parser.add_argument("--config", type=pathlib.Path, metavar="FILE", help="a TOML file")


def _add_care(commands: Any) -> None:
    backup = commands.add_parser(
        "backup", help="write everything that is kept to one file, while the gateway runs"
    )
    backup.add_argument(
        "target", type=pathlib.Path, metavar="FILE|DIR", help="a new file, or where to make one"
    )
    restore = commands.add_parser(
        "restore", help="put a backup into the data directory; no gateway may run there"
    )
    restore.add_argument("source", type=pathlib.Path, metavar="FILE")
    restore.add_argument("--check", action="store_true", help="only read it and say whether it is whole")
    restore.add_argument("--replace", action="store_true", help="keep aside what is in the data directory")
    drain = commands.add_parser(
        "drain", help="let the running gateway finish its turns and exit; wait for it"
    )
    for command, run in ((backup, _backup), (restore, _restore), (drain, _drain)):
        _add_common(command)
        command.set_defaults(run=run)


def _backup(options: argparse.Namespace) -> int:
    from gateway.cli import commands  # heavy

    return commands.back_up(_configured(options), options.target)


def _restore(options: argparse.Namespace) -> int:
    from gateway.cli import commands  # heavy

    config = _configured(options)
    if options.check:
        return commands.check_backup(options.source)
    return commands.restore(config, options.source, is_replacing=options.replace)


def _drain(options: argparse.Namespace) -> int:
    from gateway.cli import commands  # heavy

    return commands.drain(_configured(options))


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
            command.add_argument("--all", action="store_true", help="every session of the owner")
        else:
            command.add_argument("--all", action="store_true", help="everybody's, with their owners")
            command.add_argument(
                "--tenant", metavar="TENANT", help="everybody's of a tenant, with their owners"
            )
        command.add_argument("--format", choices=("jsonl", "markdown"), default="jsonl")
        command.add_argument("--owner", metavar="TENANT/SUBJECT", help="whose; else one's own at the machine")
        command.set_defaults(run=_sessions)


def _add_keys(commands: Any) -> None:
    parser = commands.add_parser("keys", help="make, list, rotate and revoke API keys of the running gateway")
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
    scopes = "of read, chat, support, operate, admin; with commas"
    create.add_argument("--scopes", default="chat", help=scopes)
    create.add_argument("--days", type=float, help="until it expires")
    rotate = actions.add_parser("rotate", help="make a key of the same rights in place of one")
    rotate.add_argument("id", metavar="KEY")
    rotate.add_argument("--overlap-hours", type=float, default=24, help="how long the old one goes on")
    revoke = actions.add_parser("revoke", help="end a key at once")
    revoke.add_argument("id", metavar="KEY")
    for command in (create, rotate, revoke, actions.add_parser("ls", help="list them")):
        _add_common(command)
        command.set_defaults(run=_keys)


def _keys(options: argparse.Namespace) -> int:
    from gateway.cli import commands  # heavy
    from gateway.client import GatewayClient

    if options.action == "create" and (options.name is None) == (options.file is None):
        terminal.complain("agent-gateway: say one NAME, or the --file with a name a line")
        return USAGE_ERROR
    if options.action == "create" and options.file and options.subject:
        terminal.complain("agent-gateway: with --file everybody's subject is their name: leave out --subject")
        return USAGE_ERROR

    async def act(client: GatewayClient) -> None:
        match options.action:
            case "ls":
                await commands.list_keys(client)
            case "create":
                scopes = [scope.strip() for scope in options.scopes.split(",") if scope.strip()]
                if options.file:
                    rights = {"tenant": options.tenant, "scopes": scopes, "days": options.days}
                    return await commands.make_keys(client, options.file, **rights)
                commands.told(
                    await client.mint_key(
                        options.name,
                        tenant=options.tenant,
                        subject=options.subject,
                        scopes=scopes,
                        days=options.days,
                    )
                )
            case "rotate":
                commands.told(await client.rotate_key(options.id, overlap_hours=options.overlap_hours))
            case "revoke":
                terminal.say(f"{(await client.revoke_key(options.id)).id}: revoked")

    return _quietly(options, act, makes_keys=options.action in ("create", "rotate"))


def _quietly(options: argparse.Namespace, act: Any, *, makes_keys: bool = False) -> int:
    from gateway.cli import commands  # heavy

    config = _configured(options)
    logs.configure(level="error", form="text")
    return commands.keys(config, act, makes_keys=makes_keys)


def _add_top(commands: Any) -> None:
    parser = commands.add_parser("top", help="watch the running gateway: sessions, memory, rates, tenants")
    _add_common(parser)
    parser.add_argument("--once", action="store_true", help="print it once")
    parser.add_argument("--json", action="store_true", help="print it once, for programs")
    parser.add_argument("--rows", type=int, default=20, metavar="N", help="so many sessions (20)")
    parser.set_defaults(run=_top)


def _top(options: argparse.Namespace) -> int:
    from gateway.cli import top  # heavy
    from gateway.client import GatewayClient
    from gateway.maintenance.lock import is_held

    data = _configured(options).data_path
    if not is_held(data):
        terminal.complain(f"agent-gateway: no gateway runs on {data}")
        return 1

    async def act(client: GatewayClient) -> None:
        await top.show(client, is_once=options.once, is_json=options.json, rows=max(1, options.rows))

    try:
        return _quietly(options, act)
    except KeyboardInterrupt:
        return 0


def _add_tenants(commands: Any) -> None:
    parser = commands.add_parser("tenants", help="what the tenants of the running gateway use")
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    listing = actions.add_parser("ls", help="list them")
    _add_common(listing)
    listing.set_defaults(run=_tenants)


def _tenants(options: argparse.Namespace) -> int:
    from gateway.cli import commands  # heavy

    return _quietly(options, commands.list_tenants)


def _add_config(commands: Any) -> None:
    parser = commands.add_parser("config", help="check, show and reload the configuration")
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    for action, words in (
        ("check", "name every mistake"),
        ("show", "print every setting, secrets masked"),
        ("reload", "make the running gateway read it again"),
    ):
        command = actions.add_parser(action, help=words)
        _add_common(command)
        command.set_defaults(run=_config)


def _config(options: argparse.Namespace) -> int:
    config = _configured(options)
    match options.action:
        case "check":
            from gateway.agents.catalogue import AgentCatalogue
            from gateway.agents.help import programs_not_found  # heavy

            missing = programs_not_found(AgentCatalogue(config))
            for words in missing:
                terminal.complain(f"agent-gateway: {words}")
            found = f"; programs that are not found here: {len(missing)}" if missing else ""
            terminal.say(f"the configuration has no mistakes{found}")
        case "show":
            for line in shown(config).split("\n"):
                terminal.say(line)
        case "reload":
            from gateway.cli import commands  # heavy

            logs.configure(level="error", form="text")
            return commands.reload_running(config)
    return 0


def _sessions(options: argparse.Namespace) -> int:
    from gateway.cli import commands  # heavy

    config = _configured(options)
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
        return commands.owned_sessions(config, tenant=options.tenant)
    return commands.sessions(
        config, options.action, ids, form=options.format, is_all=is_all, owner=options.owner
    )


def _mcp(options: argparse.Namespace) -> int:
    from gateway.cli import mcp as desktop  # heavy

    config = _configured(options)
    logs.configure(level="warning", form=config.server.log_format)
    os.umask(0o077)
    return desktop.run(config, session=options.session)


def _doctor(options: argparse.Namespace) -> int:
    from gateway.cli import commands  # heavy

    config = _configured(options)
    if options.sizing:
        logs.configure(level="error", form="text")
        return commands.size(config, gigabytes=options.gigabytes)
    return commands.doctor(config)


def _serve(options: argparse.Namespace) -> int:
    config = _configured(options)
    logs.configure(level=config.server.log_level, form=config.server.log_format)
    try:
        listener = passed_listener()
    except OSError as error:
        terminal.complain(f"agent-gateway: the service manager's socket: {error}")
        return 1
    host = config.server.host if listener is None else str(listener.getsockname()[0])
    if "open" in config.auth.modes and not is_loopback(host) and not config.server.allow_remote:
        terminal.complain(
            f"agent-gateway: {host} is reached from other machines, and without credentials "
            "everybody who reaches it could run the agents. Ask for credentials (auth.modes), listen on "
            "127.0.0.1, or say --allow-remote."
        )
        return USAGE_ERROR
    from gateway.server.server import listen, tune  # heavy: only `serve` needs it

    server = config.server
    if listener is not None:
        tune(listener, half_open_seconds=server.half_open_seconds)
        config = msgspec.structs.replace(config, server=msgspec.structs.replace(server, host=host))
        return _run(options, config, listener)
    try:
        listener = listen(server.host, server.port, half_open_seconds=server.half_open_seconds)
    except OSError as error:
        terminal.complain(
            f"agent-gateway: cannot listen on {config.server.host}:{config.server.port}: {error.strerror}. "
            "Choose another with --port."
        )
        return 1
    return _run(options, config, listener)


def _run(options: argparse.Namespace, config: Config, listener: socket.socket) -> int:
    import uvloop

    os.umask(0o077)
    memory.return_large_blocks()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve_until_signal(options, config, listener))
    except (GatewayError, OSError) as error:
        terminal.complain(f"agent-gateway: {error}")
        return 1
    return 0


async def _serve_until_signal(options: argparse.Namespace, config: Config, listener: socket.socket) -> None:
    from gateway.agents.catalogue import AgentCatalogue
    from gateway.agents.help import programs_not_found
    from gateway.app import Gateway
    from gateway.server.server import serve

    for words in programs_not_found(AgentCatalogue(config)):
        log.warning("%s", words)
    url = _url(config.server.host, listener.getsockname()[1])
    gateway = Gateway(config, reread=lambda: _configured(options))
    await serve(gateway, listener, url=url, on_ready=lambda: _announce(url, is_opening=options.open))


def _announce(url: str, *, is_opening: bool) -> None:
    with contextlib.suppress(terminal.ReaderGone):  # it serves all the same
        terminal.say(f"agent-gateway {VERSION}: {url}", at_once=True)
    if is_opening:
        threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()


def _configured(options: argparse.Namespace) -> Config:
    overrides: dict[str, Any] = {
        "server.host": getattr(options, "host", None),
        "server.port": getattr(options, "port", None),
        "server.allow_remote": getattr(options, "allow_remote", None) or None,
        "data_dir": options.data_dir,
    }
    fallbacks: dict[str, Any] = {}
    mistakes, named = [], []
    for item in getattr(options, "agent", []):
        name, separator, command = item.partition("=")
        if separator and name and command:
            overrides |= _offered(name, command)
        elif not separator and name:
            fallbacks[f"agents.{name}.preset"] = name
        else:
            mistakes.append(f"--agent {item}: write NAME=COMMAND, or one of {', '.join(KNOWN_AGENTS)}")
            continue
        named.append(name)
    if named:
        fallbacks["default_agent"] = named[0]
    variables = getattr(options, "agent_env", [])
    if variables and not named:
        mistakes.append("--agent-env: is for agents that --agent names")
    mistakes += [f"--agent-env {name}: is not set" for name in variables if name not in os.environ]
    path = options.config or (pathlib.Path(p) if (p := os.environ.get("AGENT_GATEWAY_CONFIG")) else None)
    given = {name: value for name, value in overrides.items() if value is not None}
    config = load(path, overrides=given, fallbacks=fallbacks)
    if mistakes:
        raise ConfigError(mistakes)
    return _passing(config, named, variables)


def _offered(name: str, command: str) -> dict[str, Any]:
    """`--agent NAME=COMMAND`; a command that is just as a known agent's gets what is known of that."""
    try:
        argv = tuple(shlex.split(command))
    except ValueError:
        argv = ()  # named as a mistake with the others
    known = started_by(argv)
    preset = {f"agents.{name}.preset": known.name} if known is not None and argv == known.command else {}
    return {f"agents.{name}.command": command, **preset}


def _passing(config: Config, named: list[str], variables: list[str]) -> Config:
    """The configuration with `--agent-env` for the agents of the command line."""
    passed = {
        name: msgspec.structs.replace(agent, pass_env=(*agent.pass_env, *variables))
        for name, agent in config.agents.items()
        if name in named
    }
    return msgspec.structs.replace(config, agents=config.agents | passed)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


if __name__ == "__main__":
    sys.exit(main())
