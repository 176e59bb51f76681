"""The seven tools of the shop: arguments → the shop's verbs → text and structured content.

They know nothing of MCP's transport: the MCP face calls them, and so may an agent of the gateway on behalf of
its session. Whose cart they touch is the caller's key, which no argument can change.
"""

from __future__ import annotations

import pathlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from gateway.apps.shop.cart import Shop
from gateway.apps.shop.catalog import Catalogue, Product, ProductPage, Query, decimals, formatted, number
from gateway.apps.shop.errors import CartFull, CartLimit, NotForSale, NotInCart, ProductNotFound
from gateway.apps.shop.store import Bounds, Cart, CartLine
from gateway.apps.shop.words import HEBREW, Words, words_for
from gateway.errors import GatewayError, SessionLimit
from gateway.extension import Answer, Caller, Tool, Toolset, Widget

SHOWN: Final = 10
"""Products that a search names in its text; the structured content has the whole page."""
PRODUCTS_WIDGET: Final = "ui://widget/products.html"
CART_WIDGET: Final = "ui://widget/cart.html"
WIDGETS: Final = pathlib.Path(__file__).parent / "widgets"


Locale = Annotated[str, Meta(max_length=35, description="Language of the answer: he (default) or en")]
ConversationId = Annotated[
    str, Meta(description="The conversation's id, where the client has no other place to send it")
]
ProductId = Annotated[str, Meta(max_length=128, description="A product's id, store:index")]


class _Arguments(Struct, frozen=True, kw_only=True):
    locale: Locale | None = None
    _sessionId: ConversationId | None = None


class _Search(_Arguments, frozen=True, kw_only=True):
    store: Annotated[
        str, Meta(max_length=128, pattern=r"^[^/\\.]*$", description="One store; absent: all")
    ] = ""
    search: Annotated[str, Meta(max_length=200, description="Part of a product's name; empty: everything")]
    category: Annotated[str, Meta(max_length=200, description="Exact category")] | None = None
    page: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    page_size: Annotated[int, Meta(ge=1, le=50)] = 12
    min_price: Annotated[float, Meta(ge=0, le=1_000_000, description="In ₪")] | None = None
    max_price: Annotated[float, Meta(ge=0, le=1_000_000, description="In ₪")] | None = None
    in_stock: bool | None = None


class _Add(_Arguments, frozen=True, kw_only=True):
    product_id: ProductId
    quantity: Annotated[int, Meta(ge=1, le=999)] = 1


class _Remove(_Arguments, frozen=True, kw_only=True):
    product_id: ProductId


TOOLS: Final = (
    Tool(
        name="list_stores",
        title="List stores",
        description="Lists the stores and how many products each has.",
        arguments=_Arguments,
        is_read_only=True,
        is_idempotent=True,
    ),
    Tool(
        name="search_products",
        title="Search products",
        description="Searches products by part of their name, category, price and stock, page by page.",
        arguments=_Search,
        is_read_only=True,
        is_idempotent=True,
        widget=PRODUCTS_WIDGET,
    ),
    Tool(
        name="add_to_cart",
        title="Add to cart",
        description="Adds a product, by its id, to the cart of this conversation.",
        arguments=_Add,
        is_read_only=False,
    ),
    Tool(
        name="view_cart",
        title="View cart",
        description="Shows the cart of this conversation with its total.",
        arguments=_Arguments,
        is_read_only=True,
        is_idempotent=True,
        widget=CART_WIDGET,
    ),
    Tool(
        name="remove_from_cart",
        title="Remove from cart",
        description="Takes a product, by its id, out of the cart of this conversation.",
        arguments=_Remove,
        is_read_only=False,
        is_destructive=True,
        is_idempotent=True,
    ),
    Tool(
        name="clear_cart",
        title="Clear cart",
        description="Empties the cart of this conversation.",
        arguments=_Arguments,
        is_read_only=False,
        is_destructive=True,
        is_idempotent=True,
    ),
    Tool(
        name="debug_session",
        title="Debug session",
        description="Says which conversation this is and how many others there are.",
        arguments=_Arguments,
        is_read_only=True,
        is_idempotent=True,
    ),
)
_BY_NAME: Final = {tool.name: tool for tool in TOOLS}

ToolRun = Callable[[Caller, Any, Words], Awaitable[Answer]]


class ShopTools(Toolset):
    """The tools over one shop."""

    name = "shop"
    instructions = (
        "A shop with one cart for each conversation. Search products, then add them by their id. Where a "
        "result names a _sessionId, send it with every further call to go on with the same cart."
    )
    widgets = {  # noqa: RUF012 - never changed
        PRODUCTS_WIDGET: Widget(
            "Products", "A grid of products that can be put into the cart.", WIDGETS / "products.html"
        ),
        CART_WIDGET: Widget("Cart", "The cart of this conversation.", WIDGETS / "cart.html"),
    }

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self._runs: dict[str, ToolRun] = {tool.name: getattr(self, f"_{tool.name}") for tool in TOOLS}

    def describe(self) -> Sequence[Tool]:
        return TOOLS

    def refused_id(self, source: str, *, most: int, arguments: Mapping[str, Any]) -> Answer:
        return _refusal(words_for(arguments.get("locale")).bad_id.format(source=source, most=most))

    async def call(self, name: str, arguments: Mapping[str, Any], caller: Caller) -> Answer:
        """Runs a tool. A refusal is an answer too, that begins with ❌."""
        words = words_for(arguments.get("locale") or caller.locale)
        try:
            # models and proxies write numbers as they like: 2, 2.0 or "2"
            parsed = msgspec.convert(_without_nulls(arguments), _BY_NAME[name].arguments, strict=False)
        except msgspec.ValidationError as error:
            return _refusal(_bad_argument(words, str(error), self.shop.bounds))
        try:
            answer = await self._runs[name](caller, parsed, words)
            await self._keep_private(caller)
        except GatewayError as error:
            return _refusal(_worded(words, error, self.shop.bounds))
        return answer

    async def _keep_private(self, caller: Caller) -> None:
        if caller.is_private:
            session = await self.shop.session(caller.key)
            if session is not None and session.may_count:
                await self.shop.store.let_count(caller.key, False)

    async def _list_stores(self, _caller: Caller, _arguments: _Arguments, words: Words) -> Answer:
        catalogue = await self._catalogue()
        stores = [
            words.store.format(name=store.replace("-", " ").title(), count=count)
            for store, count in catalogue.stores()
        ]
        return Answer(text=words.stores + "".join(stores))

    async def _search_products(self, caller: Caller, arguments: _Search, words: Words) -> Answer:
        catalogue = await self._catalogue()
        page = catalogue.search(
            Query(
                text=arguments.search,
                store=arguments.store,
                category=arguments.category,
                low=_agorot(arguments.min_price),
                high=_agorot(arguments.max_price),
                is_in_stock=arguments.in_stock,
                page=arguments.page,
                page_size=arguments.page_size,
            )
        )
        if not caller.is_fresh:
            text = "" if caller.is_agent else arguments.search  # its words are not the user's
            await self.shop.note(caller.key, use="searches", text=text)
        return Answer(
            text=_found(words, page),
            structured={
                "products": [described(product, self.shop) for product in page.products],
                "pagination": {
                    "currentPage": page.page,
                    "totalPages": page.pages,
                    "pageSize": page.page_size,
                    "totalProducts": page.total,
                    "hasNext": page.page < page.pages,
                    "hasPrev": page.page > 1 and page.total > 0,
                },
                "filters": {"search": arguments.search, "category": arguments.category},
            },
            pictures={product.id: product.picture for product in page.products if product.picture},
        )

    async def _add_to_cart(self, caller: Caller, arguments: _Add, words: Words) -> Answer:
        product, cart = await self.shop.add(caller.key, arguments.product_id, arguments.quantity)
        name = product.name if words is HEBREW else product.name_en
        text = words.added.format(name=name, quantity=arguments.quantity) + _sums(words.count_and_total, cart)
        return _with_id(text, caller, words)

    async def _view_cart(self, caller: Caller, _arguments: _Arguments, words: Words) -> Answer:
        cart = await self.shop.view(caller.key, may_create=not caller.is_fresh)
        catalogue = await self._catalogue()
        pictures = {line.line: picture for line in cart.lines if (picture := _picture(catalogue, line.line))}
        structured = {
            "items": [
                {
                    "id": line.line,
                    "name": _name(line, words),
                    "price": number(line.price),
                    "quantity": line.quantity,
                    "image": self.shop.picture_address(line.image),
                    "line_total": number(line.total),
                }
                for line in cart.lines
            ],
            "total": number(cart.total),
        }
        return _with_id(_cart_text(words, cart), caller, words, structured=structured, pictures=pictures)

    async def _remove_from_cart(self, caller: Caller, arguments: _Remove, words: Words) -> Answer:
        taken, cart = await self.shop.remove(caller.key, arguments.product_id)
        rest = _sums(words.count_left_and_total, cart) if cart.lines else words.now_empty
        return _with_id(words.removed.format(name=_name(taken, words)) + rest, caller, words)

    async def _clear_cart(self, caller: Caller, _arguments: _Arguments, words: Words) -> Answer:
        await self.shop.clear(caller.key)
        return _with_id(words.cleared, caller, words)

    async def _debug_session(self, caller: Caller, _arguments: _Arguments, words: Words) -> Answer:
        cart = await self.shop.view(caller.key, may_create=not caller.is_fresh)
        active = await self.shop.active(caller.key.tenant) + int(caller.is_fresh)
        others = active - 1
        text = (
            "🔍 **Session Debug Information**\n\n"
            f"**Current Session ID:** `{caller.key.conversation}`\n"
            f"**Total Active Sessions:** {active}\n"
            f"**Items in Your Cart:** {len(cart.lines)}\n"
            f"**Your Cart Total:** {decimals(cart.total)} ₪\n\n"
            + (f"**Other Active Sessions:** {others}" if others else "**No other active sessions**")
        )
        structured = {
            "session_id": caller.key.conversation,
            "source": caller.source,
            "active_sessions": active,
            "items": len(cart.lines),
            "total": number(cart.total),
        }
        return _with_id(text, caller, words, structured=structured)

    async def _catalogue(self) -> Catalogue:
        await self.shop.catalogue.refresh()
        return self.shop.catalogue


def described(product: Product, shop: Shop) -> dict[str, Any]:
    """A product as clients have always been given it, with its English names beside."""
    return {
        "id": product.id,
        "name": product.name,
        "name_en": product.name_en,
        "price": number(product.price),
        "price_formatted": formatted(product.price),
        "category": product.category,
        "category_en": product.category_en,
        "url": product.url,
        "image": shop.picture_address(product.image),
        "is_purchasable": product.is_purchasable,
        "is_in_stock": product.is_in_stock,
        "has_options": product.has_options,
        "product_type": product.product_type,
    }


def _without_nulls(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _agorot(price: float | None) -> int | None:
    return None if price is None else round(price * 100)


def _found(words: Words, page: ProductPage) -> str:
    if not page.total:
        return words.nothing_found
    is_hebrew = words is HEBREW
    blocks = [
        words.found_one.format(
            name=product.name if is_hebrew else product.name_en,
            price=decimals(product.price),
            category=product.category if is_hebrew else product.category_en,
            id=product.id,
        )
        for product in page.products[:SHOWN]
    ]
    return words.found.format(count=page.total) + "".join(blocks)


def _cart_text(words: Words, cart: Cart) -> str:
    if not cart.lines:
        return words.cart_is_empty
    lines = [
        words.cart_line.format(
            name=_name(line, words),
            quantity=line.quantity,
            price=decimals(line.price),
            total=decimals(line.total),
            id=line.line,
        )
        for line in cart.lines
    ]
    return words.cart + "".join(lines) + words.cart_total.format(total=decimals(cart.total))


def _name(line: CartLine, words: Words) -> str:
    english = line.extra.get("name_en")
    return english if words is not HEBREW and isinstance(english, str) else line.name


def _sums(template: str, cart: Cart) -> str:
    return template.format(count=len(cart.lines), total=decimals(cart.total))


def _picture(catalogue: Catalogue, product_id: str) -> str:
    try:
        return catalogue.product(product_id).picture
    except ProductNotFound:
        return ""


def _with_id(
    text: str,
    caller: Caller,
    words: Words,
    *,
    structured: dict[str, Any] | None = None,
    pictures: dict[str, str] | None = None,
) -> Answer:
    """The answer; if the cart is new, with its id."""
    told = words.fresh.format(id=caller.key.conversation) if caller.is_fresh else ""
    return Answer(
        text=text + told,
        structured=structured,
        pictures=pictures or {},
        fresh_id=caller.key.conversation if caller.is_fresh else None,
    )


def _refusal(text: str) -> Answer:
    return Answer(text=text, is_error=True)


def _bad_argument(words: Words, detail: str, bounds: Bounds) -> str:
    if "$.quantity" in detail:
        return words.bad_quantity.format(most=bounds.quantity)
    return words.bad_argument.format(detail=detail)


def _worded(words: Words, error: GatewayError, bounds: Bounds) -> str:
    match error:
        case ProductNotFound():
            return words.no_such_product
        case NotInCart():
            return words.not_in_cart
        case NotForSale():
            return words.not_for_sale
        case CartLimit():
            return words.too_much.format(most=bounds.quantity)
        case CartFull():
            return words.too_many_lines.format(most=bounds.lines)
        case SessionLimit():
            return words.full
    return words.failed.format(detail=error.message)
