"""What a reload of the configuration replaces."""

from __future__ import annotations

from msgspec import Struct

from gateway.agents.broker import Broker
from gateway.agents.catalogue import AgentCatalogue
from gateway.config.tables import Config


class Current(Struct, kw_only=True):
    """See the module."""

    config: Config
    agents: AgentCatalogue
    broker: Broker
    holds_broker: bool = False
    """Whether the walls of this machine hold the network `broker`."""
