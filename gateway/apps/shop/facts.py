"""The facts that the shop adds to a session's log, and what a fold keeps of them. Pure."""

from __future__ import annotations

from typing import Any

from gateway.events.facts import ApplicationFact, EventData
from gateway.events.fold import FoldPart


class CartChanged(ApplicationFact, frozen=True, tag="cart"):
    """The session's cart is another one: how many lines and pieces, and what they cost (`"19.80"`, in ₪).
    What is in it is asked for: it is forgotten sooner than the log.
    """

    lines: int
    items: int
    total: str


class CartPart(FoldPart):
    """How much is in the session's cart, as the log said last."""

    __slots__ = ("cart",)
    name = "cart"

    def __init__(self) -> None:
        self.cart: CartChanged | None = None

    def apply(self, data: EventData, at: int) -> None:
        if isinstance(data, CartChanged):
            self.cart = data

    def snapshot(self) -> Any:
        cart = self.cart
        return None if cart is None else {"lines": cart.lines, "items": cart.items, "total": cart.total}
