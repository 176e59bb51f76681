"""Finding conversations again, filing them, and what says that something waits, in a real Chromium."""

from __future__ import annotations

from typing import Any, Final

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import OpenPage
from tests.browser.readable import complaints, fits
from tests.browser.test_page import HIDE
from tests.browser.test_permission_card import PHONE
from tests.inside import GatewayInside
from tests.shared import SHARED, eventually, fresh_id, shared_gateway

SAYS: Final[Any] = {"repeat": True, "turns": [[{"say": "$PROMPT, said the agent"}]]}
gateway = shared_gateway(agents={"says": SAYS, "asking": "asks_permission"})
pytestmark = [SHARED, pytest.mark.browser]


async def session(gateway: GatewayInside, *messages: str, agent: str = "says") -> str:
    name = fresh_id("find")
    await gateway.post("/api/sessions", {"session_id": name, "agent": agent}, status=201)
    for message in messages:
        await gateway.chat(name, message)
    return name


def row(page: Page, name: str) -> Any:
    return page.locator(f'[data-testid="session-item"][data-session-id="{name}"]')


async def from_menu(page: Page, name: str, item: str) -> None:
    await row(page, name).hover()
    await row(page, name).get_by_test_id("session-menu").click()
    await row(page, name).get_by_test_id(item).click()


async def test_a_message_far_up_in_another_conversation_is_found_and_shown(
    gateway: GatewayInside, open_page: OpenPage
) -> None:
    long = ["the first needle 雨伞", *(f"line {number}\n\n" + "more\n\n" * 12 for number in range(30))]
    name, other = await session(gateway, *long), await session(gateway, "nothing here")
    page = await open_page(f"{gateway.url}/#s={other}")
    await page.get_by_test_id("find-open").click()
    await page.get_by_test_id("find-field").press_sequentially("NEEDLE 雨")
    hits = page.get_by_test_id("find-hit")
    await expect(hits).to_have_count(3)  # the title, the question, the answer
    await expect(hits.nth(1).locator("mark")).to_have_text(["needle", "雨"])
    assert await complaints(page) == []
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    found = page.locator(".item.is-found")
    await expect(found).to_contain_text("the first needle")
    await expect(found).to_be_in_viewport()
    await expect(row(page, name)).to_have_class("session is-current ")
    await page.get_by_test_id("find-field").fill("no such word anywhere")
    await expect(page.get_by_test_id("find-status")).to_have_text("Nothing was found.")
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("find-open")).to_be_focused()


async def test_conversations_are_pinned_tagged_and_archived_and_it_follows_to_another_device(
    gateway: GatewayInside, open_page: OpenPage
) -> None:
    name, other = await session(gateway, "to be filed"), await session(gateway, "on screen")
    page = await open_page(f"{gateway.url}/#s={other}")
    await expect(row(page, name)).to_contain_text("new")
    await expect(row(page, other)).not_to_contain_text("new")
    await from_menu(page, name, "pin")
    await expect(page.locator("section", has=page.get_by_role("heading", name="Pinned"))).to_contain_text(
        "filed"
    )
    await from_menu(page, name, "tags")
    await page.get_by_test_id("tags-field").fill("home, two  words,home")
    assert await complaints(page) == []
    await page.get_by_test_id("tags-save").click()
    await row(page, name).get_by_role("button").first.click()
    await expect(page.get_by_test_id("message-agent")).to_contain_text("said the agent")
    await page.get_by_test_id("new-session").click()
    await expect(row(page, name)).not_to_contain_text("new")
    await from_menu(page, name, "archive")
    await expect(row(page, name)).to_have_count(0)

    phone = await open_page(f"{gateway.url}/#s={other}", locale="he-IL", **PHONE)
    await phone.evaluate("document.documentElement.dataset.theme = 'dark'")
    await phone.get_by_test_id("open-sessions").click()
    await expect(row(phone, other)).to_be_visible()
    await expect(row(phone, name)).to_have_count(0)
    await phone.get_by_test_id("find-open").click()
    tags = phone.get_by_test_id("find-tag")
    await expect(tags).to_have_text(["home", "two words", "בארכיון"])
    await tags.last.click()
    await expect(phone.get_by_test_id("find-row")).to_contain_text("to be filed")
    assert await complaints(phone) == []
    await phone.get_by_test_id("find-field").fill("filed")
    await expect(phone.get_by_test_id("find-hit").first).to_be_visible()
    assert await fits(phone)
    assert await complaints(phone) == []
    await phone.get_by_test_id("find-hit").last.click()
    await expect(phone.locator(".item.is-found")).to_contain_text("to be filed")


NOTED: Final = """
window.noted = [];
window.Notification = class { constructor(title, more) { noted.push([title, more.body]); } };
Notification.permission = "granted";
localStorage.setItem("agw.notify", "true");
"""


async def test_of_seven_tabs_one_tells_that_something_waits_and_an_answer_is_in_all(
    gateway: GatewayInside, browser: Browser
) -> None:
    """Tabs out of sight give their connections back, of which a browser has six."""
    name = await session(gateway, agent="asking")
    async with gateway.http.patch(f"/api/sessions/{name}", json={"title": "delete it"}) as renamed:
        assert renamed.status == 200  # so that each tab knows it, whoever tells
    context = await browser.new_context()
    try:
        await context.add_init_script(NOTED)
        tabs = []
        for _ in range(7):
            page = await context.new_page()
            await page.goto(f"{gateway.url}/#s={name}")
            await expect(page.get_by_test_id("composer")).to_be_visible()
            tabs.append(page)
            await expect(row(page, name)).to_have_count(1)
            if len(tabs) < 7:
                await page.evaluate(HIDE, True)
        first, last = tabs[0], tabs[-1]
        await last.get_by_test_id("composer").fill("delete it")
        await last.evaluate(HIDE, True)
        await last.get_by_test_id("composer").press("Enter")
        await expect(last.get_by_test_id("permission")).to_be_visible()
        await expect(last).to_have_title("(1) delete it · Agent Gateway")
        assert "waiting" in str(await last.locator("link[rel=icon]").get_attribute("href"))

        async def noted() -> list[Any]:
            return [note for tab in tabs for note in await tab.evaluate("noted")]

        async def is_noted() -> bool:
            return bool(await noted())

        await eventually(is_noted)
        await first.evaluate(HIDE, False)
        await first.bring_to_front()
        await expect(first.get_by_test_id("permission")).to_be_visible()
        assert await noted() == [["delete it", "The agent waits for you"]]
        await first.locator("[data-testid=permission-option][data-kind=allow_once]").click()
        await expect(first.get_by_test_id("message-agent")).to_have_text("deleted once")
        await expect(first).to_have_title("delete it · Agent Gateway")
        await last.evaluate(HIDE, False)
        await expect(last.get_by_test_id("permission-answered")).to_be_visible()
        await gateway.delete(name)
        await expect(first.get_by_test_id("ended-banner")).to_be_visible()
    finally:
        await context.close()
