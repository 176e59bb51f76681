"""What the widget asks besides messages: how to greet, and for a person."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.apps.product_chat import words
from gateway.apps.product_chat.answers import PersonWanted, WidgetSettings, product_of
from gateway.apps.product_chat.catalogue import ChatProduct
from gateway.apps.product_chat.desk import Desk
from gateway.apps.product_chat.detail import DETAIL
from gateway.apps.product_chat.errors import InvalidInput
from gateway.apps.product_chat.reading import address_of, names_of
from gateway.apps.product_chat.settings import ProductsConfig
from gateway.apps.product_chat.visitors import ChatKeys
from gateway.extension import Context
from gateway.http.operation import Operation, json_response

_BAD: Final = (400, 404)


class WidgetFace:
    """The handlers."""

    def __init__(self, desk: Desk, context: Context, keys: ChatKeys) -> None:
        self._desk = desk
        self._context = context
        self._keys = keys

    def operations(self) -> list[Operation]:
        """They have no body: the path says everything."""
        product = "/api/products/{product_id}"
        person = product + "/chat/sessions/{session_id}/person"
        return [
            Operation(
                method="GET", path=product + "/chat", scope="", handler=self.show_widget_settings,
                dialect=DETAIL, summary="How to greet a visitor", answer=WidgetSettings, errors=_BAD,
            ),
            Operation(
                method="POST", path=person, scope="chat", handler=self.want_person, dialect=DETAIL,
                summary="Ask for a person", answer=PersonWanted, errors=_BAD,
            ),
        ]  # fmt: skip

    async def show_widget_settings(self, request: Request) -> Response:
        product = await self._desk.product(words.product_id(request.path_params["product_id"]))
        settings = self._context.settings(ProductsConfig)
        suggestions = tuple(_filled(one, product) for one in settings.suggestions)
        greeting = _filled(settings.greeting, product)
        is_open = self._desk.hours.is_open
        return json_response(
            WidgetSettings(product_of(product), greeting, suggestions, is_open, settings.away)
        )

    async def want_person(self, request: Request) -> Response:
        product_id, session_id = names_of(request)
        principal = await self._keys.visitor(request, session_id)
        chat = await self._desk.chat(principal, session_id, product_id)
        if chat.owner != principal.owner:
            raise InvalidInput("Only the visitor asks for a person in this chat")
        self._desk.rates.take(
            owner=principal.owner, address=address_of(request), product_id=product_id, session_id=session_id
        )
        await self._desk.want_person(chat)
        settings = self._context.settings(ProductsConfig)
        is_open = self._desk.hours.is_open
        return json_response(PersonWanted("The shop was told", session_id, is_open, settings.away))


def _filled(text: str, product: ChatProduct) -> str:
    return text.replace("{product}", product.name).replace("{price}", product.price)
