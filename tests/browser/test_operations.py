"""The operations page in a real Chromium against a real gateway: what an operator sees and does."""

from __future__ import annotations

import pathlib
import re

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.gateways import RunningGateway, running_gateway
from tests.inside import gateway_inside
from tests.patience import soon
from tests.shared import SHARED, fresh_id, shared_gateway

gateway = shared_gateway()
pytestmark = [SHARED, pytest.mark.browser]


def address(gateway: RunningGateway) -> str:
    return f"{gateway.url}/#/operations"


async def ink_of(page: Page, test_id: str) -> int:
    """How many pixels of a chart are drawn."""
    drawn = await page.evaluate(
        """(id) => {
            const canvas = document.querySelector(`[data-testid=${id}] canvas`);
            const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return data.filter((value, n) => n % 4 === 3 && value > 0).length;
        }""",
        test_id,
    )
    return int(drawn)


async def test_figures_charts_and_sessions_are_those_of_the_gateway(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    words, named = "canary-of-the-page", fresh_id("canary-id")
    await gateway.chat(named, f"/echo {words}")
    page = await open_page(address(gateway))
    await expect(page).to_have_title(re.compile("Operations"))
    rows = page.get_by_test_id("session-row")
    await expect(rows).to_have_count(await gateway.count())
    await expect(rows.first).to_have_attribute("data-state", "idle")
    await expect(rows.first).to_contain_text("none")
    await expect(page.get_by_test_id("people")).to_contain_text("Cost today")
    await expect(page.get_by_test_id("people")).to_contain_text("local")
    for chart in ("chart-activity", "chart-rates", "chart-latency", "chart-memory"):
        label = await page.get_by_test_id(chart).locator("[role=img]").get_attribute("aria-label")
        assert label is not None
        assert "Now:" in label
        assert await ink_of(page, chart) > 100
    text = await page.content()
    assert words not in text
    assert named not in text, "a client's session id is not shown"


async def test_a_kill_and_a_park_are_asked_for_and_done(gateway: RunningGateway, open_page: OpenPage) -> None:
    session_id = fresh_id("page")
    await gateway.send(session_id, "/count 1000 20")
    page = await open_page(address(gateway))
    row = page.get_by_test_id("session-row").first
    await expect(row).to_have_attribute("data-state", "running")
    await expect(row.get_by_test_id("park")).to_be_disabled()
    await row.get_by_test_id("kill").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert (await gateway.state(session_id))["is_processing"], "nothing happens before it is confirmed"
    await row.get_by_test_id("kill").click()
    await page.get_by_test_id("ops-confirm").click()
    await expect(page.get_by_test_id("ops-toast")).to_contain_text("parked")
    assert "An operator ended" in (await gateway.state(session_id))["messages"][-1]["content"]
    await gateway.chat(session_id, "/echo back")
    await expect(page.locator("[data-testid=session-row][data-state=idle]").first).to_be_visible()
    await row.get_by_test_id("park").click()
    await page.get_by_test_id("ops-confirm").click()
    await expect(row).to_have_attribute("data-state", "parked")


async def test_the_title_and_every_button_above_fit_the_narrowest_phone(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(address(gateway), width=320, height=640)
    await expect(page.get_by_test_id("drain")).to_be_visible()
    ends = await page.locator(".header > *").evaluate_all(
        "(all) => all.map((one) => [one.clientWidth - one.scrollWidth, one.getBoundingClientRect().right])"
    )
    assert all(room >= 0 and end <= 320 for room, end in ends), ends


async def test_it_is_whole_in_the_dark_on_a_phone_and_by_keyboard(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    await gateway.chat(fresh_id("small"), "/echo hi")
    page = await open_page(address(gateway), width=360, height=640)
    await expect(page.get_by_test_id("session-row").first).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    await page.get_by_test_id("theme-toggle").click()
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert await ink_of(page, "chart-activity") > 100, "charts are drawn again in the other colours"
    kill = page.locator("[data-testid=kill]:enabled").first
    await kill.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(kill).to_be_focused()


async def test_who_may_not_watch_is_told_and_a_key_that_may_signs_in(
    tmp_path: pathlib.Path, open_page: OpenPage
) -> None:
    async with gateway_inside(tmp_path, config='[auth]\nmodes = ["keys"]\n') as own:
        page = await open_page("about:blank")
        await page.goto(address(own))
        for key, words in (("agw_wrong", "not valid"), (await own.mint("talks"), "")):
            await page.get_by_label("Access key").fill(key)
            await page.get_by_label("Access key").press("Enter")
            if words:
                await expect(page.get_by_test_id("ops-refusal")).to_contain_text(words)
        await expect(page.get_by_test_id("ops-error")).to_contain_text("operate")
        await expect(page.get_by_test_id("figures")).to_have_count(0)
        await page.context.clear_cookies()
        await page.reload()
        watch = await own.mint("watches", scopes=("operate",))
        await page.get_by_label("Access key").fill(watch)
        await page.get_by_label("Access key").press("Enter")
        await expect(page.get_by_test_id("figures")).to_be_visible()
        assert watch not in await page.evaluate("JSON.stringify({...sessionStorage, ...localStorage})")


async def test_the_chat_page_loads_nothing_of_it(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page("about:blank")
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    await page.goto(gateway.url)
    await expect(page.get_by_test_id("composer")).to_be_visible()
    assert loaded
    assert not [url for url in loaded if "Operations" in url or "/api/admin" in url]
    await page.get_by_test_id("active-count").click()
    await expect(page.get_by_test_id("figures")).to_be_visible()
    await page.get_by_role("link", name="Back to the chat").click()
    await expect(page.get_by_test_id("composer")).to_be_visible()


async def test_a_drain_is_confirmed_and_the_gateway_ends(tmp_path: pathlib.Path, open_page: OpenPage) -> None:
    async with running_gateway(tmp_path) as own:
        page = await open_page(address(own))
        await page.get_by_test_id("drain").click()
        await page.get_by_test_id("ops-confirm").click()
        await expect(page.get_by_test_id("ops-toast")).to_contain_text("is draining")
        assert await soon(own.process.wait(), 20) == 0
        await expect(page.get_by_test_id("ops-error")).to_contain_text("cannot be reached")
