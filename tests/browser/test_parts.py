"""Parts of applications in a real Chromium: ours, and one as a stranger would write it."""

from __future__ import annotations

from typing import Any, Final

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser.conftest import OpenPage
from tests.browser.test_page import expect_answer, say
from tests.gateways import RunningGateway
from tests.shared import SHARED, shared_gateway

gateway = shared_gateway('default_agent = "shop"\n')
pytestmark = [SHARED, pytest.mark.browser]

COUNTER: Final = """
export default {
  fold: { name: "counter", types: ["turn_started"], initial: 0, apply: (count) => count + 1 },
  header(element, place) {
    const button = element.appendChild(document.createElement("button"));
    const show = () => { button.textContent = `${place.value} turns`; };
    button.dataset.testid = "counter";
    button.onclick = () => { place.isPanelOpen = !place.isPanelOpen; };
    show();
    return place.onChange(show);
  },
  async panel(element, place) {
    const own = await place.api.call("GET", "/api/sessions/count");
    element.insertAdjacentHTML("beforeend", '<aside data-testid="counted"></aside>');
    element.firstChild.textContent = `${own.active_sessions} active, ${place.language}`;
    return () => element.replaceChildren();
  },
};
"""
"""A part as a stranger writes it: without a framework, in one file."""


async def opened(open_page: OpenPage, url: str, applications: list[Any] | None, module: str = "") -> Page:
    """The page of a gateway that lists these applications and serves this module."""
    page = await open_page("about:blank")

    async def listed(route: Route) -> None:
        answer = await route.fetch()
        known: dict[str, Any] = await answer.json()
        known.pop("applications", None)
        more = {} if applications is None else {"applications": applications}
        await route.fulfill(response=answer, json=known | more)

    async def served(route: Route) -> None:
        if module:
            await route.fulfill(body=module, content_type="text/javascript")
        else:
            await route.fulfill(status=404, body="")

    await page.route("**/api/auth", listed)
    await page.route("**/counter/part.js", served)
    await page.goto(url)
    await expect(page.get_by_test_id("composer")).to_be_visible()
    return page


@pytest.mark.parametrize(
    ("applications", "count"),
    [
        (None, 1),
        (["shop", "shopping_assistant", "product_chat"], 1),
        (["shop"], 0),
        ([], 0),
    ],
)
async def test_the_shop_is_there_if_the_gateway_runs_it(
    gateway: RunningGateway, open_page: OpenPage, applications: list[Any] | None, count: int
) -> None:
    page = await opened(open_page, gateway.url, applications)
    await expect(page.get_by_test_id("open-shop")).to_have_count(count)


async def test_another_application_folds_and_shows_what_it_serves(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    listed = [{"name": "counter", "page": "counter/part.js"}]
    page = await opened(open_page, gateway.url, listed, COUNTER)
    counter = page.get_by_test_id("counter")
    await expect(counter).to_have_text("0 turns")
    await say(page, "/echo one")
    await expect_answer(page, "one")
    await expect(counter).to_have_text("1 turns")
    await page.reload()
    await expect(counter).to_have_text("1 turns")
    await counter.click()
    await expect(page.get_by_test_id("counted")).to_contain_text("active, en")
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("counted")).to_have_count(0)
    await expect(page.get_by_test_id("open-shop")).to_have_count(0)


async def test_a_part_that_is_not_there_is_named_and_the_chat_goes_on(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await opened(open_page, gateway.url, [{"name": "counter", "page": "counter/part.js"}])
    await expect(page.get_by_test_id("toast")).to_contain_text("counter")
    await say(page, "/echo still here")
    await expect_answer(page, "still here")
