"""Acting on the page in a real Chromium: messages, the queue, the palette, settings, the operator's look."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser.conftest import OpenPage
from tests.browser.readable import complaints
from tests.browser.test_page import expect_answer, say
from tests.gateways import ROOT, RunningGateway
from tests.patience import within
from tests.shared import SHARED, fresh_id, shared_gateway

LOOK: Final = f"""
[limits]
message_bytes = 200
[page]
name = "Acme"
logo_file = "{ROOT}/frontend/src/page/icon.svg"
accent = "#1a237e"
welcome = "How can Acme help?"
suggestions = ["Show me what you can do"]
links = {{ "Our help" = "https://help.example" }}
"""
LEAST_GAP: Final = """
(() => {
  const shown = [...document.querySelectorAll(".item")].filter((one) => one.offsetHeight > 0);
  return Math.min(...shown.slice(1).flatMap((next, place) => {
    const buttons = shown[place].querySelector(".message-actions")?.getBoundingClientRect();
    return buttons ? [next.getBoundingClientRect().top - buttons.bottom] : [];
  }));
})()
"""
"""How far the buttons below a message are from what comes next."""
gateway = shared_gateway(LOOK)
pytestmark = [SHARED, pytest.mark.browser]


async def choose(page: Page, name: str) -> None:
    """One of several settings that are side by side."""
    await page.locator(".segment", has=page.get_by_test_id(name)).click()


async def test_messages_are_copied_forked_recalled_and_too_long_ones_caught(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(f"{gateway.url}/#s={fresh_id('verbs')}")
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    composer = page.get_by_test_id("composer")
    await say(page, "/echo one")
    await expect_answer(page, "one")
    await say(page, "/echo two")
    await expect_answer(page, "two")

    # One's own messages come back with the arrow.
    await composer.press("ArrowUp")
    await expect(composer).to_have_value("/echo two")
    await composer.press("ArrowUp")
    await expect(composer).to_have_value("/echo one")
    await composer.press("ArrowDown")
    await composer.press("ArrowDown")
    await expect(composer).to_have_value("")

    # The keyboard alone: to the answer, to its first button.
    await page.keyboard.press("Alt+ArrowUp")
    await expect(page.locator("article.message").last).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(page.get_by_test_id("answer-copy").last).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("toast")).to_have_text("Copied")
    assert await page.evaluate("navigator.clipboard.readText()") == "two"

    # A text that is too long says so, and can be cut or attached.
    await composer.fill("x" * 260)
    notice = page.get_by_test_id("too-long")
    await expect(notice).to_contain_text("60 characters too long")
    await expect(page.get_by_test_id("send")).to_be_disabled()
    await page.get_by_test_id("shorten").click()
    await expect(composer).to_have_value("x" * 200)
    await composer.fill("y" * 260)
    await page.get_by_test_id("attach-instead").click()
    await expect(page.get_by_test_id("attachment")).to_contain_text("message.txt")
    await page.get_by_test_id("attachment-remove").click()

    # A fork goes on from the first answer.
    await page.get_by_test_id("answer-fork").first.click()
    await expect(page.get_by_test_id("forked")).to_be_visible()
    await expect(page.get_by_test_id("message-agent")).to_have_text(["one"])
    assert await page.evaluate(LEAST_GAP) >= 0


async def test_what_could_not_be_sent_survives_a_reload(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(f"{gateway.url}/#s={fresh_id('outbox')}")
    await page.route("**/api/chat", lambda route: route.abort())
    await say(page, "/echo kept")
    await expect(page.get_by_test_id("message-outgoing")).to_contain_text("/echo kept")
    await page.reload()
    await expect(page.get_by_test_id("message-outgoing")).to_contain_text("/echo kept")
    await page.unroute("**/api/chat")
    await page.reload()
    await expect_answer(page, "kept")
    await expect(page.get_by_test_id("message-user")).to_have_count(1)
    await page.reload()
    await expect(page.get_by_test_id("message-user")).to_have_count(1)


async def test_waiting_messages_are_changed_and_moved(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(f"{gateway.url}/#s={fresh_id('queue')}", width=390)
    await say(page, "/count 1000 20")
    for text in ("/echo one", "/echo two"):
        await say(page, text)
    rows = page.get_by_test_id("queued")
    await expect(rows).to_have_text(["/echo one", "/echo two"])
    await page.get_by_test_id("queue-edit").first.click()
    await page.get_by_test_id("queue-field").fill("/echo first")
    await page.get_by_test_id("queue-field").press("Enter")
    await expect(rows).to_have_text(["/echo first", "/echo two"])
    await page.get_by_test_id("queue-up").click()
    await expect(rows).to_have_text(["/echo two", "/echo first"])
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390
    await page.get_by_test_id("queue-drop-one").last.click()
    await expect(rows).to_have_text(["/echo two"])
    await page.get_by_test_id("stop").click()
    await page.get_by_test_id("queue-drop").click()
    await expect(rows).to_have_count(0)


async def test_the_settings_the_palette_and_the_welcome_fit_the_narrowest_phone(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(f"{gateway.url}/#s={fresh_id('narrow')}", width=320, height=480)
    await expect(page.get_by_test_id("welcome").get_by_test_id("logo")).to_be_in_viewport()
    assert await page.locator(".scroller").evaluate(
        "(one) => [one.scrollTop, one.scrollHeight > one.clientHeight]"
    ) == [
        0,
        True,
    ]
    await page.keyboard.press("Control+k")
    names = page.get_by_test_id("palette-choice").locator("> span")
    await expect(names.first).to_be_visible()
    assert all(await names.evaluate_all("(all) => all.map((one) => one.scrollWidth <= one.clientWidth)"))
    await page.keyboard.press("Escape")
    await page.keyboard.press("Control+,")
    panel = page.locator(".settings-panel")
    await expect(panel).to_be_visible()
    assert await panel.evaluate("(one) => one.scrollWidth - one.clientWidth") == 0


async def held_back(page: Page, code: str) -> tuple[asyncio.Event, asyncio.Event]:
    """Code that does not come before the second event is set; the first one is once it was asked for."""
    is_asked, may_come = asyncio.Event(), asyncio.Event()

    async def late(route: Route) -> None:
        is_asked.set()
        await may_come.wait()
        await route.continue_()

    await page.route(code, late)
    return is_asked, may_come


async def test_what_is_typed_before_the_palette_or_the_search_came_does_not_reach_the_message(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(f"{gateway.url}/#s={fresh_id('early')}")
    composer = page.get_by_test_id("composer")
    await say(page, "/echo one")
    await expect_answer(page, "one")
    for keys, code, field in (
        ("Control+k", "**/Palette-*.js", "palette"),
        ("Control+f", "**/FindBar-*.js", "find-field"),
    ):
        is_asked, is_typed = await held_back(page, code)
        await page.keyboard.press(keys)
        async with within(30):
            await is_asked.wait()
        await page.keyboard.type("worx")
        await page.keyboard.press("Backspace")
        await page.keyboard.type("d")
        is_typed.set()
        await expect(page.get_by_test_id(field)).to_be_focused()
        await page.keyboard.type("s")
        await expect(page.get_by_test_id(field)).to_have_value("words")
        await page.keyboard.press("Escape")
        await expect(composer).to_be_focused()
        await expect(composer).to_have_value("")


async def test_the_palette_the_settings_and_the_sheet_by_the_keyboard_alone(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(f"{gateway.url}/#s={fresh_id('palette')}")
    html = page.locator("html")
    await expect(page.get_by_test_id("composer")).to_be_focused()
    await page.keyboard.press("Control+k")
    await expect(page.get_by_test_id("palette")).to_be_focused()
    assert await complaints(page) == []
    await page.keyboard.type("dark")
    await expect(page.get_by_test_id("palette-choice")).to_have_count(1)
    await page.keyboard.press("Enter")
    await expect(html).to_have_attribute("data-theme", "dark")
    await expect(page.get_by_test_id("composer")).to_be_focused()

    await page.keyboard.press("Control+/")
    await expect(page.get_by_test_id("shortcut-sheet")).to_contain_text("Ctrl+K")
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("shortcut-sheet")).to_have_count(0)

    await page.keyboard.press("Control+,")
    await expect(page.get_by_test_id("settings")).to_be_visible()
    await choose(page, "setting-textSize-large")
    await choose(page, "setting-density-compact")
    await choose(page, "setting-enter-line")
    await page.get_by_test_id("change-shortcuts").click()
    await page.get_by_test_id("shortcut-palette").click()
    await page.keyboard.press("Control+,")
    await expect(page.get_by_test_id("shortcut-said")).to_have_text("Ctrl+, is “Settings” already.")
    await page.keyboard.press("Escape")  # leaves the shortcut alone, and the settings open
    await expect(page.get_by_test_id("shortcut-palette")).to_have_text("Ctrl+K")
    await page.get_by_test_id("shortcut-palette").click()
    await page.keyboard.press("Control+j")
    await expect(page.get_by_test_id("shortcut-palette")).to_have_text("Ctrl+J")
    await choose(page, "setting-theme-system")
    await expect(html).to_have_attribute("data-theme", "light")
    await page.get_by_test_id("setting-language").select_option("he")
    await expect(html).to_have_attribute("dir", "rtl")
    await choose(page, "setting-theme-dark")
    assert await complaints(page) == []
    await page.keyboard.press("Escape")

    await page.reload()
    await expect(html).to_have_attribute("data-text", "large")
    await expect(html).to_have_attribute("data-density", "compact")
    await page.keyboard.press("Control+j")
    await expect(page.get_by_test_id("palette")).to_be_focused()
    await page.keyboard.press("Escape")
    composer = page.get_by_test_id("composer")
    await composer.fill("/echo a")
    await composer.press("Enter")
    await expect(composer).to_have_value("/echo a\n")
    await composer.press("Control+Enter")
    await expect_answer(page, "a")

    # On a phone, in Hebrew, everything is in reach.
    await page.set_viewport_size({"width": 360, "height": 700})
    await page.get_by_test_id("open-settings").click()
    await expect(page.get_by_test_id("settings")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    assert await complaints(page) == []


async def test_the_page_has_the_operators_look(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(f"{gateway.url}/#s={fresh_id('look')}")
    await expect(page).to_have_title("Acme")
    pictures = page.get_by_test_id("logo")
    await expect(pictures).to_have_count(2)
    await expect(pictures.first).to_have_js_property("complete", True)
    assert await pictures.first.evaluate("image => image.naturalWidth") > 0
    await expect(page.locator(".brand")).to_contain_text("Acme")
    await expect(page.get_by_test_id("welcome")).to_contain_text("How can Acme help?")
    link = page.get_by_test_id("brand-links").get_by_role("link")
    await expect(link).to_have_attribute("href", "https://help.example")
    await page.get_by_test_id("composer").fill("x")
    await expect(page.get_by_test_id("send")).to_have_css("background-color", "rgb(26, 35, 126)")
    assert await complaints(page) == []
    await page.get_by_test_id("theme-toggle").click()
    await expect(page.get_by_test_id("send")).not_to_have_css("background-color", "rgb(26, 35, 126)")
    assert await complaints(page) == []


async def test_the_first_screen_plays_a_tour(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(f"{gateway.url}/#s={fresh_id('tour')}")
    await page.get_by_role("button", name="Show me what you can do").click()
    await expect(page.get_by_test_id("plan")).to_be_visible()
    await expect(page.get_by_test_id("thought")).to_be_visible()
    await page.get_by_test_id("stop").click()
    await expect(page.get_by_test_id("stop")).to_have_count(0)
