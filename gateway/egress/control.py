"""The rules of a gateway's egress as they are now: the lists of each agent and tenant, what operators
approved, and those who must hear when any of it changes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pathlib
from collections.abc import Callable
from typing import get_args

from gateway.config.egress_warnings import warnings
from gateway.config.host_rules import HostRule
from gateway.config.tables import Config, EgressConfig
from gateway.egress.addresses import AddressRules
from gateway.egress.admission import Why
from gateway.egress.approvals import Approval, Approvals
from gateway.egress.refused_hosts import RefusedHosts
from gateway.egress.registries import RegistryHosts
from gateway.egress.rules import HostLists, host_lists
from gateway.events.facts import EgressAnswer, iso
from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


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
    ) -> None:
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
        await self.read_registries()

    async def read_registries(self) -> None:
        """Asks this machine's tools for their registries, if a list names them and they are not known."""
        if self.registries.is_needed(self._config()) and await self.registries.read():
            self._tell()

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
        self, *, session: str, agent: str, tenant: str, host: str, port: int, why: Why, is_first: bool
    ) -> None:
        """For operators: the metric, the list of the last day, and once a turn a line of the log."""
        self._metrics.egress_denied.labels(why).inc()
        self.refused.note(tenant=tenant, agent=agent, host=host, port=port, why=why)
        if is_first:
            log.info("session %s, agent %s: %s:%d was refused (%s)", session, agent, host, port, why)

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
