"""What the inbox shows beside a chat: the product, the visitor's cart, and answers that are often given."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.apps.product_chat.answers import (
    CannedAnswer,
    CannedAnswers,
    CartItem,
    CatalogueProduct,
    ChatAside,
    admin_chat_of,
    product_of,
)
from gateway.apps.product_chat.catalogue import priced
from gateway.apps.product_chat.desk import Desk
from gateway.apps.product_chat.detail import DETAIL
from gateway.apps.product_chat.errors import UnknownProduct
from gateway.apps.product_chat.reading import staffed
from gateway.apps.product_chat.settings import SHOP, ProductsConfig
from gateway.apps.product_chat.store import ProductSession
from gateway.apps.shop.cart import Shop
from gateway.apps.shop.catalog import decimals
from gateway.apps.shop.store import Cart
from gateway.extension import Context, ConversationKey
from gateway.http.operation import Operation, json_response

_BAD: Final = (400, 404)


class InboxFace:
    """The handlers."""

    def __init__(self, desk: Desk, context: Context) -> None:
        self._desk = desk
        self._context = context
        self._shop: Shop | None = context.others.get(SHOP)

    def operations(self) -> list[Operation]:
        """For the staff of a tenant."""
        return [
            Operation(
                method="GET", path="/api/admin/chat/sessions/{session_id}", scope="support", dialect=DETAIL,
                handler=self.show_product_chat, summary="A chat, its product and its cart", answer=ChatAside,
                errors=_BAD,
            ),
            Operation(
                method="GET", path="/api/admin/chat/answers", scope="support", dialect=DETAIL,
                handler=self.list_canned_answers, summary="Answers that are often given",
                answer=CannedAnswers, errors=(),
            ),
        ]  # fmt: skip

    async def show_product_chat(self, request: Request) -> Response:
        chat = await staffed(request, self._desk)
        cart = await self._cart(chat)
        items = tuple(CartItem(line.name, line.quantity, priced(decimals(line.total))) for line in cart.lines)
        total = priced(decimals(cart.total)) if items else ""
        return json_response(ChatAside(admin_chat_of(chat), await self._product(chat), items, total))

    async def list_canned_answers(self, _request: Request) -> Response:
        known = self._context.settings(ProductsConfig).answers
        return json_response(CannedAnswers([CannedAnswer(name, text) for name, text in known.items()]))

    async def _cart(self, chat: ProductSession) -> Cart:
        if self._shop is None:
            return Cart()
        return await self._shop.peek(ConversationKey(chat.tenant, chat.owner, chat.record_id))

    async def _product(self, chat: ProductSession) -> CatalogueProduct | None:
        try:
            found = await self._desk.product(chat.product_id)
        except UnknownProduct:
            return None
        return product_of(found)
