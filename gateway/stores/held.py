"""What the gateways that share a store hold of their quotas at the moment, so that all together keep to them.

Guarantees: what all living gateways were granted of something is never more than is allowed, however many ask
at once; what a gateway held counts no more once its row is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Literal, NamedTuple, Protocol

from gateway.stores.sessions import OwnerTotal
from gateway.stores.usage import UseName


class HeldName(NamedTuple):
    """Whose it is, and what."""

    scope: str
    name: str
    what: Literal["live", "running", "making", "cost", "tokens"]
    """Sessions with an agent; answers under way; sessions that are about to be stored, which count together
    with those that are; what is held back of budgets.
    """


class HoldingWanted(NamedTuple):
    """How much a gateway wants to hold in all, of how much all may hold."""

    amount: int
    allowed: int


class HoldingGranted(NamedTuple):
    """How much it may hold, and how much the others do."""

    amount: int
    others: int


class BudgetHolding(NamedTuple):
    """Of models: millionths of a dollar, and tokens."""

    cost: int = 0
    tokens: int = 0


class BudgetStanding(NamedTuple):
    """What all gateways have used of models, and what others hold back for calls that are under way."""

    day: BudgetHolding = BudgetHolding()
    month: BudgetHolding = BudgetHolding()
    others: BudgetHolding = BudgetHolding()


Decide = Callable[[Mapping[UseName, BudgetStanding]], Mapping[UseName, BudgetHolding]]
"""What this gateway holds back from now on; raises what the caller is to hear."""


class HeldStore(Protocol):
    """See the module. Every method may raise StoreFull or StoreFailed."""

    async def ask(self, wanted: Mapping[HeldName, HoldingWanted]) -> Mapping[HeldName, HoldingGranted]:
        """Says what this gateway wants to hold from now on, in place of what it held of the same; what it
        may, which is as much of it as the others leave.
        """

    async def standing(self) -> Mapping[HeldName, HoldingGranted]:
        """What this gateway holds, as far as the store knows, and what the others do."""

    async def stored(self, names: Collection[UseName]) -> Mapping[UseName, OwnerTotal]:
        """What is stored of these tenants and subjects."""

    async def hold(self, names: Collection[UseName], decide: Decide, *, day: int, first_day: int) -> None:
        """Reads how these stand, on a day and since the first day of its month, and writes what `decide`
        says, with nobody else in between. `decide` may be called again, after what it said was undone.
        """

    async def say(self, held: Mapping[UseName, BudgetHolding]) -> None:
        """This gateway holds back so much of budgets from now on."""

    async def spent(
        self, names: Collection[UseName], *, day: int, first_day: int
    ) -> Mapping[UseName, BudgetStanding]:
        """How these stand."""
