"""What the gateways that share a store hold of their quotas at the moment, so that all together keep to them.

Guarantees: what all living gateways were granted of something is never more than is allowed, however many ask
at once; what a gateway held counts no more once its row is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple, Protocol

from gateway.stores.sessions import OwnerTotal
from gateway.stores.usage import UseName


class HeldName(NamedTuple):
    """Whose it is, and what."""

    scope: str
    name: str
    what: Literal["live", "running", "making"]
    """Sessions with an agent; answers under way; sessions that are about to be stored, which count together
    with those that are.
    """


class Wanted(NamedTuple):
    """How much a gateway wants to hold in all, of how much all may hold."""

    amount: int
    allowed: int


class Granted(NamedTuple):
    """How much it may hold, and how much the others do."""

    amount: int
    others: int


class HeldStore(Protocol):
    """See the module. Every method may raise StoreFull or StoreFailed."""

    async def ask(self, wanted: Mapping[HeldName, Wanted]) -> Mapping[HeldName, Granted]:
        """Says what this gateway wants to hold from now on, in place of what it held of the same; what it
        may, which is as much of it as the others leave.
        """

    async def others(self) -> Mapping[HeldName, int]:
        """What the other gateways hold."""

    async def stored(self, names: Collection[UseName]) -> Mapping[UseName, OwnerTotal]:
        """What is stored of these tenants and subjects."""
