"""What every session of a gateway shares: the configuration, the store, the spawner and the clocks."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Struct

from gateway.agents import AgentCatalogue
from gateway.broker import Broker
from gateway.chat import Outside
from gateway.config import DAY_MILLISECONDS, Config
from gateway.slots import WorkerSlots
from gateway.spawner import Spawner
from gateway.stores.base import SessionRecord, Store
from gateway.workspace import Workspaces


class Services(Struct, frozen=True, kw_only=True):
    """What every session of a gateway shares."""

    config: Config
    store: Store
    spawner: Spawner
    broker: Broker
    agents: AgentCatalogue
    workspaces: Workspaces
    slots: WorkerSlots
    monotonic: Callable[[], float]
    """Seconds of a clock that is never set: idle time is measured with it."""
    wall_ms: Callable[[], int]
    """Milliseconds since 1970 UTC: what people read."""

    def dated(self, record: SessionRecord, *, used_at: int) -> SessionRecord:
        """The record of a session that was used at this time: when it expires follows from it."""
        days = self.config.sessions.retention_days if record.retention_days is None else record.retention_days
        expires_at = used_at + round(days * DAY_MILLISECONDS) if days else None
        return msgspec.structs.replace(record, last_active_at=used_at, expires_at=expires_at)

    def outside(self, agent: str | None) -> Outside:
        """What State shows beside the log, for a session of this agent (None: of the default one)."""
        name = agent or self.agents.default
        is_offline = self.agents.is_built_in(name) and not self.broker.is_configured
        return Outside(missing_api_key=is_offline)
