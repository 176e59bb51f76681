"""The shop's widgets in a real Chromium, inside a stand-in for ChatGPT's frame that calls a real gateway."""

from __future__ import annotations

import json
import pathlib
from typing import Any, Final

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.gateways import RunningGateway
from tests.mcp_clients import PRODUCT, call, result, said
from tests.shared import SHARED, fresh_id, shared_gateway

gateway = shared_gateway()
pytestmark = [SHARED, pytest.mark.browser]

RICE, LENTILS = PRODUCT.format(3), PRODUCT.format(4)
HOSTILE: Final = '<img src=x onerror="window.stolen=1"><script>window.stolen=1</script>'

HOST: Final = """
<!doctype html><meta charset="utf-8"><title>host</title>
<iframe id="frame" sandbox="allow-scripts allow-same-origin" style="width:100%;height:90vh;border:0"></iframe>
"""
PROVIDE: Final = """async ([html, globals]) => {
    const frame = document.getElementById("frame");
    window.provide = (next) => Object.assign(frame.contentWindow.openai, next);
    await new Promise((done) => {
        const loading = frame.contentWindow;
        frame.addEventListener("load", done, {once: true});
        loading.document.open();
        const callTool = async (name, args) => JSON.parse(await window.callTool(name, JSON.stringify(args)));
        loading.openai = {...globals, callTool};
        if (globals.isSilent) delete loading.openai.callTool;
        loading.document.write(html);
        loading.document.close();
    });
}"""
CHANGE: Final = """(globals) => {
    window.provide(globals);
    const frame = document.getElementById("frame").contentWindow;
    frame.dispatchEvent(new frame.CustomEvent("openai:set_globals", {detail: {globals}}));
}"""


class Host:
    """A page that shows a widget as ChatGPT does, on behalf of one conversation."""

    def __init__(self, page: Page, gateway: RunningGateway, session_id: str) -> None:
        self.page = page
        self.gateway = gateway
        self.meta = {"openai/session": session_id}
        self.calls: list[tuple[str, Any]] = []

    async def tool(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        return await result(self.gateway.http, call(name, arguments or {}, meta=self.meta))

    async def _called(self, name: str, arguments: str) -> str:
        self.calls.append((name, json.loads(arguments)))
        return json.dumps(await self.tool(name, json.loads(arguments)))

    async def show(self, uri: str, answer: Any, **more: Any) -> None:
        """Renders a widget over a tool's answer."""
        await self.page.expose_function("callTool", self._called)
        message = {"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": uri}}
        html = (await result(self.gateway.http, message))["contents"][0]["text"]
        given = {
            "toolOutput": answer.get("structuredContent"),
            "toolResponseMetadata": answer.get("_meta"),
            "locale": "he-IL",
            **more,
        }
        await self.page.evaluate(PROVIDE, [html, given])

    @property
    def frame(self) -> Any:
        return self.page.frame_locator("#frame")


@pytest.fixture
def host_page(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "host.html"
    path.write_text(HOST)
    return path.as_uri()


async def hosted(gateway: RunningGateway, open_page: OpenPage, host_page: str) -> Host:
    return Host(await open_page(host_page, width=420), gateway, fresh_id("v1/widget"))


async def test_products_are_shown_and_put_into_the_cart(
    gateway: RunningGateway, open_page: OpenPage, host_page: str
) -> None:
    host = await hosted(gateway, open_page, host_page)
    await host.show("ui://widget/products.html", await host.tool("search_products", {"search": "אורז"}))
    items = host.frame.locator("li")
    await expect(items).to_have_count(2)
    await expect(items.nth(1)).to_contain_text('אורז יסמין 1 ק"ג')
    await expect(items.nth(1)).to_contain_text("16.5 ₪")
    assert await items.nth(1).locator("img").evaluate("(image) => image.complete && image.naturalWidth > 0")
    assert await host.frame.locator("html").get_attribute("dir") == "rtl"
    await items.nth(1).get_by_role("button").click()
    await expect(host.frame.get_by_role("status")).to_contain_text("✓ המוצר נוסף לעגלה!")
    assert host.calls == [("add_to_cart", {"product_id": RICE, "quantity": 1, "locale": "he"})]
    assert (await host.tool("view_cart"))["structuredContent"]["total"] == 16.5


async def test_what_is_out_of_stock_cannot_be_added(
    gateway: RunningGateway, open_page: OpenPage, host_page: str
) -> None:
    host = await hosted(gateway, open_page, host_page)
    answer = await host.tool("search_products", {"search": "", "in_stock": False})
    await host.show("ui://widget/products.html", answer, locale="en-US")
    await expect(host.frame.get_by_role("button", name="Out of stock").first).to_be_disabled()
    assert await host.frame.locator("html").get_attribute("dir") == "ltr"
    await expect(host.frame.locator("li").first).to_contain_text("Chia seeds")


async def test_a_name_that_contains_a_script_is_text(
    gateway: RunningGateway, open_page: OpenPage, host_page: str
) -> None:
    host = await hosted(gateway, open_page, host_page)
    product = {
        "id": HOSTILE,
        "name": HOSTILE,
        "price_formatted": HOSTILE,
        "category": HOSTILE,
        "image": "javascript:window.stolen=1",
        "is_in_stock": True,
    }
    meta = {"pictures": {HOSTILE: "data:text/html,<script>window.stolen=1</script>"}}
    await host.show(
        "ui://widget/products.html", {"structuredContent": {"products": [product]}, "_meta": meta}
    )
    await expect(host.frame.locator("h2")).to_have_text(HOSTILE)
    await expect(host.frame.locator("li img")).to_have_count(0)
    item = {**product, "quantity": 1, "price": 1, "line_total": 1}
    second = await hosted(gateway, open_page, host_page)
    answer = {"structuredContent": {"items": [item], "total": 1}, "_meta": meta}
    await second.show("ui://widget/cart.html", answer)
    await expect(second.frame.locator(".name")).to_have_text(f"{HOSTILE} × 1")
    for shown in (host, second):
        assert await shown.page.evaluate("document.getElementById('frame').contentWindow.stolen") is None


async def test_a_cart_that_changes_while_it_is_shown(
    gateway: RunningGateway, open_page: OpenPage, host_page: str
) -> None:
    host = await hosted(gateway, open_page, host_page)
    for product in (RICE, LENTILS):
        await host.tool("add_to_cart", {"product_id": product})
    await host.show("ui://widget/cart.html", await host.tool("view_cart"))
    items = host.frame.locator("li")
    await expect(items).to_have_count(2)
    await expect(host.frame.locator("footer")).to_contain_text('סה"כ לתשלום: 26.40 ₪')
    await host.tool("remove_from_cart", {"product_id": RICE})
    await host.tool("add_to_cart", {"product_id": PRODUCT.format(0)})
    await items.nth(0).get_by_role("button").click()
    await expect(host.frame.get_by_role("status")).to_have_text("❌ המוצר לא נמצא בעגלה")
    await expect(items).to_have_count(2)
    await expect(items.nth(1)).to_contain_text("קינואה לבנה")
    await said(gateway.http, "add_to_cart", {"product_id": LENTILS, "quantity": 4}, meta=host.meta)
    seen = await host.tool("view_cart")
    given = {"toolOutput": seen["structuredContent"], "toolResponseMetadata": seen["_meta"]}
    await host.page.evaluate(CHANGE, given)
    await expect(items.nth(0)).to_contain_text("× 5")
    await host.frame.get_by_role("button", name="ריקון העגלה").click()
    await expect(host.frame.locator("h1")).to_have_text("העגלה ריקה 🛒")
    await expect(items).to_have_count(0)


async def test_without_a_way_to_call_tools_a_widget_only_shows(
    gateway: RunningGateway, open_page: OpenPage, host_page: str
) -> None:
    host = await hosted(gateway, open_page, host_page)
    await host.tool("add_to_cart", {"product_id": RICE})
    await host.show("ui://widget/cart.html", await host.tool("view_cart"), isSilent=True)
    await expect(host.frame.locator("li")).to_have_count(1)
    await expect(host.frame.get_by_role("button")).to_have_count(0)
