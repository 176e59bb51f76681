"""What a page costs a browser: how long until its words can be read, and its main thread, from a trace."""

from __future__ import annotations

import contextlib
import json
import math
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from msgspec import Struct
from playwright.async_api import Browser, CDPSession, Page
from playwright.async_api import TimeoutError as NotInTime

KEYS: Final = 15
PATIENCE_MS: Final = 60_000
AFTERWARDS_MS: Final = 2_000
"""What goes on behind the last words counts so long, too."""

CATEGORIES: Final = [
    *("__metadata", "devtools.timeline", "disabled-by-default-devtools.timeline", "blink.user_timing")
]
MARK: Final = "its-words-can-be-read"
SHOWN: Final = """(words) => {
  const all = document.querySelectorAll("[data-testid=message-agent], [data-message]");
  const last = all[all.length - 1];
  if (!last) return false;
  const walker = document.createTreeWalker(last, NodeFilter.SHOW_TEXT);
  while (walker.lastChild());
  for (let count = 0; count < 60; count += 1) {
    if (walker.currentNode.data?.includes(words)) {
      const range = document.createRange();
      range.selectNode(walker.currentNode);
      const place = range.getBoundingClientRect();
      return place.bottom > 0 && place.top < innerHeight && place.height > 0 && performance.now();
    }
    if (!walker.previousNode()) return false;
  }
  return false;
}"""
"""Milliseconds since the page was asked for, once the words can be seen."""
LOOK: Final = f"""
const look = () => {{
  const at = ({SHOWN})(WORDS);
  if (!at) return setTimeout(look, 30);
  performance.mark("{MARK}");
  window.readableAt = at;
}};
setTimeout(look, 30);
"""
"""Looks for the words from within the page, and marks its trace."""
FOUND: Final = """() => /\\d/.test(document.querySelector("[data-testid=find-count]")?.textContent ?? "")"""
AT_BEGINNING: Final = """() => {
  const box = document.querySelector(".scroller");
  return !document.querySelector("[data-testid=earlier]") && box.scrollTop === 0;
}"""
KEY_TO_PAINT: Final = """
window.keys = [];
addEventListener("keydown", () => {
  const at = performance.now();
  requestAnimationFrame(() => setTimeout(() => window.keys.push(performance.now() - at)));
}, true);
"""


class Opened(Struct, frozen=True):
    """Of a page that was opened."""

    ready_ms: float
    ready_thread_ms: float
    """Of `thread_ms`, what was before that."""
    thread_ms: float
    longest_ms: float
    elements: int
    megabytes: float


class Streamed(Struct, frozen=True):
    """Of an answer that grew."""

    thread_ms: float
    longest_ms: float


async def opened(browser: Browser, page: Page, url: str, words: str, slower: int) -> Opened:
    """Opens an address until the words can be seen, and two seconds more."""
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("Emulation.setCPUThrottlingRate", {"rate": slower})
    await page.add_init_script(LOOK.replace("WORDS", json.dumps(words)))
    await browser.start_tracing(page=page, categories=CATEGORIES)
    try:
        await page.goto(url, timeout=PATIENCE_MS, wait_until="commit")
        shown = await page.wait_for_function("() => window.readableAt", timeout=PATIENCE_MS, polling=100)
        ready = float(await shown.json_value())
        await page.wait_for_timeout(AFTERWARDS_MS)
    except NotInTime:
        ready = math.inf
    trace = await browser.stop_tracing()
    before, tasks = tasks_of(trace, until=MARK), tasks_of(trace)
    await devtools.send("Emulation.setCPUThrottlingRate", {"rate": 1})
    elements = await page.evaluate("document.querySelectorAll('*').length")
    return Opened(ready, sum(before), sum(tasks), max(tasks), int(elements), await heap(devtools))


def tasks_of(trace: bytes, *, until: str = "") -> list[float]:
    """Milliseconds of processor time of each task of the page's main thread, or of those before a mark; on a
    busy machine a task lasts longer than that.
    """
    events: list[dict[str, Any]] = json.loads(trace)["traceEvents"]
    # The browser has pages of its own.
    own = {event["pid"] for event in events if "chrome://" in str(event.get("args", {}).get("beginData"))}
    mains = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    end = min((event["ts"] for event in events if event["name"] == until), default=math.inf)
    return [
        event.get("tdur", 0) / 1000
        for event in events
        if event["name"] == "RunTask"
        and (event["pid"], event["tid"]) in mains
        and event["pid"] not in own
        and event["ts"] < end
    ]


async def longest(browser: Browser, page: Page, slower: int, act: Callable[[], Awaitable[object]]) -> float:
    """The longest task while something is done."""
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("Emulation.setCPUThrottlingRate", {"rate": slower})
    await browser.start_tracing(page=page, categories=CATEGORIES)
    with contextlib.suppress(NotInTime):
        await act()
    return max(tasks_of(await browser.stop_tracing()))


async def found(page: Page, words: str) -> None:
    """Finds words that are far from the end."""
    await page.keyboard.press("Control+f")
    await page.get_by_test_id("find-field").fill(words)
    await page.wait_for_function(FOUND, timeout=PATIENCE_MS, polling=200)
    await page.wait_for_timeout(AFTERWARDS_MS)
    await page.keyboard.press("Escape")


async def at_beginning(page: Page) -> None:
    """Goes to the first message."""
    await page.evaluate("document.activeElement.blur()")
    await page.keyboard.press("Home")
    await page.wait_for_function(AT_BEGINNING, timeout=PATIENCE_MS, polling=200)
    await page.wait_for_timeout(AFTERWARDS_MS)


async def heap(devtools: CDPSession) -> float:
    """Megabytes of the page's objects."""
    await devtools.send("HeapProfiler.collectGarbage")
    usage: dict[str, Any] = await devtools.send("Runtime.getHeapUsage")
    return float(usage["usedSize"]) / 1e6


async def streamed(browser: Browser, page: Page, words: str) -> Streamed:
    """Sends a message and reads the answer to its last words."""
    await page.get_by_test_id("composer").fill("go on")
    await browser.start_tracing(page=page, categories=CATEGORIES)
    await page.keyboard.press("Enter")
    with contextlib.suppress(NotInTime):
        await page.wait_for_function(SHOWN, arg=words, timeout=PATIENCE_MS, polling=200)
    await page.wait_for_timeout(500)
    tasks = tasks_of(await browser.stop_tracing())
    return Streamed(sum(tasks), max(tasks))


async def key_to_paint(page: Page, slower: int) -> float:
    """The median from a key to the frame that shows it."""
    devtools = await page.context.new_cdp_session(page)
    await page.evaluate(KEY_TO_PAINT)
    await page.get_by_test_id("composer").click()
    await devtools.send("Emulation.setCPUThrottlingRate", {"rate": slower})
    for _ in range(KEYS):
        await page.keyboard.press("a")
        await page.wait_for_timeout(60)
    await devtools.send("Emulation.setCPUThrottlingRate", {"rate": 1})
    return float(statistics.median(await page.evaluate("window.keys")))


@contextlib.asynccontextmanager
async def window(browser: Browser) -> AsyncIterator[Page]:
    """A window of its own."""
    context = await browser.new_context(viewport={"width": 1100, "height": 800})
    page = await context.new_page()
    try:
        yield page
    finally:
        await context.close()
