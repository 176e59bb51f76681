"""What is shared: by workers, by sessions, and by the faces in front of them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import UNSET, Struct, field

from gateway.agents.catalogue import Agent, AgentCatalogue
from gateway.agents.permission_rules import operator_rules
from gateway.agents.spool import FileOverflow, Intake
from gateway.agents.toolsets import Toolset
from gateway.auth.passes import Passes
from gateway.auth.people import People
from gateway.auth.quotas import Quotas
from gateway.config.tables import DAY_MILLISECONDS, Config
from gateway.egress.control import EgressControl
from gateway.egress.door import DoorKeeper
from gateway.egress.intercept import Interception
from gateway.egress.mcp_client import McpClient
from gateway.egress.routes import RouteHandler
from gateway.errors import UnknownAgent
from gateway.events.facts import NamedRule
from gateway.events.fold import ChatState, FoldPart, Outside
from gateway.files.snapshots import Snapshots
from gateway.files.uploads import Uploads
from gateway.files.workspaces import WorkspaceKeeper
from gateway.files.workspaces_out import Outbox
from gateway.models.ledger import Ledger
from gateway.models.opening import Models
from gateway.principal import Principal, tenant_of
from gateway.sessions.budget_waits import BudgetWaits
from gateway.sessions.current import Current
from gateway.sessions.known_options import KnownOptions
from gateway.sessions.log import Tails
from gateway.sessions.membership import Membership
from gateway.sessions.memory import MemoryAdmission
from gateway.sessions.observers import Observers
from gateway.sessions.presence import Rooms
from gateway.sessions.slots import WorkerSlots
from gateway.sessions.spares import Spares
from gateway.sessions.spending import SpendingNews
from gateway.sessions.starts import StartQueue
from gateway.stores.contract import SessionRecord, Store
from gateway.telemetry.audit import Audit
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import Tracer
from gateway.workers.memory import Trimmer
from gateway.workers.spawner import Spawner
from gateway.workers.usage import UsageSampler
from gateway.workers.workspace import Workspaces


class Common(Struct, kw_only=True):
    """What each of the three below has."""

    current: Current
    metrics: Metrics
    egress: EgressControl
    """Which hosts workers may reach."""
    monotonic: Callable[[], float]
    """Seconds of a clock that is never set: idle time is measured with it."""
    wall_ms: Callable[[], int]
    """Milliseconds since 1970 UTC: what people read."""
    rooms: Rooms = field(default_factory=Rooms)
    """Who follows which session now."""

    @property
    def config(self) -> Config:
        """The configuration as it is now."""
        return self.current.config

    @property
    def agents(self) -> AgentCatalogue:
        """The agents that there are now."""
        return self.current.agents

    def agent_for(self, owner: str, name: str | None, *, among: tuple[str, ...] = ()) -> Agent:
        """The agent that a session of this owner gets; `among` are those that its person may choose (empty:
        all of the tenant). Raises UnknownAgent, naming those it may choose.
        """
        allowed = self._choice(owner, among)
        if allowed is None:
            return self.agents.get(name)
        if not allowed:
            raise UnknownAgent("You may choose no agent here. Ask the people who run this gateway.")
        if name is not None and name not in allowed:
            raise UnknownAgent(f"There is no agent {name!r}. There are: {', '.join(allowed)}.")
        return self.agents.get(name or allowed[0])

    def may_choose(self, principal: Principal, name: str) -> bool:
        """True if a person may choose the agent of this name."""
        allowed = self._choice(principal.owner, principal.agents)
        return allowed is None or name in allowed

    def agent_of(self, principal: Principal, name: str | None) -> str:
        """The name of the agent that a new session of a person gets. Raises UnknownAgent."""
        return self.agent_for(principal.owner, name, among=principal.agents).name

    def _choice(self, owner: str, among: tuple[str, ...]) -> tuple[str, ...] | None:
        """What both the tenant and the person may choose, the first by default; None: every agent."""
        tenant = self.config.tenant(tenant_of(owner))
        allowed = tenant.agents if tenant is not None else ()
        if allowed and among:
            return tuple(agent for agent in among if agent in allowed)
        return allowed or among or None

    def operator_rules(self, record: SessionRecord) -> tuple[NamedRule, ...]:
        """The operator's permission rules for a session."""
        return tuple(operator_rules(self.config, tenant=tenant_of(record.owner), agent=record.agent))

    def outside(self, agent: str | None, *, owner: str | None = None, key: str = "") -> Outside:
        """What State shows beside the log, for a session of this agent (None: of the default one). Only its
        `owner` sees which hosts it may reach. `key`: the session's, whose room is shown.
        """
        shown = self._outside(agent, owner)
        present = self.rooms.present(key) if key else UNSET
        return shown if present is UNSET else msgspec.structs.replace(shown, present=present)

    def _outside(self, agent: str | None, owner: str | None) -> Outside:
        name = agent or self.agents.default
        is_offline = self.agents.is_built_in(name) and not self.current.broker.is_configured
        if owner is None:
            return Outside(missing_api_key=is_offline)
        known = self.agents.find(name)
        network = known.sandbox.network if known is not None else ""
        is_listed = network == "broker"
        hosts = self.egress.lists(agent=name, tenant=tenant_of(owner)).texts if is_listed else ()
        return Outside(missing_api_key=is_offline, network=network, hosts=hosts)


class WorkerServices(Common, kw_only=True):
    """What a worker needs beside its session."""

    spawner: Spawner
    workspaces: Workspaces
    starts: StartQueue
    spares: Spares
    usage: UsageSampler
    passes: Passes
    intake: Intake
    models: Models
    doors: DoorKeeper
    interception: Interception
    repositories: WorkspaceKeeper
    """The warm copies that sessions may start from."""
    own_url: str = ""
    """Where this gateway's own processes reach it; empty before it listens."""
    door_routes: dict[str, RouteHandler] = field(default_factory=dict)
    """What workers may ask the gateway for through their doors, besides models, by the start of its path."""
    toolsets: dict[str, Toolset] = field(default_factory=dict)
    """What applications offer to agents, by name."""


class Services(Common, kw_only=True):
    """What every session of a gateway shares."""

    store: Store
    people: People
    quotas: Quotas
    ledger: Ledger
    spending: SpendingNews
    slots: WorkerSlots
    memory: MemoryAdmission
    tracer: Tracer
    trimmer: Trimmer
    snapshots: Snapshots
    membership: Membership | None = None
    """Its place at a store that others can reach, too; None: the store is its own."""
    workers: WorkerServices
    uploads: Uploads
    tails: Tails = field(default_factory=Tails)
    """What all logs keep in memory together."""
    known_options: KnownOptions = field(default_factory=KnownOptions)
    """What agents offered to choose lately."""
    waits: BudgetWaits = field(default_factory=BudgetWaits)
    """Those whose messages wait for a budget."""
    observers: Observers = field(default_factory=Observers)
    """The applications that hear of what happens to sessions."""
    folds: tuple[Callable[[], FoldPart], ...] = ()
    """What applications fold of each log."""

    @property
    def may_work(self) -> Callable[[], bool] | None:
        """Asks if its place at the store is its own now; None: always."""
        return None if self.membership is None else self.membership.lease.may_work_now

    def fold(self, session_id: str) -> ChatState:
        """The empty fold of a log, with the parts of the applications that run; long texts go to a file."""
        overflow = FileOverflow(self.config.data_path)
        return ChatState(session_id, overflow=overflow, parts=tuple(part() for part in self.folds))

    def dated(self, record: SessionRecord, *, used_at: int) -> SessionRecord:
        """The record of a session that was used at this time: when it expires follows from it."""
        days = self._retention_days(record)
        expires_at = used_at + round(days * DAY_MILLISECONDS) if days else None
        return msgspec.structs.replace(record, last_active_at=used_at, expires_at=expires_at)

    def _retention_days(self, record: SessionRecord) -> float:
        if record.retention_days is not None:
            return record.retention_days
        tenant = self.config.tenant(tenant_of(record.owner))
        days = tenant.retention_days if tenant is not None else None
        return self.config.sessions.retention_days if days is None else days


class FaceServices(Common, kw_only=True):
    """What the faces need beside the sessions."""

    store: Store
    quotas: Quotas
    ledger: Ledger
    audit: Audit
    repositories: WorkspaceKeeper
    outbox: Outbox
    """Takes what sessions changed out of them."""
    mcp: McpClient
    """Asks the MCP servers that people add to their sessions."""
