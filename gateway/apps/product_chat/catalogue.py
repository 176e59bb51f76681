"""What can be chatted about: the products of a file, of a store of the shop, or the few that come along.

A file or store that changes is read again. One that cannot be read then changes nothing: what was known
stays, and that is said loudly.
"""

from __future__ import annotations

import asyncio
import codecs
import logging
import pathlib
import re
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from gateway.apps.product_chat.settings import SHOP_PREFIX
from gateway.apps.shop.catalog import Catalogue, decimals
from gateway.apps.shop.errors import ProductNotFound

log = logging.getLogger(__name__)

SHIPPED: Final = pathlib.Path(__file__).parent / "data" / "products.json"
CHECK_SECONDS: Final = 1.0
"""How often, at most, the file is looked at."""
_NUMBER: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,2})?")
MAX_FILE_BYTES: Final = 32 * 1024 * 1024


class ChatProduct(Struct, frozen=True):
    """A product as its visitors see it; the price is a decimal as text."""

    id: int
    name: str
    price: str = ""
    description: str = ""


class Products(Protocol):
    """Where products are looked up."""

    async def find(self, product_id: int) -> ChatProduct | None:
        """The product of this id."""


def priced(text: str) -> str:
    """A price as it is shown everywhere: a plain number like the shop's own prices, `24.90 ₪`; every other
    text as the operator wrote it.
    """
    return f"{float(text):.2f} ₪" if _NUMBER.fullmatch(text) else text


class _File(Struct):
    products: list[ChatProduct]


class FileProducts:
    """`Products` of a JSON file `{"products": [{"id", "name", "price", "description"}]}`; the ids are the
    shop's own.
    """

    def __init__(self, path: pathlib.Path, *, monotonic: Callable[[], float]) -> None:
        self._path = path
        self._monotonic = monotonic
        self._checked_at: float | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._products: dict[int, ChatProduct] = {}
        self._looking = asyncio.Lock()

    async def find(self, product_id: int) -> ChatProduct | None:
        async with self._looking:
            now = self._monotonic()
            if self._checked_at is None or now - self._checked_at >= CHECK_SECONDS:
                self._checked_at = now
                await asyncio.to_thread(self._look)
        return self._products.get(product_id)

    def _look(self) -> None:
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._products = read(self._path)
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            log.error(
                "THE PRODUCTS in %s cannot be read, %d known before stay: %s",
                self._path,
                len(self._products),
                error,
            )
            return
        log.info("%s has %d products to chat about", self._path, len(self._products))


def read(path: pathlib.Path) -> dict[int, ChatProduct]:
    """The products of a file, by id. Raises OSError, ValueError, MsgspecError."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    products = msgspec.json.decode(path.read_bytes().removeprefix(codecs.BOM_UTF8), type=_File).products
    by_id = {one.id: msgspec.structs.replace(one, price=priced(one.price)) for one in products}
    if len(by_id) < len(products):
        raise ValueError("two products have one id")
    if any(product.id < 1 or not product.name.strip() for product in products):
        raise ValueError("a product has an id from 1 on, and a name")
    return by_id


class ShopProducts:
    """`Products` of a store of the shop: number n is the n-th product of its file."""

    def __init__(self, catalogue: Catalogue, store: str) -> None:
        self._catalogue = catalogue
        self._store = store

    async def find(self, product_id: int) -> ChatProduct | None:
        await self._catalogue.refresh()
        try:
            found = self._catalogue.product(f"{self._store}:{product_id - 1}")
        except ProductNotFound:
            return None
        return ChatProduct(product_id, found.name, priced(decimals(found.price)), found.category)


def products_of(setting: str, shop: Catalogue | None, *, monotonic: Callable[[], float]) -> Products:
    """The products that `products.catalogue` names. Those of the shop need it to run."""
    if setting.startswith(SHOP_PREFIX) and shop is not None:
        return ShopProducts(shop, setting.removeprefix(SHOP_PREFIX))
    path = pathlib.Path(setting).expanduser() if setting else SHIPPED
    return FileProducts(path, monotonic=monotonic)
