"""Answers of the gateway that both ends use: the faces that give them, the client that reads them."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from worker.spec import Receipt


class SessionSummary(Struct, frozen=True):
    """A session in a list; times are ISO 8601."""

    session_id: str
    title: str | None
    state: str
    agent: str
    created_at: str
    last_active_at: str
    messages: int
    parent: str | UnsetType = UNSET
    """The session that it was forked from, if that is still there."""
    pinned: bool | UnsetType = UNSET
    archived: bool | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    unread: bool | UnsetType = UNSET
    """A turn has ended that its owner has not seen. Absent, as the three above: no, none."""


class SessionList(Struct, frozen=True):
    """The caller's sessions, last active first."""

    sessions: list[SessionSummary]


class SearchHit(Struct, frozen=True, kw_only=True):
    """A title or a message in which every word occurs."""

    session_id: str
    title: str | None
    at: str
    """When it was said, ISO 8601; of a title, when the session was last used."""
    excerpt: str
    marks: tuple[tuple[int, int], ...]
    """Where the words are in the excerpt: (first, behind the last), counted in Unicode characters."""
    message_id: str | UnsetType = UNSET
    """Absent: it is the title, and so for the two below."""
    sender: str | UnsetType = UNSET
    seq: int | UnsetType = UNSET
    """The last event that is in the message."""


class SearchAnswer(Struct, frozen=True, kw_only=True):
    """Titles first, then messages, those of the session last used first; a few of each session."""

    hits: list[SearchHit]
    is_complete: bool
    """Everything was searched, in this answer and those before it."""
    following: str | UnsetType = UNSET
    """Where to go on, as `after` of the next request; absent: it is complete."""
    is_indexing: bool
    """The index is being built: everything is found, but it takes more answers."""


class MinimalAnswer(Struct, frozen=True):
    """What a verb answers instead of State to who prefers little (`Prefer: return=minimal`): where the
    session is now. Whatever the verb did is in the log up to `seq`.
    """

    session_id: str
    seq: int
    is_processing: bool
    queued: int
    start_position: int | None
    missing_api_key: bool


class Deleted(Struct, frozen=True):
    """What a deletion came to: everything of the session is erased, and its processes are gone."""

    session_id: str
    deleted: bool
    receipt: Receipt


class Counts(Struct, frozen=True):
    """What operators watch."""

    active_sessions: int
    """Everything in the map."""
    live: int
    """With a worker."""
    parked: int


class ErrorDetail(Struct, frozen=True):
    """What went wrong: a stable slug, words with what to do, and the session where there is one."""

    code: str
    message: str
    session_id: str | None = None
    limit: str | UnsetType = UNSET
    """Which quota is used up, as SCOPE.NAME; how much of it is used, and allowed."""
    used: float | UnsetType = UNSET
    allowed: float | UnsetType = UNSET


class KeySummary(Struct, frozen=True, kw_only=True):
    """An API key without its secret; times are ISO 8601."""

    id: str
    tenant: str
    subject: str
    name: str
    scopes: tuple[str, ...]
    state: str
    """good, expired or revoked."""
    created_at: str
    expires_at: str | None
    last_used_at: str | None


class KeyList(Struct, frozen=True):
    """Every key, oldest first."""

    keys: list[KeySummary]


class MintedKey(Struct, frozen=True):
    """A new key: `key` is its text, which is told this once."""

    key: str
    summary: KeySummary


class OwnKeySummary(Struct, frozen=True, kw_only=True):
    """A key of a person or tenant, for a provider or for the hosts of a credential; never the key itself."""

    name: str
    kind: Literal["provider", "credential"]
    need: Literal["allowed", "required", "unused"]
    """`unused`: nothing in the configuration takes it any more."""
    state: Literal["set", "not_set", "lost"]
    """`lost`: it was encrypted with a secret that the gateway does not have any more; set it again."""
    set_at: str | None
    has_fallback: bool
    """The tenant has a key that is used if the person sets none."""


class OwnKeyList(Struct, frozen=True):
    """Every key that may be set, and those that are."""

    keys: list[OwnKeySummary]


class OwnKeysErased(Struct, frozen=True):
    """How many keys were removed."""

    removed: int


class LimitUse(Struct, frozen=True, kw_only=True):
    """A limit that somebody has, and how much of it is used now, or today."""

    name: str
    """As in the configuration: messages_per_day, stored_bytes, …"""
    used: float
    allowed: float


class TenantSummary(Struct, frozen=True, kw_only=True):
    """What a tenant has and has used today."""

    name: str
    title: str
    is_disabled: bool
    sessions_live: int
    sessions_stored: int
    concurrent_turns: int
    messages: int
    tokens: int
    cpu_seconds: float
    memory_gb_seconds: float
    stored_bytes: int
    limits: tuple[LimitUse, ...] = ()
    """Of all of it together."""


class TenantList(Struct, frozen=True):
    """Every tenant."""

    tenants: list[TenantSummary]


class UsageRow(Struct, frozen=True, kw_only=True):
    """What was used, and what it cost by the prices that the gateway knows."""

    names: dict[str, str]
    """What it is of, by what the report tells apart. An empty name: it is nobody's, or not known any more."""
    calls: int
    input_tokens: int
    """Without those from and to a cache."""
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    """Without those of thoughts."""
    reasoning_tokens: int
    told_tokens: int
    """Of agents with models of their own, as they say."""
    tokens: int
    """All of them."""
    cost_usd: float
    unpriced_calls: int
    """Calls of models without a price, which are not in the cost."""
    estimated_calls: int
    """Calls that were cut, or whose provider did not say: their tokens are an estimate."""
    cpu_seconds: float
    memory_gb_seconds: float
    wall_seconds: float
    """How long workers lived."""
    stored_bytes: int
    """So much more is stored than before; less than 0: so much less."""


class UsageReport(Struct, frozen=True, kw_only=True):
    """Sums of what was used between two days, both within; the latest and the dearest come first."""

    from_day: str
    to_day: str
    by: list[str]
    rows: list[UsageRow]
    total: UsageRow
    """Of all rows, those that are left out as well."""
    has_more: bool
    """Rows are left out."""


class Forgotten(Struct, frozen=True):
    """What came of forgetting a person."""

    was_known: bool


class PersonSummary(Struct, frozen=True, kw_only=True):
    """A person: what they have, and what they have used today. Times are ISO 8601."""

    tenant: str
    subject: str
    is_disabled: bool
    disabled_at: str | None
    sessions_live: int
    """With an agent that runs."""
    sessions_stored: int
    stored_bytes: int
    keys: int
    """API keys that are good."""
    messages: int
    tokens: int
    last_used_at: str | None
    """When one of the sessions or keys was last used."""
    cost_usd: float = 0.0
    """Of today's model calls, in US dollars."""
    own_keys: tuple[str, ...] = ()
    """Providers and hosts for which a key of their own is set, by name; never a key."""
    limits: tuple[LimitUse, ...] = ()


class PeopleList(Struct, frozen=True):
    """People, last used first."""

    people: list[PersonSummary]
    has_more: bool
    """True if there are more than were asked for."""


class Reloaded(Struct, frozen=True):
    """What a reload came to: the settings that changed at once, and those that want a restart."""

    changed: list[str]
    needs_restart: list[str]


class CommandAnswer(Struct, frozen=True):
    """What came of an mcp-command."""

    success: bool
    message: str
    data: Any = None


class ErrorBody(Struct, frozen=True):
    """Every error of this gateway."""

    error: ErrorDetail
    request_id: str
