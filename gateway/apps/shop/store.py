"""The contract of the shop's store: carts, preferences, counts and purchases of conversations.

Everything is keyed by (owner, conversation), and a conversation has one owner. Every operation is
one transaction, so a hundred at once lose nothing. Money is whole agorot. A conversation whose time is over
is not there, purged or not. `store_memory.py` is the reference; all pass tests/contract/test_shop_stores.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, Protocol

import msgspec
from msgspec import Struct, field

from gateway.apps.shop.errors import PreferencesTooLarge
from gateway.extension import ConversationKey

ShopUse = Literal["searches", "views", "adds", "removes", "clears", "checkouts"]
"""What is counted of a conversation."""
USES: tuple[ShopUse, ...] = ("searches", "views", "adds", "removes", "clears", "checkouts")
LINE_COLUMNS: Final = "line, name, price, quantity, image, extra, added_at"
"""Of the table of carts' lines."""
PURGE_BATCH: Final = 1_000
"""Conversations purged in one transaction: others' commits wait for it."""


ShopKey = ConversationKey
"""Whose cart."""


class Moment(Struct, frozen=True):
    """When something is done, and until when the conversation lives if nothing more is. Milliseconds."""

    at: int
    expires_at: int


class Bounds(Struct, frozen=True, kw_only=True):
    """How much of everything one conversation, and all of them, may hold."""

    quantity: int = 999
    """Of one product."""
    lines: int = 100
    """Different products in one cart."""
    conversations: int = 100_000
    preference_keys: int = 64
    preference_bytes: int = 16_384
    """All keys and values of one conversation, as JSON."""
    words: int = 100
    purchases: int = 100
    """Of one conversation; the oldest is dropped."""


class CartLine(Struct, frozen=True, kw_only=True):
    """One line of a cart. `price` is that of one piece, in agorot, as it was when last added."""

    line: str
    """The product's id, or a random one for something that is in no catalogue."""
    name: str
    price: int
    quantity: int = 1
    image: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    """What a caller wants kept beside."""
    added_at: int = 0

    @property
    def total(self) -> int:
        """Price by quantity, in agorot."""
        return self.price * self.quantity


class Cart(Struct, frozen=True):
    """A conversation's lines, in the order in which they were added."""

    lines: tuple[CartLine, ...] = ()

    @property
    def total(self) -> int:
        """In agorot."""
        return sum(line.total for line in self.lines)

    @property
    def quantity(self) -> int:
        """Pieces, not lines."""
        return sum(line.quantity for line in self.lines)


class Purchase(Struct, frozen=True):
    """What was bought, and when."""

    at: int
    total: int
    lines: tuple[CartLine, ...]


class ShopSession(Struct, frozen=True, kw_only=True):
    """What is known of a conversation besides its cart."""

    created_at: int
    last_used_at: int
    expires_at: int
    may_count: bool = False
    """Whether it may be counted among others: it agreed."""
    counts: dict[str, int] = field(default_factory=dict)
    words: dict[str, int] = field(default_factory=dict)
    """Words that were searched or asked for, and how often."""


class ConversationTally(Struct, frozen=True, kw_only=True):
    """One conversation as a row of a tenant's statistics: no id, no owner."""

    seconds: int
    counts: dict[str, int]
    words: dict[str, int]
    quantity: int
    total: int


class ShopStore(Protocol):
    """One contract, three houses. Every method may raise StoreFull or StoreFailed; those that make a
    conversation may raise SessionLimit.
    """

    async def use(
        self,
        key: ShopKey,
        moment: Moment,
        *,
        use: ShopUse | None = None,
        words: Sequence[str] = (),
        may_create: bool = True,
    ) -> Cart:
        """Notes that a conversation was used, makes it unless it may not, and gives its cart."""

    async def cart(self, key: ShopKey, *, at: int) -> Cart:
        """The cart; nothing is noted."""

    async def session(self, key: ShopKey, *, at: int) -> ShopSession | None:
        """What is known of a conversation; nothing is noted."""

    async def add(self, key: ShopKey, line: CartLine, moment: Moment, *, bounds: Bounds) -> Cart:
        """Adds a line, or its quantity to the line that is there, at the line's price. Raises CartLimit,
        CartFull.
        """

    async def remove(self, key: ShopKey, line: str, moment: Moment) -> tuple[CartLine | None, Cart]:
        """Takes a whole line out: (the line, what is left); None if it was not there."""

    async def clear(self, key: ShopKey, moment: Moment) -> Cart:
        """Empties the cart; what was in it."""

    async def checkout(
        self, key: ShopKey, moment: Moment, *, kept_until: int, bounds: Bounds
    ) -> Purchase | None:
        """Empties the cart into the purchases, at once; None if it was empty."""

    async def purchases(self, key: ShopKey, *, at: int) -> list[Purchase]:
        """What a conversation bought, the newest first."""

    async def prefer(
        self, key: ShopKey, changes: Mapping[str, Any], moment: Moment, *, bounds: Bounds
    ) -> dict[str, Any]:
        """Merges preferences by key; all of them. Raises PreferencesTooLarge."""

    async def preferences(self, key: ShopKey, *, at: int) -> dict[str, Any]:
        """All preferences."""

    async def let_count(self, key: ShopKey, may_count: bool) -> None:
        """Whether a conversation may be counted in its tenant's statistics."""

    async def count(self, tenant: str, *, at: int) -> int:
        """How many conversations of a tenant are alive."""

    async def tallies(self, tenant: str, *, at: int) -> list[ConversationTally]:
        """A tenant's living conversations that may be counted, in no order."""

    async def erase(self, key: ShopKey) -> None:
        """Forgets a conversation: cart, preferences, counts, purchases."""

    async def move(self, old: ShopKey, new: ShopKey) -> None:
        """Gives a conversation, with what it bought, to another owner or under another id, unless the new one
        has one of this name.
        """

    async def adopt(self, giver: str, taker: str, *, tenant: str) -> None:
        """Gives all conversations of one owner to another, but for those whose names the taker has."""

    async def purge(self, now: int) -> int:
        """Forgets conversations and purchases whose time is over; how many conversations."""


def too_much(bounds: Bounds) -> str:
    """The words of a refusal."""
    return f"A cart holds at most {bounds.quantity} of one product."


def too_many_lines(bounds: Bounds) -> str:
    """The words of a refusal."""
    return f"A cart holds at most {bounds.lines} different products."


def check_preferences(merged: Mapping[str, Any], bounds: Bounds) -> None:
    """Raises PreferencesTooLarge if a conversation would have too many, or too much in them."""
    if len(merged) > bounds.preference_keys:
        raise PreferencesTooLarge(f"A conversation has at most {bounds.preference_keys} preferences.")
    if len(msgspec.json.encode(merged)) > bounds.preference_bytes:
        words = f"A conversation's preferences take at most {bounds.preference_bytes} bytes as JSON."
        raise PreferencesTooLarge(words)


def cart_of(rows: Iterable[Any]) -> Cart:
    """The cart of rows of `LINE_COLUMNS`."""
    return Cart(
        tuple(
            CartLine(
                line=line,
                name=name,
                price=price,
                quantity=quantity,
                image=image,
                extra=msgspec.json.decode(extra, type=dict[str, Any]),
                added_at=added_at,
            )
            for line, name, price, quantity, image, extra, added_at in rows
        )
    )


def purchases_of(rows: Iterable[Any]) -> list[Purchase]:
    """Of rows of when it was bought, what it cost, and the lines as JSON."""
    return [
        Purchase(bought_at, total, msgspec.json.decode(items, type=tuple[CartLine, ...]))
        for bought_at, total, items in rows
    ]
