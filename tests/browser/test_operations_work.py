"""What operators do on their page, in a real Chromium: they see how the gateway is, find a session, are told
whom an act hits before it is done, make and revoke keys and tenants, and search the logs.
"""

from __future__ import annotations

import logging
import re

import pytest
from playwright.async_api import expect

from tests.browser.conftest import OpenPage
from tests.browser.readable import complaints
from tests.inside import GatewayInside
from tests.shared import SHARED, fresh_id, shared_gateway

gateway = shared_gateway("[quotas.subject]\nmessages_per_day = 5\n[tenants.acme]\n")
pytestmark = [SHARED, pytest.mark.browser]


async def minutes_pass(gateway: GatewayInside, count: int) -> None:
    for _ in range(count):
        gateway.clock.advance(60)
        await gateway.inner.own.pulse.beat()


async def test_health_history_and_a_question_that_names_whom_it_hits(
    gateway: GatewayInside, open_page: OpenPage
) -> None:
    await minutes_pass(gateway, 3)
    busy = fresh_id("busy")
    await gateway.send(busy, "/count 1000 20")
    page = await open_page(f"{gateway.url}/#/operations")
    health = page.get_by_test_id("health")
    await expect(health).to_contain_text("Walls")
    await expect(health).to_contain_text("free")
    await expect(page.locator("[data-testid=chart-activity] canvas")).to_have_count(1)
    legend = page.get_by_test_id("chart-rates")
    await expect(legend).to_contain_text("failed answers")
    await page.get_by_test_id("range-1440").click()
    await expect(page.get_by_test_id("range-1440")).to_have_attribute("aria-pressed", "true")
    await page.get_by_test_id("session-search").fill("no such session")
    await expect(page.get_by_test_id("session-row")).to_have_count(0)
    await page.get_by_test_id("session-search").fill("local built-in")
    await page.get_by_test_id("choose-state").select_option("running")
    row = page.get_by_test_id("session-row")
    await expect(row).to_have_count(1)
    await row.get_by_test_id("end").click()
    question = page.get_by_test_id("ops-question")
    for part in ("local", "default", "built-in", "running"):
        await expect(question).to_contain_text(part)
    await page.get_by_test_id("ops-confirm").click()
    await expect(page.get_by_test_id("ops-toast")).to_contain_text("idle")
    assert not (await gateway.state(busy))["is_processing"]
    people = page.get_by_test_id("people")
    await expect(people).to_contain_text(re.compile(r"messages_per_day: \d of 5"))


async def test_charts_are_drawn_where_the_browser_has_the_locale_of_c(
    gateway: GatewayInside, open_page: OpenPage
) -> None:
    """Chromium says `en-US@posix` then, which is no language tag."""
    await minutes_pass(gateway, 3)
    page = await open_page("about:blank")
    await page.add_init_script("Object.defineProperty(navigator, 'language', { get: () => 'en-US@posix' })")
    await page.goto(f"{gateway.url}/#/operations")
    await expect(page.locator("[data-testid=chart-activity] canvas")).to_have_count(1)


async def test_an_alarm_says_what_to_do(
    gateway: GatewayInside, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = gateway.inner.services.metrics
    free, low = metrics.disk_now
    monkeypatch.setattr(gateway.inner.disk, "_seen", lambda _free, _low: None)  # it looks meanwhile, too
    metrics.disk_seen(low - 1, low)
    page = await open_page(f"{gateway.url}/#/operations")
    alarms = page.get_by_test_id("alarms")
    await expect(alarms).to_contain_text("The disk is nearly full")
    await expect(alarms).to_contain_text("Delete old backups")
    await expect(alarms).to_contain_text("since")
    assert await complaints(page) == []
    metrics.disk_seen(free, low)


async def test_keys_and_tenants_are_made_and_revoked_here_and_found_in_the_logs(
    gateway: GatewayInside, open_page: OpenPage
) -> None:
    page = await open_page(f"{gateway.url}/#/operations")
    await page.get_by_test_id("new-tenant").click()
    await page.get_by_label("Name", exact=True).fill("Not A Name")
    await page.get_by_test_id("form-submit").click()
    await expect(page.get_by_test_id("form-refusal")).to_contain_text("tenant's name")
    await page.get_by_label("Name", exact=True).fill("made-here")
    await page.get_by_label("Title").fill("Made here")
    await page.get_by_test_id("form-submit").click()
    tenant = page.get_by_test_id("tenant-row").filter(has_text="made-here")
    await expect(tenant).to_contain_text("enabled")
    await page.get_by_test_id("new-key").click()
    await page.get_by_label("Name", exact=True).fill("made-key")
    await page.get_by_label("Days until it ends").fill("2")
    await page.get_by_test_id("form-submit").click()
    text = await page.get_by_test_id("made-key").input_value()
    assert text.startswith("agw_")
    async with gateway.operator() as operator:
        made = next(key for key in await operator.keys() if key.name == "made-key")
    assert text.split("_")[1] == made.id
    assert made.scopes == ("chat",)
    assert made.expires_at is not None
    await page.get_by_test_id("made-key-done").click()
    assert text not in await page.content()
    key = page.get_by_test_id("key-row").filter(has_text="made-key")
    await key.get_by_test_id("revoke").click()
    await expect(page.get_by_test_id("ops-question")).to_contain_text("default/made-key")
    await page.get_by_test_id("ops-confirm").click()
    await expect(key).to_have_attribute("data-state", "revoked")
    await tenant.get_by_test_id("tenant-disable").click()
    await page.get_by_test_id("ops-confirm").click()
    await expect(tenant).to_contain_text("disabled")
    logging.getLogger("tests.operations").error("a canary <b>sings</b>")
    await page.get_by_test_id("audit").locator("summary").click()
    await page.get_by_test_id("audit-search").fill("key. default/made-key")
    await expect(page.get_by_test_id("audit-row")).to_have_count(1)
    await expect(page.get_by_test_id("audit-row")).to_contain_text("key.made")
    await page.get_by_test_id("log").locator("summary").click()
    await page.get_by_test_id("log-search").fill("canary")
    await page.get_by_test_id("choose-log").select_option("error")
    await expect(page.get_by_test_id("log-row")).to_contain_text("a canary <b>sings</b>")
    assert await complaints(page) == []
    await page.get_by_test_id("theme-toggle").click()
    assert await complaints(page) == []


async def test_it_is_whole_in_hebrew_on_a_phone(gateway: GatewayInside, open_page: OpenPage) -> None:
    await gateway.chat(fresh_id("phone"), "/echo hi")
    page = await open_page(f"{gateway.url}/#/operations", width=320, height=640, locale="he-IL")
    await expect(page.locator("html")).to_have_attribute("dir", "rtl")
    await expect(page.get_by_test_id("session-row").first).to_be_visible()
    await page.get_by_test_id("audit").locator("summary").click()
    await expect(page.get_by_test_id("audit-search")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 320
    assert await complaints(page) == []
    await page.get_by_test_id("theme-toggle").click()
    assert await complaints(page) == []
    await page.get_by_test_id("new-key").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_be_visible()
    assert await complaints(page) == []
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("new-key")).to_be_focused()
