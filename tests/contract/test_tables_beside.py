"""A program without sessions that uses an application's tables on PostgreSQL, beside the gateway."""

from __future__ import annotations

import asyncio

import pytest

from gateway.apps.shop.opening import open_carts
from gateway.apps.shop.store import Bounds, CartLine, Moment, ShopKey, ShopStore
from gateway.errors import StoreFailed
from gateway.stores.opening import Options, open_store
from gateway.stores.postgresql.beside import PostgresqlTables
from tests.contract.engines import MIGRATIONS, migrated_database
from tests.postgres import connected, shared_database

ALICE = ShopKey("t", "t/alice", "c")
NOW = Moment(1_000, 2_000)


async def add(shop: ShopStore) -> int:
    line = CartLine(line="a", name="a", price=1)
    return (await shop.add(ALICE, line, NOW, bounds=Bounds())).quantity


async def test_it_shares_the_carts_of_a_gateway_and_stops_nobody() -> None:
    url = migrated_database()
    gateway = open_store(url, Options(migrations=MIGRATIONS))
    desktops = [PostgresqlTables(url, migrations=MIGRATIONS) for _ in range(2)]
    await desktops[0].open()
    await gateway.open()
    await desktops[1].open()
    shops = [open_carts(gateway.tables), *(open_carts(one.tables) for one in desktops)]
    await asyncio.gather(*(add(shop) for shop in shops for _ in range(10)))
    await desktops[0].close()
    assert await add(shops[0]) == 31
    await gateway.close()
    assert await add(shops[2]) == 32
    await desktops[1].close()


async def test_it_makes_the_tables_if_nobody_has() -> None:
    desktop = PostgresqlTables(shared_database(), migrations=MIGRATIONS)
    await desktop.open()
    assert await add(open_carts(desktop.tables)) == 1
    await desktop.close()


async def test_it_changes_no_tables_under_a_gateway() -> None:
    url = migrated_database()
    gateway = open_store(url, Options(migrations=MIGRATIONS))
    await gateway.open()
    async with connected(url) as connection:
        await connection.execute("UPDATE package_migrations SET number = 0 WHERE package = 'shop'")
    with pytest.raises(StoreFailed, match="Another gateway uses this database"):
        await PostgresqlTables(url, migrations=MIGRATIONS).open()
    await gateway.close()


async def test_a_password_is_in_no_word_of_it() -> None:
    for url in ("postgresql://u:s3cr3t@127.0.0.1:1/x", "postgresql://u:s3cr3t@[/x"):
        with pytest.raises(StoreFailed) as refused:
            await PostgresqlTables(url).open()
        assert "s3cr3t" not in f"{refused.value.message} {refused.value}"
