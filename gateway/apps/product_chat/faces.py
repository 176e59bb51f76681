"""What product chat adds to a gateway: its routes and sockets, the inbox of the staff, the widget and its
page.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec

from gateway.apps.product_chat.answers import CHAT_ID_SCHEMA
from gateway.apps.product_chat.catalogue import Products, products_of
from gateway.apps.product_chat.desk import Desk, StaffNotice
from gateway.apps.product_chat.guest_list import GuestList, GuestsTold
from gateway.apps.product_chat.inbox import InboxFace
from gateway.apps.product_chat.rest import ProductsFace
from gateway.apps.product_chat.settings import SHOP, ProductsConfig
from gateway.apps.product_chat.sockets import ProductSockets
from gateway.apps.product_chat.staff import StaffFace
from gateway.apps.product_chat.stats import SocketStats
from gateway.apps.product_chat.store import MemoryProducts, ProductStore
from gateway.apps.product_chat.store_postgresql import PostgresqlProducts
from gateway.apps.product_chat.store_sqlite import SqliteProducts
from gateway.apps.product_chat.visitors import ChatKeys
from gateway.apps.product_chat.widget import WidgetFace
from gateway.extension import Context, Database, Faces, Operation, PostgresqlDatabase, Tables

PAGES: Final = {"/inbox": "inbox.html", "/demo/product": "demo.html"}
WIDGET: Final = "widget.js"
"""Pages of other sites include it, so it may be loaded from everywhere; it holds nothing of anybody."""
WIDGET_HEADERS: Final = {
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Cache-Control": "public, max-age=300",
}


def open_chats(context: Context) -> Faces:
    """Product chat on the sessions of this gateway."""
    desk = Desk(context, open_products(context.tables), _catalogue(context))
    keys = ChatKeys(desk, context.gate, monotonic=context.monotonic)
    sockets = ProductSockets(desk, context, keys)
    guests = GuestList(
        sockets.floor,
        tell=lambda told: context.tell_others(msgspec.json.encode(told)),
        monotonic=context.monotonic,
    )

    def hear(said: bytes) -> None:
        """Another gateway has told its staff something, or who is there. Raises msgspec.DecodeError."""
        match msgspec.json.decode(said, type=StaffNotice | GuestsTold):
            case StaffNotice() as notice:
                desk.hear(notice)
            case told:
                guests.heard(told)

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        telling = asyncio.create_task(guests.run(), name="guest list of product chats")
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.wait([telling])
            desk.close()

    return Faces(
        operations=tuple(
            _described(operation)
            for operation in (
                *ProductsFace(desk, context, keys).operations(),
                *StaffFace(desk, context).operations(),
                *WidgetFace(desk, context, keys).operations(),
                *InboxFace(desk, context).operations(),
                *SocketStats(desk, sockets.floor, guests, context).operations(),
            )
        ),
        sockets=tuple(sockets.sockets()),
        pages=PAGES,
        files={WIDGET: WIDGET_HEADERS},
        observers=(desk,),
        hear=hear,
        lifespan=lifespan,
    )


def open_products(tables: Tables) -> ProductStore:
    """The product chats in a store."""
    if isinstance(tables, PostgresqlDatabase):
        return PostgresqlProducts(tables)
    return SqliteProducts(tables) if isinstance(tables, Database) else MemoryProducts(tables)


def _described(operation: Operation) -> Operation:
    """The operation with what its path is made of."""
    schemas: dict[str, Any] = {"product_id": {"type": "integer", "minimum": 1}}
    if "/chat/sessions/" in operation.path:
        schemas["session_id"] = CHAT_ID_SCHEMA
    return msgspec.structs.replace(operation, path_schemas=schemas)


def _catalogue(context: Context) -> Callable[[], Products]:
    """What can be chatted about; another one as soon as the configuration names another."""
    shop = context.others.get(SHOP)
    known: dict[str, Products] = {}

    def find() -> Products:
        named = context.settings(ProductsConfig).catalogue
        if named not in known:
            known.clear()
            catalogue = shop.catalogue if shop is not None else None
            known[named] = products_of(named, catalogue, monotonic=context.monotonic)
        return known[named]

    return find
