"""What happens to carts when sessions move, are erased, or time goes by."""

from __future__ import annotations

import logging

from gateway.apps.shop.opening import open_carts
from gateway.apps.shop.store import ShopStore
from gateway.extension import ConversationKey, Observer, Tables

log = logging.getLogger(__name__)


class Keeper(Observer):
    """Lets a cart follow its session. It is called even while the shop is switched off."""

    def __init__(self, store: ShopStore) -> None:
        self._store = store

    async def moved(self, old: ConversationKey, new: ConversationKey) -> None:
        await self._store.move(old, new)

    async def adopted(self, giver: str, taker: str, *, tenant: str) -> None:
        await self._store.adopt(giver, taker, tenant=tenant)

    async def erased(self, key: ConversationKey, *, reason: str) -> None:
        """A cart has a time of its own: it goes only with a session that somebody deleted."""
        if reason == "deleted":
            await self._store.erase(key)

    async def swept(self, now: int) -> None:
        if purged := await self._store.purge(now):
            log.info("forgot %d conversations of the shop", purged)


def keep(tables: Tables) -> Keeper:
    """The keeper of what is stored."""
    return Keeper(open_carts(tables))
