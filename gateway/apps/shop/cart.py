"""The shop's verbs: what a conversation can do with its cart.

Tools, the shopping assistant and the page all use these verbs, so they cannot disagree.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from gateway.apps.shop.catalog import Catalogue, Product
from gateway.apps.shop.errors import NotForSale, NotInCart
from gateway.apps.shop.insights import SessionInsights, TenantInsights, of_session, of_tenant, words_of
from gateway.apps.shop.settings import ShopConfig
from gateway.apps.shop.store import (
    Bounds,
    Cart,
    CartLine,
    Moment,
    Purchase,
    ShopKey,
    ShopSession,
    ShopStore,
    ShopUse,
)
from gateway.config.tables import DAY_MILLISECONDS
from gateway.errors import InvalidField

MAX_PREFERENCE_KEY: Final = 128


class Shop:
    """A catalogue, and carts in a store. A conversation lives so long after its last use."""

    def __init__(
        self,
        catalogue: Catalogue,
        store: ShopStore,
        config: ShopConfig,
        *,
        wall_ms: Callable[[], int],
        on_change: Callable[[ShopKey, Cart], None] = lambda _key, _cart: None,
        base_path: Callable[[], str] = lambda: "",
    ) -> None:
        """`on_change` is called with every cart that was changed; `base_path` is what comes before the
        gateway's paths at its public address.
        """
        self.catalogue = catalogue
        self.store = store
        self._config = config
        self._wall_ms = wall_ms
        self.bounds = bounds_of(config)
        self._on_change = on_change
        self.on_use: list[Callable[[ShopKey], None]] = []
        """Each is told of every conversation that was used, once the store has it."""
        self._base_path = base_path

    def picture_address(self, image: str) -> str:
        """A product's picture as others reach it: those of the gateway are below its public path."""
        return self._base_path() + image if image.startswith("/") else image

    @property
    def now(self) -> int:
        """Milliseconds since 1970."""
        return self._wall_ms()

    def _moment(self) -> Moment:
        return Moment(self.now, self.now + round(self._config.expire_after_seconds * 1000))

    # -- the cart -----------------------------------------------------------------------------------------

    async def add(self, key: ShopKey, product_id: str, quantity: int = 1) -> tuple[Product, Cart]:
        """Adds a product of the catalogue. Raises ProductNotFound, InvalidField, NotForSale, CartLimit,
        CartFull.
        """
        await self.catalogue.refresh()
        product = self.catalogue.product(product_id)
        self._check_quantity(quantity)
        if not (product.is_in_stock and product.is_purchasable):
            raise NotForSale
        line = CartLine(
            line=product.id,
            name=product.name,
            price=product.price,
            quantity=quantity,
            image=product.image,
            extra={"name_en": product.name_en},
        )
        return product, self._changed(
            key, await self.store.add(key, line, self._moment(), bounds=self.bounds)
        )

    async def add_free(
        self, key: ShopKey, *, name: str, price: int, quantity: int = 1, extra: Mapping[str, Any]
    ) -> tuple[CartLine, Cart]:
        """Adds something that is in no catalogue, as a line of its own; `price` is in agorot."""
        self._check_quantity(quantity)
        moment = self._moment()
        line = CartLine(
            line=f"free-{secrets.token_hex(8)}",
            name=name,
            price=price,
            quantity=quantity,
            extra=dict(extra),
            added_at=moment.at,
        )
        return line, self._changed(key, await self.store.add(key, line, moment, bounds=self.bounds))

    async def view(self, key: ShopKey, *, may_create: bool = True) -> Cart:
        """The cart; looking at it is a use."""
        cart = await self.store.use(key, self._moment(), use="views", may_create=may_create)
        self._used(key)
        return cart

    async def peek(self, key: ShopKey) -> Cart:
        """The cart; nothing is noted."""
        return await self.store.cart(key, at=self.now)

    async def remove(self, key: ShopKey, product_id: str) -> tuple[CartLine, Cart]:
        """Takes a line out. Raises NotInCart."""
        taken, cart = await self.store.remove(key, product_id, self._moment())
        if taken is None:
            raise NotInCart
        return taken, self._changed(key, cart)

    async def clear(self, key: ShopKey) -> Cart:
        """Empties the cart; what was in it."""
        emptied = await self.store.clear(key, self._moment())
        self._changed(key, Cart())
        return emptied

    async def checkout(self, key: ShopKey) -> Purchase | None:
        """Buys what is in the cart; None if nothing is."""
        kept_until = self.now + round(self._config.purchase_days * DAY_MILLISECONDS)
        purchase = await self.store.checkout(key, self._moment(), kept_until=kept_until, bounds=self.bounds)
        if purchase is not None:
            self._changed(key, Cart())
        return purchase

    async def purchases(self, key: ShopKey) -> list[Purchase]:
        """What was bought, the newest first."""
        return await self.store.purchases(key, at=self.now)

    def _changed(self, key: ShopKey, cart: Cart) -> Cart:
        self._on_change(key, cart)
        self._used(key)
        return cart

    def _used(self, key: ShopKey) -> None:
        for tell in self.on_use:
            tell(key)

    def _check_quantity(self, quantity: int) -> None:
        if not 1 <= quantity <= self.bounds.quantity:
            raise InvalidField(f"quantity is a whole number from 1 to {self.bounds.quantity}.")

    # -- the conversation ---------------------------------------------------------------------------------

    async def note(
        self, key: ShopKey, *, use: ShopUse | None = None, text: str = "", may_create: bool = True
    ) -> None:
        """Counts a use, and the words of what was asked."""
        words: Sequence[str] = words_of(text)[: self.bounds.words]
        await self.store.use(key, self._moment(), use=use, words=words, may_create=may_create)
        self._used(key)

    async def session(self, key: ShopKey) -> ShopSession | None:
        """What is known of a conversation; reading it is no use."""
        return await self.store.session(key, at=self.now)

    async def prefer(self, key: ShopKey, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Merges preferences by key. Raises InvalidField, PreferencesTooLarge."""
        if any(not name or len(name) > MAX_PREFERENCE_KEY for name in changes):
            raise InvalidField(f"A preference's name has 1 to {MAX_PREFERENCE_KEY} letters.")
        preferences = await self.store.prefer(key, changes, self._moment(), bounds=self.bounds)
        self._used(key)
        return preferences

    async def preferences(self, key: ShopKey) -> dict[str, Any]:
        """All preferences."""
        return await self.store.preferences(key, at=self.now)

    async def active(self, tenant: str) -> int:
        """How many conversations of a tenant are alive."""
        return await self.store.count(tenant, at=self.now)

    async def insights(self, key: ShopKey) -> SessionInsights | None:
        """Of one conversation, for its owner."""
        session = await self.session(key)
        return None if session is None else of_session(session, await self.peek(key))

    async def tenant_insights(self, tenant: str) -> TenantInsights:
        """Of a tenant's conversations that agreed, for operators."""
        return of_tenant(await self.store.tallies(tenant, at=self.now))


def bounds_of(config: ShopConfig) -> Bounds:
    """The configuration as the store wants it."""
    return Bounds(conversations=config.max_conversations, lines=config.max_lines)
