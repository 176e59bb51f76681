"""What a configuration may say of workers' networks, and is perhaps not meant: `config check` and the log of
the start name each.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from typing import Final

from gateway.config.host_rules import REGISTRIES, host_rule, is_broad
from gateway.config.tables import AgentConfig, Config

_SECRET: Final = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|PAT)(_|$)|APIKEY")
FILES_LOOKED_AT: Final = 10_000
"""Below one path of `writable`."""


def warnings(config: Config, environ: Mapping[str, str]) -> list[str]:
    """A line each."""
    return [*_broad(config), *(line for name in config.agents for line in _of_agent(config, name, environ))]


def _broad(config: Config) -> Iterator[str]:
    lists = {"egress.hosts": config.egress.hosts}
    lists |= {f"agents.{name}.hosts": agent.hosts for name, agent in config.agents.items()}
    lists |= {f"tenants.{name}.hosts": tenant.hosts for name, tenant in config.tenants.items()}
    for setting, entries in lists.items():
        for entry in entries:
            if entry != REGISTRIES and is_broad(host_rule(entry)):
                yield (
                    f"{setting}: {entry!r} is every host of a whole domain, those that strangers get there "
                    "as well, if it gives any away"
                )


def _of_agent(config: Config, name: str, environ: Mapping[str, str]) -> Iterator[str]:
    agent = config.agents[name]
    network = config.network(agent)
    if agent.hosts and network != "broker":
        yield f"agents.{name}.hosts: has no effect, as the network of this agent is {network!r}"
    if network != "broker":
        return
    if config.workers.sandbox in ("none", "basic"):
        yield (
            f"agents.{name}.network: 'broker' needs strict walls, and workers.sandbox is "
            f"{config.workers.sandbox!r}: the agent will not start"
        )
    given = [key for key in agent.pass_env if key in environ], list(agent.env_files)
    for setting, variables in zip(("pass_env", "env_files"), given, strict=True):
        for variable in filter(_SECRET.search, variables):
            yield (
                f"agents.{name}.{setting}: {variable} looks like a secret; inside a worker it can leave with "
                "any connection to a host of the lists"
            )
    yield from _sockets(name, agent)


def _sockets(name: str, agent: AgentConfig) -> Iterator[str]:
    for path in agent.writable:
        if (found := _socket_below(path)) is not None:
            yield (
                f"agents.{name}.writable: {found} is a socket: its workers reach what listens there, "
                "whatever their network is"
            )


def _socket_below(path: str) -> str | None:
    """The first socket at a path or below it, among the first files."""
    looked_at = 0
    if _is_socket(path):
        return path
    for directory, _, names in os.walk(path):
        for each in names:
            looked_at += 1
            if looked_at > FILES_LOOKED_AT:
                return None
            if _is_socket(full := os.path.join(directory, each)):
                return full
    return None


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path, follow_symlinks=False).st_mode)
    except OSError:
        return False
