"""What the shop adds to a gateway: its tools, the pictures of its products, and a cart that follows its
session.
"""

from __future__ import annotations

import pathlib
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.apps.shop.cart import Shop, bounds_of
from gateway.apps.shop.catalog import SHIPPED, Catalogue, decimals
from gateway.apps.shop.facts import CartChanged
from gateway.apps.shop.keeping import Keeper
from gateway.apps.shop.opening import open_carts
from gateway.apps.shop.settings import ShopConfig
from gateway.apps.shop.store import Cart
from gateway.apps.shop.tools import ShopTools
from gateway.errors import RouteNotFound
from gateway.extension import Context, ConversationKey, Faces

PICTURE_SECONDS: Final = 3_600


def open_shop(context: Context) -> Faces:
    """The shop over the gateway's store: in the same database, or in memory like it."""
    settings = context.settings(ShopConfig)
    directory = pathlib.Path(settings.stores_dir).expanduser() if settings.stores_dir else SHIPPED
    store = open_carts(context.tables, bounds=bounds_of(settings))

    def tell(key: ConversationKey, cart: Cart) -> None:
        fact = CartChanged(len(cart.lines), cart.quantity, decimals(cart.total))
        context.sessions.note_aside(key, fact)

    shop = Shop(
        Catalogue(directory, monotonic=context.monotonic),
        store,
        settings,
        wall_ms=context.wall_ms,
        on_change=tell,
        base_path=lambda: context.config().server.base_path,
    )
    pictures = Pictures(shop.catalogue)
    return Faces(
        routes=(Route("/shop/images/{store}/{name}", pictures.show, methods=["GET"], name="picture"),),
        toolsets=(ShopTools(shop),),
        observers=(Keeper(store),),
        public=shop,
    )


class Pictures:
    """The pictures that come with the products of a store."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    async def show(self, request: Request) -> Response:
        """`GET /shop/images/{store}/{name}`."""
        await self._catalogue.refresh()
        found = self._catalogue.picture(request.path_params["store"], request.path_params["name"])
        if found is None:
            raise RouteNotFound
        return Response(
            found,
            media_type="image/svg+xml",
            headers={"Cache-Control": f"public, max-age={PICTURE_SECONDS}"},
        )
