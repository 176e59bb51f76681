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


class WatchedSessions(Struct, frozen=True, kw_only=True):
    """Those that were used last come first; `total` is how many there are."""

    sessions: list[WatchedSession]
    total: int


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


class Acted(Struct, frozen=True, kw_only=True):
    """What came of an operator's word on a session."""

    key: str
    state: str
    had_worker: bool


class DrainBegun(Struct, frozen=True, kw_only=True):
    """The gateway takes no new work, gives turns their grace, and ends."""

    grace_seconds: float


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
