"""What can be chatted about: the contract, and the few products that come with the gateway."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
from msgspec import Struct

SHIPPED: Final = pathlib.Path(__file__).parent / "data" / "products.json"


class Product(Struct, frozen=True):
    """A product as its visitors see it; the price is a decimal as text."""

    id: int
    name: str
    price: str = ""
    description: str = ""


class Products(Protocol):
    """Where products are looked up."""

    def find(self, product_id: int) -> Product | None:
        """The product of this id."""

    def all(self) -> Sequence[Product]:
        """Every product, by id."""


class _File(Struct):
    products: list[Product]


class FileProducts:
    """`Products` of a JSON file `{"products": [{"id", "name", "price", "description"}]}`."""

    def __init__(self, path: pathlib.Path = SHIPPED) -> None:
        read = msgspec.json.decode(path.read_bytes(), type=_File).products
        self._products = {product.id: product for product in sorted(read, key=lambda product: product.id)}

    def find(self, product_id: int) -> Product | None:
        return self._products.get(product_id)

    def all(self) -> Sequence[Product]:
        return list(self._products.values())
