"""What is sold: stores, each a folder `NAME/data/products.json`, read once and again when a file changes.

A product's id is `store:index`, its place in the file. A file that is missing or broken when it is read again
changes nothing: what was known stays, and that is said loudly. Money is whole agorot from here on.
"""

from __future__ import annotations

import asyncio
import base64
import codecs
import logging
import pathlib
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from gateway.apps.shop.errors import ProductNotFound

log = logging.getLogger(__name__)

SHIPPED: Final = pathlib.Path(__file__).parent / "data" / "stores"
"""The catalogue that comes with the gateway."""
CHECK_SECONDS: Final = 1.0
"""How often, at most, the files are looked at."""
MAX_FILE_BYTES: Final = 32 * 1024 * 1024
MAX_PICTURE_BYTES: Final = 4 * 1024
MAX_PRICE: Final = 100_000_000
"""A million ₪, in agorot: so that no cart's total comes near what a number of JSON holds exactly."""

_STORE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_PRODUCT_ID: Final = re.compile(r"([a-z0-9][a-z0-9-]{0,63}):(0|[1-9][0-9]{0,6})")
_PICTURE: Final = re.compile(r"images/([a-z0-9][a-z0-9-]{0,63}\.svg)")


class Product(Struct, frozen=True, kw_only=True):
    """Something that is sold. `price` is in agorot."""

    id: str
    name: str
    name_en: str
    price: int
    category: str
    category_en: str
    url: str
    image: str
    """An address: below /shop/images/ for the pictures that come with a store."""
    picture: str = ""
    """The same as a `data:` address, for a widget that may load nothing; empty for pictures elsewhere."""
    is_purchasable: bool = True
    is_in_stock: bool = True
    has_options: bool = False
    product_type: str = "simple"


class Query(Struct, frozen=True, kw_only=True):
    """What is searched. Prices are in agorot."""

    text: str = ""
    store: str = ""
    """By its folder's name or by the name that is shown; empty: all of them."""
    category: str | None = None
    low: int | None = None
    high: int | None = None
    is_in_stock: bool | None = None
    page: int = 1
    page_size: int = 12


class ProductPage(Struct, frozen=True, kw_only=True):
    """One page of what was found."""

    products: tuple[Product, ...]
    total: int
    page: int
    page_size: int

    @property
    def pages(self) -> int:
        """How many pages there are; none if nothing was found."""
        return -(-self.total // self.page_size)


class _Entry(Struct, kw_only=True):
    """A product as the file has it."""

    name: str
    price: Decimal
    category: str
    url: str = ""
    image: str = ""
    name_en: str = ""
    category_en: str = ""
    is_purchasable: bool = True
    is_in_stock: bool = True
    has_options: bool = False
    product_type: str = "simple"


class _File(Struct, kw_only=True, rename="camel"):
    products: list[_Entry] = field(default_factory=list)


Stamp = tuple[int, int, int]


class Catalogue:
    """The stores below a folder."""

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        monotonic: Callable[[], float],
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self._directory = directory
        self._monotonic = monotonic
        self._check_seconds = check_seconds
        self._checked_at: float | None = None
        self._looking = asyncio.Lock()
        self._stamps: dict[str, Stamp | None] = {}
        self._stores: dict[str, tuple[Product, ...]] = {}
        self._was_missed = False
        self.version = 0
        """Grows with every change: what was answered by an older catalogue is old."""

    async def refresh(self) -> None:
        """Reads what changed since the last look. Only the first look is waited for by everybody: while a
        later one reads, the others go on with what is known.
        """
        if self._is_fresh() or (self._checked_at is not None and self._looking.locked()):
            return
        async with self._looking:
            if not self._is_fresh():
                await self._look()
                self._checked_at = self._monotonic()

    def _is_fresh(self) -> bool:
        checked_at = self._checked_at
        return checked_at is not None and self._monotonic() - checked_at < self._check_seconds

    async def _look(self) -> None:
        stamps = await asyncio.to_thread(_stamps, self._directory)
        for store in sorted(stamps.keys() | self._stores.keys() | self._stamps.keys()):
            stamp = stamps.get(store)
            if store not in self._stamps or self._stamps[store] != stamp:
                self._stamps[store] = stamp
                await self._read(store)
        if not self._stamps and not self._was_missed:
            self._was_missed = True
            log.error("THERE IS NO CATALOGUE in %s: the shop sells nothing", self._directory)

    async def _read(self, store: str) -> None:
        try:
            products = await asyncio.to_thread(load, self._directory / store, store)
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            kept = len(self._stores.get(store, ()))
            log.error(
                "THE CATALOGUE of %s cannot be read, %d products known before stay: %s", store, kept, error
            )
            return
        self._stores[store] = products
        self.version += 1
        log.info("the catalogue of %s has %d products", store, len(products))

    def stores(self) -> list[tuple[str, int]]:
        """Every store with the number of its products."""
        return [(store, len(products)) for store, products in sorted(self._stores.items())]

    def product(self, product_id: str) -> Product:
        """Raises ProductNotFound; an id of another form is the id of nothing."""
        match = _PRODUCT_ID.fullmatch(product_id)
        products = self._stores.get(match[1], ()) if match else ()
        if match is None or int(match[2]) >= len(products):
            raise ProductNotFound
        return products[int(match[2])]

    def all(self) -> Sequence[Product]:
        """Every product, store by store."""
        return [product for _, products in sorted(self._stores.items()) for product in products]

    def search(self, query: Query) -> ProductPage:
        """What fits, in the catalogue's order: the text in either name, in whatever case."""
        found = [product for product in self.all() if _fits(product, query)]
        start = (query.page - 1) * query.page_size
        return ProductPage(
            products=tuple(found[start : start + query.page_size]),
            total=len(found),
            page=query.page,
            page_size=query.page_size,
        )

    def picture(self, store: str, name: str) -> bytes | None:
        """One of the pictures that come with a store."""
        address = _address(store, name)
        for product in self._stores.get(store, ()):
            if product.image == address and product.picture:
                return base64.b64decode(product.picture.partition(",")[2])
        return None


def _fits(product: Product, query: Query) -> bool:
    text, category = query.text.strip().casefold(), (query.category or "").strip().casefold()
    store = "-".join(query.store.casefold().split())
    return (
        (not store or store == product.id.partition(":")[0])
        and (text in product.name.casefold() or text in product.name_en.casefold())
        and (not category or category in (product.category.casefold(), product.category_en.casefold()))
        and (query.low is None or product.price >= query.low)
        and (query.high is None or product.price <= query.high)
        and (query.is_in_stock is None or product.is_in_stock == query.is_in_stock)
    )


def _stamps(directory: pathlib.Path) -> dict[str, Stamp | None]:
    found: dict[str, Stamp | None] = {}
    for path in directory.glob("*/data/products.json"):
        store = path.parent.parent.name
        if not _STORE.fullmatch(store):
            continue
        try:
            stat = path.stat()
        except OSError:
            found[store] = None
        else:
            found[store] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return found


def load(folder: pathlib.Path, store: str) -> tuple[Product, ...]:
    """The products of one store. Raises OSError, ValueError, MsgspecError."""
    path = folder / "data" / "products.json"
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    entries = msgspec.json.decode(path.read_bytes().removeprefix(codecs.BOM_UTF8), type=_File).products
    return tuple(_product(folder, store, index, entry) for index, entry in enumerate(entries))


def _product(folder: pathlib.Path, store: str, index: int, entry: _Entry) -> Product:
    minor = entry.price * 100
    if not entry.name.strip() or not minor.is_finite() or minor != minor.to_integral_value():
        raise ValueError(f"product {index}: a name, and a price with at most two decimals")
    if not 0 <= minor <= MAX_PRICE:
        raise ValueError(f"product {index}: a price from 0 to {MAX_PRICE // 100}")
    image, picture = _picture(folder, store, entry.image)
    copied: dict[str, Any] = {
        name: getattr(entry, name)
        for name in entry.__struct_fields__
        if name not in {"price", "image", "name_en", "category_en"}
    }
    return Product(
        id=f"{store}:{index}",
        price=int(minor),
        image=image,
        picture=picture,
        name_en=entry.name_en or entry.name,
        category_en=entry.category_en or entry.category,
        **copied,
    )


def _picture(folder: pathlib.Path, store: str, image: str) -> tuple[str, str]:
    match = _PICTURE.fullmatch(image)
    if match is None:
        return (image if image.startswith(("https://", "http://")) else ""), ""
    path = folder / "images" / match[1]
    if path.stat().st_size > MAX_PICTURE_BYTES:
        raise ValueError(f"{path} is larger than {MAX_PICTURE_BYTES} bytes")
    coded = base64.b64encode(path.read_bytes()).decode()
    return _address(store, match[1]), f"data:image/svg+xml;base64,{coded}"


def _address(store: str, name: str) -> str:
    return f"/shop/images/{store}/{name}"


def formatted(agorot: int) -> str:
    """As a shop writes a price: `9.9 ₪`."""
    whole, cents = divmod(agorot, 100)
    text = f"{whole}.{cents:02}".rstrip("0").rstrip(".") if cents else str(whole)
    return f"{text} ₪"


def decimals(agorot: int) -> str:
    """With two decimals: `9.90`."""
    return f"{agorot // 100}.{agorot % 100:02}"


def number(agorot: int) -> float:
    """For JSON, whose numbers are decimal text: nothing is ever computed with it."""
    return agorot / 100
