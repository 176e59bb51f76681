"""Texts that an agent says to freeze its reader's page, in a real Chromium: the page goes on answering, and every
later answer is shown.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import pytest
from playwright.async_api import Browser, Page, expect

from tests.gateways import RunningGateway
from tests.shared import SHARED, fresh_id, shared_gateway

MEGABYTE: Final = 1_000_000
TASK_MS: Final = 100
"""What a page may do at a stretch without its reader noticing much."""

TEXTS: Final[Mapping[str, str]] = {
    "emphasis": "*a " * 10_000,
    "long emphasis": "*a " * (MEGABYTE // 3),
    "quotes": ">" * 3_000,
    "brackets": "[" * 50_000 + "](x" * 50_000,
    "words": "word " * (MEGABYTE // 5),
    "one word": "x" * MEGABYTE,
    "lines": "a\n" * (MEGABYTE // 2),
    "paragraphs": "a\n\n" * (MEGABYTE // 3),
    "lists": "".join(f"{' ' * 2 * (n % 100)}- a\n" for n in range(5_000)),
    "columns": "|a" * 20_000 + "|\n" + "|-" * 20_000 + "|\n",
    "rows": "|a|b|\n|-|-|\n" + "|c|d|\n" * 50_000,
    "code": "```js\n" + "let a = '((((' + `${b}`;\n" * 30_000 + "```\n",
    "wide code": "```\n" + "x" * MEGABYTE + "\n```\n",
    "entities": "&amp;&#" * 100_000,
    "tags": "<details>a<b>" * 50_000,
}
"""By what they are made of."""

WATCH: Final = """
window.longTasks = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.longTasks.push(Math.round(entry.duration));
}).observe({type: "longtask", buffered: true});
"""

BIG_DIFF: Final = {
    "type": "diff",
    "path": "x" * 100_000,
    "oldText": "".join(f"a{n}\n" for n in range(600)),
    "newText": "".join(f"b{n}\n" for n in range(600)) + "y" * MEGABYTE,
}


def _deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


TOOLS: Final[list[dict[str, Any]]] = [
    {"tool": {"title": "t" * 200_000, "kind": "execute", "input": _deep(200), "output": "o" * MEGABYTE}},
    {"plan": [{"content": "p" * 20_000, "priority": "low", "status": "pending"} for _ in range(300)]},
    {"think": "*a " * (MEGABYTE // 3)},
    *(
        {
            "update": {
                "sessionUpdate": "tool_call",
                "toolCallId": f"diff-{n}",
                "title": f"edit {n}",
                "kind": "edit",
                "status": "completed",
                "content": [BIG_DIFF] if n == 0 else [{**BIG_DIFF, "newText": "z\n" * 500}],
            }
        }
        for n in range(30)
    ),
    {"say": "after the tools"},
]

ALL: Final = {
    "turns": [*([{"say": text}] for text in TEXTS.values()), TOOLS, [{"say": "the last word"}]],
}
LIVE: Final = {
    "turns": [
        [{"say": {"chunks": [text[at : at + 20_000] for at in range(0, 400_000, 20_000)], "delay_ms": 20}}]
        for text in (TEXTS["long emphasis"], TEXTS["paragraphs"], TEXTS["code"], TEXTS["words"])
    ]
    + [[{"say": "the last word"}]],
}

gateway = shared_gateway(agents={"hostile": ALL, "live": LIVE})
pytestmark = [SHARED, pytest.mark.browser]


@contextlib.asynccontextmanager
async def _watched(browser: Browser, url: str) -> AsyncIterator[Page]:
    """A page that counts its long tasks."""
    context = await browser.new_context(viewport={"width": 1100, "height": 800})
    try:
        await context.add_init_script(WATCH)
        page = await context.new_page()
        page.set_default_timeout(60_000)
        await page.goto(url)
        yield page
    finally:
        await context.close()


async def _longest_tasks(page: Page) -> list[int]:
    tasks: list[int] = await page.evaluate("window.longTasks")
    return sorted(tasks, reverse=True)


async def _until_drawn(page: Page) -> None:
    """Every block of every answer is on the page."""
    await expect(page.locator(".md[aria-busy=true]")).to_have_count(0, timeout=60_000)


async def test_every_answer_is_shown_and_the_page_never_stops(
    gateway: RunningGateway, browser: Browser
) -> None:
    session = fresh_id("hostile")
    await gateway.post("/api/sessions", {"session_id": session, "agent": "hostile"}, status=201)
    for _ in ALL["turns"]:
        await gateway.chat(session, "go on")
    async with _watched(browser, f"{gateway.url}/#s={session}") as page:
        await expect(page.get_by_test_id("message-agent").last).to_contain_text("the last word", timeout=60_000)
        await expect(page.get_by_test_id("message-agent")).to_have_count(len(ALL["turns"]))
        await _until_drawn(page)
        await expect(page.get_by_test_id("shown-plain")).to_have_count(0)
        tasks = await _longest_tasks(page)
        shown = await page.evaluate("document.querySelector('[data-testid=transcript]').textContent.length")
    print(f"\nlongest tasks, ms: {tasks[:8]} of {len(tasks)}; {shown / 1e6:.1f} million characters shown")  # noqa: T201
    assert shown > 7 * MEGABYTE
    assert not [task for task in tasks if task > TASK_MS]


async def test_answers_that_grow_do_not_stop_it_either(gateway: RunningGateway, browser: Browser) -> None:
    session = fresh_id("live")
    await gateway.post("/api/sessions", {"session_id": session, "agent": "live"}, status=201)
    async with _watched(browser, f"{gateway.url}/#s={session}") as page:
        for number in range(1, len(LIVE["turns"]) + 1):
            await page.get_by_test_id("composer").fill("go on")
            await page.get_by_test_id("composer").press("Enter")
            answer = page.get_by_test_id("message-agent")
            await expect(answer).to_have_count(number, timeout=60_000)
            await expect(answer.last).to_have_attribute("data-streaming", "false", timeout=60_000)
        await expect(page.get_by_test_id("message-agent").last).to_contain_text(re.compile("the last word"))
        await _until_drawn(page)
        tasks = await _longest_tasks(page)
    print(f"\nlongest tasks, ms: {json.dumps(tasks[:8])} of {len(tasks)}")  # noqa: T201
    assert not [task for task in tasks if task > TASK_MS]
