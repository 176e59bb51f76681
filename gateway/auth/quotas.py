"""Quotas: how much a tenant, an API key, a person and a session may use, and have used.

Every check is one plain `def`, so a hundred requests at once against a quota of ten let in exactly ten. Where
several gateways share a store, what they hold together is granted by it (`ready`), and what is used by the
day is what all of them used, a few seconds ago. It is kept in the store every few seconds; what is stored is
counted by owner at the start. Tokens, and what they cost, are the ledger's to count (`models.budgets`): they
are only read here. Sums of what agents say are clamped: each of them can be kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec
from msgspec import Struct, field

from gateway.answers import LimitUse
from gateway.auth.grants import Grants, NotGranted
from gateway.buckets import Buckets, MemoryBuckets
from gateway.config.tables import DAY_MILLISECONDS, Config, Quota
from gateway.errors import GatewayError, QuotaExceeded
from gateway.events.facts import QuotaUse
from gateway.models.budgets import Budgets, Counted
from gateway.principal import Account, tenant_of
from gateway.stores.held import HeldName, HeldStore
from gateway.stores.sessions import OwnerTotal
from gateway.stores.usage import DayUse, UsageStore, UseName
from gateway.telemetry.clocks import LivedTime
from worker.foreign import clamped

log = logging.getLogger(__name__)

MINUTE_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 5.0
"""After a limit on what is going on at the moment."""
STORED_RETRY_SECONDS: Final = 3600.0
"""After a limit on what is kept: somebody has to delete something."""
KEPT_DAYS: Final = 40
KEPT_IN_MEMORY: Final = 3
"""Days of which it is counted what was used."""

_WORDS: Final = {
    "sessions_live": "sessions with an agent at the same time",
    "sessions_stored": "stored sessions",
    "turns_per_minute": "messages a minute",
    "concurrent_turns": "answers at the same time",
    "messages_per_day": "messages a day",
    "tokens_per_day": "model tokens a day",
    "cpu_seconds_per_day": "seconds of CPU a day",
    "memory_gb_seconds_per_day": "gigabyte-seconds of memory a day",
    "stored_bytes": "stored bytes",
}


Nearly = tuple[str, QuotaUse]
"""What is nearly used up, in words and in figures."""


class Held(Struct):
    """What somebody has at the moment."""

    live: int = 0
    running: int = 0
    stored: int = 0
    stored_bytes: int = 0
    making: int = 0
    """Of the stored ones: those that are about to be."""
    taken_bytes: int = 0
    """Of the stored bytes: those that are about to be."""


class UsedDay(Struct):
    """What was used on a day."""

    uses: dict[UseName, DayUse] = field(default_factory=dict)
    """In all, as far as is known here."""
    unsaid: dict[UseName, DayUse] = field(default_factory=dict)
    """What of it is not stored yet."""
    counted: set[UseName] = field(default_factory=set)
    """Of whom something was counted here, who may be at other gateways, too."""
    is_restored: bool = False
    """Whether what is stored of it is among these."""


class Quotas:
    """See the module."""

    def __init__(
        self,
        config: Callable[[], Config],
        store: UsageStore,
        *,
        budgets: Budgets,
        monotonic: Callable[[], float],
        wall_ms: Callable[[], int],
        on_exceeded: Callable[[str], None] = lambda _limit: None,
        shared: HeldStore | None = None,
    ) -> None:
        """`shared`: where several gateways say what they hold."""
        self._shared = shared
        self._grants = None
        if shared is not None:
            self._grants = Grants(shared, allowed=self._allowed, held=self._holds)
        self._config = config
        self._store = store
        self._budgets = budgets
        self._wall_ms = wall_ms
        self._on_exceeded = on_exceeded
        self._minutes: Buckets = MemoryBuckets(monotonic)
        self._held: dict[UseName, Held] = {}
        self._time = LivedTime(wall_ms=wall_ms, monotonic=monotonic)
        self._day = self._today()
        self._days: dict[int, UsedDay] = {self._day: UsedDay()}
        """The last few: a clock that jumps there and back finds what it left."""
        self._told: set[tuple[UseName, str]] = set()

    async def open(self, totals: Mapping[str, OwnerTotal]) -> None:
        """Restores the stored totals and today's usage. Raises StoreFailed."""
        for owner, total in totals.items():
            for name in _storers(owner):
                held = self._of(name)
                held.stored += total.sessions
                held.stored_bytes += total.stored_bytes
        await self._restore(self._day)
        told = {name: Counted(tokens=use.tokens) for name, use in self._uses.items() if use.tokens}
        self._budgets.days.at_least(self._day, told)  # counted here, on the day of an upgrade

    async def keep(self) -> None:
        """Writes what was used since the last time, and hears what others used."""
        self._turn_day()
        await self._keep_uses()
        if self._grants is not None and self._shared is not None:
            try:
                await self._hear(self._grants, self._shared)
            except GatewayError as error:
                log.warning("what other gateways hold and used is not known for now: %s", error)

    async def _hear(self, grants: Grants, shared: HeldStore) -> None:
        """Of those who have something here, or have used something today. Raises StoreFull, StoreFailed."""
        names = [name for name, held in self._held.items() if name[0] in _SHARED and _is_in_use(held)]
        grants.look(HeldName(*name, what) for name in names for what in ("live", "running"))
        await grants.hear()
        day = self._days[self._day]
        for name, use in (await self._store.uses(self._day, day.counted | set(names))).items():
            day.uses[name] = use.plus(day.unsaid.get(name, DayUse()))
        storing = [name for name in names if name[0] in _STORING and self._quota(name).stored_bytes]
        for name, total in (await shared.stored(storing)).items():
            held = self._of(name)
            held.stored, held.stored_bytes = total.sessions, total.stored_bytes + held.taken_bytes

    async def _keep_uses(self) -> None:
        for day, used in list(self._days.items()):
            if not used.unsaid:
                continue
            try:
                if not used.is_restored:
                    await self._restore(day)
                await self._say_uses(day, used)
            except GatewayError as error:
                log.warning("what was used is not kept for now: %s", error)
                return
        try:
            await self._store.forget(before_day=self._time.ms() // DAY_MILLISECONDS - KEPT_DAYS)
        except GatewayError as error:
            log.warning("what was used long ago is not forgotten for now: %s", error)

    async def _say_uses(self, day: int, used: UsedDay) -> None:
        said, used.unsaid = used.unsaid, {}
        try:
            await self._store.add_uses(day, said)
        except GatewayError:
            for name, use in said.items():
                used.unsaid[name] = use.plus(used.unsaid.get(name, DayUse()))
            raise

    async def _restore(self, day: int) -> None:
        """Takes what is stored of a day for what was used, besides what is not stored yet. Raises
        StoreFailed.
        """
        stored, used = await self._store.uses(day), self._days[day]
        used.is_restored = True
        used.uses |= {name: use.plus(used.unsaid.get(name, DayUse())) for name, use in stored.items()}

    # -- sessions ---------------------------------------------------------------------------------------

    async def ready_to_store(self, owner: str) -> None:
        """Returns when the other gateways leave room for one more stored session; to be followed by
        `add_session` at once. Raises QuotaExceeded, StoreFull, StoreFailed.
        """
        await self._ready([HeldName(*name, "making") for name in _storers(owner)])

    def add_session(self, owner: str) -> None:
        """One more session, which is about to be stored. Raises QuotaExceeded."""
        names = _storers(owner)
        for name in names:
            if self._grants is None:
                self._check(name, "sessions_stored", self._of(name).stored, retry=STORED_RETRY_SECONDS)
            else:
                self._check_held(self._grants, HeldName(*name, "making"))
        for name in names:
            self._of(name).stored += 1
            self._of(name).making += 1

    def session_stored(self, owner: str) -> None:
        """It is stored."""
        for name in _storers(owner):
            self._of(name).making -= 1
        self._say_held(_storers(owner), "making")

    def unmake_session(self, owner: str) -> None:
        """It is not stored after all."""
        self.session_stored(owner)
        self.drop_session(owner, 0)

    def forget_session(self, key: str) -> None:
        """A session is erased, and with it what it has used today."""
        self._budgets.forget_session(key)
        for used in self._days.values():
            used.uses.pop(("session", key), None)
            used.unsaid.pop(("session", key), None)

    def drop_session(self, owner: str, stored_bytes: int) -> None:
        """One is erased, with so much in it."""
        for name in _storers(owner):
            self._of(name).stored -= 1
        self.add_bytes(owner, -stored_bytes)

    def move_session(self, giver: str, taker: str, stored_bytes: int) -> None:
        """One changes hands; what is there is kept even where that is more than the taker may have."""
        self.drop_session(giver, stored_bytes)
        for name in _storers(taker):
            self._of(name).stored += 1
        self.add_bytes(taker, stored_bytes)

    def add_bytes(self, owner: str, stored_bytes: int) -> None:
        """So much more is stored, or less."""
        for name in _storers(owner):
            held = self._of(name)
            held.stored_bytes = clamped(held.stored_bytes + stored_bytes)

    def take_bytes(self, account: Account, size: int, *, session_bytes: int) -> None:
        """So much more is about to be stored in a session that has `session_bytes`; it counts until
        `give_bytes`. Raises QuotaExceeded, and then nothing is counted.
        """
        more = max(0, size - 1)  # as much as is allowed, and no byte more
        for name in account.names():
            if name[0] != "key":
                held = self._of(name).stored_bytes + (session_bytes if name[0] == "session" else 0)
                self._check(name, "stored_bytes", held + more, retry=STORED_RETRY_SECONDS)
        self._hold_bytes(account, size)

    def give_bytes(self, account: Account, size: int) -> None:
        """So much is stored and counted otherwise by now, or is not stored."""
        self._hold_bytes(account, -size)

    def _hold_bytes(self, account: Account, size: int) -> None:
        self.add_bytes(account.owner, size)
        for name in _storers(account.owner):
            self._of(name).taken_bytes += size
        for name in account.names():
            if name[0] == "session":
                self._of(name).stored_bytes += size
                self._tidy(name)

    def take_live(self, account: Account) -> None:
        """A session gets a worker. Raises QuotaExceeded."""
        names = list(account.names())
        for name in names:
            self._check_now(name, "live")
        for name in names:
            self._of(name).live += 1

    def give_live(self, account: Account) -> None:
        """Its worker is gone."""
        for name in account.names():
            self._of(name).live -= 1
            self._tidy(name)
        self._say_held(account.names(), "live")

    # -- what gateways hold together --------------------------------------------------------------------

    async def ready(self, account: Account, *, has_worker: bool) -> None:
        """Returns when the other gateways leave room for one more answer, and for one more session with an
        agent, if it has none yet; to be followed by `begin_turn` and `take_live` at once, with nothing
        awaited in between. Raises QuotaExceeded, StoreFull, StoreFailed.
        """
        if self._grants is not None:
            whats: list[Literal["live", "running"]] = ["running"] if has_worker else ["live", "running"]
            shared = [name for name in account.names() if name[0] in _SHARED]
            await self._ready([HeldName(*name, what) for name in shared for what in whats])

    async def _ready(self, names: Sequence[HeldName]) -> None:
        if self._grants is None:
            return
        try:
            await self._grants.ready(names)
        except NotGranted as error:
            raise self._not_granted(self._grants, error.name) from None

    def _check_now(self, name: UseName, what: Literal["live", "running"]) -> None:
        held = self._of(name)
        if self._grants is None or name[0] not in _SHARED:
            self._check(name, _LIMITS[what], held.live if what == "live" else held.running)
        else:
            self._check_held(self._grants, HeldName(*name, what))

    def _check_held(self, grants: Grants, name: HeldName) -> None:
        if not grants.may(name):
            raise self._not_granted(grants, name)

    def _not_granted(self, grants: Grants, name: HeldName) -> QuotaExceeded:
        retry = STORED_RETRY_SECONDS if name.what == "making" else RETRY_SECONDS
        used, whose, limit = (
            grants.others[name] + self._holds(name),
            (name.scope, name.name),
            _LIMITS[name.what],
        )
        return self._exceeded(whose, limit, max(used, self._allowed(name)), self._allowed(name), retry)

    def _say_held(self, names: Iterable[UseName], what: Literal["live", "running", "making"]) -> None:
        """Less is held than before."""
        if self._grants is not None:
            shared = [HeldName(*name, what) for name in names if name[0] in _SHARED]
            self._grants.changed([name for name in shared if self._allowed(name)])

    def _allowed(self, name: HeldName) -> int:
        return int(getattr(self._quota((name.scope, name.name)), _LIMITS[name.what]))

    def _holds(self, name: HeldName) -> int:
        held = self._held.get((name.scope, name.name))
        return int(getattr(held, name.what)) if held is not None else 0

    def _together(self, name: UseName) -> Held:
        """What somebody has at all gateways, as far as is known."""
        held = self._held.get(name) or Held()
        if self._grants is None:
            return held
        live, running = (self._grants.others[HeldName(*name, what)] for what in ("live", "running"))
        return msgspec.structs.replace(held, live=held.live + live, running=held.running + running)

    # -- turns ------------------------------------------------------------------------------------------

    def take_message(self, account: Account, *, session_bytes: int) -> list[Nearly]:
        """A message comes: checks every limit on messages and counts it; words for what is nearly used up.

        Raises QuotaExceeded or BudgetReached, and then nothing is counted.
        """
        self._turn_day()
        soft: list[Nearly] = []
        for name in account.names():
            quota = self._quota(name)
            if quota != _UNLIMITED:
                soft += self._check_message(name, quota, session_bytes)
        self._budgets.check(account)
        for name in account.names():
            quota = self._quota(name)
            if quota.turns_per_minute:
                rate = quota.turns_per_minute / MINUTE_SECONDS
                self._minutes.spend(_bucket(name), rate=rate, burst=quota.turns_per_minute)
            self._add(name, DayUse(messages=1))
        return soft

    def _check_message(self, name: UseName, quota: Quota, session_bytes: int) -> list[Nearly]:
        """Raises QuotaExceeded; words for what is nearly used up."""
        if quota.turns_per_minute:
            rate = quota.turns_per_minute / MINUTE_SECONDS
            seconds = self._minutes.wait(_bucket(name), rate=rate, burst=quota.turns_per_minute)
            if seconds:
                allowed = quota.turns_per_minute
                raise self._exceeded(name, "turns_per_minute", allowed, allowed, seconds)
        use, held = self._uses.get(name) or DayUse(), self._held.get(name) or Held()
        stored = session_bytes if name[0] == "session" else held.stored_bytes
        midnight = self._seconds_to_midnight()
        used = {
            "messages_per_day": (use.messages, midnight),
            "tokens_per_day": (self._budgets.tokens_today(name), midnight),
            "cpu_seconds_per_day": (use.cpu_ms / 1000, midnight),
            "memory_gb_seconds_per_day": (use.memory_mb_seconds / 1000, midnight),
            "stored_bytes": (stored, STORED_RETRY_SECONDS),
        }
        for limit, (amount, retry) in used.items():
            self._check(name, limit, amount, retry=retry)
        del used["tokens_per_day"]  # of which the ledger tells when it happens
        return [near for limit, (amount, _) in used.items() if (near := self._soft(name, limit, amount))]

    def begin_turn(self, account: Account) -> None:
        """An answer begins. Raises QuotaExceeded."""
        names = list(account.names())
        for name in names:
            self._check_now(name, "running")
        for name in names:
            self._of(name).running += 1

    def end_turn(self, account: Account) -> None:
        """It has ended."""
        for name in account.names():
            self._of(name).running -= 1
            self._tidy(name)
        self._say_held(account.names(), "running")

    def meter(self, account: Account, *, cpu_ms: int = 0, memory_mb_seconds: int = 0) -> None:
        """A worker used something."""
        self._turn_day()
        for name in account.names():
            self._add(name, DayUse(cpu_ms=cpu_ms, memory_mb_seconds=memory_mb_seconds))

    # -- what operators see -----------------------------------------------------------------------------

    def tenants(self) -> set[str]:
        """Every tenant that has or has used something."""
        return {name for kind, name in (*self._held, *self._uses) if kind == "tenant"}

    def of_tenant(self, name: str) -> tuple[DayUse, Held]:
        """What a tenant has used today, and what it has."""
        self._turn_day()
        use = self._uses.get(("tenant", name)) or DayUse()
        tokens = self._budgets.tokens_today(("tenant", name))
        return msgspec.structs.replace(use, tokens=tokens), self._together(("tenant", name))

    def subjects(self) -> set[str]:
        """Every owner that has something, or has used something today."""
        self._turn_day()
        return {name for kind, name in (*self._held, *self._uses) if kind == "subject"}

    def of_subject(self, owner: str) -> tuple[DayUse, Held]:
        """What an owner has used today, and what they have."""
        self._turn_day()
        return self._uses.get(("subject", owner)) or DayUse(), self._together(("subject", owner))

    def limits_of(self, name: UseName) -> tuple[LimitUse, ...]:
        """Every limit that a tenant or an owner has, but the rate, with how much of it is used."""
        self._turn_day()
        use, held, quota = self._uses.get(name) or DayUse(), self._together(name), self._quota(name)
        used = {
            "sessions_live": held.live,
            "sessions_stored": held.stored,
            "stored_bytes": held.stored_bytes,
            "concurrent_turns": held.running,
            "messages_per_day": use.messages,
            "cpu_seconds_per_day": use.cpu_ms / 1000,
            "memory_gb_seconds_per_day": use.memory_mb_seconds / 1000,
            **self._budgets.used(name),
        }
        return tuple(
            LimitUse(name=limit, used=round(amount, 6), allowed=allowed)
            for limit, amount in used.items()
            if (allowed := getattr(quota, limit))
        )

    # -- inner ------------------------------------------------------------------------------------------

    @property
    def _uses(self) -> dict[UseName, DayUse]:
        """What was used today."""
        return self._days[self._day].uses

    def _quota(self, name: UseName) -> Quota:
        config = self._config()
        kind, who = name
        match kind:
            case "tenant":
                tenant = config.tenants.get(who)
                return (tenant.quota if tenant is not None else None) or config.quotas.tenant
            case "subject":
                tenant = config.tenants.get(tenant_of(who))
                return (tenant.subject_quota if tenant is not None else None) or config.quotas.subject
            case "key":
                return config.quotas.key
        return config.quotas.session

    def _check(self, name: UseName, limit: str, used: float, *, retry: float = RETRY_SECONDS) -> None:
        allowed = getattr(self._quota(name), limit)
        if allowed and used >= allowed:
            raise self._exceeded(name, limit, used, allowed, retry)

    def _exceeded(
        self, name: UseName, limit: str, used: float, allowed: float, retry: float
    ) -> QuotaExceeded:
        self._on_exceeded(limit)
        words = f"{_WHOSE[name[0]]} may have {allowed:,} {_WORDS[limit]} and has {used:,.0f}."
        return QuotaExceeded(
            words, limit=f"{name[0]}.{limit}", used=used, allowed=allowed, retry_after_seconds=retry
        )

    def _soft(self, name: UseName, limit: str, used: float) -> Nearly | None:
        """Words, once a day, when most of a quota is used."""
        allowed = getattr(self._quota(name), limit)
        percent = self._config().quotas.soft_percent
        if not allowed or used < allowed * percent / 100 or (name, limit) in self._told:
            return None
        self._told.add((name, limit))
        words = f"{_WHOSE[name[0]]} has used {used:,.0f} of {allowed:,} {_WORDS[limit]}."
        return words, QuotaUse(f"{name[0]}.{limit}", round(used, 3), allowed)

    def _of(self, name: UseName) -> Held:
        held = self._held.get(name)
        if held is None:
            held = self._held[name] = Held()
        return held

    def _tidy(self, name: UseName) -> None:
        """Sessions and keys that hold nothing are not remembered."""
        if self._held.get(name) == _NOTHING:
            del self._held[name]

    def _add(self, name: UseName, more: DayUse) -> None:
        """Somebody used so much more today."""
        day = self._days[self._day]
        if self._grants is not None and name[0] in _SHARED:
            day.counted.add(name)
        for counted in (day.uses, day.unsaid):
            known = counted.get(name)
            counted[name] = more if known is None else known.plus(more)

    def _turn_day(self) -> None:
        today = self._today()
        if today != self._day:
            self._day, self._told = today, set()
            self._days.setdefault(today, UsedDay())
            for old in sorted(self._days)[:-KEPT_IN_MEMORY]:
                if old != today and not self._days[old].unsaid:
                    del self._days[old]

    def _today(self) -> int:
        return self._wall_ms() // DAY_MILLISECONDS

    def _seconds_to_midnight(self) -> float:
        return (DAY_MILLISECONDS - self._wall_ms() % DAY_MILLISECONDS) / 1000


class StoredShare:
    """What somebody stores bit by bit: it counts in their quota before it is stored, until `end`."""

    def __init__(self, quotas: Quotas, account: Account, *, session_bytes: int) -> None:
        self._quotas = quotas
        self._account = account
        self._session_bytes = session_bytes
        self._size = 0

    def reach(self, size: int) -> None:
        """So much in total by now. Raises QuotaExceeded."""
        more = size - self._size
        if more > 0 or not self._size:
            self._quotas.take_bytes(self._account, more, session_bytes=self._session_bytes)
            self._size = size

    def end(self) -> None:
        """All of it is counted otherwise from now on, or is not kept."""
        self._quotas.give_bytes(self._account, self._size)
        self._size = 0


_LIMITS: Final = {"live": "sessions_live", "running": "concurrent_turns", "making": "sessions_stored"}
_STORING: Final = ("tenant", "subject")
_SHARED: Final = (*_STORING, "key")
"""Who may be at several gateways at once; a session is at one."""
_UNLIMITED: Final = Quota()
_NOTHING: Final = Held()
_WHOSE: Final = {
    "tenant": "This organisation",
    "key": "This API key",
    "subject": "This account",
    "session": "This session",
}


def _storers(owner: str) -> list[UseName]:
    """Whose stored sessions an owner's are."""
    return [("tenant", tenant_of(owner)), ("subject", owner)]


def _is_in_use(held: Held) -> bool:
    return bool(held.live or held.running or held.making or held.taken_bytes)


def _bucket(name: UseName) -> str:
    return f"{name[0]}\0{name[1]}"
