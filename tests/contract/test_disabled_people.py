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


async def test_it_is_known_when_an_owner_was_last_active(store: Store) -> None:
    await store.sessions.create(record("one", at=1000))
    await store.sessions.create(record("two", at=3000))
    await store.sessions.create(record("three", owner="t/other", at=2000))
    known = {"t/s": 3000, "t/other": 2000}
    assert await store.sessions.last_used(has_visitors=False) == known
    visitors = {f"{tenant}/~{number}": 4000 + number for tenant in ("a", "t", "u") for number in range(3)}
    for owner, at in visitors.items():
        await store.sessions.create(record("visiting", owner=owner, at=at))
    await store.sessions.create(record("after visitors", owner="t/\u00e9", at=5000))
    known["t/\u00e9"] = 5000
    assert await store.sessions.last_used(has_visitors=False) == known
    assert await store.sessions.last_used(has_visitors=True) == known | visitors


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "memory"])
async def test_it_is_there_when_the_store_is_opened_again(tmp_path: pathlib.Path, name: str) -> None:
    for is_first in (True, False):
        store = ENGINES[name].made(tmp_path)
        await store.open()
        if is_first:
            await store.people.disable("acme/ann", 5)
        assert await store.people.disabled() == {"acme/ann": 5}
        await store.close()
