"""Taking over a changed configuration while the gateway runs; no stream ends."""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.agents.broker import Broker
from gateway.agents.catalogue import AgentCatalogue
from gateway.answers import Reloaded
from gateway.config.file import ConfigError
from gateway.config.reloading import compared
from gateway.config.tables import Config
from gateway.events.lifecycle import CloseReason
from gateway.principal import tenant_of
from gateway.sessions.manager import SessionManager
from gateway.sessions.services import Services
from gateway.workers.peer_identity import PeerIdentity

log = logging.getLogger(__name__)


class Reloading:
    """`reload` when somebody asks for it; `close` at the end."""

    def __init__(
        self,
        manager: SessionManager,
        services: Services,
        peers: PeerIdentity,
        *,
        reread: Callable[[], Config] | None,
        taken_over: Callable[[Config], None],
    ) -> None:
        """`reread` reads the configuration anew; `taken_over` hears which one holds from now on."""
        self._manager = manager
        self._services = services
        self._peers = peers
        self._reread = reread
        self._taken_over = taken_over

    def reload(self) -> Reloaded:
        """Reads the configuration again and takes over what can change while it runs.

        Raises ConfigError, and then nothing has changed.
        """
        if self._reread is None:
            return Reloaded([], [])
        services, current = self._services, self._services.current
        differing, waiting, kept = compared(current.config, self._reread())
        agents = AgentCatalogue(kept, before=current.agents, holds_broker=current.holds_broker)
        if objection := self._peers.objection(kept, agents.on_network("shared")):
            raise ConfigError([objection])
        if any(name.startswith(("model.", "providers.")) for name in differing):
            models = services.workers.models
            models.take_over(kept)
            on_odd = services.metrics.odd("model")
            current.broker = Broker(kept.model, providers=models.providers, on_odd=on_odd)
        current.agents, current.config = agents, kept
        agents.log_networks()
        services.slots.resize(kept.limits.max_live_workers, kept.limits.waiting_turns)
        services.egress.changed()
        services.egress.read_registries()
        self._taken_over(kept)
        self.close_those_of_disabled_tenants()
        log.info("reloaded; changed: %s; after a restart: %s", differing or "nothing", waiting or "nothing")
        return Reloaded(differing, waiting)

    def close_those_of_disabled_tenants(self) -> None:
        """Ends the sessions of tenants that are disabled now, or are not there any more."""
        config = self._services.config
        for session in self._manager.sessions():
            tenant = config.tenant(tenant_of(session.record.owner))
            if tenant is None or tenant.is_disabled:
                session.ask_to_close(CloseReason.TENANT_DISABLED)

    async def close(self) -> None:
        """Ends the connections to models."""
        await self._services.workers.models.close()
