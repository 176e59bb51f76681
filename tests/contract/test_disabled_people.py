"""What every store of people does alike; the one in memory is the reference."""

from __future__ import annotations

import pathlib

import pytest

from gateway.stores.contract import Store
from tests.contract.engines import ENGINES, record


async def test_who_is_disabled_is_kept_with_the_time_of_the_first_call(store: Store) -> None:
    await store.people.disable("acme/ann", 5)
    await store.people.disable("acme/ann", 9)
    await store.people.disable("acme/bob|x/y", 7)
    assert await store.people.disabled() == {"acme/ann": 5, "acme/bob|x/y": 7}


async def test_enabling_forgets_it_and_nothing_else(store: Store) -> None:
    await store.people.disable("acme/ann", 5)
    await store.people.disable("acme/bob", 6)
    for _ in range(2):
        await store.people.enable("acme/ann")
        assert await store.people.disabled() == {"acme/bob": 6}
    await store.people.disable("acme/ann", 8)
    assert (await store.people.disabled())["acme/ann"] == 8


async def test_totals_say_when_an_owner_was_last_active(store: Store) -> None:
    await store.sessions.create(record("one", at=1000))
    await store.sessions.create(record("two", at=3000))
    await store.sessions.create(record("three", owner="t/other", at=2000))
    totals = await store.sessions.totals()
    assert {owner: total.last_active_at for owner, total in totals.items()} == {"t/s": 3000, "t/other": 2000}


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "memory"])
async def test_it_is_there_when_the_store_is_opened_again(tmp_path: pathlib.Path, name: str) -> None:
    for is_first in (True, False):
        store = ENGINES[name].made(tmp_path)
        await store.open()
        if is_first:
            await store.people.disable("acme/ann", 5)
        assert await store.people.disabled() == {"acme/ann": 5}
        await store.close()
