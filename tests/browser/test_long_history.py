"""A conversation of hundreds of messages: what is near the reader is drawn, and nothing is lost by that."""

from __future__ import annotations

from typing import Any, Final

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.inside import GatewayInside
from tests.shared import SHARED, eventually, fresh_id, shared_gateway
from tests.streams import state_when

MESSAGES: Final = 400
NODES_MOST: Final = 2_500
"""Elements of the whole page; all the messages would be four times as many."""


def _says(number: int) -> dict[str, Any]:
    text = (
        f"Message number {number}.\n\nwith **bold**, `code` and a list\n\n- one\n- two {'x ' * (number % 60)}"
    )
    chunk = {"sessionUpdate": "agent_message_chunk", "messageId": f"m{number}"}
    return {"update": {**chunk, "content": {"type": "text", "text": text}}}


ASK: Final = {"ask": {"title": "May I go on?", "toolCall": {"toolCallId": "c1", "title": "May I go on?"}}}
SCENARIOS: Final[dict[str, Any]] = {
    "talker": {"turns": [[_says(number) for number in range(MESSAGES)], [ASK]]},
}
VISIBLE: Final = """
(() => {
  const box = document.querySelector(".scroller").getBoundingClientRect();
  const isIn = (one) => {
    const place = one.getBoundingClientRect();
    return place.bottom > box.top && place.top < box.bottom;
  };
  return [...document.querySelectorAll("[data-testid=message-agent]")].filter(isIn)
    .map((one) => Number(/number (\\d+)/.exec(one.textContent)[1]));
})()
"""
FROM_END: Final = (
    "(() => { const box = document.querySelector('.scroller');"
    " return box.scrollHeight - box.scrollTop - box.clientHeight })()"
)

pytestmark = [pytest.mark.browser, SHARED]
gateway = shared_gateway(agents=SCENARIOS)


async def _seen(page: Page) -> list[int]:
    return list(await page.evaluate(VISIBLE))


@pytest.fixture
def session_id() -> str:
    return fresh_id("long")


async def test_it_opens_at_its_end_with_few_elements_and_every_message_is_found(
    gateway: GatewayInside, open_page: OpenPage, session_id: str
) -> None:
    await gateway.send(session_id, "talk", agent="talker")
    await state_when(gateway.http, session_id, lambda s: not s["is_processing"])
    page = await open_page(f"{gateway.url}/#s={session_id}")
    last = page.get_by_text(f"Message number {MESSAGES - 1}.")
    await expect(last).to_be_in_viewport()
    assert await page.evaluate("document.querySelectorAll('*').length") < NODES_MOST
    assert abs(await page.evaluate(FROM_END)) <= 1

    box = page.get_by_test_id("transcript")
    await box.hover()
    before = await _seen(page)
    for _ in range(4):  # the reader goes up, and never meets a hole, or what was read already
        await page.mouse.wheel(0, -500)

        async def has_moved(since: int = before[0]) -> bool:
            seen = await _seen(page)
            return bool(seen) and seen[0] < since

        await eventually(has_moved)
        now = await _seen(page)
        assert now == list(range(now[0], now[-1] + 1))
        assert now[-1] >= before[0] - 1
        before = now
    assert await page.evaluate("document.querySelectorAll('*').length") < NODES_MOST

    await page.get_by_test_id("transcript").click(position={"x": 2, "y": 2})
    await page.keyboard.press("Home")
    await expect(page.get_by_text("Message number 0.")).to_be_in_viewport()
    await expect(last).to_have_count(1)  # the newest are always drawn
    await expect(page.get_by_text("Message number 200.")).to_have_count(0)
    await page.keyboard.press("Control+f")  # a search finds everything
    await page.get_by_test_id("find-field").fill("number 200.")
    await expect(page.get_by_text("Message number 200.")).to_be_in_viewport()
    await page.keyboard.press("Escape")
    await page.get_by_test_id("jump-latest").click()
    await expect(last).to_be_in_viewport()


async def test_a_question_above_is_drawn_wherever_the_reader_is(
    gateway: GatewayInside, open_page: OpenPage, session_id: str
) -> None:
    await gateway.send(session_id, "talk", agent="talker")
    await state_when(gateway.http, session_id, lambda s: not s["is_processing"])
    await gateway.send(session_id, "ask")
    await state_when(gateway.http, session_id, lambda s: s.get("pending_permission"))
    page = await open_page(f"{gateway.url}/#s={session_id}")
    await expect(page.get_by_test_id("permission")).to_be_in_viewport()
    await page.locator(".scroller").hover()
    await page.locator(".scroller").click(position={"x": 2, "y": 100})
    await page.keyboard.press("Home")
    await expect(page.get_by_text("Message number 0.")).to_be_in_viewport()
    await expect(page.get_by_test_id("permission")).to_have_count(1)
    await page.get_by_test_id("permission-show").click()
    await expect(page.get_by_test_id("permission")).to_be_in_viewport()


async def test_it_opens_at_its_end_also_where_it_is_drawn_slowly(
    gateway: GatewayInside, open_page: OpenPage, session_id: str
) -> None:
    await gateway.send(session_id, "talk", agent="talker")
    await state_when(gateway.http, session_id, lambda s: not s["is_processing"])
    for _ in range(2):  # what is drawn first differs
        page = await open_page("about:blank")
        devtools = await page.context.new_cdp_session(page)
        await devtools.send("Emulation.setCPUThrottlingRate", {"rate": 6})
        await page.goto(f"{gateway.url}/#s={session_id}")
        await expect(page.get_by_text(f"Message number {MESSAGES - 1}.")).to_be_in_viewport()
        await page.close()


@pytest.mark.parametrize(("key", "code"), [("a", "KeyA"), ("\u05e9", "KeyA")])
async def test_everything_is_drawn_to_be_copied_with_any_keyboard(
    gateway: GatewayInside, open_page: OpenPage, session_id: str, key: str, code: str
) -> None:
    await gateway.send(session_id, "talk", agent="talker")
    await state_when(gateway.http, session_id, lambda s: not s["is_processing"])
    page = await open_page(f"{gateway.url}/#s={session_id}")
    await expect(page.get_by_text(f"Message number {MESSAGES - 1}.")).to_be_in_viewport()
    await page.get_by_test_id("transcript").click(position={"x": 2, "y": 2})
    pressed = f"new KeyboardEvent('keydown', {{key: '{key}', code: '{code}', ctrlKey: true, bubbles: true}})"
    await page.evaluate(f"document.body.dispatchEvent({pressed})")
    await expect(page.get_by_test_id("message-agent")).to_have_count(MESSAGES)
