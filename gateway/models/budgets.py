"""Budgets: what models may cost the gateway, a tenant, a person, a key, a session and an agent, and what they
have cost. One counter for all of it, which the ledger moves; quotas read it, too.

A check and what it holds back are one plain `def`: two calls at once at the edge of a budget go over it by no
more than was held back for them. Days and months are counted apart, those before included, so a clock that
jumps there and back finds what it left.

Guarantee: pure but for the clock.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from gateway.config.tables import DAY_MILLISECONDS, Budget, Config
from gateway.errors import BudgetReached
from gateway.principal import Account, tenant_of
from gateway.stores.held import BudgetStanding
from gateway.stores.usage import UseName

MICRO: Final = 1_000_000
"""Costs are counted in millionths of a dollar."""
KEPT_PERIODS: Final = 3
GATEWAY: Final[UseName] = ("gateway", "")

Span = Literal["day", "month", "life"]


class Counted(Struct):
    """What was used in a day or a month."""

    cost: int = 0
    """In millionths of a dollar."""
    tokens: int = 0


class Amount(NamedTuple):
    """Of money (None: unknown) and of tokens."""

    cost: int | None = None
    tokens: int = 0


class Near(Struct, frozen=True):
    """Most of a budget is used."""

    limit: str
    """Whose, and which: `subject.cost_per_day`."""
    words: str
    used: float
    allowed: float


class _Limit(NamedTuple):
    name: str
    span: Span
    unit: Literal["cost", "tokens"]
    words: str


LIMITS: Final = (
    _Limit("cost_per_day", "day", "cost", "a day"),
    _Limit("cost_per_month", "month", "cost", "a month"),
    _Limit("tokens_per_day", "day", "tokens", "a day"),
    _Limit("tokens_per_month", "month", "tokens", "a month"),
    _Limit("cost", "life", "cost", "in all"),
)
"""The last one is a session's own."""
_WHOSE: Final = {
    "gateway": "This gateway",
    "tenant": "This organisation",
    "key": "This API key",
    "subject": "This account",
    "session": "This session",
    "agent": "This agent",
}


def payers(account: Account) -> Iterator[UseName]:
    """Everybody whose budget a call of this account counts for."""
    yield GATEWAY
    yield from account.names()
    if account.agent:
        yield "agent", account.agent


class Periods:
    """What everybody used, by day or by month."""

    def __init__(self) -> None:
        self._all: dict[int, dict[UseName, Counted]] = {}
        self.restored: set[int] = set()
        """Of which it is known what is stored."""

    def of(self, period: int) -> dict[UseName, Counted]:
        """Of one; the oldest of too many are forgotten."""
        found = self._all.get(period)
        if found is None:
            found = self._all[period] = {}
            for old in sorted(self._all)[: -KEPT_PERIODS - 1]:
                if old != period:
                    del self._all[old]
                    self.restored.discard(old)
        return found

    def add(self, period: int, name: UseName, amount: Amount) -> None:
        """Somebody used so much more."""
        spent = self.of(period).setdefault(name, Counted())
        spent.cost += amount.cost or 0
        spent.tokens += amount.tokens

    def at_least(self, period: int, spent: Mapping[UseName, Counted]) -> None:
        """What is stored of a period: others may have been counted since."""
        self.of(period)
        self.restored.add(period)
        self.count_at_least(period, spent)

    def count_at_least(self, period: int, spent: Mapping[UseName, Counted]) -> None:
        """What was used in a period by some, at all gateways."""
        known = self.of(period)
        for name, stored in spent.items():
            mine = known.setdefault(name, Counted())
            mine.cost, mine.tokens = max(mine.cost, stored.cost), max(mine.tokens, stored.tokens)

    def forget(self, name: UseName) -> None:
        """What somebody used is nobody's to ask for."""
        for used in self._all.values():
            used.pop(name, None)


class Budgets:
    """See the module."""

    def __init__(
        self,
        config: Callable[[], Config],
        *,
        wall_ms: Callable[[], int],
        on_reached: Callable[[str], None] = lambda _limit: None,
    ) -> None:
        """`config` gives the configuration as it is now: a budget that is raised holds from the next call."""
        self._config = config
        self._wall_ms = wall_ms
        self._on_reached = on_reached
        self.days, self.months = Periods(), Periods()
        self._sessions: dict[str, SessionBudget] = {}
        """Of those in memory, by key."""
        self._held: dict[UseName, Counted] = {}
        """What calls in flight may still use."""
        self._told: dict[tuple[UseName, str], tuple[int, float]] = {}
        """Of what was said that it is nearly used up: in which period, of how much."""

    # -- asking -----------------------------------------------------------------------------------------

    def tokens_today(self, name: UseName) -> int:
        """What somebody has used of models today."""
        spent = self.days.of(day_of(self._wall_ms())).get(name)
        return spent.tokens if spent is not None else 0

    def cost_today(self, name: UseName) -> float:
        """What somebody's models have cost today, in dollars."""
        spent = self.days.of(day_of(self._wall_ms())).get(name)
        return spent.cost / MICRO if spent is not None else 0.0

    def used(self, name: UseName) -> dict[str, float]:
        """What counts for each limit, by its name: dollars and tokens."""
        return {one.name: _figure(one, self._used(name, one)) for one in LIMITS if one.span != "life"}

    def check(self, account: Account, *, also_own: bool = True) -> None:
        """Raises BudgetReached if a budget is used up; what is in flight is not counted. `also_own`: also
        what the session may cost in all, which is known of those in memory.
        """
        for name, limit, allowed in self._limits(payers(account)):
            if limit.span == "life" and not also_own:
                continue
            used = self._used(name, limit)
            if used >= allowed:
                raise self._reached(name, limit, used, allowed)

    def hold(self, account: Account, wanted: Amount, *, what: str) -> HeldBack:
        """Checks every budget and holds back what a call may use, but no more than is left. `what` names the
        model. Raises BudgetReached, and then nothing is held.
        """
        names = tuple(payers(account))
        cost, tokens = wanted.cost or 0, wanted.tokens
        for name, limit, allowed in self._limits(names):
            if limit.unit == "cost" and wanted.cost is None:
                self._check_unpriced(name, limit, what)
            held = self._held.get(name) or Counted()
            used = self._used(name, limit) + getattr(held, limit.unit)
            if used >= allowed:
                raise self._reached(name, limit, used, allowed)
            if limit.unit == "cost":
                cost = min(cost, allowed - used)
            else:
                tokens = min(tokens, allowed - used)
        for name in names:
            held = self._held.setdefault(name, Counted())
            held.cost += cost
            held.tokens += tokens
        return HeldBack(names, Amount(cost, tokens))

    # -- of several gateways ----------------------------------------------------------------------------

    def limited(self, account: Account) -> tuple[UseName, ...]:
        """Who pays for a call of this account and has a budget by the day or the month."""
        return tuple(name for name in payers(account) if self.is_limited(name))

    def is_limited(self, name: UseName) -> bool:
        """Whether somebody has a budget by the day or the month."""
        return any(limit.span != "life" for _, limit, _ in self._limits([name]))

    def counted_today(self) -> list[UseName]:
        """Everybody of whom something is counted today."""
        return list(self.days.of(day_of(self._wall_ms())))

    def check_together(
        self,
        account: Account,
        standing: Mapping[UseName, BudgetStanding],
        held: Mapping[UseName, Counted],
    ) -> None:
        """Raises BudgetReached if what all gateways have used and hold back is all that is allowed; `held`:
        what this one does.
        """
        for name, limit, allowed in self._limits(payers(account)):
            if limit.span == "life" or name not in standing:
                continue
            whole, mine = standing[name], held.get(name) or Counted()
            used = getattr(whole.day if limit.span == "day" else whole.month, limit.unit)
            together = used + getattr(whole.others, limit.unit) + getattr(mine, limit.unit)
            if together >= allowed:
                raise self._reached(name, limit, together, allowed)

    def _check_unpriced(self, name: UseName, limit: _Limit, what: str) -> None:
        if self._config().quotas.unpriced == "refuse":
            self._on_reached(f"{name[0]}.{limit.name}")
            words = (
                f"The price of the model {what} is not known, and a budget in dollars holds here, so it "
                "cannot be used. The administrator of this gateway can name its price, or allow models "
                "without one."
            )
            raise BudgetReached(words, limit=f"{name[0]}.{limit.name}")

    def limits_of(self, name: UseName) -> Budget:
        """The budget of somebody."""
        config = self._config()
        kind, who = name
        match kind:
            case "gateway":
                return config.quotas.gateway
            case "tenant":
                tenant = config.tenants.get(who)
                return (tenant.quota if tenant is not None else None) or config.quotas.tenant
            case "subject":
                tenant = config.tenants.get(tenant_of(who))
                return (tenant.subject_quota if tenant is not None else None) or config.quotas.subject
            case "key":
                return config.quotas.key
            case "agent":
                agent = config.agents.get(who)
                return (agent.budget if agent is not None else None) or config.quotas.agent
        return config.quotas.session

    # -- sessions ---------------------------------------------------------------------------------------

    def know_session(self, key: str, *, spent: float, own: float | None) -> None:
        """A session is in memory: what its calls have cost so far, and what somebody has set for it alone (0:
        no limit; None: what the configuration says). In dollars.
        """
        self._sessions[key] = SessionBudget(round(spent * MICRO), own)

    def forget_live(self, key: str) -> None:
        """A session leaves the memory."""
        self._sessions.pop(key, None)

    def of_session(self, key: str) -> float:
        """What all calls of a session together may cost, in dollars; 0: no limit."""
        known = self._sessions.get(key)
        own = known.own if known is not None else None
        return self._config().quotas.session.cost if own is None else own

    # -- counting ---------------------------------------------------------------------------------------

    def release(self, held: HeldBack) -> None:
        """What was held back for a call is so no more."""
        for name in held.names:
            mine = self._held.get(name)
            if mine is None:
                continue
            mine.cost -= held.amount.cost or 0
            mine.tokens -= held.amount.tokens
            if mine == _NOTHING:
                del self._held[name]

    def add(self, account: Account, amount: Amount, *, at: int) -> list[Near]:
        """So much was used at a time; words for what is nearly used up by it, once in its day or month."""
        for name in payers(account):
            self.days.add(day_of(at), name, amount)
            self.months.add(month_of(at), name, amount)
            if name[0] == "session" and (known := self._sessions.get(name[1])) is not None:
                known.spent += amount.cost or 0
        return [
            near
            for name, limit, allowed in self._limits(payers(account))
            if (near := self._near(name, limit, allowed)) is not None
        ]

    def knows(self, at: int) -> bool:
        """Whether it is known what is stored of the day and the month of a time."""
        return day_of(at) in self.days.restored and month_of(at) in self.months.restored

    def forget_session(self, key: str) -> None:
        """A session is erased; what it used is nobody's to ask for."""
        for periods in (self.days, self.months):
            periods.forget(("session", key))

    # -- inner ------------------------------------------------------------------------------------------

    def _limits(self, names: Iterable[UseName]) -> Iterator[tuple[UseName, _Limit, int]]:
        """Every limit that there is, in millionths of a dollar and in tokens."""
        for name in names:
            budget = self.limits_of(name)
            for limit in LIMITS:
                allowed = self._allowed(name, limit, budget)
                if allowed:
                    yield name, limit, round(allowed * MICRO) if limit.unit == "cost" else round(allowed)

    def _allowed(self, name: UseName, limit: _Limit, budget: Budget) -> float:
        if limit.span != "life":
            return float(getattr(budget, limit.name))
        return self.of_session(name[1]) if name[0] == "session" else 0

    def _used(self, name: UseName, limit: _Limit) -> int:
        now = self._wall_ms()
        used = self.days.of(day_of(now)) if limit.span == "day" else self.months.of(month_of(now))
        spent = used.get(name)
        found: int = getattr(spent, limit.unit) if spent is not None else 0
        known = self._sessions.get(name[1]) if limit.span == "life" else None
        return max(found, known.spent) if known is not None else found

    def _near(self, name: UseName, limit: _Limit, allowed: int) -> Near | None:
        used, now = self._used(name, limit), self._wall_ms()
        period = {"day": day_of(now), "month": month_of(now), "life": 0}[limit.span]
        is_near = used >= allowed * self._config().quotas.soft_percent / 100
        if not is_near or self._told.get((name, limit.name)) == (period, allowed):
            return None
        self._told[name, limit.name] = (period, allowed)
        words = f"{_WHOSE[name[0]]} has used {_said(limit, used)} of {_said(limit, allowed)} {limit.words}."
        return Near(f"{name[0]}.{limit.name}", words, _figure(limit, used), _figure(limit, allowed))

    def _reached(self, name: UseName, limit: _Limit, used: int, allowed: int) -> BudgetReached:
        self._on_reached(f"{name[0]}.{limit.name}")
        words = (
            f"{_WHOSE[name[0]]} may use {_said(limit, allowed)} of models {limit.words} and has used "
            f"{_said(limit, used)}. {self._goes_on(limit, allowed)}"
        )
        return BudgetReached(
            words,
            limit=f"{name[0]}.{limit.name}",
            used=_figure(limit, used),
            allowed=_figure(limit, allowed),
            retry_after_seconds=None if limit.span == "life" else self._seconds_left(limit.span),
        )

    def _goes_on(self, limit: _Limit, allowed: int) -> str:
        """When, and who can do something about it."""
        if limit.span != "life":
            again = "tomorrow" if limit.span == "day" else "next month"
            return f"It goes on {again} (UTC), or when the administrator of this gateway raises the budget."
        most = self._config().quotas.session.cost_most
        if allowed < most * MICRO:
            return (
                f"It goes on when you raise its budget, up to {dollars(round(most * MICRO))}, or when the "
                "administrator of this gateway does."
            )
        return "It goes on when the administrator of this gateway raises its budget."

    def _seconds_left(self, span: Span) -> float:
        now = self._wall_ms()
        if span == "day":
            return (DAY_MILLISECONDS - now % DAY_MILLISECONDS) / 1000
        date = datetime.datetime.fromtimestamp(now / 1000, datetime.UTC)
        following = datetime.datetime(
            date.year + date.month // 12, date.month % 12 + 1, 1, tzinfo=datetime.UTC
        )
        return (following - date).total_seconds()


class SessionBudget(Struct):
    """Of a session in memory."""

    spent: int
    """What its calls have cost, in millionths of a dollar."""
    own: float | None
    """What they may cost by its own setting, in dollars."""


class HeldBack(NamedTuple):
    """What is held back for one call, of whom."""

    names: tuple[UseName, ...]
    amount: Amount


_NOTHING: Final = Counted()


def day_of(at: int) -> int:
    """The day, since 1970 UTC, of a time in milliseconds."""
    return at // DAY_MILLISECONDS


def month_of(at: int) -> int:
    """The month, since the year 0 UTC, of a time in milliseconds."""
    date = datetime.datetime.fromtimestamp(at / 1000, datetime.UTC)
    return date.year * 12 + date.month - 1


def first_day_of_month(at: int) -> int:
    """The day, since 1970 UTC, that the month of a time begins with."""
    date = datetime.datetime.fromtimestamp(at / 1000, datetime.UTC)
    return day_of(at) - (date.day - 1)


def dollars(cost: int) -> str:
    """Millionths of a dollar as people read them."""
    digits = 2 if cost >= MICRO // 10 or cost == 0 else 6
    return f"{cost / MICRO:,.{digits}f} USD"


def _said(limit: _Limit, amount: int) -> str:
    return dollars(amount) if limit.unit == "cost" else f"{amount:,} tokens"


def _figure(limit: _Limit, amount: int) -> float:
    return amount / MICRO if limit.unit == "cost" else amount
