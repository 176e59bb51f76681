"""Finding products for a question: a contract, and a full-text index that keeps it.

The index is SQLite's FTS5, in memory, built when first asked and again when the catalogue changes. A store of
vectors takes its place by keeping the contract.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from typing import Final, Literal, Protocol

from msgspec import Struct

from gateway.apps.shop.catalog import Catalogue, Product
from gateway.apps.shop.search_words import TOKENIZER, any_of, search_words

Quality = Literal["none", "medium", "high"]
"""high: a word of the question is in a product's name; medium: only in a category."""


class Found(Struct, frozen=True):
    """What fits a question, the best first."""

    products: tuple[Product, ...] = ()
    quality: Quality = "none"


class Retriever(Protocol):
    """Finds products for a question in words."""

    async def find(self, question: str, *, limit: int) -> Found:
        """The products that fit best."""

    def close(self) -> None:
        """Lets go of what it holds."""


class FullText:
    """`Retriever` over the words of names and categories, in both languages."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._lock = threading.Lock()
        self._index: sqlite3.Connection | None = None
        self._version = -1

    async def find(self, question: str, *, limit: int) -> Found:
        words = search_words(question)
        if not words:
            return Found()
        await self._catalogue.refresh()
        version, products = self._catalogue.version, self._catalogue.all()
        return await asyncio.to_thread(self._find, words, limit, version, products)

    def close(self) -> None:
        with self._lock:
            if self._index is not None:
                self._index.close()
                self._index = None

    def _find(self, words: list[str], limit: int, version: int, products: Sequence[Product]) -> Found:
        with self._lock:
            if self._index is None or self._version != version:
                self._build(version, products)
            assert self._index is not None  # noqa: S101 - it was built above
            rows = self._index.execute(_FIND, (any_of(words), limit)).fetchall()
            named = self._index.execute(_IS_NAMED, (f"{{name name_en}} : ({any_of(words)})",)).fetchone()
        known = {product.id: product for product in products}
        found = tuple(known[product_id] for (product_id,) in rows if product_id in known)
        return Found(found, "none" if not found else "high" if named else "medium")

    def _build(self, version: int, products: Sequence[Product]) -> None:
        if self._index is not None:
            self._index.close()
        self._index = sqlite3.connect(":memory:", check_same_thread=False)
        self._index.execute(_TABLE)
        self._index.executemany(
            "INSERT INTO products VALUES (?, ?, ?, ?, ?)",
            [(p.id, p.name, p.name_en, p.category, p.category_en) for p in products],
        )
        self._version = version


_TABLE: Final = (
    "CREATE VIRTUAL TABLE products USING fts5"
    f" (id UNINDEXED, name, name_en, category, category_en, tokenize = '{TOKENIZER}')"
)
_FIND: Final = (
    "SELECT id FROM products WHERE products MATCH ? ORDER BY bm25(products, 0, 4, 4, 1, 1), rowid LIMIT ?"
)
_IS_NAMED: Final = "SELECT 1 FROM products WHERE products MATCH ? LIMIT 1"
