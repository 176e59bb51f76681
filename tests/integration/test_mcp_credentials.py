"""Carts behind credentials: keys of two tenants, visitors with and without a cookie, a session that is
deleted, and who may be counted.
"""

from __future__ import annotations

import asyncio
import pathlib
import sys
import time
from typing import Any

import aiohttp

from gateway.agents.toolsets import Caller
from gateway.apps.shop.cart import Shop
from gateway.apps.shop.catalog import SHIPPED, Catalogue
from gateway.apps.shop.settings import ShopConfig
from gateway.apps.shop.store import ShopKey
from gateway.apps.shop.store_memory import MemoryShopStore
from gateway.apps.shop.tools import ShopTools
from tests.gateways import ROOT, RunningGateway
from tests.inside import gateway_inside
from tests.mcp_clients import PRODUCT, call, post, result, said, text_of
from tests.patience import soon

RICE = PRODUCT.format(3)
KEYS = "[auth]\nmodes = ['keys']\n[tenants.acme]\n[tenants.globex]\n"


async def key(gateway: RunningGateway, tenant: str, scopes: str = "chat") -> dict[str, str]:
    """The header of a new API key."""
    command = ("-m", "gateway", "keys", "create", "tests", "--tenant", tenant, "--scopes", scopes)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command, "--data-dir", str(gateway.data_path)),
        *("--config", str(gateway.data_path.parent / "config.toml")),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await soon(process.communicate(), 30)
    (secret,) = [word for word in output.decode().split() if word.startswith("agw_")]
    return {"Authorization": f"Bearer {secret}"}


def cart_of(body: Any) -> list[tuple[str, int]]:
    return [(item["id"], item["quantity"]) for item in body["structuredContent"]["items"]]


async def test_two_tenants_with_the_same_conversation_id_share_nothing(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config=KEYS) as gateway:
        acme, globex = await key(gateway, "acme"), await key(gateway, "globex")
        meta = {"sessionId": "shared"}
        await result(gateway.http, call("add_to_cart", {"product_id": RICE}, meta=meta), **acme)
        other = call("add_to_cart", {"product_id": RICE, "quantity": 5}, meta=meta)
        await result(gateway.http, other, **globex)
        view = call("view_cart", meta=meta)
        assert cart_of(await result(gateway.http, view, **acme)) == [(RICE, 1)]
        assert cart_of(await result(gateway.http, view, **globex)) == [(RICE, 5)]
        debug = await result(gateway.http, call("debug_session", meta=meta), **acme)
        assert "**No other active sessions**" in text_of(debug)
        handle = (await result(gateway.http, call("add_to_cart", {"product_id": RICE}), **acme))["_meta"]
        stolen = call("view_cart", {"_sessionId": handle["_sessionId"]})
        assert cart_of(await result(gateway.http, stolen, **globex)) == []


async def test_nobody_shops_without_a_credential_that_allows_it(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config=KEYS) as gateway:
        reader = await key(gateway, "acme", "read")
        for headers, status in (({}, 401), ({"Authorization": "Bearer agw_wrong"}, 401), (reader, 403)):
            for message in (call("view_cart"), {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}):
                assert (await post(gateway.http, message, **headers))[0] == status


async def test_visitors_have_carts_of_their_own(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config="[auth]\nmodes = ['anonymous']\n") as gateway:
        origin = {"Origin": gateway.url}
        meta = {"sessionId": "alice"}
        add, view = call("add_to_cart", {"product_id": RICE}, meta=meta), call("view_cart", meta=meta)
        jars = [aiohttp.CookieJar(unsafe=True) for _ in range(2)]
        for jar in jars:
            async with aiohttp.ClientSession(gateway.url, cookie_jar=jar) as browser:
                await post(browser, view, **origin)
                assert cart_of(await result(browser, view, **origin)) == []
                await result(browser, add, **origin)
                assert cart_of(await result(browser, view, **origin)) == [(RICE, 1)]
        nothing = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(gateway.url, cookie_jar=nothing) as stranger:
            answer = await result(stranger, add)
            handle = answer["_meta"]["_sessionId"]
            assert "⚠️" in text_of(answer)
            assert cart_of(await result(stranger, view)) == []
            again = call("view_cart", {"_sessionId": handle})
            assert cart_of(await result(stranger, again)) == [(RICE, 1)]
            ann, ben = [
                {"openai/session": "v1/short", "openai/subject": f"v1/{who}"} for who in ("ann", "ben")
            ]
            await said(stranger, "add_to_cart", {"product_id": RICE, "quantity": 2}, meta=ann)
            assert "33.00 ₪" in await said(stranger, "view_cart", meta=ann)
            assert await said(stranger, "view_cart", meta=ben) == "העגלה ריקה 🛒"


async def test_a_deleted_session_takes_its_cart_along(gateway: RunningGateway) -> None:
    meta = {"sessionId": "doomed"}
    await said(gateway.http, "add_to_cart", {"product_id": RICE}, meta=meta)
    await gateway.chat("doomed", "/echo hello")
    assert "16.50" in await said(gateway.http, "view_cart", meta=meta)
    await gateway.delete("doomed")
    assert await said(gateway.http, "view_cart", meta=meta) == "העגלה ריקה 🛒"


async def test_who_asks_not_to_be_counted_is_not_counted() -> None:
    store = MemoryShopStore()
    catalogue = Catalogue(SHIPPED, monotonic=time.monotonic)
    shop = Shop(catalogue, store, ShopConfig(), wall_ms=lambda: 1_000)
    tools = ShopTools(shop)
    callers = [Caller(key=ShopKey("t", f"t/{number}", "c")) for number in range(6)]
    for caller in callers:
        await tools.call("add_to_cart", {"product_id": RICE}, caller)
        await store.let_count(caller.key, True)
    found = await shop.tenant_insights("t")
    assert (found.sessions, found.sessions_with["adds"], found.mean_cart_total) == (6, 6, 16.5)
    for caller in callers[:2]:
        await tools.call("view_cart", {}, Caller(key=caller.key, is_private=True))
    assert (await shop.tenant_insights("t")).sessions is None
    mine = await shop.insights(callers[0].key)
    assert mine is not None
    assert (mine.counts["adds"], mine.cart_total) == (1, 16.5)
