"""Far from the end: what is not here yet is fetched, found, addressed and printed, and nothing moves."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.inside import GatewayInside
from tests.shared import SHARED, eventually, fresh_id, shared_gateway
from tests.streams import state_when

MESSAGES: Final = 600
NODES_MOST: Final = 3_000
PARTS: Final = 2_500
TOOL: Final = {
    "tool": {"title": "Look around", "kind": "read", "input": {"where": "here"}, "output": "a tree"}
}


def _says(number: int) -> dict[str, Any]:
    text = f"Message number {number}.\n\nwith **bold**, `code` and {'words ' * (number % 40)}"
    chunk = {"sessionUpdate": "agent_message_chunk", "messageId": f"m{number}"}
    return {"update": {**chunk, "content": {"type": "text", "text": text}}}


LONG: Final = "".join(
    f"## Part {n}\n\nSome *words* of it, {'and more ' * 40}\n\n- one\n- two\n\n" for n in range(PARTS)
)
CHUNKS: Final = [LONG[at : at + 50_000] for at in range(0, len(LONG), 50_000)]
SCENARIOS: Final[dict[str, Any]] = {
    "talker": {"turns": [[_says(number) for number in range(MESSAGES)], [{"sleep": 100}, {"say": "Again."}]]},
    "writer": {"turns": [[{"say": {"chunks": CHUNKS}}]]},
    "worker": {"turns": [[TOOL, *[_says(number) for number in range(150)]]]},
}
IN_SIGHT: Final = """
(() => {
  const box = document.querySelector(".scroller").getBoundingClientRect();
  return [...document.querySelectorAll("[data-testid=message-agent]")]
    .map((one) => [one.textContent.slice(0, 20), Math.round(one.getBoundingClientRect().top)])
    .filter(([, top]) => top >= box.top && top < box.bottom)[0];
})()
"""
"""The first message in sight, and how far down it is."""
SETTLED: Final = """
new Promise((go) => {
  const box = document.querySelector(".scroller");
  let [still, last] = [0, ""];
  const look = () => {
    const now = `${box.scrollTop} ${box.scrollHeight}`;
    still = now === last ? still + 1 : 0;
    last = now;
    if (still >= 20) go(); else requestAnimationFrame(look);
  };
  look();
})
"""
"""Ends once nothing has moved for a while."""
WORDS: Final = """
() => {
  const box = document.querySelector(".scroller").getBoundingClientRect();
  const rows = new Set();
  const range = document.createRange();
  for (const item of document.querySelectorAll(".item")) {
    const place = item.getBoundingClientRect();
    if (place.bottom < box.top || place.top > box.bottom) continue;
    range.selectNodeContents(item);
    for (const { top, bottom, width } of range.getClientRects())
      for (let y = Math.max(box.top, top); width > 0 && y < Math.min(box.bottom, bottom); y += 10)
        rows.add(Math.floor((y - box.top) / 40));
  }
  return rows.size / (box.height / 40);
}
"""
"""Of the height that is seen, the part that has words."""
JUMP: Final = f"""
(part) => new Promise((go) => {{
  const box = document.querySelector(".scroller");
  box.scrollTop = part * box.scrollHeight;
  requestAnimationFrame(() => go(({WORDS})()));
}})
"""
"""Jumps to a part of the whole; how much of what is seen there has words before the next frame is drawn."""
WORDS_LEAST: Final = 0.4
COUNT: Final = "document.querySelectorAll('*').length"
FIRST_DRAWN: Final = """
new MutationObserver((_, observer) => {
  const drawn = [...document.querySelectorAll("[data-testid=message-agent]")].map((one) => one.textContent);
  if (drawn.length === 0) return;
  window.firstDrawn = drawn;
  observer.disconnect();
}).observe(document, { childList: true, subtree: true });
"""
"""Keeps the texts of the messages that are on the page before its first frame with messages."""
FIRST_MOST: Final = 2
DRAWN_MOST: Final = 40
"""Of the 50 messages that come at first: what is in sight, and a little more."""

pytestmark = [pytest.mark.browser, SHARED]
gateway = shared_gateway(agents=SCENARIOS)


async def _told(gateway: GatewayInside, agent: str) -> str:
    session_id = fresh_id("far")
    await gateway.send(session_id, "talk", agent=agent)
    await state_when(gateway.http, session_id, lambda s: not s["is_processing"])
    return session_id


async def _top(page: Page) -> Any:
    await page.evaluate(SETTLED)
    return await page.evaluate(IN_SIGHT)


async def test_it_draws_the_newest_first_and_no_more_than_is_near(
    gateway: GatewayInside, open_page: OpenPage
) -> None:
    talk, text = await _told(gateway, "talker"), await _told(gateway, "writer")
    page = await open_page("about:blank")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    await page.add_init_script(FIRST_DRAWN)
    await page.goto(f"{gateway.url}/#s={talk}")
    await expect(page.get_by_text(f"Message number {MESSAGES - 1}.")).to_be_in_viewport()
    first = await page.evaluate("window.firstDrawn")
    assert len(first) <= FIRST_MOST
    assert first[-1].startswith(f"Message number {MESSAGES - 1}.")
    await page.evaluate(SETTLED)
    drawn = await page.evaluate("document.querySelectorAll('[data-testid=message-agent]').length")
    assert FIRST_MOST < drawn <= DRAWN_MOST
    for path in ("/api/auth", "/api/agents", "/api/sessions", "/api/sessions/count", "/api/chat/stream"):
        assert asked.count(path) == 1, path
    await page.goto("about:blank")  # the end of a long answer is there before the text was read
    await page.goto(f"{gateway.url}/#s={text}")
    await expect(page.get_by_role("heading", name=f"Part {PARTS - 1}")).to_be_in_viewport()
    assert LONG.split()[-1] in (await page.evaluate("window.firstDrawn"))[0][-100:]
    await expect(page.get_by_test_id("not-read-yet")).to_have_count(0)


async def test_it_opens_with_the_last_and_fetches_earlier_ones_without_moving(
    gateway: GatewayInside, open_page: OpenPage
) -> None:
    session_id = await _told(gateway, "talker")
    page = await open_page(f"{gateway.url}/#s={session_id}")
    await expect(page.get_by_text(f"Message number {MESSAGES - 1}.")).to_be_in_viewport()
    await expect(page.get_by_test_id("earlier")).to_contain_text(r"Earlier messages")
    row = page.get_by_test_id("earlier")
    before = await row.inner_text()
    await page.locator(".scroller").hover()
    await page.mouse.wheel(0, -600)
    await expect(page.get_by_test_id("jump-latest")).to_be_visible()
    seen = await _top(page)
    await row.get_by_role("button").evaluate("(one) => one.click()")
    await expect(row).not_to_have_text(before)

    async def stays() -> bool:
        return bool(await _top(page) == seen)

    await eventually(stays)
    await page.locator(".scroller").click(position={"x": 2, "y": 200})
    await page.keyboard.press("Home")
    await expect(page.get_by_text("Message number 0.", exact=False).first).to_be_in_viewport()
    await expect(row).to_have_count(0)
    assert await page.evaluate(COUNT) < NODES_MOST
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("Emulation.setCPUThrottlingRate", {"rate": 4})
    for part in (0.5, 0.2, 0.7, 0.35, 0.9, 0.1):
        assert await page.evaluate(JUMP, part) > WORDS_LEAST, part
    await devtools.send("Emulation.setCPUThrottlingRate", {"rate": 1})
    await page.keyboard.press("Home")
    await page.evaluate("window.dispatchEvent(new Event('beforeprint'))")  # all of it is there at once
    assert await page.evaluate("document.querySelectorAll('[data-testid=message-agent]').length") == MESSAGES
    await page.evaluate("window.dispatchEvent(new Event('afterprint'))")

    async def is_light() -> bool:
        return bool(await page.evaluate(COUNT) < NODES_MOST)

    await eventually(is_light)
    seen = await _top(page)  # an answer far below does not take the reader along
    await gateway.send(session_id, "again")
    await state_when(gateway.http, session_id, lambda s: s["messages"][-1]["content"] == "Again.")
    await expect(page.get_by_test_id("jump-latest")).to_be_visible()
    assert (await _top(page))[0] == seen[0]
    await page.get_by_test_id("jump-latest").click()
    await expect(page.get_by_test_id("transcript").get_by_text("Again.")).to_be_in_viewport()


async def _copied(page: Page, has_all: Callable[[str], bool]) -> None:
    """Copies what is selected, and waits until it is in the clipboard."""
    await page.keyboard.press("Control+c")

    async def is_all() -> bool:
        return has_all(await page.evaluate("navigator.clipboard.readText()"))

    await eventually(is_all)


def _numbers(text: str) -> list[int]:
    return [int(one) for one in re.findall(r"Message number (\d+)", text)]


async def test_what_is_copied_at_once_has_no_holes(gateway: GatewayInside, open_page: OpenPage) -> None:
    session_id = await _told(gateway, "talker")
    page = await open_page(f"{gateway.url}/#s={session_id}")
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await expect(page.get_by_text(f"Message number {MESSAGES - 1}.")).to_be_in_viewport()
    await page.locator(".scroller").click(position={"x": 2, "y": 100})
    await page.keyboard.press("Control+a")
    await _copied(page, lambda text: _numbers(text) == list(range(MESSAGES)))


async def test_what_is_selected_between_far_ends_is_copied_with_code_that_comes_late(
    gateway: GatewayInside, open_page: OpenPage
) -> None:
    session_id = await _told(gateway, "worker")
    page = await open_page(f"{gateway.url}/#s={session_id}")
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    last = page.get_by_text("Message number 149.")
    await expect(last).to_be_in_viewport()
    await last.click(click_count=2)  # selects a word, far below the call of the tool
    await page.evaluate(
        """() => {
          const { focusNode, focusOffset } = getSelection();
          getSelection().setBaseAndExtent(focusNode, focusOffset, document.querySelector(".inner"), 0);
        }"""
    )
    await _copied(page, lambda text: _numbers(text) == list(range(150)) and "Look around" in text)


async def test_words_are_found_wherever_they_are_also_on_a_narrow_phone(
    gateway: GatewayInside, open_page: OpenPage
) -> None:
    session_id = await _told(gateway, "talker")
    page = await open_page(f"{gateway.url}/#s={session_id}", width=320, height=640)
    await expect(page.get_by_text(f"Message number {MESSAGES - 1}.")).to_be_in_viewport()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 320
    await page.get_by_test_id("open-find").click()
    field, count = page.get_by_test_id("find-field"), page.get_by_test_id("find-count")
    await field.fill("NUMBER 7.")
    await expect(count).to_have_text("1 of 1")
    await expect(page.get_by_text("Message number 7.")).to_be_in_viewport()
    await field.fill("number 8")
    await expect(count).to_have_text("1 of 11")  # 8, 80 to 89
    await expect(page.get_by_text("Message number 89.")).to_be_in_viewport()
    await page.keyboard.press("Enter")
    await expect(count).to_have_text("2 of 11")
    await expect(page.get_by_text("Message number 88.")).to_be_in_viewport()
    await page.wait_for_function("() => CSS.highlights.get('found-here').size === 1")
    await field.fill("no such words")
    await expect(count).to_have_text("Not found")
    assert await page.evaluate("document.documentElement.scrollWidth") <= 320
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("find")).to_have_count(0)


async def test_an_address_leads_to_one_message(gateway: GatewayInside, open_page: OpenPage) -> None:
    session_id = await _told(gateway, "talker")
    page = await open_page(f"{gateway.url}/#s={session_id}&m=5")
    await expect(page.get_by_text("Message number 4.")).to_be_in_viewport()  # the first is the person's
    await page.evaluate("location.hash = location.hash.replace('m=5', 'm=300')")
    await expect(page.get_by_text("Message number 299.")).to_be_in_viewport()


async def test_of_a_long_answer_only_what_is_near_is_drawn_and_all_is_found(
    gateway: GatewayInside, open_page: OpenPage
) -> None:
    session_id = await _told(gateway, "writer")
    page = await open_page(f"{gateway.url}/#s={session_id}")
    await expect(page.get_by_role("heading", name=f"Part {PARTS - 1}")).to_be_in_viewport()
    assert await page.evaluate(COUNT) < NODES_MOST
    await expect(page.get_by_role("heading", name="Part 1200")).to_have_count(0)
    await page.locator(".scroller").click(position={"x": 2, "y": 200})
    await page.keyboard.press("Control+f")
    await page.get_by_test_id("find-field").fill("part 1200")
    await expect(page.get_by_role("heading", name="Part 1200")).to_be_in_viewport()
    await page.keyboard.press("Escape")
    assert await page.evaluate(COUNT) < NODES_MOST


async def test_what_was_unfolded_stays_so(gateway: GatewayInside, open_page: OpenPage) -> None:
    session_id = await _told(gateway, "worker")
    page = await open_page(f"{gateway.url}/#s={session_id}&m=0")
    call = page.get_by_test_id("tool-call")
    await call.locator("summary").click()
    await expect(call.get_by_text("a tree")).to_be_visible()
    await page.evaluate("document.activeElement.blur()")
    await page.evaluate("location.hash = location.hash.replace('m=0', 'm=150')")
    await expect(call).to_have_count(0)
    await page.evaluate("location.hash = location.hash.replace('m=150', 'm=0')")
    await expect(call.get_by_text("a tree")).to_be_visible()
