"""Which hosts a worker may reach: the lists of operator, agent, tenant and session, as one. Pure.

Guarantees:
- a host is reached if a list of the operator, the agent or the tenant names it with its port, no list denies
  it, and the session, if it has narrowed them, names it too;
- a denial wins at every level, whatever was approved meanwhile;
- a session only narrows: each of its entries lies within what the lists allow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from msgspec import Struct

from gateway.config.host_rules import REGISTRIES, HostRule, host_rule
from gateway.config.tables import AgentConfig, Config, TenantConfig

Outcome = Literal["allowed", "denied", "unlisted"]


class ListedRule(Struct, frozen=True):
    """An entry and the setting that has it."""

    rule: HostRule
    setting: str
    """`egress.hosts`, `agents.NAME.hosts`, …"""
    entry: str
    """As it is written there: `registries` for what that stands for."""

    @property
    def line(self) -> str:
        """Where to find it."""
        return f'{self.setting}: "{self.entry}"'


class Verdict(Struct, frozen=True):
    """What the lists say of a host and a port, and which entry says it."""

    outcome: Outcome
    by: ListedRule | None = None


class HostLists(Struct, frozen=True):
    """The lists that hold for the sessions of one agent and tenant."""

    allowed: tuple[ListedRule, ...] = ()
    denied: tuple[ListedRule, ...] = ()

    def decide(self, host: str, port: int) -> Verdict:
        """For a canonical host."""
        for outcome, rules in (("denied", self.denied), ("allowed", self.allowed)):
            for listed in rules:
                if listed.rule.matches(host, port):
                    return Verdict("denied" if outcome == "denied" else "allowed", listed)
        return Verdict("unlisted")

    def covers(self, rule: HostRule) -> bool:
        """True if all that a rule is for is allowed; a denial inside it still wins later."""
        return all(any(one.rule.covers(rule, port) for one in self.allowed) for port in rule.ports)

    @property
    def texts(self) -> tuple[str, ...]:
        """What is allowed, as entries, each once."""
        return tuple(dict.fromkeys(listed.rule.text for listed in self.allowed))

    @property
    def ports(self) -> frozenset[int]:
        """Every port that an entry is for."""
        return frozenset(port for listed in self.allowed for port in listed.rule.ports)


Registries = Callable[[], tuple[str, ...]]
"""The entries that `registries` stands for on this machine."""


def host_lists(
    config: Config,
    *,
    agent: str,
    tenant: str,
    registries: Registries = tuple,
    approved: Iterable[str] = (),
) -> HostLists:
    """The lists of a configuration, which has been checked; `approved` are entries that operators added while
    it ran.
    """
    of_agent = config.agents.get(agent) or AgentConfig()
    of_tenant = config.tenants.get(tenant) or TenantConfig()
    allowed = (
        ("egress.hosts", config.egress.hosts),
        (f"agents.{agent}.hosts", of_agent.hosts),
        (f"tenants.{tenant}.hosts", of_tenant.hosts),
        ("approved by an operator", tuple(approved)),
    )
    denied = (
        ("egress.denied", config.egress.denied),
        (f"tenants.{tenant}.denied_hosts", of_tenant.denied_hosts),
    )
    return HostLists(
        tuple(one for setting, entries in allowed for one in _listed(setting, entries, registries)),
        tuple(
            ListedRule(host_rule(entry, is_denial=True), setting, entry)
            for setting, entries in denied
            for entry in entries
        ),
    )


def _listed(setting: str, entries: tuple[str, ...], registries: Registries) -> Iterator[ListedRule]:
    for entry in entries:
        meant = registries() if entry == REGISTRIES else (entry,)
        yield from (ListedRule(host_rule(one), setting, entry) for one in meant)


def narrowed(lists: HostLists, entries: Iterable[str], *, registries: Registries = tuple) -> tuple[str, ...]:
    """The entries of a session that narrows its lists, in their one spelling. Raises NoRule if one is no
    entry, LookupError with the first that the lists do not allow.
    """
    rules = [one.rule for one in _listed("session", tuple(entries), registries)]
    for rule in rules:
        if not lists.covers(rule):
            raise LookupError(rule.text)
    return tuple(dict.fromkeys(rule.text for rule in rules))
