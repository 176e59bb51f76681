"""The ledger: what model calls and workers used, counted once, under one name, as it happens.

A call is reserved before its first byte leaves and settled when it is over, whatever ended it. Both are put
down in the store in groups; a reservation outlives this process when `Reservation.kept` returns. If the
gateway is killed, the next one finds what was not settled, and settles it with what was reserved, as an
estimate. So a call counts once: with the provider's own figures if it was over when the gateway ended, else
as estimated.

Guarantees: `reserve` is one plain `def`; `settle` never raises, and counts once however often it is called;
what the store refuses is kept and tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from gateway.config.models import DEFAULT_PROVIDER
from gateway.config.tables import Config
from gateway.errors import BudgetReached, GatewayError
from gateway.models.budgets import (
    GATEWAY,
    Amount,
    Budgets,
    Counted,
    HeldBack,
    Near,
    day_of,
    first_day_of_month,
    month_of,
)
from gateway.models.meter import ASSUMED_OUTPUT, CallUsage, ModelCall
from gateway.models.prices import MOST_TOKENS, Prices, PriceSource, cost
from gateway.models.shared_budgets import HEAR_SECONDS, SharedBudgets
from gateway.principal import Account
from gateway.stores.held import HeldStore
from gateway.stores.ledger import Chosen, Dimension, LedgerCall, LedgerEntry, LedgerStore, LedgerUse
from gateway.stores.usage import UseName
from gateway.telemetry.clocks import Clock, LivedTime
from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

NOTED_SECONDS: Final = 0.05
"""How long what outlives this process already may wait for a group. A commit at the beginning of a call would
compete with the call for the processor.
"""
RETRY_SECONDS: Final = 1.0
"""After the store refused."""
KEEP_SECONDS: Final = 3600.0
"""How often what is too old is dropped."""
LOOK_SECONDS: Final = 1.0
"""How often it is looked whether the clock has jumped to a day of which nothing is known here."""
CUT: Final = 0
"""The status of a call that no answer came to."""
NAME_CHARACTERS: Final = 200
"""A model's name is kept up to here: agents may ask for any."""
MOST_NAMES: Final = 1_000_000
_BY: Final[dict[Dimension, str]] = {
    "tenant": "tenant",
    "person": "subject",
    "key": "key",
    "session": "session",
    "agent": "agent",
}
"""What is restored at the start, by the names that budgets have for it."""


class Listener(Protocol):
    """Hears of what concerns a session."""

    def settled(self, call: LedgerCall, seconds: float) -> None:
        """A call is over."""

    def near(self, session_key: str, near: Near) -> None:
        """Most of a budget is used."""

    def reached(self, session_key: str, error: BudgetReached) -> None:
        """A call of this session was refused."""


class Silent:
    """Nobody listens."""

    def settled(self, call: LedgerCall, seconds: float) -> None:
        pass

    def near(self, session_key: str, near: Near) -> None:
        pass

    def reached(self, session_key: str, error: BudgetReached) -> None:
        pass


class Ledger:
    """See the module; it is a `Meter`."""

    def __init__(
        self,
        store: LedgerStore,
        budgets: Budgets,
        prices: Prices,
        *,
        wall_ms: Callable[[], int],
        monotonic: Callable[[], float],
        on_settled: Callable[[LedgerCall], None] = lambda _call: None,
        keeps_days: Callable[[], tuple[int, int]] = lambda: (40, 400),
        shared: SharedBudgets | None = None,
    ) -> None:
        """`on_settled` counts for the metrics; `keeps_days`: of calls, of sums; `shared`: budgets of several
        gateways on one store.
        """
        self.shared = shared
        self._store = store
        self.budgets = budgets
        self.prices = prices
        self.wall_ms = wall_ms
        self.monotonic = monotonic
        self._time = LivedTime(wall_ms=wall_ms, monotonic=monotonic)
        self._on_settled = on_settled
        self._keeps_days = keeps_days
        self.listener: Listener = Silent()
        self._next = EntryGroup()
        self._planned: asyncio.Handle | None = None
        """When it is sent."""
        self._is_soon = False
        """Whether that is with the next turn of the loop."""
        self._writing: set[asyncio.Task[None]] = set()
        self._releasing: set[asyncio.Task[None]] = set()
        self._is_refused = False
        """Whether the store took nothing lately: the next try is due."""

    # -- its life ---------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Settles what a gateway that was killed left in flight, and restores what the budgets say. The store
        is open. Raises StoreFailed.
        """
        await self._settle_cut()
        await self._restore(self.wall_ms())

    async def _settle_cut(self) -> None:
        cut = [
            msgspec.structs.replace(call, status=CUT, is_estimated=True)
            for call in await self._store.in_flight()
        ]
        if cut:
            await self._store.put(cut)
            log.warning("%d model calls were cut by the end of a gateway: estimated", len(cut))

    async def _follow(self, shared: SharedBudgets) -> None:
        """What others on the same store used, and what those that died left in flight."""
        await self._settle_cut()
        await shared.hear(self.wall_ms())

    async def _restore(self, at: int) -> None:
        today, month = day_of(at), month_of(at)
        days = await self._spent(today, today)
        months = await self._spent(first_day_of_month(at), today)
        self.budgets.days.at_least(today, days)
        self.budgets.months.at_least(month, months)

    async def _spent(self, from_day: int, to_day: int) -> dict[UseName, Counted]:
        found: dict[UseName, Counted] = {}
        chosen = Chosen(from_day=from_day, to_day=to_day)
        for row in await self._store.sums((), chosen, limit=1):
            found[GATEWAY] = Counted(row.total.cost, row.total.tokens)
        for dimension, kind in _BY.items():
            for row in await self._store.sums((dimension,), chosen, limit=MOST_NAMES):
                if name := row.names[dimension]:
                    found[kind, name] = Counted(row.total.cost, row.total.tokens)
        return found

    async def keep_for_ever(self) -> None:
        """Drops what is too old, and follows a clock that jumps."""
        dropped_at = heard_at = -KEEP_SECONDS
        while True:
            at = self.wall_ms()
            if self.shared is not None and self.monotonic() - heard_at >= HEAR_SECONDS:
                heard_at = self.monotonic()
                await self._quietly(self._follow(self.shared))
            if not self.budgets.knows(at):
                await self._quietly(self._restore(at))
            if self.monotonic() - dropped_at >= KEEP_SECONDS:
                dropped_at = self.monotonic()
                await self._quietly(self._drop(self._time.ms()))
            await asyncio.sleep(LOOK_SECONDS)

    async def _quietly(self, act: object) -> None:
        try:
            await act  # type: ignore[misc]
        except GatewayError as error:
            log.warning("the ledger is not looked after for now: %s", error)

    async def _drop(self, at: int) -> None:
        calls, sums = self._keeps_days()
        today = day_of(at)
        await self._store.forget(calls_before_day=today - calls, sums_before_day=today - sums)

    async def close(self) -> None:
        """Writes what waits, once more."""
        self._retry()
        while self._writing:
            await asyncio.wait(self._writing)
        if self._next.entries:
            log.critical("%d entries of the ledger were not written", len(self._next.entries))

    # -- calls ------------------------------------------------------------------------------------------

    def reserve(self, call: ModelCall) -> CallReservation:
        """Checks every budget and holds back what the call may cost, in one step. Raises BudgetReached."""
        price = self.prices.of(call.provider, call.model)
        assumed = ASSUMED_OUTPUT if call.input_tokens else 0  # one that only counts tokens answers nothing
        usage = CallUsage(input=_count(call.input_tokens), output=_count(call.max_output_tokens) or assumed)
        entry = LedgerCall(
            id=call.id, at=self.wall_ms(), owner=call.account.owner, session_key=call.account.session_key,
            key_id=call.account.key_id or "", agent=call.account.agent, provider=call.provider,
            model=call.model[:NAME_CHARACTERS], dialect=call.dialect, key_owner=call.key_owner,
            input=usage.input, output=usage.output, is_estimated=True,
            cost=None if price is None else cost(price, usage),
        )  # fmt: skip
        try:
            held = self.budgets.hold(call.account, Amount(entry.cost, entry.tokens), what=call.model)
        except BudgetReached as error:
            self.listener.reached(entry.session_key, error)
            raise
        if self.shared is not None:
            return CallReservation(self, call, entry, held, None)  # it is agreed upon first
        is_noted = self._store.note(entry)
        group = self.put(entry, may_wait=is_noted)
        return CallReservation(self, call, entry, held, None if is_noted else group)

    async def agree(self, reservation: CallReservation, shared: SharedBudgets) -> EntryGroup:
        """Asks for what all gateways may use, and puts the reservation down. Raises BudgetReached; then there
        was no call.
        """
        call, entry = reservation.call, reservation.entry
        if self._releasing:  # what was used is stored, and would count as held back, too
            await asyncio.wait(set(self._releasing))
        try:
            reservation.agreed = await shared.agree(call.account, reservation.held.amount, at=entry.at)
        except BudgetReached as error:
            self.budgets.release(reservation.held)
            self.listener.reached(entry.session_key, error)
            raise
        return self.put(entry)

    def settle(self, reservation: CallReservation, entry: LedgerCall) -> None:
        """A call is over, with these figures."""
        account = reservation.call.account
        self.budgets.release(reservation.held)
        nearly = self.budgets.add(account, Amount(entry.cost, entry.tokens), at=entry.at)
        group = self.put(entry)
        if self.shared is not None and reservation.agreed:
            self._release_after(group, reservation, self.shared)
        self._on_settled(entry)
        self.listener.settled(entry, self.monotonic() - reservation.began)
        for near in nearly:
            self.listener.near(entry.session_key, near)

    def _release_after(self, group: EntryGroup, reservation: CallReservation, shared: SharedBudgets) -> None:
        """What was held back counts until what was used does."""

        async def release() -> None:
            await group.heard.wait()
            await shared.release(reservation.agreed, reservation.held.amount)

        task = asyncio.get_running_loop().create_task(release(), name="ledger")
        for tasks in (self._writing, self._releasing):
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    def use(self, account: Account, **used: int) -> None:
        """Something else was used (`LedgerUse`): CPU time, memory, room, or tokens that an agent with a model
        of its own tells of.
        """
        at = self.wall_ms()
        self.put(
            LedgerUse(
                at=at, owner=account.owner, session_key=account.session_key, key_id=account.key_id or "",
                agent=account.agent, **used,
            )
        )  # fmt: skip
        if tokens := used.get("told_tokens", 0):
            for near in self.budgets.add(account, Amount(0, tokens), at=at):
                self.listener.near(account.session_key, near)

    # -- writing ----------------------------------------------------------------------------------------

    def put(self, entry: LedgerEntry, *, may_wait: bool = False) -> EntryGroup:
        """Takes an entry for the next group, which is it. What comes in one turn of the loop is one group,
        and a group goes to the store at once, in front of what the session says after it, but for entries
        that `may_wait`.
        """
        if not self._is_refused:
            self._plan(is_soon=not may_wait)
        self._next.entries.append(entry)
        return self._next

    def _plan(self, *, is_soon: bool) -> None:
        if self._planned is not None:
            if self._is_soon or not is_soon:
                return
            self._planned.cancel()
        loop, self._is_soon = asyncio.get_running_loop(), is_soon
        self._planned = loop.call_soon(self._send) if is_soon else loop.call_later(NOTED_SECONDS, self._send)

    def _send(self) -> None:
        if self._planned is not None:
            self._planned.cancel()
            self._planned = None
        group = self._next
        if group.entries:
            self._next = EntryGroup()
            task = asyncio.get_running_loop().create_task(self._write(group), name="ledger")
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def _write(self, group: EntryGroup) -> None:
        try:
            await self._store.put(group.entries)
            if self._is_refused:
                self._is_refused = False
                log.warning("the ledger is written again")
        except GatewayError as error:
            self._refuse(group, error)
        finally:
            group.heard.set()

    def _refuse(self, group: EntryGroup, error: GatewayError) -> None:
        """What was not written waits for the next try; put down twice, it still counts once."""
        if not self._is_refused:
            log.warning("%d entries of the ledger wait: %s", len(group.entries), error)
            self._is_refused = True
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._retry)
        self._next.entries[:0] = group.entries

    def _retry(self) -> None:
        self._is_refused = False
        self._send()


class EntryGroup:
    """Entries that are written together."""

    __slots__ = ("entries", "heard")

    def __init__(self) -> None:
        self.entries: list[LedgerEntry] = []
        self.heard = asyncio.Event()
        """Set when they are durable, or the store has refused them for now."""


class CallReservation:
    """`Reservation` in the ledger."""

    def __init__(
        self, ledger: Ledger, call: ModelCall, entry: LedgerCall, held: HeldBack, group: EntryGroup | None
    ) -> None:
        """`group`: the one it is written with, which is waited for; None: nothing is, or it is to be agreed
        upon first.
        """
        self.call = call
        self.held = held
        self.began = ledger.monotonic()
        self._ledger = ledger
        self.entry = entry
        self.agreed: tuple[UseName, ...] = ()
        """Of whom the store holds back for it."""
        self._group = group
        self._is_settled = False

    async def kept(self) -> None:
        """Returns when the reservation outlives this process. Raises BudgetReached if others have used up
        what was left.
        """
        if self._group is None and (shared := self._ledger.shared) is not None and not self._is_settled:
            try:
                self._group = await self._ledger.agree(self, shared)
            except BudgetReached:
                self._is_settled = True
                raise
        if self._group is not None:
            await self._group.heard.wait()

    def settle(
        self, usage: CallUsage, *, status: int, model: str = "", first_byte_milliseconds: int | None = None
    ) -> None:
        """What the call came to. Once; never raises."""
        if self._is_settled:
            return
        self._is_settled = True
        try:
            price = self._ledger.prices.of(self.call.provider, self.call.model)
            usage = _counts(usage)
            self._ledger.settle(
                self,
                msgspec.structs.replace(
                    self.entry,
                    model_answered=model, status=status, first_byte_ms=first_byte_milliseconds,
                    input=usage.input, cache_read=usage.cache_read, cache_write=usage.cache_write,
                    output=usage.output, reasoning=usage.reasoning, is_estimated=usage.is_estimated,
                    cost=None if price is None else cost(price, usage),
                ),
            )  # fmt: skip
        except Exception:
            log.exception("a model call could not be settled")


def _count(value: int) -> int:
    return max(0, min(value, MOST_TOKENS))


def _counts(usage: CallUsage) -> CallUsage:
    """Figures of others, inside what can be."""
    names = ("input", "cache_read", "cache_write", "output", "reasoning")
    return msgspec.structs.replace(usage, **{name: _count(getattr(usage, name)) for name in names})


def ledger_of(
    config: Callable[[], Config],
    store: LedgerStore,
    *,
    metrics: Metrics,
    clock: Clock,
    held: HeldStore | None = None,
) -> Ledger:
    """The ledger of a gateway, with its budgets and prices; `config` gives the configuration as it is now.
    `held`: where several gateways say what they hold.
    """
    budgets = Budgets(
        config, wall_ms=clock.wall_ms, on_reached=lambda limit: metrics.rejections.labels(limit).inc()
    )
    return Ledger(
        store,
        budgets,
        Prices(lambda: sources_of(config())),
        wall_ms=clock.wall_ms,
        monotonic=clock.monotonic,
        on_settled=lambda call: _count_for(metrics, call),
        keeps_days=lambda: (config().usage.call_days, config().usage.sum_days),
        shared=None if held is None else SharedBudgets(held, budgets),
    )


def sources_of(config: Config) -> dict[str, PriceSource]:
    """Where each provider's prices are found."""
    own = {DEFAULT_PROVIDER: config.model.as_provider} | config.providers
    return {name: PriceSource(url=provider.url, prices=provider.prices) for name, provider in own.items()}


def _count_for(metrics: Metrics, call: LedgerCall) -> None:
    tokens = {
        "input": call.input, "cache_read": call.cache_read, "cache_write": call.cache_write,
        "output": call.output, "reasoning": call.reasoning,
    }  # fmt: skip
    metrics.model_settled(
        call.provider, call.model, tokens=tokens, cost=call.cost, is_estimated=call.is_estimated
    )
