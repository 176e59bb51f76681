"""The shop's tables in a store, whichever engine it is."""

from __future__ import annotations

from gateway.apps.shop.store import Bounds, ShopStore
from gateway.apps.shop.store_memory import MemoryShopStore
from gateway.apps.shop.store_postgresql import PostgresqlShopStore
from gateway.apps.shop.store_sqlite import SqliteShopStore
from gateway.extension import Database, PostgresqlDatabase, Tables


def open_carts(tables: Tables, *, bounds: Bounds | None = None) -> ShopStore:
    """Carts beside the sessions: in the same database, or in memory like them."""
    if isinstance(tables, PostgresqlDatabase):
        return PostgresqlShopStore(tables, bounds=bounds)
    if isinstance(tables, Database):
        return SqliteShopStore(tables, bounds=bounds)
    return MemoryShopStore(bounds=bounds)
