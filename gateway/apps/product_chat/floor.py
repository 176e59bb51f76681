"""Who is there: open sockets of product chats, counted and bounded; only who exceeds a bound is refused."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterable

from msgspec import Struct

from gateway.apps.product_chat.facts import PosterType
from gateway.apps.product_chat.settings import ProductsConfig


class Guest(Struct, frozen=True, kw_only=True):
    """One open socket."""

    connection_id: str
    kind: PosterType
    name: str
    owner: str
    address: str
    tenant: str
    session_id: str | None = None
    product_id: int | None = None
    since: str = ""

    @property
    def shown(self) -> ShownGuest:
        """What the staff is shown of it."""
        return ShownGuest(self.kind, self.name, self.session_id, self.since)


class ShownGuest(Struct, frozen=True):
    """Somebody who is there."""

    kind: PosterType
    name: str
    session_id: str | None
    since: str


class Stand(Struct, frozen=True):
    """A tenant's sockets in numbers."""

    customers: int
    admins: int
    sessions: int
    by_product: dict[str, int]


class Floor:
    """Every open socket."""

    def __init__(self, config: Callable[[], ProductsConfig]) -> None:
        self._config = config
        self._guests: dict[str, Guest] = {}
        self._held: Counter[tuple[str, str]] = Counter()
        self.refused = 0
        self._changed = asyncio.Event()

    async def changes(self, *, seconds: float) -> bool:
        """Returns when somebody has come or gone since the last time, or after so long: then False."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        is_so = self._changed.is_set()
        self._changed.clear()
        return is_so

    def guests(self) -> Iterable[Guest]:
        """All of them."""
        return self._guests.values()

    def enter(self, guest: Guest) -> str | None:
        """Takes a socket in; else which bound it would exceed."""
        config = self._config()
        bounds = {
            "visitor": config.sockets_per_visitor,
            "session": config.sockets_per_session,
            "address": config.sockets_per_address,
        }
        for what, name in _counted(guest):
            if self._held[what, name] >= bounds[what]:
                self.refused += 1
                return what
        self._held.update(_counted(guest))
        self._guests[guest.connection_id] = guest
        self._changed.set()
        return None

    def leave(self, guest: Guest) -> None:
        """A socket is gone."""
        if self._guests.pop(guest.connection_id, None) is not None:
            self._changed.set()
            self._held.subtract(_counted(guest))
            for name in [name for name in _counted(guest) if not self._held[name]]:
                del self._held[name]

    def crowd(self, session_id: str) -> int:
        """How many sockets a chat has."""
        return self._held["session", session_id]

    def in_session(self, session_id: str) -> list[Guest]:
        """The sockets of a chat."""
        return [guest for guest in self._guests.values() if guest.session_id == session_id]

    def stands(self) -> dict[str, Stand]:
        """In numbers, by tenant."""
        found: dict[str, list[Guest]] = {}
        for guest in self._guests.values():
            found.setdefault(guest.tenant, []).append(guest)
        return {tenant: _stand(guests) for tenant, guests in found.items()}


def _stand(guests: list[Guest]) -> Stand:
    admins = sum(guest.kind == "admin" for guest in guests)
    return Stand(
        customers=len(guests) - admins,
        admins=admins,
        sessions=len({guest.session_id for guest in guests} - {None}),
        by_product=dict(Counter(str(guest.product_id) for guest in guests if guest.product_id is not None)),
    )


def _counted(guest: Guest) -> list[tuple[str, str]]:
    names = [("visitor", guest.owner), ("address", guest.address)]
    return names if guest.session_id is None else [*names, ("session", guest.session_id)]
