"""The shopping assistant: `/api/v1/shopping`. Questions with streamed answers, and what a session remembers.

A session here is a session of the gateway and a conversation of the shop at once, under one id: the cart is
the one that its agent fills. Everything is answered in an envelope (`api/envelope.py`), errors too.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.apps.shop.cart import Shop
from gateway.apps.shop.catalog import MAX_PRICE, Query, number
from gateway.apps.shop.errors import CartEmpty
from gateway.apps.shop.insights import TenantInsights, top
from gateway.apps.shop.settings import ShopConfig
from gateway.apps.shop.store import Cart, ShopKey
from gateway.apps.shop.tools import described
from gateway.apps.shopping_assistant.application import SHOP
from gateway.apps.shopping_assistant.asking import Asked, Asking
from gateway.apps.shopping_assistant.assistant import Assistant
from gateway.apps.shopping_assistant.envelope import AssistantEnvelope, dialect, good
from gateway.apps.shopping_assistant.errors import AnswerDropped, AnswerFailed
from gateway.apps.shopping_assistant.mirror import Mirror
from gateway.apps.shopping_assistant.redis_server import RedisServer
from gateway.apps.shopping_assistant.remembered import ShopMemory
from gateway.apps.shopping_assistant.retrieval import FullText
from gateway.apps.shopping_assistant.settings import RedisConfig
from gateway.errors import BadRequest, Forbidden, GatewayError, InvalidField, MessageTooLong, SessionNotFound
from gateway.events.facts import in_one_line, iso
from gateway.extension import Context, Faces, Scope, reach
from gateway.http.gate import principal_of
from gateway.http.operation import Handler, Operation, Parameter, SessionId, Spoken, json_response
from gateway.http.reading import checked_session_id, query_int, read_body

PREFIX: Final = "/api/v1/shopping"
NAME_CHARACTERS: Final = 200
EXTRA_BYTES: Final = 2_048
"""What a caller may keep beside a line of its own."""
SEARCH_CHARACTERS: Final = 200
_OWN_FIELDS: Final = ("name", "price", "quantity", "product_id")
_SORRY: Final = "I could not answer that just now. Please try again."


class QueryRequest(Struct):
    """`POST /query` and `/query/stream`."""

    q: Spoken
    sessionId: SessionId


class ConsentRequest(Struct):
    """`POST /session/{session_id}/consent`: whether it may be counted in its tenant's statistics."""

    counted: bool


class RemoveRequest(Struct):
    """`POST /session/{session_id}/cart/remove`."""

    id: str


def open_assistant(context: Context) -> Faces:
    """The shopping assistant over the shop of the same gateway."""
    shop = context.others[SHOP]
    remembered = ShopMemory(context, shop)
    face = ShoppingFace(context, shop, remembered)
    redis = context.settings(RedisConfig)
    mirror = (
        Mirror(context, shop, remembered, RedisServer(redis.url), redis.mirror)
        if redis.mirror != "none"
        else None
    )

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with contextlib.nullcontext() if mirror is None else mirror.running():
            yield
        face.close()

    return Faces(
        operations=tuple(face.operations()),
        observers=() if mirror is None else (mirror,),
        lifespan=lifespan,
    )


class ShoppingFace:
    """The handlers."""

    def __init__(self, context: Context, shop: Shop, remembered: ShopMemory) -> None:
        self._context = context
        self._manager = context.sessions
        self._shop = shop
        self._limits = context.config().limits
        self._assistant = Assistant(
            FullText(self._shop.catalogue),
            monotonic=context.monotonic,
            cache_seconds=lambda: context.settings(ShopConfig).cache_seconds,
        )
        self._asking = Asking(context, shop, self._assistant)
        self._remembered = remembered
        self._dialect = dialect(context.wall_ms)

    def close(self) -> None:
        """Lets go of the index."""
        self._assistant.close()

    def operations(self) -> list[Operation]:
        """The routes."""
        limit = _whole("limit", 1, 200, "How many messages, the newest.")
        insights = Operation(
            method="GET", path="/api/admin/shop/insights", scope="operate", handler=self.tenant_insights,
            summary="A tenant's shoppers in numbers, without ids, of those who agreed", answer=TenantInsights,
            parameters=(_text("tenant", "Which tenant; one's own where it is absent."),),
        )  # fmt: skip
        before = _whole("before", 0, 1_000_000_000, "Only messages before this one (`next_before`).")
        return [
            insights,
            self._operation(
                "POST", "/query", self.shop_query, "Ask", body=QueryRequest, errors=(402, 409, 502)
            ),
            self._operation(
                "POST", "/query/stream", self.shop_query_stream, "Ask, and follow the answer",
                body=QueryRequest, is_stream=True,
            ),
            self._operation(
                "GET", "/session/{session_id}/info", self.shop_info, "What a session is", errors=(404,)
            ),
            self._operation(
                "GET", "/session/{session_id}/conversation", self.shop_conversation, "What was said",
                parameters=(limit, before),
            ),
            self._operation(
                "POST", "/session/{session_id}/preferences", self.shop_prefer, "Merge preferences",
                body=dict[str, Any], errors=(404,),
            ),
            self._operation(
                "POST", "/session/{session_id}/consent", self.shop_consent, "Be counted, or not",
                body=ConsentRequest, errors=(404,),
            ),
            self._operation("GET", "/session/{session_id}/cart", self.shop_cart, "What is in the cart"),
            self._operation(
                "POST", "/session/{session_id}/cart/add", self.shop_add, "Put something into the cart",
                body=dict[str, Any], errors=(404, 409),
            ),
            self._operation(
                "POST", "/session/{session_id}/cart/remove", self.shop_remove, "Take something out",
                body=RemoveRequest, errors=(404,),
            ),
            self._operation(
                "DELETE", "/session/{session_id}/cart/clear", self.shop_clear, "Empty the cart", errors=(404,)
            ),
            self._operation(
                "POST", "/session/{session_id}/cart/checkout", self.shop_checkout, "Buy what is in the cart",
                body=dict[str, Any], errors=(404, 409),
            ),
            self._operation(
                "GET", "/products", self.shop_products, "Search products",
                parameters=(
                    _text("search", "Part of a name."), _text("store", "A store; absent: all."),
                    _text("category", "A category, exactly."),
                    _whole("page", 1, 1_000_000, "Which page."),
                    _whole("page_size", 1, 50, "How many a page."),
                ),
            ),
            self._operation("GET", "/health", self.shop_health, "How it is", is_public=True),
            self._operation("GET", "/health/live", self.shop_live, "Whether it is alive", is_public=True),
            self._operation("GET", "/health/ready", self.shop_ready, "Whether it can answer", is_public=True),
        ]  # fmt: skip

    def _operation(
        self,
        method: str,
        path: str,
        handler: Handler,
        summary: str,
        *,
        is_stream: bool = False,
        is_public: bool = False,
        **more: Any,
    ) -> Operation:
        scope: Scope = "" if is_public else "read" if method == "GET" else "chat"
        return Operation(
            method=method,
            path=PREFIX + path,
            handler=handler,
            summary=summary,
            scope=scope,
            answer=None if is_stream else AssistantEnvelope,
            media_type="text/plain" if is_stream else "application/json",
            dialect=self._dialect,
            **more,
        )

    # -- questions --------------------------------------------------------------------------------------

    async def shop_query(self, request: Request) -> Response:
        asked = await self._asked(request)
        answer = "".join([part async for part in self._asking.answer(asked)])
        data = {"intent": asked.intent, "answer": answer, "context": asked.context, "error": None}
        return good(data | _more(asked))

    async def shop_query_stream(self, request: Request) -> Response:
        asked = await self._asked(request)
        return StreamingResponse(
            self._frames(asked), media_type="text/plain", headers={"X-Accel-Buffering": "no"}
        )

    async def _asked(self, request: Request) -> Asked:
        body = await read_body(request, QueryRequest, self._context.config())
        if not body.q.strip():
            raise BadRequest("q is empty: say what you are looking for.", field=("body", "q"))
        if not body.sessionId:
            raise BadRequest("sessionId is empty: name the conversation.", field=("body", "sessionId"))
        size, limit = len(body.q.encode()), self._limits.message_bytes
        if size > limit:
            raise MessageTooLong(f"q is {size} bytes long; {limit} are allowed.")
        key = self._key(request, body.sessionId)
        self._manager.refuse_while_draining()
        return await self._asking.ask(key, body.q, key_id=principal_of(request).key_id)

    async def _frames(self, asked: Asked) -> AsyncIterator[bytes]:
        yield _frame("intent", intent=asked.intent, question=asked.question)
        yield _frame("retrieving", message="Searching the catalogue")
        yield _frame("context_retrieved", context_count=len(asked.context), retrieval_quality=asked.quality)
        yield _frame("metadata", intent=asked.intent, context=asked.context, **_more(asked))
        try:
            async for part in self._asking.answer(asked):
                yield _frame("content", content=part, is_final=False)
        except (AnswerDropped, AnswerFailed) as error:
            yield _frame("error", error=error.message, code=error.cause, fallback=_SORRY)
        except GatewayError as error:
            yield _frame("error", error=error.message, code=error.code, fallback=_SORRY)
        else:
            yield _frame("content", content="", is_final=True)
            yield _frame("final", intent=asked.intent, confidence=asked.quality, **_more(asked))
            yield _frame("complete")
        yield b"data: [DONE]\n\n"

    # -- what a session remembers -----------------------------------------------------------------------

    async def shop_info(self, request: Request) -> Response:
        key = self._key(request)
        session = await self._shop.session(key)
        if session is None:
            raise SessionNotFound(session_id=key.conversation)
        said = await self._remembered.said(key)
        info = await self._remembered.info(key, session, messages=len(said))
        insights = await self._shop.insights(key)
        return good(
            {
                "session_info": info,
                "analytics": {
                    "session_duration": "0m" if insights is None else insights.duration,
                    "conversation_count": len(said),
                    "user_message_count": sum(1 for message in said if message["role"] == "user"),
                    "assistant_message_count": sum(1 for message in said if message["role"] == "assistant"),
                    "cart_item_count": len(info["shopping_cart"]),
                    "top_topics": top(session.words),
                    "preferences": info["preferences"],
                    "last_active": info["last_active"],
                },
            }
        )

    async def shop_conversation(self, request: Request) -> Response:
        key = self._key(request)
        limit = query_int(request, "limit", default=20, low=1, high=200)
        said = await self._remembered.said(key)
        end = min(query_int(request, "before", default=len(said), low=0, high=1_000_000_000), len(said))
        first = max(0, end - limit)
        return good(
            {
                "session_id": key.conversation,
                "conversation": said[first:end],
                "count": end - first,
                "next_before": first or None,
            }
        )

    async def shop_prefer(self, request: Request) -> Response:
        key = self._key(request)
        changes = await read_body(request, dict[str, Any], self._context.config())
        await self._refuse_unknown(key)
        await self._shop.prefer(key, changes)
        message = "Preferences updated successfully"
        return good({"message": message, "session_id": key.conversation, "preferences": changes})

    async def shop_consent(self, request: Request) -> Response:
        key = self._key(request)
        body = await read_body(request, ConsentRequest, self._context.config())
        await self._refuse_unknown(key)
        is_counted = body.counted and not _is_private(request)
        await self._shop.store.let_count(key, is_counted)
        return good({"session_id": key.conversation, "counted": is_counted})

    async def tenant_insights(self, request: Request) -> Response:
        principal = principal_of(request)
        named = request.query_params.get("tenant") or principal.tenant
        if reach(principal) not in (None, named):
            raise Forbidden("You see the insights of your own tenant only.")
        return json_response(await self._shop.tenant_insights(named))

    # -- the cart ---------------------------------------------------------------------------------------

    async def shop_cart(self, request: Request) -> Response:
        key = self._key(request)
        cart = await self._shop.peek(key)
        return good(self._shown(key, cart))

    async def shop_add(self, request: Request) -> Response:
        key = self._key(request)
        body = await read_body(request, dict[str, Any], self._context.config())
        await self._refuse_unknown(key)
        quantity = _quantity(body)
        product_id = body.get("product_id")
        if isinstance(product_id, str):
            product, cart = await self._shop.add(key, product_id, quantity)
            line = next(line for line in cart.lines if line.line == product.id)
        else:
            extra = {name: value for name, value in body.items() if name not in _OWN_FIELDS}
            if len(msgspec.json.encode(extra)) > EXTRA_BYTES:
                raise InvalidField(f"What comes beside name and price takes at most {EXTRA_BYTES} bytes.")
            line, _ = await self._shop.add_free(
                key, name=_name(body), price=_price(body), quantity=quantity, extra=extra
            )
        message = "Item added to cart successfully"
        return good({"message": message, "session_id": key.conversation, "item": self._remembered.item(line)})

    async def shop_remove(self, request: Request) -> Response:
        key = self._key(request)
        body = await read_body(request, RemoveRequest, self._context.config())
        taken, cart = await self._shop.remove(key, body.id)
        return good(
            {
                "message": "Item removed from cart successfully",
                "item": self._remembered.item(taken),
                **self._shown(key, cart),
            }
        )

    async def shop_clear(self, request: Request) -> Response:
        key = self._key(request)
        await self._refuse_unknown(key)
        await self._shop.clear(key)
        return good({"message": "Cart cleared successfully", "session_id": key.conversation})

    async def shop_checkout(self, request: Request) -> Response:
        key = self._key(request)
        await read_body(request, dict[str, Any], self._context.config())
        await self._refuse_unknown(key)
        purchase = await self._shop.checkout(key)
        if purchase is None:
            raise CartEmpty
        bought = {
            "at": iso(purchase.at),
            "total": number(purchase.total),
            "items": [self._remembered.item(line) for line in purchase.lines],
        }
        return good(
            {"message": "Checked out successfully", "session_id": key.conversation, "purchase": bought}
        )

    async def shop_health(self, _request: Request) -> Response:
        return good(self._condition("healthy"))

    async def shop_live(self, _request: Request) -> Response:
        return good(self._condition("alive"))

    async def shop_ready(self, _request: Request) -> Response:
        checks = await self._context.readiness()
        services = [
            {"name": name, "status": "ok" if check.is_well else "failed", "detail": check.words}
            for name, check in checks.items()
        ]
        if all(check.is_well for check in checks.values()):
            return good(self._condition("ready", services=services))
        data = self._condition("not_ready", services=services)
        return json_response(AssistantEnvelope(False, data), status=503)

    def _condition(self, status: str, **more: object) -> dict[str, object]:
        return {**msgspec.to_builtins(self._context.health()), "status": status, **more}

    async def shop_products(self, request: Request) -> Response:
        asked = request.query_params
        text, category, store = asked.get("search", ""), asked.get("category") or None, asked.get("store", "")
        if any(len(part or "") > SEARCH_CHARACTERS for part in (text, category, store)):
            raise InvalidField(f"search, category and store have at most {SEARCH_CHARACTERS} letters.")
        await self._shop.catalogue.refresh()
        page = self._shop.catalogue.search(
            Query(
                text=text,
                store=store,
                category=category,
                page=query_int(request, "page", default=1, low=1, high=1_000_000),
                page_size=query_int(request, "page_size", default=12, low=1, high=50),
            )
        )
        categories = {p.category: p.category_en for p in self._shop.catalogue.all()}
        return good(
            {
                "products": [described(product, self._shop) for product in page.products],
                "total": page.total,
                "page": page.page,
                "pages": page.pages,
                "categories": [{"name": name, "name_en": english} for name, english in categories.items()],
            }
        )

    # -- inner ------------------------------------------------------------------------------------------

    def _key(self, request: Request, named: str | None = None) -> ShopKey:
        """Whose conversation. Raises MalformedSessionId (422)."""
        if named is None:
            session_id = checked_session_id(request.path_params["session_id"], field=("path", "session_id"))
        else:
            session_id = checked_session_id(named, field=("body", "sessionId"))
        principal = principal_of(request)
        return ShopKey(principal.tenant, principal.owner, session_id)

    async def _refuse_unknown(self, key: ShopKey) -> None:
        """Raises SessionNotFound if the shop and the chat both know of no such session."""
        if await self._shop.session(key) is not None:
            return
        if not await self._manager.exists(key.owner, key.conversation):
            raise SessionNotFound(session_id=key.conversation)

    def _shown(self, key: ShopKey, cart: Cart) -> dict[str, Any]:
        return {
            "session_id": key.conversation,
            "cart": [self._remembered.item(line) for line in cart.lines],
            "item_count": len(cart.lines),
            "total": number(cart.total),
        }


def _more(asked: Asked) -> dict[str, Any]:
    window = asked.window
    return {
        "cached": asked.known is not None,
        "context_window": {"tokens": window.tokens, "limit": window.limit, "left_out": window.left_out},
    }


def _frame(kind: str, **data: Any) -> bytes:
    return b"data: " + in_one_line(msgspec.json.encode({"type": kind, "chunk_type": kind, **data})) + b"\n\n"


def _name(body: dict[str, Any]) -> str:
    name = body.get("name")
    if not isinstance(name, str) or not 0 < len(name.strip()) <= NAME_CHARACTERS:
        raise InvalidField(f"name is a text of 1 to {NAME_CHARACTERS} letters.", field=("body", "name"))
    return name.strip()


def _price(body: dict[str, Any]) -> int:
    """In agorot. Decimal throughout: a price of JSON is decimal text."""
    price = body.get("price")
    try:
        if isinstance(price, bool) or not isinstance(price, int | float | str):
            raise InvalidOperation
        minor = Decimal(str(price)) * 100
        if not minor.is_finite() or not 0 <= minor <= MAX_PRICE or minor != minor.to_integral_value():
            raise InvalidOperation
    except ArithmeticError:
        raise InvalidField(
            f"price is a number from 0 to {MAX_PRICE // 100} with at most two decimals.",
            field=("body", "price"),
        ) from None
    return int(minor)


def _quantity(body: dict[str, Any]) -> int:
    try:
        return msgspec.convert(body.get("quantity", 1), int, strict=False)
    except msgspec.ValidationError:
        raise InvalidField("quantity is a whole number.", field=("body", "quantity")) from None


def _whole(name: str, low: int, high: int, description: str) -> Parameter:
    schema = {"type": "integer", "minimum": low, "maximum": high}
    return Parameter(name=name, schema=schema, description=description)


def _text(name: str, description: str) -> Parameter:
    schema = {"type": "string", "maxLength": SEARCH_CHARACTERS}
    return Parameter(name=name, schema=schema, description=description)


def _is_private(request: Request) -> bool:
    """Whether the caller asks not to be counted (Global Privacy Control)."""
    return request.headers.get("sec-gpc") == "1"
