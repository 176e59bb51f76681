"""The reference of the shop's store: dictionaries, gone with the process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.apps.shop.errors import CartFull, CartLimit
from gateway.apps.shop.store import (
    USES,
    Bounds,
    Cart,
    CartLine,
    ConversationTally,
    Moment,
    Purchase,
    ShopKey,
    ShopSession,
    ShopUse,
    check_preferences,
    too_many_lines,
    too_much,
)
from gateway.errors import SessionLimit

_Name = tuple[str, str]


class _Conversation:
    __slots__ = ("lines", "preferences", "session", "tenant")

    def __init__(self, tenant: str, moment: Moment) -> None:
        self.tenant = tenant
        self.session = ShopSession(
            created_at=moment.at,
            last_used_at=moment.at,
            expires_at=moment.expires_at,
            counts=dict.fromkeys(USES, 0),
        )
        self.lines: dict[str, CartLine] = {}
        self.preferences: dict[str, Any] = {}

    def used(self, moment: Moment, use: ShopUse | None) -> None:
        session = self.session
        if use is not None:
            session.counts[use] += 1
        self.session = msgspec.structs.replace(
            session,
            last_used_at=max(session.last_used_at, moment.at),
            expires_at=max(session.expires_at, moment.expires_at),
        )

    @property
    def cart(self) -> Cart:
        return Cart(tuple(self.lines.values()))


class MemoryShopStore:
    """`ShopStore` in dictionaries. Nothing awaits inside an operation, so each is one transaction."""

    def __init__(self, *, bounds: Bounds | None = None) -> None:
        self._limit = (bounds or Bounds()).conversations
        self._known: dict[_Name, _Conversation] = {}
        self._purchases: dict[_Name, list[tuple[int, Purchase]]] = {}

    async def use(
        self,
        key: ShopKey,
        moment: Moment,
        *,
        use: ShopUse | None = None,
        words: Sequence[str] = (),
        may_create: bool = True,
    ) -> Cart:
        found = self._alive(key, moment.at) or (self._made(key, moment) if may_create else None)
        if found is None:
            return Cart()
        found.used(moment, use)
        counted = found.session.words
        for word in words:
            if word in counted or len(counted) < Bounds().words:
                counted[word] = counted.get(word, 0) + 1
        return found.cart

    async def cart(self, key: ShopKey, *, at: int) -> Cart:
        found = self._alive(key, at)
        return Cart() if found is None else found.cart

    async def session(self, key: ShopKey, *, at: int) -> ShopSession | None:
        found = self._alive(key, at)
        if found is None:
            return None
        session = found.session
        return msgspec.structs.replace(session, counts=dict(session.counts), words=dict(session.words))

    async def add(self, key: ShopKey, line: CartLine, moment: Moment, *, bounds: Bounds) -> Cart:
        found = self._alive(key, moment.at)
        lines = {} if found is None else found.lines
        known = lines.get(line.line)
        quantity = line.quantity + (known.quantity if known else 0)
        if quantity > bounds.quantity:
            raise CartLimit(too_much(bounds))
        if known is None and len(lines) >= bounds.lines:
            raise CartFull(too_many_lines(bounds))
        found = found or self._made(key, moment)
        found.used(moment, "adds")
        kept = line if known is None else known
        found.lines[line.line] = msgspec.structs.replace(
            kept,
            quantity=quantity,
            price=line.price,
            name=line.name,
            image=line.image,
            added_at=known.added_at if known else moment.at,
        )
        return found.cart

    async def remove(self, key: ShopKey, line: str, moment: Moment) -> tuple[CartLine | None, Cart]:
        found = self._alive(key, moment.at)
        if found is None:
            return None, Cart()
        taken = found.lines.pop(line, None)
        if taken is not None:
            found.used(moment, "removes")
        return taken, found.cart

    async def clear(self, key: ShopKey, moment: Moment) -> Cart:
        found = self._alive(key, moment.at)
        if found is None:
            return Cart()
        found.used(moment, "clears")
        cart = found.cart
        found.lines.clear()
        return cart

    async def checkout(
        self, key: ShopKey, moment: Moment, *, kept_until: int, bounds: Bounds
    ) -> Purchase | None:
        found = self._alive(key, moment.at)
        if found is None or not found.lines:
            return None
        found.used(moment, "checkouts")
        purchase = Purchase(moment.at, found.cart.total, found.cart.lines)
        found.lines.clear()
        kept = self._purchases.setdefault((key.owner, key.conversation), [])
        kept.insert(0, (kept_until, purchase))
        del kept[bounds.purchases :]
        return purchase

    async def purchases(self, key: ShopKey, *, at: int) -> list[Purchase]:
        kept = self._purchases.get((key.owner, key.conversation), [])
        return [purchase for kept_until, purchase in kept if kept_until > at]

    async def prefer(
        self, key: ShopKey, changes: Mapping[str, Any], moment: Moment, *, bounds: Bounds
    ) -> dict[str, Any]:
        found = self._alive(key, moment.at)
        merged = dict(sorted({**(found.preferences if found else {}), **changes}.items()))
        check_preferences(merged, bounds)
        found = found or self._made(key, moment)
        found.used(moment, None)
        found.preferences = merged
        return dict(merged)

    async def preferences(self, key: ShopKey, *, at: int) -> dict[str, Any]:
        found = self._alive(key, at)
        return {} if found is None else dict(found.preferences)

    async def let_count(self, key: ShopKey, may_count: bool) -> None:
        found = self._known.get((key.owner, key.conversation))
        if found is not None:
            found.session = msgspec.structs.replace(found.session, may_count=may_count)

    async def count(self, tenant: str, *, at: int) -> int:
        return len(self._living(tenant, at))

    async def tallies(self, tenant: str, *, at: int) -> list[ConversationTally]:
        return [
            ConversationTally(
                seconds=(found.session.last_used_at - found.session.created_at) // 1000,
                counts=dict(found.session.counts),
                words=dict(found.session.words),
                quantity=found.cart.quantity,
                total=found.cart.total,
            )
            for found in self._living(tenant, at)
            if found.session.may_count
        ]

    async def erase(self, key: ShopKey) -> None:
        self._known.pop((key.owner, key.conversation), None)
        self._purchases.pop((key.owner, key.conversation), None)

    async def move(self, old: ShopKey, new: ShopKey) -> None:
        self._move((old.owner, old.conversation), (new.owner, new.conversation), new.tenant)

    async def adopt(self, giver: str, taker: str, *, tenant: str) -> None:
        for owner, conversation in list(self._known.keys() | self._purchases.keys()):
            if owner == giver:
                self._move((owner, conversation), (taker, conversation), tenant)

    def _move(self, old: _Name, new: _Name, tenant: str) -> None:
        if old in self._known and new not in self._known:
            found = self._known[new] = self._known.pop(old)
            found.tenant = tenant
        if old in self._purchases:
            self._purchases.setdefault(new, []).extend(self._purchases.pop(old))

    async def purge(self, now: int) -> int:
        dead = [name for name, found in self._known.items() if found.session.expires_at <= now]
        for name in dead:
            del self._known[name]
        living = {
            name: [(until, purchase) for until, purchase in kept if until > now]
            for name, kept in self._purchases.items()
        }
        self._purchases = {name: kept for name, kept in living.items() if kept}
        return len(dead)

    def _living(self, tenant: str, at: int) -> list[_Conversation]:
        return [
            found
            for found in self._known.values()
            if found.tenant == tenant and found.session.expires_at > at
        ]

    def _alive(self, key: ShopKey, at: int) -> _Conversation | None:
        found = self._known.get((key.owner, key.conversation))
        return found if found is not None and found.session.expires_at > at else None

    def _made(self, key: ShopKey, moment: Moment) -> _Conversation:
        """A new conversation in the place of none or of a dead one."""
        self._known.pop((key.owner, key.conversation), None)
        if len(self._known) >= self._limit:
            raise SessionLimit
        found = self._known[key.owner, key.conversation] = _Conversation(key.tenant, moment)
        return found
