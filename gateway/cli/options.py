"""What commands have in common: where the data and the configuration are, and reading it."""

from __future__ import annotations

import argparse
import os
import pathlib
import shlex
from collections.abc import Callable
from typing import Any, Final

import msgspec

from gateway.cli.kept_keys import kept_providers
from gateway.config.file import ConfigError, load
from gateway.config.known_agents import KNOWN_AGENTS, started_by
from gateway.config.tables import Config
from gateway.telemetry import terminal

USAGE_ERROR: Final = 2


def add_common(parser: argparse.ArgumentParser) -> None:
    """The arguments that every command has."""
    parser.add_argument(
        "--data-dir", metavar="DIR", help="where sessions are kept (~/.local/share/agent-gateway)"
    )
    parser.add_argument("--config", type=pathlib.Path, metavar="FILE", help="a TOML file")


def run_by(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    """Declares what runs a command; mistakes in the configuration end it, a line each."""

    def spoken(options: argparse.Namespace) -> int:
        try:
            return run(options)
        except ConfigError as error:
            for mistake in error.mistakes:
                terminal.complain(f"agent-gateway: {mistake}")
            return USAGE_ERROR

    parser.set_defaults(run=spoken)


def configured(options: argparse.Namespace) -> Config:
    """The configuration that the arguments, the environment and the file make. Raises ConfigError."""
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
    if not variables and (kept := kept_providers(config, presets_of(options))):
        known = {name: value for name, value in fallbacks.items() if name.removesuffix(".preset") not in kept}
        config = load(path, overrides=given, fallbacks=known | kept)
    if mistakes:
        raise ConfigError(mistakes)
    return _passing(config, named, variables)


def presets_of(options: argparse.Namespace) -> list[str]:
    """The agents that are named without a command."""
    return [item for item in getattr(options, "agent", []) if item in KNOWN_AGENTS]


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
