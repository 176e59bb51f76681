"""The shop beside the chat, in a real Chromium: one cart, whoever changes it."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.browser.conftest import OpenPage
from tests.gateways import RunningGateway
from tests.mcp_clients import PRODUCT, cart, said
from tests.shared import SHARED, fresh_id, shared_gateway

gateway = shared_gateway('default_agent = "shop"\n')
pytestmark = [SHARED, pytest.mark.browser]


async def test_the_cart_is_one_whoever_changes_it(gateway: RunningGateway, open_page: OpenPage) -> None:
    session_id = fresh_id("shop")
    address = f"{gateway.url}/#s={session_id}"
    first, second = await open_page(address), await open_page(address)
    for page in (first, second):
        await page.get_by_test_id("open-shop").click()
        await expect(page.get_by_test_id("shop-cart")).to_be_empty()
    products = first.get_by_test_id("shop-products").get_by_role("listitem")
    await expect(products).to_have_count(12)
    await first.get_by_role("button", name="More products").click()
    await expect(products).to_have_count(24)
    await first.get_by_test_id("shop-search").fill("quinoa")
    await expect(products).to_have_count(2)
    picture = products.first.locator("img")
    await expect(picture).to_have_js_property("complete", True)
    assert await picture.evaluate("image => image.naturalWidth") > 0

    await products.first.get_by_role("button").click()
    for page in (first, second):
        await expect(page.get_by_test_id("shop-cart").get_by_role("listitem")).to_have_count(1)
        await expect(page.get_by_test_id("cart-items")).to_have_text("1")

    await first.get_by_test_id("composer").fill("add 3 jasmine rice")
    await first.get_by_test_id("composer").press("Enter")
    for page in (first, second):
        await expect(page.get_by_test_id("shop-cart")).to_contain_text(re.compile("rice", re.IGNORECASE))
        await expect(page.get_by_test_id("cart-items")).to_have_text("4")
    assert sorted(line["quantity"] for line in (await cart(gateway.http, session_id))["items"]) == [1, 3]

    meta = {"sessionId": session_id}
    await said(gateway.http, "add_to_cart", {"product_id": PRODUCT.format(7), "quantity": 2}, meta=meta)
    await expect(second.get_by_test_id("cart-items")).to_have_text("6")

    await second.get_by_test_id("shop-cart").get_by_role("button").first.click()
    await expect(first.get_by_test_id("shop-cart").get_by_role("listitem")).to_have_count(2)
    await second.get_by_role("button", name="Empty the cart").click()
    await expect(first.get_by_test_id("shop-cart")).to_be_empty()
    assert (await cart(gateway.http, session_id))["items"] == []


async def test_preferences_and_figures_of_the_session(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(f"{gateway.url}/#s={fresh_id('figures')}")
    await page.get_by_test_id("open-shop").click()
    await page.get_by_label("What", exact=True).fill("diet")
    await page.get_by_label("How", exact=True).fill("<b>vegan</b>")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_test_id("shop-preferences")).to_contain_text("diet<b>vegan</b>")
    await page.get_by_test_id("composer").fill("show me quinoa")
    await page.get_by_test_id("composer").press("Enter")
    await expect(page.get_by_test_id("shop-insights")).to_contain_text("Messages2")
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("shop")).to_have_count(0)


async def test_a_conversation_that_does_not_shop_shows_no_cart_until_it_has_one(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    session_id = fresh_id("no-shop")
    await gateway.send(session_id, "/echo hello", agent="built-in")
    page = await open_page(f"{gateway.url}/#s={session_id}")
    await expect(page.get_by_test_id("message-agent")).to_contain_text("hello")
    await expect(page.get_by_test_id("open-shop")).to_have_count(0)
    item = {"product_id": PRODUCT.format(7), "quantity": 2}
    await said(gateway.http, "add_to_cart", item, meta={"sessionId": session_id})
    await expect(page.get_by_test_id("cart-items")).to_have_text("2")
