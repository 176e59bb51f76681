"""Budgets of several gateways on one store: a call is agreed upon in the store before it is made.

What a gateway has counted decides first, without asking (`budgets`). If that allows the call, and somebody
who pays for it has a budget, the store is asked: what all have used is read there, and what this gateway
holds back for its calls is written, under a lock of each who pays.

Guarantees: calls that several gateways reserve at once go over a budget by no more than one of them does;
what a gateway held back counts no more once it is dead. If the store does not answer, its own count decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Final

from gateway.errors import BudgetReached, GatewayError
from gateway.models.budgets import Amount, Budgets, Counted, day_of, first_day_of_month, month_of
from gateway.principal import Account
from gateway.stores.held import BudgetHolding, BudgetStanding, HeldStore
from gateway.stores.usage import UseName

log = logging.getLogger(__name__)

HEAR_SECONDS: Final = 5.0
"""How often it is heard what others used, so that a message is refused before its calls are."""


class SharedBudgets:
    """See the module."""

    def __init__(self, store: HeldStore, budgets: Budgets) -> None:
        self._store = store
        self._budgets = budgets
        self._held: dict[UseName, Counted] = {}
        """For this gateway's calls, as far as the store agreed."""
        self._doubtful: set[UseName] = set()
        """Of whom it is not known what the store has: who asked was cancelled, or it did not answer."""
        self._asking = asyncio.Lock()

    async def agree(self, account: Account, amount: Amount, *, at: int) -> tuple[UseName, ...]:
        """Holds back what a call may use; of whom. Raises BudgetReached."""
        names = self._budgets.limited(account)
        if not names:
            return ()
        more = BudgetHolding(amount.cost or 0, amount.tokens)

        def decide(standing: Mapping[UseName, BudgetStanding]) -> Mapping[UseName, BudgetHolding]:
            self._budgets.check_together(account, standing, self._held)
            return {name: self._mine(name, more) for name in names}

        async with self._asking:
            self._doubtful.update(names)
            try:
                await self._store.hold(names, decide, day=day_of(at), first_day=first_day_of_month(at))
            except BudgetReached:
                raise
            except GatewayError as error:
                log.warning("a model call is made without asking for the others': %s", error)
                return ()
            for name in names:
                held = self._held.setdefault(name, Counted())
                held.cost, held.tokens = held.cost + more.cost, held.tokens + more.tokens
            self._doubtful.difference_update(names)
        return names

    async def release(self, names: Iterable[UseName], amount: Amount) -> None:
        """A call is over, and what it used is stored."""
        names, less = tuple(names), BudgetHolding(-(amount.cost or 0), -amount.tokens)
        if not names:
            return
        async with self._asking:
            for name in names:
                held = self._held[name]
                held.cost, held.tokens = held.cost + less.cost, held.tokens + less.tokens
                if held == Counted():
                    del self._held[name]
            self._doubtful.update(names)
            try:
                await self._say()
            except GatewayError as error:
                log.warning("what is held back for model calls is not said for now: %s", error)

    async def hear(self, at: int) -> None:
        """Counts what others used. Raises StoreFull, StoreFailed."""
        async with self._asking:
            await self._say()
        day, first = day_of(at), first_day_of_month(at)
        names = [name for name in self._budgets.counted_today() if self._budgets.is_limited(name)]
        if names:
            self.take(await self._store.spent(names, day=day, first_day=first), at=at)

    async def _say(self) -> None:
        if names := set(self._doubtful):
            await self._store.say({name: self._mine(name, BudgetHolding()) for name in names})
            self._doubtful -= names

    def take(self, standing: Mapping[UseName, BudgetStanding], *, at: int) -> None:
        """Counts what is stored by now as used."""
        days = {name: Counted(*one.day) for name, one in standing.items()}
        months = {name: Counted(*one.month) for name, one in standing.items()}
        self._budgets.days.count_at_least(day_of(at), days)
        self._budgets.months.count_at_least(month_of(at), months)

    def _mine(self, name: UseName, more: BudgetHolding) -> BudgetHolding:
        held = self._held.get(name) or Counted()
        return BudgetHolding(held.cost + more.cost, held.tokens + more.tokens)
