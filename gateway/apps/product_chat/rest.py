"""Product chat over REST, in both dialects of its clients.

The session id alone opens nothing, but for what `product_visitors` says: a chat is its visitor's, and the
staff's of its tenant. Not yours and not
there are the same 404.
"""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.apps.product_chat import facts, words
from gateway.apps.product_chat.answers import (
    CatalogueProduct,
    Marked,
    MessageId,
    MessagePage,
    MessageRequest,
    MessageRow,
    Opened,
    OpenRequest,
    ReadRequest,
    Sent,
    SentToSockets,
    product_of,
    row_of,
    sent,
)
from gateway.apps.product_chat.catalogue import ChatProduct
from gateway.apps.product_chat.desk import Desk, is_staff_of
from gateway.apps.product_chat.detail import DETAIL
from gateway.apps.product_chat.drafts import Draft, PostedMessage
from gateway.apps.product_chat.errors import AdminNeeded, InvalidInput
from gateway.apps.product_chat.reading import (
    LIMIT,
    OFFSET,
    ORDER,
    address_of,
    client_id,
    message_page,
    names_of,
    page_of_query,
)
from gateway.apps.product_chat.visitors import ChatKeys
from gateway.errors import InvalidField
from gateway.extension import Context, Principal
from gateway.http.operation import Operation, json_response
from gateway.http.reading import read_body

READ_AT_ONCE: Final = 100
_BAD: Final = (400, 404)


class ProductsFace:
    """The handlers."""

    def __init__(self, desk: Desk, context: Context, keys: ChatKeys) -> None:
        self._desk = desk
        self._keys = keys
        self._context = context

    def operations(self) -> list[Operation]:
        """Product chat as operations."""
        product = "/api/products/{product_id}"
        chats = product + "/chat/sessions"
        one = chats + "/{session_id}/messages"
        return [
            Operation(
                method="GET", path=product, scope="", handler=self.show_product, dialect=DETAIL,
                summary="A product", answer=CatalogueProduct, errors=_BAD,
            ),
            Operation(
                method="POST", path=chats, scope="chat", handler=self.open_product_chat, dialect=DETAIL,
                summary="Begin a chat about a product", body=OpenRequest, answer=Opened, errors=(*_BAD, 409),
            ),
            Operation(
                method="POST", path=one, scope="chat", handler=self.send_product_message, dialect=DETAIL,
                summary="Say something in it", body=MessageRequest, answer=Sent, errors=_BAD,
            ),
            Operation(
                method="POST", path=one + "/websocket", scope="chat", handler=self.broadcast_product_message,
                dialect=DETAIL, summary="The same", body=MessageRequest, answer=SentToSockets, errors=_BAD,
            ),
            Operation(
                method="GET", path=one, scope="read", handler=self.list_product_messages, dialect=DETAIL,
                summary="What was said", answer=list[MessageRow] | MessagePage,
                parameters=(LIMIT, OFFSET, ORDER), errors=_BAD,
            ),
            Operation(
                method="PUT", path=one + "/read", scope="chat", handler=self.mark_product_messages,
                dialect=DETAIL, summary="Mark as read", body=ReadRequest | list[MessageId] | None,
                answer=Marked, errors=_BAD,
            ),
        ]  # fmt: skip

    # -- visitors ---------------------------------------------------------------------------------------

    async def show_product(self, request: Request) -> Response:
        return json_response(product_of(await self._product(request)))

    async def open_product_chat(self, request: Request) -> Response:
        body = await read_body(request, OpenRequest, self._context.config())
        product = await self._product(request)
        session_id = words.session_id(body.session_id)
        if body.product_id not in (None, product.id):
            raise InvalidInput("Invalid product ID")
        first = words.message_text(body.initial_message) if body.initial_message else None
        principal = await self._keys.visitor(request, session_id, is_opening=True)
        self._take(request, principal, product.id, session_id)
        name, email = (
            words.short(body.customer_name),
            words.email(body.customer_email),
        )
        chat, is_known = await self._desk.open_chat(principal, product, session_id, name=name, email=email)
        if is_known:
            return json_response(Opened("Session already exists", session_id, True))
        if first is not None:
            await self._desk.say_as_customer(chat, Draft(text=first), key_id=principal.key_id)
        return json_response(Opened("Chat session created successfully", session_id, False, product.name))

    async def send_product_message(self, request: Request) -> Response:
        said, session_id = await self._send(request)
        return json_response(sent(said, session_id))

    async def broadcast_product_message(self, request: Request) -> Response:
        said, session_id = await self._send(request)
        words_ = "Message sent successfully"
        return json_response(SentToSockets(words_, said.message_id, session_id, said.was_changed, True))

    async def _send(self, request: Request) -> tuple[PostedMessage, str]:
        body = await read_body(request, MessageRequest, self._context.config())
        words.email(body.customer_email)
        product_id, session_id = names_of(request)
        principal = await self._keys.visitor(request, session_id)
        chat = await self._desk.chat(principal, session_id, product_id)
        draft = Draft(
            text=body.message_text,
            name=words.short(body.sender_name),
            message_type=body.message_type,
            client_id=client_id(body.client_id),
        )
        if body.sender_type != "customer":
            if not is_staff_of(principal, chat):
                raise AdminNeeded
            if body.sender_type == "system":
                return await self._desk.say_as_system(chat, draft), session_id
            return await self._desk.say_as_staff(chat, draft, principal=principal), session_id
        if chat.owner != principal.owner:
            raise InvalidInput("Only the visitor writes as the customer of this chat")
        self._take(request, principal, product_id, session_id)
        return await self._desk.say_as_customer(chat, draft, key_id=principal.key_id), session_id

    async def list_product_messages(self, request: Request) -> Response:
        product_id, session_id = names_of(request)
        query = request.query_params
        limit, _ = page_of_query(request)
        chat = await self._desk.chat(await self._keys.visitor(request, session_id), session_id, product_id)
        if "offset" in query or "order" in query:
            return json_response(await message_page(request, self._desk, chat))
        rows = await self._desk.store.messages(chat.id, limit=limit, newest_first=True)
        return json_response([row_of(row) for row in reversed(rows)])

    async def mark_product_messages(self, request: Request) -> Response:
        kind: Any = ReadRequest | list[MessageId] | None
        body: ReadRequest | list[int] | None = await read_body(
            request, kind, self._context.config(), empty=b"null"
        )
        product_id, session_id = names_of(request)
        ids: list[int] | None = body.message_ids if isinstance(body, ReadRequest) else body
        if isinstance(body, ReadRequest):
            if body.mark_all:
                ids = None
            elif body.message_ids is None:
                raise InvalidField("Name message_ids, or say mark_all")
        if ids is not None and len(ids) > READ_AT_ONCE:
            raise InvalidInput(f"Cannot mark more than {READ_AT_ONCE} messages at once")
        principal = await self._keys.visitor(request, session_id)
        chat = await self._desk.chat(principal, session_id, product_id)
        reader: tuple[facts.PosterType, str] = ("admin", principal.subject)
        if chat.owner == principal.owner:
            reader = ("customer", chat.customer_name or "Visitor")
        marked = await self._desk.mark_read(chat, ids or None, reader=reader)
        return json_response(Marked(f"Marked {len(marked)} messages as read", len(marked), session_id))

    # -- inner ------------------------------------------------------------------------------------------

    async def _product(self, request: Request) -> ChatProduct:
        return await self._desk.product(words.product_id(request.path_params["product_id"]))

    def _take(self, request: Request, principal: Principal, product_id: int, session_id: str) -> None:
        self._desk.rates.take(
            owner=principal.owner, address=address_of(request), product_id=product_id, session_id=session_id
        )
