"""Another way from here in the page: a message edited in a branch, files put back, the tree of sessions."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.conftest import OpenPage
from tests.browser.readable import complaints, fits
from tests.browser.test_permission_card import PHONE
from tests.inside import GatewayInside
from tests.shared import SHARED, fresh_id, shared_gateway

SHELL = {"repeat": True, "turns": [[{"run": "$PROMPT"}]]}
gateway = shared_gateway(agents={"shell": SHELL, "other": SHELL})
pytestmark = [SHARED, pytest.mark.browser]


async def test_a_message_is_edited_in_a_branch_and_files_are_put_back(
    gateway: GatewayInside, open_page: OpenPage
) -> None:
    name = fresh_id("page")
    await gateway.post("/api/sessions", {"session_id": name, "agent": "shell"}, status=201)
    await gateway.chat(name, "echo one > a; echo first")
    await gateway.chat(name, "echo two > a; cat a")
    page = await open_page(f"{gateway.url}/#s={name}")
    await expect(page.get_by_test_id("files-changed")).to_have_count(2)
    await page.get_by_test_id("message-user").last.hover()
    await page.get_by_test_id("message-edit").last.click()
    assert await complaints(page) == []

    text = page.get_by_test_id("branch-text")
    await text.fill("cat a; echo edited")
    await page.route("**/fork", lambda route: route.abort())
    await page.get_by_test_id("branch-send").click()
    await expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    await expect(text).to_have_value("cat a; echo edited")  # nothing that was written is lost
    await page.unroute("**/fork")
    await page.get_by_test_id("branch-agent").select_option("other")
    await page.get_by_test_id("branch-send").click()
    await expect(page.get_by_test_id("message-agent").last).to_contain_text("one edited")
    await expect(page.get_by_test_id("forked")).to_be_visible()

    rows = page.get_by_test_id("session-item")
    own = page.locator(f'[data-testid="session-item"][data-session-id="{name}"]')
    await expect(own).to_have_attribute("aria-level", "1")
    names = await rows.evaluate_all("rows => rows.map((row) => row.dataset.sessionId)")
    child = rows.nth(names.index(name) + 1)
    await expect(child).to_have_attribute("aria-level", "2")
    await child.get_by_role("button").first.focus()
    await page.keyboard.press("ArrowUp")
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("files-changed")).to_have_count(2)
    await page.get_by_test_id("undo-files").last.click()
    await page.get_by_test_id("undo-confirm").click()
    await expect(page.get_by_test_id("files-restored")).to_contain_text("1")
    assert "one" in str((await gateway.chat(name, "cat a"))["messages"][-1]["content"])
    assert await complaints(page) == []


async def test_on_a_phone_in_hebrew_a_message_is_sent_again(
    gateway: GatewayInside, open_page: OpenPage
) -> None:
    name = fresh_id("page")
    await gateway.post("/api/sessions", {"session_id": name, "agent": "shell"}, status=201)
    await gateway.chat(name, "date +%N > a; cat a")
    page = await open_page(f"{gateway.url}/#s={name}", locale="he-IL", **PHONE)
    await page.get_by_test_id("message-again").click()
    assert await complaints(page) == []
    assert await fits(page)
    await page.get_by_test_id("branch-send").click()
    await expect(page.get_by_test_id("forked")).to_be_visible()
    await expect(page.get_by_test_id("message-user")).to_have_count(1)
    await expect(page.get_by_test_id("message-agent")).to_have_count(1)
    assert await fits(page)
    assert await complaints(page) == []
