"""What a page is not given: its conversation, a network, a processor, storage, pictures, room. It says what
the person has to know, loses nothing that was typed, and goes on.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Final

import psutil
import pytest
from playwright.async_api import Dialog, Route, expect

from tests.browser.conftest import OpenPage
from tests.browser.readable import complaints, fits
from tests.browser.test_attach import PNG, give
from tests.browser.test_page import expect_answer, say, width_of
from tests.browser.test_page_bad_days import COUNT, NUMBERS, Cable
from tests.gateways import RunningGateway
from tests.inside import GatewayInside
from tests.shared import SHARED, ask, crowding, eventually, fresh_id, shared_gateway

gateway = shared_gateway()
pytestmark = [SHARED, pytest.mark.browser]

HALF: Final = "half a thought"
FORBIDDEN: Final = """
for (const name of ["localStorage", "sessionStorage", "indexedDB", "caches"])
  Object.defineProperty(window, name, { get() { throw new DOMException("no", "SecurityError"); } });
"""
FILL: Final = """() => {
  for (let size = 1 << 22, count = 0; size >= 1; )
    try { localStorage.setItem(`full${count++}`, "x".repeat(size)); } catch { size = size >> 1; }
}"""
"""Leaves no room for a single character."""
KEPT: Final = "Object.keys(localStorage).filter((name) => name.startsWith('agw.draft.')).length"
NO_POLL_MS: Final = 5_000
"""The list is read again every 20 seconds in any case."""
SLEEP_SECONDS: Final = 60
CUT_MS: Final = 30_000


def _at(gateway: RunningGateway, session_id: str) -> str:
    return f"{gateway.url}/#s={session_id}"


async def _delete(gateway: RunningGateway, session_id: str) -> None:
    assert (await ask(gateway.http, "DELETE", f"/api/sessions/{session_id}")).status == 200


async def test_a_conversation_that_is_deleted_elsewhere_says_so_keeps_the_draft_and_begins_anew(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    session_id = fresh_id("gone")
    page = await open_page(_at(gateway, session_id))
    await say(page, "/echo before")
    await expect_answer(page, "before")
    row = page.locator(f"[data-testid=session-item][data-session-id='{session_id}']")
    await expect(row).to_be_visible()
    await page.get_by_test_id("composer").fill(f"/echo {HALF}")
    await _delete(gateway, session_id)
    await expect(page.get_by_test_id("ended-banner")).to_contain_text("Send a message to start it again")
    await expect(row).to_have_count(0, timeout=NO_POLL_MS * crowding())
    await expect(page.get_by_test_id("composer")).to_have_value(f"/echo {HALF}")
    await page.get_by_test_id("send").click()
    await expect_answer(page, HALF)
    await expect(page.get_by_test_id("ended-banner")).to_have_count(0)
    await expect(page.get_by_test_id("message-outgoing")).to_have_count(0)
    await expect(row).to_be_visible()

    await say(page, "/count 500 50")  # deleted in the middle of an answer
    await expect(page.get_by_test_id("message-agent").last).to_contain_text("1 2 3")
    await _delete(gateway, session_id)
    await expect(page.get_by_test_id("ended-banner")).to_be_visible()
    await expect(page.get_by_test_id("stop")).to_have_count(0)
    await page.get_by_test_id("new-session").click()
    await say(page, "/echo another")
    await expect_answer(page, "another")


async def test_what_is_written_stays_if_another_tab_deletes_the_conversation_or_sends_its_own(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    session_id = fresh_id("two-tabs")
    page = await open_page(_at(gateway, session_id))
    await say(page, "/echo before")
    await expect_answer(page, "before")
    other = await page.context.new_page()
    await other.goto(_at(gateway, session_id))
    await expect_answer(other, "before")
    composer = page.get_by_test_id("composer")
    await composer.fill(HALF)
    await say(other, "/echo from the other")  # both act on one conversation
    for tab in (page, other):
        await expect_answer(tab, "from the other")
        await expect(tab.get_by_test_id("message-user")).to_have_count(2)
    await page.reload()
    await expect(composer).to_have_value(HALF)

    row = other.locator(f"[data-testid=session-item][data-session-id='{session_id}']")
    await row.hover()
    await row.get_by_test_id("session-menu").click()
    await row.get_by_test_id("delete").click()
    await other.get_by_test_id("delete-confirm").click()
    await expect(row).to_have_count(0)
    await expect(page.get_by_test_id("ended-banner")).to_be_visible()
    await page.wait_for_function(f"() => {KEPT} === 1")
    await page.get_by_test_id("new-session").click()
    await expect(composer).to_have_value("")
    await page.go_back()
    await expect(composer).to_have_value(HALF)
    await page.reload()
    await expect(composer).to_have_value(HALF)
    await composer.fill("/echo again")
    await composer.press("Enter")
    await expect_answer(page, "again")


@pytest.mark.parametrize("trouble", ["forbidden", "full"])
async def test_a_browser_that_keeps_nothing_says_so_and_asks_before_it_leaves_what_was_written(
    gateway: RunningGateway, open_page: OpenPage, trouble: str
) -> None:
    page = await open_page("about:blank")
    if trouble == "forbidden":
        await page.add_init_script(FORBIDDEN)
    await page.goto(_at(gateway, fresh_id(trouble)))
    if trouble == "full":
        await page.evaluate(FILL)
        await page.reload()
    forgetful = page.get_by_test_id("forgetful")
    await expect(page.get_by_test_id("composer")).to_be_visible()
    await expect(forgetful).to_have_count(0)
    await say(page, "/echo still fine")
    await expect_answer(page, "still fine")
    await page.get_by_test_id("theme-toggle").click()
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    await page.get_by_test_id("composer").fill(HALF)
    await expect(forgetful).to_contain_text("lost when the page is closed")
    assert await complaints(page) == []
    await page.get_by_test_id("new-session").click()
    await page.go_back()
    await expect(page.get_by_test_id("composer")).to_have_value(HALF)

    asked: list[str] = []

    async def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        await (dialog.dismiss() if len(asked) == 1 else dialog.accept())

    page.on("dialog", stay)
    with contextlib.suppress(Exception):
        await page.goto("about:blank", timeout=1_000)
    await expect(page.get_by_test_id("composer")).to_have_value(HALF)
    assert asked == ["beforeunload"]
    await page.get_by_test_id("composer").fill("")
    await page.goto("about:blank")
    assert asked == ["beforeunload"]  # there is nothing to lose any more


async def test_without_fonts_and_pictures_everything_is_named_and_works(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page("about:blank", width=320, height=640)
    blocked: list[str] = []

    async def block(route: Route) -> None:
        if route.request.resource_type not in ("image", "font", "media"):
            return await route.continue_()
        blocked.append(route.request.url)
        await route.abort()

    await page.route("**/*", block)
    await page.goto(_at(gateway, fresh_id("plain")))
    await expect(page.get_by_test_id("composer")).to_be_visible()
    await give(page, "paste", "chart.png", "image/png", PNG)
    await expect(page.locator("[data-testid=attachment][data-state=done]")).to_contain_text("chart.png")
    await say(page, "/echo Here $x^2$:\n\n```python\nprint(1)\n```")
    await expect_answer(page, "print(1)")
    await expect(page.get_by_test_id("sent-attachment")).to_contain_text("chart.png")
    assert any("chart.png" in url for url in blocked)
    assert await width_of(page) == 320
    assert await fits(page)
    assert await complaints(page) == []


@contextlib.contextmanager
def _stopped(browser_pids: list[int]) -> Iterator[None]:
    for pid in browser_pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in browser_pids:
            os.kill(pid, signal.SIGCONT)


def _renderers() -> list[int]:
    """The processes that draw pages, of browsers that this process started."""
    return [
        child.pid
        for child in psutil.Process().children(recursive=True)
        if "--type=renderer" in child.cmdline()
    ]


async def test_a_browser_whose_processes_were_stopped_for_a_minute_shows_all_of_the_answer_once(
    gateway: GatewayInside, open_page: OpenPage
) -> None:
    session_id = fresh_id("asleep")
    page = await open_page("about:blank")
    await page.clock.install()
    await page.goto(_at(gateway, session_id))
    await say(page, COUNT)
    await expect(page.get_by_test_id("message-agent")).to_contain_text("1 2 3")
    await page.get_by_test_id("composer").fill(HALF)
    renderers = _renderers()
    assert renderers
    with _stopped(renderers):

        async def is_over() -> bool:
            return not (await gateway.state(session_id))["is_processing"]

        await eventually(is_over)
    await page.clock.fast_forward(SLEEP_SECONDS * 1_000)
    await expect_answer(page, NUMBERS)
    await expect(page.get_by_test_id("message-agent")).to_have_count(1)
    await expect(page.get_by_test_id("connection-banner")).to_have_count(0)
    await expect(page.get_by_test_id("composer")).to_have_value(HALF)


async def test_a_network_that_swallows_everything_for_half_a_minute_is_noticed_and_left(
    gateway: GatewayInside, open_page: OpenPage
) -> None:
    session_id = fresh_id("swallowed")
    async with Cable.to(gateway.url) as cable:
        page = await open_page("about:blank")
        await page.clock.install()
        await page.goto(f"{cable.url}/#s={session_id}")
        await say(page, "/echo before")
        await expect_answer(page, "before")
        cable.swallow()
        await gateway.send(session_id, "/echo meanwhile")
        await page.clock.fast_forward(CUT_MS)
        await expect(page.get_by_test_id("connection-banner")).to_be_visible()
        cable.mend()
        await expect_answer(page, "meanwhile")
        await expect(page.get_by_test_id("message-user")).to_have_count(2)
        await expect(page.get_by_test_id("connection-banner")).to_have_count(0)
