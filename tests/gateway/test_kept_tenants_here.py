"""Tenants that are made and disabled while the gateway runs, through its routes."""

from __future__ import annotations

import pathlib

import pytest

from gateway.client import Refused
from tests.inside import GatewayInside, gateway_inside
from tests.shared import ask

CONFIG = """
[auth]
modes = ["keys"]
[tenants.acme]
title = "Acme"
[tenants.acme.quota]
messages_per_day = 9
"""
DISABLED = "[tenants.shut]\nis_disabled = true\n"


async def says(gateway: GatewayInside, key: str) -> int:
    async with gateway.caller(key) as caller:
        return (await ask(caller, "POST", "/api/chat?wait=240", {"message": "/echo hi"})).status


async def test_a_tenant_is_made_disabled_and_enabled_over_reload_and_restart(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config=CONFIG + DISABLED) as gateway, gateway.operator() as operator:
        made = await operator.make_tenant("new-one", title="New")
        assert (made.name, made.title, made.is_disabled) == ("new-one", "New", False)
        keys = {name: await gateway.mint("ann", tenant=name) for name in ("new-one", "acme")}
        assert [await says(gateway, key) for key in keys.values()] == [200, 200]
        for name, key in keys.items():
            assert (await operator.disable_tenant(name)).is_disabled
            assert await says(gateway, key) == 403
        await operator.reload()
        assert [await says(gateway, key) for key in keys.values()] == [403, 403]
        await operator.enable_tenant("acme")
        assert await says(gateway, keys["acme"]) == 200
        for bad in ("new-one", "acme", "default", "Upper", "a/b", "../x", ""):
            with pytest.raises(Refused) as refused:
                await operator.make_tenant(bad)
            assert refused.value.status == 422, bad
        with pytest.raises(Refused) as refused:
            await operator.disable_tenant("nobody")
        assert (refused.value.status, refused.value.code) == (404, "tenant_not_found")
        for call in (operator.disable_tenant("default"), operator.enable_tenant("shut")):
            with pytest.raises(Refused) as refused:
                await call
            assert refused.value.status == 403
    async with gateway_inside(tmp_path, config=CONFIG) as gateway, gateway.operator() as operator:
        kept = {one.name: one for one in await operator.tenants()}
        assert (kept["new-one"].title, kept["new-one"].is_disabled) == ("New", True)
        assert (kept["acme"].title, kept["acme"].is_disabled) == ("Acme", False)
        assert [limit.name for limit in kept["acme"].limits] == ["messages_per_day"], "its own quota holds"
        assert await says(gateway, keys["new-one"]) == 403
        await operator.enable_tenant("new-one")
        assert await says(gateway, keys["new-one"]) == 200
        audit = (gateway.data_path / "audit.jsonl").read_text()
        for action in ("tenant.made", "tenant.disabled", "tenant.enabled"):
            assert action in audit


async def test_administrators_of_a_tenant_make_and_disable_none(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config=CONFIG) as gateway:
        async with gateway.caller(await gateway.mint("theirs", tenant="acme", scopes=("admin",))) as caller:
            for path, body in (("", {"name": "mine"}), ("/acme/disable", None), ("/acme/enable", None)):
                assert (await ask(caller, "POST", f"/api/admin/tenants{path}", body)).status == 403
