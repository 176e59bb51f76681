"""The page in a real Chromium where the gateway asks who one is: keys, links to read, quotas."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Final

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser.conftest import OpenPage
from tests.browser.test_page import expect_answer, say, width_of
from tests.gateways import RunningGateway
from tests.shared import SHARED, fresh_id, shared_gateway

TENANTS: Final = """
[credentials.git]
hosts = ["git.example.test"]
per = "person"
[tenants.acme]
[tenants.small]
subject_quota = { messages_per_day = 2 }
"""
gateway = shared_gateway('[auth]\nmodes = ["keys"]\n[quotas]\nsoft_percent = 50\n' + TENANTS)
pytestmark = [SHARED, pytest.mark.browser]


async def sign_in(page: Page, key: str) -> None:
    """Pastes a key and waits until the page is in."""
    await page.get_by_label("API key").fill(key)
    await page.get_by_label("API key").press("Enter")
    await expect(page.get_by_test_id("composer")).to_be_focused()


async def test_a_key_that_may_only_operate_leads_to_operations(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(gateway.url)
    key = await gateway.mint(fresh_id("watcher"), scopes=("operate",))
    await page.get_by_label("API key").fill(key)
    await page.get_by_label("API key").press("Enter")
    await expect(page.get_by_test_id("figures")).to_be_visible()
    await page.goto(f"{gateway.url}/#s=mine")
    await expect(page.get_by_test_id("connection-banner")).to_contain_text("for operators")
    await page.get_by_test_id("to-operations").click()
    await expect(page.get_by_test_id("figures")).to_be_visible()


async def open_as(open_page: OpenPage, gateway: RunningGateway, name: str, *, tenant: str = "acme") -> Page:
    """A window of somebody who has signed in."""
    page = await open_page(gateway.url)
    await sign_in(page, await gateway.mint(name, tenant=tenant))
    return page


async def choose(page: Page, item: str, *, menu: str = "account") -> None:
    """Opens a menu and chooses from it."""
    if menu == "session-menu":
        await page.get_by_test_id("session-item").first.hover()
    await page.get_by_test_id(menu).first.click()
    await page.get_by_test_id(item).first.click()


async def revoke(gateway: RunningGateway, name: str) -> None:
    async with gateway.operator() as operator:
        known = next(key for key in await operator.keys() if key.name == name)
        await operator.revoke_key(known.id)


@contextlib.asynccontextmanager
async def no_new_stream(page: Page) -> AsyncIterator[None]:
    """A stream that was cut is not opened again, so that it does not tell the page that a key is revoked."""
    is_over = asyncio.Event()

    async def held(route: Route) -> None:
        await is_over.wait()
        await route.abort()

    await page.route("**/api/chat/stream**", held)
    try:
        yield
    finally:
        is_over.set()
        await page.unroute_all(behavior="wait")


async def share(page: Page) -> str:
    """Makes a link to the newest session and closes the dialog; its address."""
    await choose(page, "share", menu="session-menu")
    await page.get_by_test_id("share-make").click()
    url = await page.get_by_test_id("link").input_value()
    await page.keyboard.press("Escape")
    return url


async def kept_by(page: Page) -> str:
    """Everything that the page's scripts keep or show in the address."""
    stored = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
    return str(await page.evaluate(stored))


async def test_a_key_signs_in_and_is_kept_nowhere(gateway: RunningGateway, open_page: OpenPage) -> None:
    key = await gateway.mint("dora", tenant="acme")
    page = await open_page(gateway.url)
    await expect(page.get_by_role("heading", name="Sign in to continue")).to_be_visible()
    await expect(page.get_by_label("API key")).to_be_focused()
    await expect(page.get_by_test_id("session-list")).to_have_count(0)
    await sign_in(page, key)
    await expect(page.get_by_test_id("account")).to_have_text(re.compile("dora.*acme"))
    await say(page, "/echo inside")
    await expect_answer(page, "inside")
    assert key not in await kept_by(page)
    assert key.split("_", 2)[2] not in await kept_by(page)
    await page.reload()
    await expect_answer(page, "inside")


async def test_a_wrong_key_is_told_in_words_and_can_be_corrected(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(gateway.url)
    field, error = page.get_by_label("API key"), page.get_by_test_id("sign-in-error")
    await field.fill("agw_nothing")
    await page.get_by_role("button", name="Sign in").click()
    await expect(error).to_have_text(re.compile("not valid"))
    await expect(error).to_have_role("alert")
    await expect(field).to_have_attribute("aria-invalid", "true")
    await expect(field).to_have_accessible_description(re.compile("not store it.*not valid"))
    await page.get_by_test_id("language-toggle").click()
    await expect(error).to_have_text(re.compile("המפתח אינו תקף"))
    await page.get_by_test_id("language-toggle").click()
    await sign_in(page, await gateway.mint("second-try", tenant="acme"))


async def test_who_tries_too_often_is_told_when_to_try_again(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(gateway.url)
    body = '{"error": {"code": "rate_limited", "message": "Too many requests; slow down."}}'
    answer = {"status": 429, "headers": {"Retry-After": "40"}, "body": body}
    await page.route("**/api/auth/sign-in", lambda route: route.fulfill(**answer))
    await page.get_by_label("API key").fill("agw_nothing")
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("sign-in-error")).to_contain_text("Try again in 40 seconds")


async def test_signing_out_leaves_nothing_behind(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_as(open_page, gateway, "leaver")
    await say(page, "/echo my secret")
    await expect_answer(page, "my secret")
    await page.get_by_test_id("composer").fill("my half thought")
    await page.get_by_test_id("account").focus()
    await page.keyboard.press("Enter")
    for item in ("usage-mine", "account-keys", "handover"):
        await expect(page.get_by_test_id(item)).to_be_focused()
        await page.keyboard.press("ArrowDown")
    await expect(page.get_by_test_id("sign-out")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("API key")).to_be_focused()
    await expect(page.locator("body")).not_to_contain_text("my secret")
    assert "half thought" not in await kept_by(page)
    await page.reload()
    await sign_in(page, await gateway.mint("successor", tenant="acme"))
    await expect(page.get_by_test_id("welcome")).to_be_visible()
    await expect(page.get_by_test_id("session-item")).to_have_count(0)
    await expect(page.get_by_test_id("composer")).to_have_value("")


async def test_signing_out_everywhere_reaches_other_browsers(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    key = await gateway.mint("twice", tenant="acme")
    here, there = await open_page(gateway.url), await open_page(gateway.url)
    await sign_in(here, key)
    await sign_in(there, key)
    async with no_new_stream(there):
        await choose(here, "sign-out-everywhere")
        await expect(here.get_by_test_id("sign-in")).to_be_visible()
        await say(there, "/echo still here?")
        await expect(there.get_by_test_id("sign-in")).to_be_visible()


async def test_a_revoked_key_leads_out_and_the_next_one_goes_on_where_it_was(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_as(open_page, gateway, "carol")
    await say(page, "/echo before")
    await expect_answer(page, "before")
    address = page.url
    row = page.get_by_test_id("session-item")
    await expect(row).to_have_count(1)  # the list is here, and of the end of the turn: nothing more is asked
    await expect(row.locator(".session-mark")).to_have_count(0)
    async with no_new_stream(page):
        await revoke(gateway, "carol")
        await say(page, "/echo refused at first")
        await expect(page.get_by_test_id("sign-in")).to_contain_text("signed out")
    await expect(page.locator("body")).not_to_contain_text("before")
    await sign_in(page, await gateway.mint("carols-next", tenant="acme", subject="carol"))
    await expect_answer(page, "refused at first")
    await expect(page.get_by_test_id("message-user")).to_have_count(2)
    assert page.url == address

    await page.get_by_test_id("composer").fill("half a thought")
    async with no_new_stream(page):
        await revoke(gateway, "carols-next")
        await choose(page, "share", menu="session-menu")
        await expect(page.get_by_test_id("sign-in")).to_be_visible()
    await sign_in(page, await gateway.mint("carols-third", tenant="acme", subject="carol"))
    await expect(page.get_by_test_id("composer")).to_have_value("half a thought")
    await expect_answer(page, "refused at first")


async def test_somebody_else_at_the_same_browser_sees_nothing_of_the_one_before(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_as(open_page, gateway, "first-comer")
    await say(page, "/echo private words")
    await expect_answer(page, "private words")
    await page.get_by_test_id("composer").fill("private draft")
    await revoke(gateway, "first-comer")
    await page.reload()
    await sign_in(page, await gateway.mint("second-comer", tenant="acme"))
    await expect(page.get_by_test_id("welcome")).to_be_visible()
    await expect(page.get_by_test_id("composer")).to_have_value("")
    assert "private" not in await kept_by(page)


async def test_a_dialog_of_the_one_before_is_not_there_for_somebody_else(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_as(open_page, gateway, "who-edits")
    await say(page, "/echo private words")
    await expect_answer(page, "private words")
    await page.get_by_test_id("message-edit").last.click()
    await expect(page.get_by_test_id("branch-text")).to_be_visible()
    await revoke(gateway, "who-edits")
    await sign_in(page, await gateway.mint("who-comes-then", tenant="acme"))
    await expect(page.get_by_test_id("branch-text")).to_have_count(0)


async def test_a_shared_conversation_is_read_live_until_the_link_is_revoked(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_as(open_page, gateway, "sharer")
    await say(page, "/echo first words")
    await expect_answer(page, "first words")
    url = await share(page)
    assert "/#shared=ags_" in url

    reader = await open_page(url)
    await expect(reader.get_by_text("Shared, read-only")).to_be_visible()
    await expect_answer(reader, "first words")
    for missing in ("composer", "session-list", "account", "sign-in"):
        await expect(reader.get_by_test_id(missing)).to_have_count(0)
    await say(page, "/permission May I?")
    await expect(reader.get_by_test_id("permission-answered")).to_contain_text("May I?")
    await expect(reader.get_by_test_id("permission-option")).to_have_count(0)
    await page.get_by_test_id("permission-option").first.click()
    await expect(page.get_by_test_id("permission")).to_have_count(0)
    assert await width_of(reader) <= 1100
    assert (await reader.context.cookies()) == []

    await choose(page, "share", menu="session-menu")
    await expect(page.get_by_test_id("share-row")).to_have_count(1)
    await page.get_by_role("button", name=re.compile("Revoke the link created")).click()
    await expect(page.get_by_test_id("share-row")).to_have_count(0)
    await page.get_by_role("button", name="Close").click()
    await say(page, "/echo after the revocation")
    await expect_answer(page, "after the revocation")
    await expect(reader.get_by_test_id("shared-gone")).to_contain_text("no longer valid")
    await expect(reader.get_by_test_id("shared-gone")).to_have_role("alert")
    await expect(reader.locator("body")).not_to_contain_text("after the revocation")
    await reader.reload()
    await expect(reader.get_by_test_id("shared-gone")).to_be_visible()
    await expect(reader.locator("body")).not_to_contain_text("first words")


async def test_a_link_that_leads_nowhere_says_so(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(f"{gateway.url}/#shared=ags_nothing", locale="he-IL")
    await expect(page.get_by_test_id("shared-gone")).to_contain_text("הקישור אינו תקף")


async def test_the_share_dialog_is_labelled_and_goes_by_keyboard(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_as(open_page, gateway, "keyboarder")
    await say(page, "/echo to be shared")
    await expect_answer(page, "to be shared")
    await page.get_by_test_id("session-menu").focus()
    await page.keyboard.press("Enter")
    for item in ("rename", "pin", "tags", "archive", "share"):
        await expect(page.get_by_test_id(item)).to_be_focused()
        if item != "share":
            await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name=re.compile("Share"))
    await expect(dialog).to_be_visible()
    await dialog.get_by_label("Valid for").select_option("until revoked")
    await dialog.get_by_role("button", name="Create a link").press("Enter")
    await expect(dialog.get_by_label("Link", exact=True)).to_have_value(re.compile("#shared=ags_"))
    await expect(page.get_by_test_id("share-row")).to_contain_text("valid until revoked")
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await dialog.get_by_role("button", name="Copy").click()
    await expect(dialog.get_by_role("button", name="Copied")).to_be_visible()
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied == await dialog.get_by_label("Link", exact=True).input_value()
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)


async def test_a_person_continues_in_a_browser_that_was_outside(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    old = await open_as(open_page, gateway, "mover")
    await say(old, "/echo carried over")
    await expect_answer(old, "carried over")
    await choose(old, "handover")
    new = await open_page(await old.get_by_test_id("link").input_value(), width=360, height=740)
    await expect(new.get_by_test_id("sign-in")).to_be_visible()
    assert await width_of(new) == 360
    await new.get_by_test_id("claim").click()
    await new.get_by_test_id("open-sessions").click()
    await expect(new.get_by_test_id("account")).to_contain_text("mover")
    await new.get_by_test_id("session-item").click()
    await expect_answer(new, "carried over")


async def test_a_quota_is_told_before_and_when_it_is_used_up(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_as(open_page, gateway, "spender", tenant="small")
    for number in range(2):
        await say(page, f"/echo {number}")
        await expect_answer(page, str(number))
    near = page.locator("[data-testid=notice][data-code=quota]")
    await expect(near).to_have_text("You: 1 of 2 messages per day used.")
    await say(page, "/echo too much")
    told = page.get_by_test_id("message-outgoing")
    await expect(told).to_contain_text("Limit reached. You: 2 of 2 messages per day.")
    await expect(told).to_contain_text(re.compile(r"Try again in \d+ (hours?|minutes?)"))
    await page.get_by_test_id("language-toggle").click()
    await expect(near).to_have_text("החשבון שלך: נוצלו 1 מתוך 2 הודעות ביום.")
    await expect(told).to_contain_text("המכסה נוצלה. החשבון שלך: 2 מתוך 2 הודעות ביום.")


async def test_a_gateway_that_is_away_at_the_start_is_waited_for(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page("about:blank")
    await page.route("**/api/auth", lambda route: route.abort())
    await page.goto(f"{gateway.url}/#s={fresh_id()}")
    await expect(page.get_by_test_id("connection-banner")).to_be_visible()
    await page.unroute("**/api/auth")
    await expect(page.get_by_test_id("sign-in")).to_be_visible()


async def test_where_nobody_is_asked_nothing_of_this_is_shown(
    open_gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(open_gateway.url)
    await say(page, "/echo as ever")
    await expect_answer(page, "as ever")
    await expect(page.get_by_test_id("account")).to_have_count(0)
    await expect(page.get_by_test_id("sign-in")).to_have_count(0)


open_gateway = shared_gateway()


async def test_a_key_of_ones_own_is_set_and_removed_and_never_shown(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_as(open_page, gateway, fresh_id("owner"))
    await choose(page, "account-keys")
    row = page.get_by_test_id("own-key-git")
    await expect(row).to_have_attribute("data-state", "not_set")
    field = row.locator("input")
    assert await field.get_attribute("type") == "password"
    await field.fill("not a\u200bkey")
    await field.press("Enter")
    await expect(row.get_by_role("alert")).to_contain_text("one line of ASCII")
    await field.fill("secret-of-the-owner")
    await field.press("Enter")
    await expect(row).to_have_attribute("data-state", "set")
    await expect(field).to_have_value("")
    assert "secret-of-the-owner" not in await kept_by(page) + await page.content()
    await row.get_by_role("button", name="Remove").click()
    await expect(row).to_have_attribute("data-state", "not_set")
    assert await page.evaluate("document.documentElement.scrollWidth") <= 1100
