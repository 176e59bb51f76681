"""What every store of tenants does alike; the one in memory is the reference."""

from __future__ import annotations

import pathlib

import msgspec
import pytest

from gateway.maintenance.erasures import end_again
from gateway.stores.contract import Store
from gateway.stores.tenants import KeptTenant
from tests.contract.engines import ENGINES

ACME = KeptTenant(name="acme", title="Acme Ltd", is_made=True)
BETA = KeptTenant(name="beta", is_disabled=True)


async def test_what_is_said_last_of_a_tenant_is_kept(store: Store) -> None:
    assert await store.tenants.all() == []
    for tenant in (BETA, ACME, KeptTenant(name="beta", title="β")):
        await store.tenants.put(tenant)
    assert await store.tenants.all() == [ACME, KeptTenant(name="beta", title="β")]


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "memory"])
async def test_tenants_are_there_when_the_store_is_opened_again(tmp_path: pathlib.Path, name: str) -> None:
    for is_first in (True, False):
        store = ENGINES[name].made(tmp_path)
        await store.open()
        if is_first:
            await store.tenants.put(ACME)
            await store.tenants.put(BETA)
        assert await store.tenants.all() == [ACME, BETA]
        await store.close()


async def test_a_restore_disables_again_what_was_disabled_since(tmp_path: pathlib.Path) -> None:
    kept: dict[str, list[KeptTenant]] = {"backup": [ACME], "known": [BETA]}
    kept["known"].append(KeptTenant(name="acme", title="renamed", is_made=True, is_disabled=True))
    for place in ("backup", "known"):
        (tmp_path / place).mkdir()
        store = ENGINES["sqlite"].made(tmp_path / place)
        await store.open()
        for tenant in kept[place]:
            await store.tenants.put(tenant)
        await store.close()
    staged = tmp_path / "backup" / "gateway.db"
    done = end_again(staged, tmp_path, [tmp_path / "known" / "gateway.db"])
    assert done.tenants == 2
    store = ENGINES["sqlite"].made(tmp_path / "backup")
    await store.open()
    assert await store.tenants.all() == [msgspec.structs.replace(ACME, is_disabled=True), BETA]
    await store.close()
