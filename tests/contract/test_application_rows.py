"""Rows of applications on every engine: of one that is switched off, and of the example in examples/notes."""

from __future__ import annotations

import importlib
import pathlib
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from gateway.apps.shop.keeping import Keeper
from gateway.apps.shop.opening import open_carts
from gateway.apps.shop.store import Bounds, CartLine, Moment, ShopKey
from gateway.errors import StoreFailed
from gateway.extension import MemoryTables
from gateway.sessions.observers import keepers
from gateway.stores.contract import Store
from gateway.stores.migrations import Migrations
from gateway.stores.opening import Options, open_store
from tests.contract.engines import MIGRATIONS
from tests.gateways import ROOT
from tests.postgres import shared_database

EXAMPLE: Final = ROOT / "examples" / "notes"
ALICE: Final = ShopKey("t", "t/alice", "c")
BOB: Final = ShopKey("t", "t/bob", "d")


async def test_what_is_switched_off_has_its_rows_looked_after(store: Store) -> None:
    carts = open_carts(store.tables)
    await carts.add(ALICE, CartLine(line="a", name="a", price=1), Moment(1, 9), bounds=Bounds())
    found = await keepers(store.tables, running=("product_chat",))
    assert [type(one) for one in found] == ([] if isinstance(store.tables, MemoryTables) else [Keeper])
    for keeper in found:
        await keeper.moved(ALICE, BOB)
        assert (await carts.cart(BOB, at=2)).quantity == 1
        await keeper.erased(BOB, reason="deleted")
        assert (await carts.cart(BOB, at=2)).quantity == 0
    assert await keepers(store.tables, running=("product_chat", "shop")) == []


@pytest_asyncio.fixture(params=["memory", "sqlite", "postgresql"])
async def example(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> AsyncIterator[Store]:
    """A store with the example's tables, too."""
    migrations = [*MIGRATIONS, Migrations("notes", EXAMPLE / "agent_gateway_notes" / "migrations")]
    urls = {"memory": "memory:", "sqlite": f"sqlite:///{tmp_path}/gateway.db"}
    url = urls[request.param] if request.param in urls else shared_database()
    made = open_store(url, Options(migrations=migrations))
    await made.open()
    yield made
    await made.close()


async def test_an_application_without_tables_for_postgresql_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "0001_other.sql").write_text("CREATE TABLE other (id INTEGER) STRICT;")
    store = open_store(shared_database(), Options(migrations=[Migrations("other", tmp_path)]))
    with pytest.raises(StoreFailed, match="The application other has no tables for PostgreSQL"):
        await store.open()


async def test_the_example_keeps_notes(example: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(EXAMPLE), *sys.path])
    stores: Any = importlib.import_module("agent_gateway_notes.store")
    refusal: Any = importlib.import_module("agent_gateway_notes.errors").TooManyNotes
    notes = stores.keep(example.tables)
    for text in ("one", "two"):
        added = await notes.add(ALICE, text, at=5, most=2)
        assert (added.created_at, added.text) == (5, text)
    with pytest.raises(refusal):
        await notes.add(ALICE, "three", at=5, most=2)
    assert [note.text for note in await notes.all(ALICE)] == ["one", "two"]
    await notes.moved(ALICE, BOB)
    assert await notes.all(ALICE) == []
    assert [note.text for note in await notes.all(BOB)] == ["one", "two"]
    await notes.erased(BOB, reason="deleted")
    assert await notes.all(BOB) == []
