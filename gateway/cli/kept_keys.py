"""Keys of providers that were typed in on a terminal: kept in the data directory, outside every agent.

`serve --agent claude` asks for the key once, if nothing else says where the agent gets one. From then on the
agent calls its provider through the gateway, and the key is in no worker.
"""

from __future__ import annotations

import getpass
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from gateway.config.known_agents import KNOWN_AGENTS, MAKERS, KnownAgent
from gateway.config.tables import Config
from gateway.telemetry import terminal

DIRECTORY: Final = "keys"
"""In the data directory."""


def kept_providers(config: Config, presets: Sequence[str]) -> dict[str, Any]:
    """Settings, as fallbacks, of agents that are named on the command line and whose keys are kept: here, or
    in the configuration.
    """
    found: dict[str, Any] = {}
    for known in _without_key(config, presets):
        file, configured = _file(config, known.maker), config.every_provider.get(known.maker)
        if configured is None and file.is_file():
            found[f"providers.{known.maker}"] = _provider(known.maker, file)
        elif configured is None or not set(known.dialects) & set(configured.dialects):
            continue
        found[f"agents.{known.name}"] = {"preset": known.name, "provider": known.maker}
    return found


def ask_for_keys(
    config: Config, presets: Sequence[str], *, ask: Callable[[str], str] = getpass.getpass
) -> bool:
    """Asks on the terminal for the keys that agents lack, and keeps them; whether any was given. Raises
    OSError if one cannot be kept.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    is_any = False
    for known in _without_key(config, presets):
        file = _file(config, known.maker)
        if file.exists() or known.maker in config.every_provider:
            continue
        title = MAKERS[known.maker].title
        key = ask(f"{title} API key for {known.title} (Enter: none): ").strip()
        if key and key.isascii() and key.isprintable():
            _keep(file, key)
            terminal.complain(f"agent-gateway: the key is kept in {file}; agents do not see it")
            is_any = True
        elif key:
            terminal.complain("agent-gateway: this is no key: it is not plain text")
    return is_any


def _without_key(config: Config, presets: Sequence[str]) -> Iterator[KnownAgent]:
    """The agents of the command line that nothing gives a key."""
    for name in presets:
        known, agent = KNOWN_AGENTS.get(name), config.agents.get(name)
        if known is None or agent is None or not known.maker or agent.provider or agent.env_files:
            continue
        is_given = any(os.environ.get(key) or agent.env.get(key) for key in known.credentials)
        if not is_given and agent.preset == name and config.has_network(agent):
            yield known


def _provider(maker: str, file: pathlib.Path) -> dict[str, Any]:
    known = MAKERS[maker]
    return {"dialect": list(known.dialects), "url": known.url, "key_file": str(file)}


def _file(config: Config, maker: str) -> pathlib.Path:
    return config.data_path / DIRECTORY / maker


def _keep(file: pathlib.Path, key: str) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.parent.chmod(0o700)
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="ascii") as opened:
        opened.write(key + "\n")
