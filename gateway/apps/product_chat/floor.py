"""Who is there: open sockets of product chats, counted and bounded; only who exceeds a bound is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

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


class Floor:
    """Every open socket."""

    def __init__(self, config: Callable[[], ProductsConfig]) -> None:
        self._config = config
        self._guests: dict[str, Guest] = {}
        self._held: Counter[tuple[str, str]] = Counter()
        self.refused = 0

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
        return None

    def leave(self, guest: Guest) -> None:
        """A socket is gone."""
        if self._guests.pop(guest.connection_id, None) is not None:
            self._held.subtract(_counted(guest))
            for name in [name for name in _counted(guest) if not self._held[name]]:
                del self._held[name]

    def crowd(self, session_id: str) -> int:
        """How many sockets a chat has."""
        return self._held["session", session_id]

    def in_session(self, session_id: str) -> list[Guest]:
        """The sockets of a chat."""
        return [guest for guest in self._guests.values() if guest.session_id == session_id]

    def stats(self, tenant: str) -> dict[str, Any]:
        """Numbers of a tenant's sockets."""
        guests = [guest for guest in self._guests.values() if guest.tenant == tenant]
        by_product = Counter(str(guest.product_id) for guest in guests if guest.product_id is not None)
        return {
            "total_connections": len(guests),
            "customer_connections": sum(guest.kind == "customer" for guest in guests),
            "admin_connections": sum(guest.kind == "admin" for guest in guests),
            "active_sessions": len({guest.session_id for guest in guests} - {None}),
            "connections_by_product": dict(by_product),
        }


def _counted(guest: Guest) -> list[tuple[str, str]]:
    names = [("visitor", guest.owner), ("address", guest.address)]
    return names if guest.session_id is None else [*names, ("session", guest.session_id)]
