"""The ledger: one row for each model call, and sums by day of what calls and workers used.

A call is put down when it is reserved, and once more when it is settled; of both the first counts. The sums
are kept in the same commit as the call that they grow by, so that the two cannot disagree. Content is in
neither: no prompt, no answer, no title.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol

import msgspec
from msgspec import Struct

from gateway.principal import VISITOR_MARK, is_visitor, tenant_of

Dimension = Literal["day", "tenant", "person", "session", "key", "agent", "provider", "model"]
"""What sums can be told apart by."""
DIMENSIONS: Final[tuple[Dimension, ...]] = (
    *("day", "tenant", "person", "session", "key"),
    *("agent", "provider", "model"),
)
REFUSED: Final = 400
"""From this status on, a call was refused."""
ERASED: Final = VISITOR_MARK + "erased"
"""The subject of somebody who was erased; nobody can be called so."""


class LedgerCall(Struct, frozen=True, kw_only=True):
    """One model call. `status` None: it is reserved, and its figures are those of the reservation."""

    id: str
    at: int
    """When it was reserved, in milliseconds since 1970 UTC: it counts for this day, whenever it ends."""
    owner: str
    session_key: str = ""
    """Empty: of a session that was erased."""
    key_id: str = ""
    agent: str = ""
    provider: str = ""
    model: str = ""
    """The one that was asked for: prices, budgets and sums go by this name."""
    model_answered: str = ""
    dialect: str = ""
    key_owner: str = "gateway"
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    cost: int | None = None
    """In millionths of a dollar; None: the model has no price."""
    is_estimated: bool = False
    status: int | None = None
    first_byte_ms: int | None = None

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.input + self.cache_read + self.cache_write + self.output + self.reasoning


class LedgerUse(Struct, frozen=True, kw_only=True):
    """What was used beside model calls that the gateway makes."""

    at: int
    owner: str
    session_key: str = ""
    key_id: str = ""
    agent: str = ""
    told_tokens: int = 0
    """What an agent with a model of its own says that it used."""
    cpu_ms: int = 0
    memory_mb_seconds: int = 0
    wall_ms: int = 0
    stored_bytes: int = 0
    """So much more is stored; less than 0: so much less."""


LedgerEntry = LedgerCall | LedgerUse


class UsageSum(Struct, kw_only=True):
    """What calls and workers used together."""

    calls: int = 0
    estimated_calls: int = 0
    """Calls whose tokens are an estimate."""
    unpriced_calls: int = 0
    """Calls of models without a price: they cost something, and nobody knows how much."""
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    told_tokens: int = 0
    cost: int = 0
    """In millionths of a dollar, of the calls that have a price."""
    cpu_ms: int = 0
    memory_mb_seconds: int = 0
    wall_ms: int = 0
    stored_bytes: int = 0

    @property
    def tokens(self) -> int:
        """All of them."""
        made = self.input + self.cache_read + self.cache_write + self.output + self.reasoning
        return made + self.told_tokens

    def add(self, other: UsageSum) -> None:
        """Adds what others used."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class SumRow(Struct, frozen=True, kw_only=True):
    """A sum and what it is of: only what was asked to be told apart is set."""

    names: dict[str, str]
    """By dimension; a day is the number of days since 1970 UTC."""
    total: UsageSum


class Chosen(Struct, frozen=True, kw_only=True):
    """Which days and whose; both days are within."""

    from_day: int
    to_day: int
    tenant: str | None = None
    owner: str | None = None


class LedgerStore(Protocol):
    """See the module. Every method may raise StoreFull or StoreFailed."""

    async def put(self, entries: Sequence[LedgerEntry]) -> None:
        """Puts these down, in order and in one transaction. A call that is reserved or settled already does
        not change by being reserved, one that is settled not by being settled: a repetition counts once.
        """

    def note(self, call: LedgerCall) -> bool:
        """Keeps a reservation at once, until it is put down: it is then in flight for the next process, if
        this one is killed. False if it cannot: what is reserved outlives the process once it is put down.
        """

    async def in_flight(self) -> Sequence[LedgerCall]:
        """Calls that are reserved and not settled, oldest first."""

    async def calls(self, *, since: int = 0, session_key: str | None = None, limit: int) -> list[LedgerCall]:
        """Calls that were reserved at this time or later, of one session or of all, newest first."""

    async def sums(self, by: Sequence[Dimension], chosen: Chosen, *, limit: int) -> list[SumRow]:
        """The sums that there are, at most so many, those of the latest days and the greatest cost first."""

    async def forget_person(self, owner: str) -> bool:
        """Has what somebody used counted as that of somebody erased, of whom no more is known than the
        tenant. False: there was nothing.
        """

    async def forget(self, *, calls_before_day: int, sums_before_day: int) -> None:
        """Drops the single calls of days before, of which the sums stay, without their sessions and visitors;
        and the sums of days before.
        """


def day_of(at: int) -> int:
    """The day (since 1970 UTC) of a time in milliseconds."""
    return at // DAY_MILLISECONDS


DAY_MILLISECONDS: Final = 24 * 3600 * 1000


def sum_of(entry: LedgerEntry) -> UsageSum:
    """What one entry adds to the sums."""
    if isinstance(entry, LedgerUse):
        return UsageSum(
            told_tokens=entry.told_tokens, cpu_ms=entry.cpu_ms, memory_mb_seconds=entry.memory_mb_seconds,
            wall_ms=entry.wall_ms, stored_bytes=entry.stored_bytes,
        )  # fmt: skip
    return UsageSum(
        calls=1, estimated_calls=int(entry.is_estimated), unpriced_calls=int(entry.cost is None),
        input=entry.input, cache_read=entry.cache_read, cache_write=entry.cache_write, output=entry.output,
        reasoning=entry.reasoning, cost=entry.cost or 0,
    )  # fmt: skip


def names_of(entry: LedgerEntry) -> tuple[str, ...]:
    """Whose sum an entry is part of: (tenant, owner, session, key, agent, provider, model). A call that was
    refused and used nothing is of no model: agents may ask for any that they think of.
    """
    provider, model = ("", "")
    if isinstance(entry, LedgerCall):
        is_answered = entry.tokens > 0 or (entry.status is not None and entry.status < REFUSED)
        provider, model = entry.provider, entry.model if is_answered else ""
    whose = (tenant_of(entry.owner), entry.owner, entry.session_key, entry.key_id)
    return (*whose, entry.agent, provider, model)


def without_session(entry: LedgerEntry) -> LedgerEntry:
    """As it is kept when its session is erased. A visitor is nobody without a session."""
    owner = anonymous(entry.owner) if is_visitor(entry.owner) else entry.owner
    return msgspec.structs.replace(entry, session_key="", owner=owner)


def anonymous(owner: str) -> str:
    """Who is counted instead of somebody who was erased."""
    return f"{tenant_of(owner)}/{ERASED}"
