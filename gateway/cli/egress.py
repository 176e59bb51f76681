"""`agent-gateway egress`: may workers reach a host, and which line of the configuration says so; which hosts
operators allowed for good while the gateway ran.
"""

from __future__ import annotations

import argparse

from gateway.agents.catalogue import AgentCatalogue
from gateway.cli.options import USAGE_ERROR, add_common, configured, run_by
from gateway.cli.reach import asked, spoken
from gateway.client import GatewayClient
from gateway.config.host_rules import WEB_PORTS, NoRule, canonical, host_rule, is_numeric
from gateway.config.tables import DEFAULT_TENANT, Config
from gateway.egress.addresses import AddressRefused, AddressRules
from gateway.egress.approvals import Approvals
from gateway.egress.lookup import LookupFailed
from gateway.egress.registries import RegistryHosts
from gateway.egress.rules import HostLists, host_lists
from gateway.errors import StoreFailed
from gateway.maintenance.lock import is_held
from gateway.telemetry import terminal

LAST_PORT = 65_535


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    check = actions.add_parser("check", help="say whether a host is allowed, and by which line")
    add_common(check)
    check.add_argument("--agent", dest="of_agent", metavar="NAME", help="of this agent; else the default one")
    check.add_argument("--tenant", default=DEFAULT_TENANT, metavar="NAME", help="of this tenant")
    check.add_argument("host", metavar="HOST[:PORT]", help="the port is 443 if it is not named")
    run_by(check, _check)
    listing = actions.add_parser("ls", help='list the hosts that operators allowed for good ("always")')
    remove = actions.add_parser("rm", help="take one of them back, from running sessions, too")
    remove.add_argument(
        "--agent", dest="of_agent", metavar="NAME", help="of this agent; else the default one"
    )
    remove.add_argument("--tenant", default=DEFAULT_TENANT, metavar="NAME", help="of this tenant")
    remove.add_argument("host", metavar="HOST[:PORT]", help="as `egress ls` shows it")
    for action, run in ((listing, _list), (remove, _remove)):
        add_common(action)
        run_by(action, run)


def _list(options: argparse.Namespace) -> int:
    """Every entry, a line each."""
    approvals = Approvals(configured(options).data_path)
    approvals.read()
    terminal.say(f"{'HOST':40} {'AGENT':16} {'TENANT':16} {'ALLOWED':24}  BY")
    for one in approvals.all():
        terminal.say(f"{one.host:40} {one.agent:16} {one.tenant:16} {one.at:24}  {one.by}")
    return 0


def _remove(options: argparse.Namespace) -> int:
    """The file first, then a gateway that runs: its sessions lose the host at once."""
    config = configured(options)
    agent, approvals = options.of_agent or config.default_agent, Approvals(config.data_path)
    approvals.read()
    try:
        host = host_rule(options.host).text
        is_found = approvals.remove(host, agent=agent, tenant=options.tenant)
    except (NoRule, StoreFailed) as error:
        terminal.complain(f"agent-gateway: {error}")
        return 1
    if not is_found:
        terminal.complain(
            f"agent-gateway: no operator allowed {host} for the agent {agent} of the tenant "
            f"{options.tenant}; see `agent-gateway egress ls`"
        )
        return 1
    terminal.say(f"{host} is not allowed any more for {agent} of {options.tenant}")
    return asked(config, _reload) if is_held(config.data_path) else 0


async def _reload(client: GatewayClient) -> None:
    await client.reload()


def _check(options: argparse.Namespace) -> int:
    config = configured(options)
    name, tenant = options.of_agent or config.default_agent, options.tenant
    agents = AgentCatalogue(config, holds_broker=config.workers.may_hold_broker)
    agent = agents.known.get(name)
    if agent is None or config.tenant(tenant) is None:
        what = f"agent {name!r}" if agent is None else f"tenant {tenant!r}"
        terminal.complain(f"agent-gateway: there is no {what}")
        return USAGE_ERROR
    host, _, digits = options.host.partition(":")
    port = int(digits) if digits.isascii() and digits.isdigit() else 0 if digits else 443
    known = canonical(host)
    if known is None or not 0 < port <= LAST_PORT:
        words = (
            "an address, and lists name hosts" if is_numeric(host) or is_numeric(options.host) else "no host"
        )
        terminal.say(f"refused: {options.host} is {words}")
        return 1
    if agent.sandbox.network != "broker":
        terminal.say(f"note: the network of {name} is {agent.sandbox.network!r}: no list holds for it")
    registries, approvals = RegistryHosts(), Approvals(config.data_path)
    approvals.read()
    if registries.is_needed(config, agents=[name]):
        registries.read_now()
    lists = host_lists(
        config,
        agent=name,
        tenant=tenant,
        registries=registries.entries,
        approved=approvals.entries(agent=name, tenant=tenant),
    )
    return _decided(config, lists, agent=name, host=known, port=port)


def _decided(config: Config, lists: HostLists, *, agent: str, host: str, port: int) -> int:
    verdict = lists.decide(host, port)
    if verdict.by is not None and verdict.outcome == "denied":
        terminal.say(f"denied: {host}:{port} by {verdict.by.line}")
        return 1
    if verdict.by is None:
        entry = host if port in WEB_PORTS else f"{host}:{port}"
        asked = "; its person is asked" if config.egress.unlisted == "ask" else ""
        terminal.say(f"refused: {host}:{port} is on no list{asked}")
        terminal.say(f'to allow it: hosts = ["{entry}"] in [agents.{agent}] or [egress]')
        return 1
    terminal.say(f"allowed: {host}:{port} by {verdict.by.line}")
    return spoken(_located(config, host, port))


async def _located(config: Config, host: str, port: int) -> int:
    """Says where a host leads, as a worker's connection would find it."""
    addresses = AddressRules(private_hosts=lambda: config.egress.private_hosts)
    if (objection := addresses.objection_to_name(host, port)) is not None:
        terminal.say(f"refused: {objection.words}")
        return 1
    if config.egress.proxy and not addresses.is_private_host(host, port):
        terminal.say("the proxy looks it up (egress.proxy)")
        return 0
    try:
        found = await addresses.resolve(host, port, is_worker=True)
    except (AddressRefused, LookupFailed) as error:
        terminal.say(f"refused: {error}")
        return 1
    terminal.say(f"it leads to {', '.join(found)}")
    return 0
