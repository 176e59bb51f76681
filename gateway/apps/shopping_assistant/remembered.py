"""What the shopping assistant remembers of a session, as its clients and its mirror read it."""

from __future__ import annotations

from typing import Any

from gateway.apps.shop.cart import Shop
from gateway.apps.shop.catalog import number
from gateway.apps.shop.settings import ShopConfig
from gateway.apps.shop.store import CartLine, ShopKey, ShopSession
from gateway.events.facts import iso
from gateway.events.fold import Message
from gateway.extension import Context


class ShopMemory:
    """Reading it is no use of the session."""

    def __init__(self, context: Context, shop: Shop) -> None:
        self._context = context
        self._shop = shop

    async def messages(self, key: ShopKey) -> list[Message]:
        """The messages of a conversation, oldest first; none if the last one is too long ago.

        Raises StoreFailed.
        """
        source = await self._context.sessions.source(key.owner, key.conversation)
        messages = [
            message
            for message in (source.fold.messages if source is not None else ())
            if not message.text.is_blank and message.sender != "system"
        ]
        return messages if messages and self.seconds_left(messages[-1].at) >= 0 else []

    async def said(self, key: ShopKey) -> list[dict[str, str]]:
        """What was said, as people read it. Raises StoreFailed."""
        return [entry(message) for message in await self.messages(key)]

    def seconds_left(self, last_at: int) -> float:
        """How long a conversation is still remembered whose last message is of this time; milliseconds since
        1970.
        """
        seconds = self._context.settings(ShopConfig).conversation_seconds
        return seconds - (self._shop.now - last_at) / 1000

    async def info(self, key: ShopKey, session: ShopSession, *, messages: int) -> dict[str, Any]:
        """The part of a session that is called its information."""
        cart = await self._shop.peek(key)
        return {
            "created_at": iso(session.created_at),
            "last_active": iso(session.last_used_at),
            "user_data": {},
            "conversation_count": messages,
            "preferences": await self._shop.preferences(key),
            "shopping_cart": [self.item(line) for line in cart.lines],
        }

    def item(self, line: CartLine) -> dict[str, Any]:
        """A line of a cart."""
        return {
            **line.extra,
            "id": line.line,
            "name": line.name,
            "price": number(line.price),
            "quantity": line.quantity,
            "line_total": number(line.total),
            "image": self._shop.picture_address(line.image),
            "added_at": iso(line.added_at),
        }


def entry(message: Message) -> dict[str, str]:
    """A message of a conversation, as people read it."""
    return {
        "role": "user" if message.sender == "user" else "assistant",
        "content": str(message.text),
        "timestamp": iso(message.at),
    }
