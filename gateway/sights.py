"""What operators see: numbers and metadata, never a title and never a word of a conversation. Both the
gateway and its client use these.
"""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType


class WatchedSession(Struct, frozen=True, kw_only=True):
    """A session in memory, by its internal key; times are ISO 8601."""

    key: str
    tenant: str
    agent: str
    state: str
    created_at: str
    last_used_at: str
    idle_seconds: float
    memory_bytes: int
    """Of its worker, shared pages by share; 0 without one."""
    cpu_seconds: float
    """Of its worker so far."""
    messages: int
    queued: int
    network: str | UnsetType = UNSET
    """Of its worker: none, broker or shared; absent without one."""
    person: str | UnsetType = UNSET
    """Its owner's subject; absent for operators who may not see people."""


class WatchedSessions(Struct, frozen=True, kw_only=True):
    """Those that were used last come first; `total` is how many there are, of those that were asked for."""

    sessions: list[WatchedSession]
    total: int
    agents: list[str] = []
    """Of all sessions within the caller's reach, to choose from."""
    tenants: list[str] = []
    states: dict[str, int] = {}
    """How many of all of them are in each state."""


class OwnedSession(Struct, frozen=True, kw_only=True):
    """A stored session with its owner, TENANT/SUBJECT, for the operator at the machine."""

    owner: str
    session_id: str
    title: str | None
    state: str
    agent: str
    created_at: str
    last_active_at: str
    messages: int


class OwnedSessions(Struct, frozen=True, kw_only=True):
    """Those that were active last come first; `has_more`: others are left out."""

    sessions: list[OwnedSession]
    has_more: bool


class TenantNumbers(Struct, frozen=True, kw_only=True):
    """One tenant's share."""

    tenant: str
    sessions: int
    workers: int
    memory_bytes: int
    turns_per_minute: float
    tokens_per_minute: float


class NodeNumbers(Struct, frozen=True, kw_only=True):
    """One of the gateways that share a store, as its last beat said."""

    name: str
    version: str
    url: str
    """Where the others reach it."""
    state: str
    """starting, up, draining, or silent: no beat of it was seen for a lease."""
    sessions: int
    """In its memory."""
    workers: int
    worker_limit: int
    still_seconds: float
    """For how long no beat of it was seen."""
    is_this: bool
    """It is the one that answers."""


class Overview(Struct, frozen=True, kw_only=True):
    """The gateway at a glance. Rates and percentiles are of the last five minutes; null: nothing happened."""

    version: str
    at: str
    uptime_seconds: float
    is_draining: bool
    sessions: int
    states: dict[str, int]
    workers: int
    worker_limit: int
    worker_memory_bytes: int
    worker_cpu_seconds: float
    """Of those that live."""
    gateway_memory_bytes: int
    gateway_cpu_seconds: float
    turns_running: int
    queued: int
    streams: int
    starts_per_minute: float
    turns_per_minute: float
    tokens_per_minute: float
    start_p50_seconds: float | None
    start_p99_seconds: float | None
    first_token_p50_seconds: float | None
    first_token_p99_seconds: float | None
    loop_lag_p99_seconds: float | None
    store_waiting: int
    tenants: list[TenantNumbers]
    nodes: list[NodeNumbers] | UnsetType = UNSET
    """The gateways that share the store, by name; absent: this one has its own. All else here is of this
    gateway.
    """


class Acted(Struct, frozen=True, kw_only=True):
    """What came of an operator's word on a session."""

    key: str
    state: str
    had_worker: bool


class DrainBegun(Struct, frozen=True, kw_only=True):
    """The gateway takes no new work, gives turns their grace, and ends. `grace_seconds` is null if turns may
    go on to their end, because other gateways take the work.
    """

    grace_seconds: float | None


class RefusedHostRow(Struct, frozen=True, kw_only=True):
    """A host that workers of an agent were refused in the last day."""

    agent: str
    tenant: str
    host: str
    port: int
    why: str
    count: int
    last_at: str
    toml: str
    """The lines that would allow it, to be added to the configuration; empty if no list can."""


class RefusedHostTable(Struct, frozen=True):
    """The last 200, the last one first."""

    hosts: list[RefusedHostRow]


class OverviewHistory(Struct, frozen=True, kw_only=True):
    """The last day, a value of each line for each time; null: nothing happened. A step that is missing: the
    gateway did not run.
    """

    step_seconds: int
    at: list[int]
    """Milliseconds since 1970 UTC."""
    lines: dict[str, list[float | None]]
    """By the names of `Overview`, and `errors_per_minute`."""


class HealthCheck(Struct, frozen=True, kw_only=True):
    """One thing that must hold, as /readyz has it; `words` say what does not."""

    is_well: bool
    words: str


class AlarmRow(Struct, frozen=True, kw_only=True):
    """An alarm that the gateway raises about itself; docs/alarms.md says what to do."""

    name: str
    severity: str
    """critical or warning."""
    value: float
    """The figure that it is about: a share, a count, seconds or bytes."""
    since: str
    """When it was first seen; ISO 8601."""


class GatewayHealth(Struct, frozen=True, kw_only=True):
    """How one gateway is."""

    version: str
    started_at: str
    uptime_seconds: float
    checks: dict[str, HealthCheck]
    """store, disk, forkserver, tasks, draining."""
    disk_free_bytes: int
    disk_low_bytes: int
    database_bytes: int
    walls: str
    """Behind which workers run: strict, basic or none."""
    walls_missing: str
    """Why they are not stricter; empty if nothing is missing."""
    errors: dict[str, int]
    """Error answers of the last five minutes, by their code."""
    failed_answers: int
    """Of them, those with a status of 500 and more."""
    rejections: dict[str, int]
    """Requests over a limit in the last five minutes, by the limit's name."""
    alarms: list[AlarmRow]
    """The critical ones first."""


class LogLine(Struct, frozen=True, kw_only=True):
    """One line of the gateway's log."""

    number: int
    at: str
    level: str
    logger: str
    message: str
    request_id: str | UnsetType = UNSET
    tenant: str | UnsetType = UNSET
    session: str | UnsetType = UNSET


class LogLinePage(Struct, frozen=True, kw_only=True):
    """The newest first, of the last 2,000 lines since the gateway started; `next`: the `before` of what
    comes after; null at the end."""

    lines: list[LogLine]
    next: str | None
