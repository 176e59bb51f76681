"""Who is in product chats at all gateways on a store: each tells the others whom it has, soon after that has
changed, and again from time to time, for those that were not there.

Guarantees: what a gateway says stands for a while only, so nobody stays who was at one that died. How much is
told is bounded: of very many guests only the numbers, and the staff before all others.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from gateway.apps.product_chat.floor import Floor, Guest, ShownGuest, Stand

SOON_SECONDS: Final = 0.5
"""After a change: who comes meanwhile is told of with it."""
AGAIN_SECONDS: Final = 10.0
KEPT_SECONDS: Final = 25.0
"""For so long it stands what another gateway said: it may miss one time."""
GUESTS_TOLD: Final = 500
"""With their names; about 100 KB of the 256 that a message may have."""


class GuestsTold(Struct, frozen=True, tag="guests"):
    """What one gateway says."""

    gateway: str
    """Another one each start."""
    number: int
    """Counts up: of two that overtake each other, the later one holds."""
    stands: dict[str, Stand]
    """By tenant."""
    guests: list[ShownGuest]


class GuestList:
    """See the module."""

    def __init__(
        self, floor: Floor, *, tell: Callable[[GuestsTold], None], monotonic: Callable[[], float]
    ) -> None:
        self._floor = floor
        self._tell = tell
        self._monotonic = monotonic
        self._gateway = secrets.token_hex(8)
        self._number = 0
        self._others: dict[str, tuple[GuestsTold, float]] = {}
        """By gateway: what it said, and when."""
        self._has_told = False

    async def run(self) -> None:
        """For ever: tells what has changed, and that it still is so."""
        while True:
            changed = await self._floor.changes(seconds=AGAIN_SECONDS)
            if changed:
                await asyncio.sleep(SOON_SECONDS)
            if changed or self._has_told:
                self.say()

    def say(self) -> None:
        """Tells the others whom this gateway has now."""
        self._number += 1
        stands = self._floor.stands()
        guests = sorted(self._floor.guests(), key=lambda guest: guest.kind != "admin")[:GUESTS_TOLD]
        self._has_told = bool(stands)
        self._tell(GuestsTold(self._gateway, self._number, stands, [guest.shown for guest in guests]))

    def heard(self, told: GuestsTold) -> None:
        """What another gateway told."""
        known = self._others.get(told.gateway)
        if known is not None and known[0].number >= told.number:
            return
        self._others[told.gateway] = told, self._monotonic()
        now = self._monotonic()
        self._others = {name: one for name, one in self._others.items() if now - one[1] < KEPT_SECONDS}

    def _living(self) -> list[GuestsTold]:
        now = self._monotonic()
        return [told for told, at in self._others.values() if now - at < KEPT_SECONDS]

    def stats(self, tenant: str) -> dict[str, Any]:
        """Numbers of a tenant's sockets at all gateways. All sockets of a chat are at one of them."""
        found = [self._floor.stands(), *(told.stands for told in self._living())]
        mine = [stands[tenant] for stands in found if tenant in stands]
        by_product: Counter[str] = Counter()
        for stand in mine:
            by_product.update(stand.by_product)
        customers, admins = sum(one.customers for one in mine), sum(one.admins for one in mine)
        return {
            "total_connections": customers + admins,
            "customer_connections": customers,
            "admin_connections": admins,
            "active_sessions": sum(one.sessions for one in mine),
            "connections_by_product": dict(by_product),
        }

    def in_session(self, session_id: str) -> list[ShownGuest]:
        """Who is in a chat, at whichever gateway."""
        others = [guest for told in self._living() for guest in told.guests]
        here: list[Guest] = self._floor.in_session(session_id)
        return [*(guest.shown for guest in here), *(one for one in others if one.session_id == session_id)]
