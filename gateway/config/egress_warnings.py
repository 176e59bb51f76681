"""What a configuration may say of workers' networks, and is perhaps not meant: `config check` and the log of
the start name each.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from typing import Final

from gateway.config.host_rules import REGISTRIES, WEB_PORTS, host_rule, is_broad
from gateway.config.networks import SECRET, network_of
from gateway.config.tables import AgentConfig, Config, EgressConfig
from worker.spec import FURTHER_DOORS

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
    may_hold = config.workers.may_hold_broker
    network = network_of(config, agent, environ=environ, holds_broker=may_hold).mode
    if agent.hosts and network != "broker":
        yield f"agents.{name}.hosts: has no effect, as the network of this agent is {network!r}"
    if agent.credentials and network != "broker":
        yield f"agents.{name}.credentials: has no effect, as the network of this agent is {network!r}"
    if network != "broker":
        return
    yield from _unreached(config, name)
    if not may_hold:
        yield (
            f"agents.{name}.network: 'broker' needs strict walls, and workers.sandbox is "
            f"{config.workers.sandbox!r}: the agent will not start"
        )
    given = [key for key in agent.pass_env if key in environ], list(agent.env_files)
    for setting, variables in zip(("pass_env", "env_files"), given, strict=True):
        for variable in filter(SECRET.search, variables):
            yield (
                f"agents.{name}.{setting}: {variable} looks like a secret; inside a worker it can leave with "
                "any connection to a host of the lists"
            )
    yield from _sockets(name, agent)
    yield from _ports(config, name, agent)


def _ports(config: Config, name: str, agent: AgentConfig) -> Iterator[str]:
    """Further ports are bound when a worker starts, and there is a bound on them."""
    own = _further(*config.egress.hosts, *agent.hosts)
    of_tenants = [own | _further(*tenant.hosts) for tenant in config.tenants.values()]
    ports = max([own, *of_tenants], key=len)
    if len(ports) > FURTHER_DOORS:
        yield (
            f"agents.{name}.hosts: its lists name {len(ports)} ports besides 443 and 80, and a worker has "
            f"doors for {FURTHER_DOORS}: the highest ones are not reached"
        )


def _further(*entries: str) -> set[int]:
    """The ports of entries, but those of the web."""
    rules = [host_rule(entry) for entry in entries if entry != REGISTRIES]
    return {port for rule in rules for port in rule.ports - WEB_PORTS}


def _unreached(config: Config, name: str) -> Iterator[str]:
    """Hosts of an agent's credentials that no list lets it reach."""
    agent = config.agents[name]
    usual = EgressConfig().hosts  # nobody wrote it with these hosts in mind
    entries = [*(config.egress.hosts if config.egress.hosts != usual else ()), *agent.hosts]
    rules = [host_rule(entry) for entry in entries if entry != REGISTRIES]
    for each in agent.credentials:
        for host, port in config.credentials[each].places if REGISTRIES not in entries else ():
            if not any(rule.matches(host, port) for rule in rules):
                yield (
                    f"agents.{name}.credentials: {each} is for {host}:{port}, which is on no list of this "
                    "agent; add it to its hosts"
                )


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
