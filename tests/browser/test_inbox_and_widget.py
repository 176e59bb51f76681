"""The widget before and after the first word, and the inbox: wide and on a phone, light and dark, in English
and in Hebrew, with what axe finds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.browser.readable import complaints, fits
from tests.browser.test_product_chat import logged_in
from tests.inside import gateway_inside
from tests.products.shop import ADMIN_CHATS, Browser, Shop, config
from tests.shared import SHARED

pytestmark = [SHARED, pytest.mark.browser]

ANSWER: Final = (
    "**Yes**, see [our page](https://shop.example/a) and `code`:\n- one\n- two <b>not bold</b>\n\n"
    "[no](javascript:window.pwned=1)"
)
CLERK: Final = {"repeat": True, "turns": [[{"say": ANSWER}]]}
TWO_FRAMES: Final = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""Until colours are on their way to others."""
PHONE: Final[dict[str, Any]] = {"width": 360, "height": 700}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    settings: dict[str, Any] = {
        "agent": "clerk",
        "greeting": "Hello! Ask about {product} ({price}).",
        "suggestions": ["Is {product} in stock?"],
        "away": "We are asleep.",
        "address_rate": 6000,
    }
    text = (
        config(**settings) + '[products.hours]\nmon = ""\n[products.answers]\nReturns = "Within 30 days."\n'
    )
    directory = tmp_path_factory.mktemp("shop")
    async with gateway_inside(directory, config=text, agents={"clerk": CLERK}) as gateway:
        yield Shop(gateway)


async def found_in_both(page: Page) -> list[str]:
    """What axe finds wrong with the page in both themes."""
    found: list[str] = []
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        await page.evaluate(TWO_FRAMES)
        found += [f"{scheme} {one}" for one in await complaints(page)]
    return found


async def chats_about(ruth: Browser, product: int) -> list[Any]:
    every = (await ruth.ask("GET", ADMIN_CHATS)).json["sessions"]
    return [one for one in every if one["product_id"] == product]


async def test_the_widget_greets_leaves_nothing_before_the_first_word_and_calls_a_person(
    shop: Shop, open_page: OpenPage
) -> None:
    page = await open_page(f"{shop.gateway.url}/demo/product?id=1")
    await expect(page.locator("#price")).to_have_text("24.90 ₪")
    await page.locator(".launcher").click()
    intro = page.locator(".intro")
    await expect(intro.locator("p")).to_have_text(
        ["Hello! Ask about Cedar birdhouse (24.90 ₪).", "We are asleep."]
    )
    async with shop.staff() as ruth:
        assert await chats_about(ruth, 1) == []
        assert await page.context.cookies() == []
        await intro.get_by_role("button", name="Is Cedar birdhouse in stock?").click()
        bubble = page.locator('.log > ol > li[data-sender="assistant"] .bubble')
        await expect(bubble.locator("strong")).to_have_text("Yes")
        await expect(bubble.locator("li")).to_have_text(["one", "two <b>not bold</b>"])
        await expect(bubble.locator("a")).to_have_attribute("href", "https://shop.example/a")
        await expect(bubble).to_contain_text("[no](javascript:window.pwned=1)")
        await expect(page.locator(".who time")).to_have_count(2)
        await expect(intro).to_be_hidden()
        await page.get_by_role("button", name="Talk to a person").click()
        await expect(page.locator('.log li[data-sender="system"]')).to_have_text("We are asleep.")
        await expect(page.locator(".notice")).to_have_text("")
        assert await found_in_both(page) == []
        [chat] = await chats_about(ruth, 1)
        assert chat["priority"] == "urgent"


async def test_the_inbox_is_worked_with_the_keyboard_and_has_answers_at_hand(
    shop: Shop, open_page: OpenPage
) -> None:
    async with shop.visitor() as visitor:
        name = await visitor.begin(2, customer_name="Dana", initial_message="Does the kettle whistle?")
        await visitor.begin(2, customer_name="Nobody who only looked")
        await visitor.until(name, lambda found: len(found) == 2, product=2)
        inbox = await logged_in(open_page, shop.gateway)
        row = inbox.locator("#chats li", has_text="Dana")
        await expect(row.locator(".last")).to_contain_text("Assistant: Yes, see our page and code")
        await expect(inbox.locator("#chats", has_text="Nobody who only looked")).to_have_count(0)
        await inbox.keyboard.press("/")
        await inbox.keyboard.type("WHISTLE")
        await expect(inbox.locator("#chats li")).to_have_count(1)
        await inbox.locator("#pane").click()
        await inbox.keyboard.press("j")
        await expect(inbox.locator("#beside")).to_contain_text("39.50 ₪")
        await expect(inbox.locator("#beside")).to_contain_text("The cart is empty.")
        await expect(inbox.locator("#log strong")).to_have_text("Yes")
        await expect(row).to_have_attribute("data-unread", "false")
        assert await found_in_both(inbox) == []
        await inbox.locator("select.canned").select_option(label="Returns")
        await expect(inbox.locator("#pane textarea")).to_have_value("Within 30 days.")
        await inbox.keyboard.press("Enter")
        await expect(inbox.locator('#log > ol > li[data-sender="admin"] p')).to_have_text("Within 30 days.")
        await expect(inbox.locator("#pane textarea")).to_have_value("")
        await expect(inbox.locator(".status")).to_have_text("ruth answers")
        await visitor.say(name, "Thanks, bye", product=2)
        await expect(inbox.locator("#log > ol > li").last).to_contain_text("Thanks, bye")
        await expect(row.locator("small")).to_contain_text("waiting for")
        await inbox.locator('.filter[data-view="mine"]').click()
        await expect(inbox.locator("#chats li")).to_have_count(1)
        await inbox.get_by_role("button", name="Sound").click()
        await expect(inbox.get_by_role("button", name="Sound")).to_have_attribute("aria-pressed", "true")


async def test_both_work_on_a_phone_from_right_to_left(shop: Shop, open_page: OpenPage) -> None:
    page = await open_page(f"{shop.gateway.url}/demo/product?id=5&lang=he", **PHONE)
    await page.locator(".launcher").click()
    await page.locator(".panel textarea").fill("שלום")
    await page.locator(".panel textarea").press("Enter")
    await expect(page.locator('.log > ol > li[data-sender="assistant"]')).to_be_visible()
    await expect(page.locator(".person")).to_have_text("לדבר עם נציג")
    assert await fits(page)
    assert await found_in_both(page) == []
    inbox = await logged_in(open_page, shop.gateway, locale="he-IL", **PHONE)
    await expect(inbox.locator("html")).to_have_attribute("dir", "rtl")
    await expect(inbox.locator("#pane")).to_be_hidden()
    assert await fits(inbox)
    words = inbox.locator("#chats li", has_text="Mechanical pencil").locator(".last > span")
    # English words keep their beginning, also behind a Hebrew name.
    assert await words.evaluate(
        "(one) => [getComputedStyle(one).direction, one.scrollWidth > one.clientWidth]"
    ) == [
        "ltr",
        True,
    ]
    await inbox.locator("#chats li button", has_text="Mechanical pencil").click()
    await expect(inbox.locator("#log > ol > li").first).to_contain_text("שלום")
    await expect(inbox.locator("#list")).to_be_hidden()
    assert await fits(inbox)
    assert await found_in_both(inbox) == []
    await inbox.locator(".back").click()
    await expect(inbox.locator("#list")).to_be_visible()
