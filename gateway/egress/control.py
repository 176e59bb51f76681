"""The rules of a gateway's egress as they are now: the lists of each agent and tenant, what operators
approved, and those who must hear when any of it changes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Final, get_args

from gateway.config.egress_warnings import warnings
from gateway.config.host_rules import REGISTRIES, WEB_PORTS, HostRule
from gateway.config.tables import AgentConfig, Config, EgressConfig, TenantConfig
from gateway.egress.addresses import AddressRules
from gateway.egress.admission import Why
from gateway.egress.approvals import Approval, Approvals
from gateway.egress.refused_hosts import RefusedHosts
from gateway.egress.registries import RegistryHosts
from gateway.egress.rules import HostLists, host_lists
from gateway.events.facts import EgressAnswer, iso
from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

REGISTRIES_SECONDS: Final = 10.0
"""How long a connection waits for what `registries` stands for. Tools take one or two seconds to say it."""


class EgressControl:
    """See the module. One for all sessions; belongs to the loop's thread."""

    def __init__(
        self,
        *,
        config: Callable[[], Config],
        addresses: AddressRules,
        metrics: Metrics,
        wall_ms: Callable[[], int],
        directory: pathlib.Path | None,
        registries: RegistryHosts | None = None,
        behind: Callable[[], Iterable[str]] | None = None,
    ) -> None:
        """`behind` names the agents whose network is `broker`; without it, all count."""
        self._config = config
        self._metrics = metrics
        for why in get_args(Why):
            metrics.egress_denied.labels(why)
        self._lists: dict[tuple[str, str], HostLists] = {}
        self._watchers: dict[object, Callable[[], None]] = {}
        self.addresses = addresses
        self.wall_ms = wall_ms
        self.approvals = Approvals(directory)
        self.refused = RefusedHosts(wall_ms)
        self.registries = registries or RegistryHosts()
        self._behind = behind
        self._reading: asyncio.Task[None] | None = None

    @property
    def settings(self) -> EgressConfig:
        """The table `egress` as it is now."""
        return self._config().egress

    def lists(self, *, agent: str, tenant: str) -> HostLists:
        """The lists that hold for the sessions of an agent and a tenant."""
        key = agent, tenant
        if key not in self._lists:
            self._lists[key] = host_lists(
                self._config(),
                agent=agent,
                tenant=tenant,
                registries=self.registries.entries,
                approved=self.approvals.entries(agent=agent, tenant=tenant),
            )
        return self._lists[key]

    async def open(self) -> None:
        """Reads what the lists need beside the configuration."""
        self.approvals.read()
        for words in await asyncio.to_thread(warnings, self._config(), os.environ):
            log.warning("%s", words)
        self.read_registries()

    async def aclose(self) -> None:
        """Ends what is being read."""
        self.registries.stop()
        if self._reading is not None:
            await asyncio.wait([self._reading])

    def read_registries(self) -> None:
        """Begins to ask this machine's tools for their registries, if a list of an agent behind the broker
        names them and they are not known. Nobody waits for it but who needs them (`wait_for_registries`).
        """
        agents = None if self._behind is None else self._behind()
        is_being_read = self._reading is not None and not self._reading.done()
        if not is_being_read and self.registries.is_needed(self._config(), agents=agents):
            self._reading = asyncio.create_task(self._read_registries(), name="registries")

    async def _read_registries(self) -> None:
        if await self.registries.read():
            self._tell()

    async def wait_for_registries(
        self, *, agent: str, tenant: str, seconds: float = REGISTRIES_SECONDS
    ) -> bool:
        """Waits until what `registries` stands for is known, if the lists of an agent and a tenant name them;
        True if they are other ones afterwards.
        """
        if self._reading is None or self._reading.done() or not self._names_registries(agent, tenant):
            return False
        done, _ = await asyncio.wait([self._reading], timeout=seconds)
        return bool(done)

    def _names_registries(self, agent: str, tenant: str) -> bool:
        config = self._config()
        of_agent, of_tenant = config.agents.get(agent, AgentConfig()), config.tenants.get(tenant)
        return any(
            REGISTRIES in hosts
            for hosts in (config.egress.hosts, of_agent.hosts, (of_tenant or TenantConfig()).hosts)
        )

    def changed(self) -> None:
        """The configuration is another: what is allowed follows at once."""
        self.approvals.read()
        self._tell()

    def on_changed(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Calls `watcher` whenever the rules may be other ones; what is returned ends that."""
        key = object()
        self._watchers[key] = watcher
        return lambda: self._watchers.pop(key, None) and None

    def approve(self, rule: HostRule, *, agent: str, tenant: str, by: str) -> None:
        """Allows a host for good. Raises StoreFailed."""
        at = iso(self.wall_ms())
        self.approvals.add(Approval(tenant=tenant, agent=agent, host=rule.text, by=by, at=at))
        self._tell()

    def note_refused(
        self,
        *,
        session: str,
        agent: str,
        tenant: str,
        host: str,
        port: int,
        why: Why,
        is_first: bool,
        hint: str = "",
    ) -> None:
        """For operators: the metric, the list of the last day, and once a turn a line of the log. `hint` says
        what can be done.
        """
        self._metrics.egress_denied.labels(why).inc()
        self.refused.note(tenant=tenant, agent=agent, host=host, port=port, why=why)
        if is_first:
            log.info("session %s, agent %s: %s:%d was refused (%s).%s", session, agent, host, port, why, hint)

    def note_transferred(self, *, sent: int, received: int) -> None:
        """Counts bytes that passed."""
        self._metrics.egress_bytes.labels("sent").inc(sent)
        self._metrics.egress_bytes.labels("received").inc(received)

    def note_answered(self, answer: EgressAnswer) -> None:
        """Counts an answer."""
        self._metrics.egress_answers.labels(answer).inc()

    def _tell(self) -> None:
        self._lists.clear()
        for watcher in list(self._watchers.values()):
            try:
                watcher()
            except Exception:
                log.exception("a change of the rules was not heard by all")


def widening(host: str, port: int, *, agent: str) -> str:
    """How an operator puts a host on a list, as a sentence after another one."""
    entry = host if port in WEB_PORTS else f"{host}:{port}"
    return f' Whoever runs this gateway can add "{entry}" to agents.{agent}.hosts or egress.hosts.'
