"""Texts that an agent says to freeze its reader's page, in a real Chromium: the page goes on answering, and
every later answer is shown.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import msgspec
import pytest
from playwright.async_api import Browser, Page, expect

from tests.gateways import RunningGateway
from tests.shared import SHARED, fresh_id, shared_gateway

MEGABYTE: Final = 1_000_000
CATEGORIES: Final = ["__metadata", "devtools.timeline", "disabled-by-default-devtools.timeline"]
TASK_MS: Final = 200
"""What a page may do at a stretch, of a processor's time. 100 ms are what a reader hardly notices, and what
these texts take alone on a machine; beside other tests that share its cores, up to twice as much."""

TEXTS: Final[Mapping[str, str]] = {
    "emphasis": "*a " * 10_000,
    "long emphasis": "*a " * (MEGABYTE // 3),
    "quotes": ">" * 3_000,
    "brackets": "[" * 50_000 + "](x" * 50_000,
    "words": "word " * (MEGABYTE // 5),
    "one word": "x" * MEGABYTE,
    "lines": "a\n" * (MEGABYTE // 2),
    "paragraphs": "a\n\n" * (MEGABYTE // 10),
    "lists": "".join(f"{' ' * 2 * (n % 100)}- a\n" for n in range(5_000)),
    "columns": "|a" * 20_000 + "|\n" + "|-" * 20_000 + "|\n",
    "rows": "|a|b|\n|-|-|\n" + "|c|d|\n" * 50_000,
    "code": "```js\n" + "let a = '((((' + `${b}`;\n" * 30_000 + "```\n",
    "wide code": "```\n" + "x" * (MEGABYTE // 2) + "\n```\n",
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
        for n in range(12)
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


class Tasks(msgspec.Struct):
    """The longest tasks of a page's main thread, longest first."""

    processor: list[float]
    """Milliseconds of a processor."""

    seen: list[int]
    """Milliseconds as the page saw them; on a busy machine they hold others' work, too."""


@contextlib.asynccontextmanager
async def _page(browser: Browser, url: str) -> AsyncIterator[Page]:
    """A page whose tasks are traced. Until they are read, nothing asks it for much of what it shows: the
    answer is a task of its main thread, too, and a long one.
    """
    context = await browser.new_context(viewport={"width": 1100, "height": 800})
    try:
        await context.add_init_script(WATCH)
        page = await context.new_page()
        page.set_default_timeout(60_000)
        await browser.start_tracing(page=page, categories=CATEGORIES)
        try:
            await page.goto(url)
            yield page
        except BaseException:
            await browser.stop_tracing()
            raise
    finally:
        await context.close()


async def _tasks(browser: Browser, page: Page) -> Tasks:
    seen: list[int] = await page.evaluate("window.longTasks")
    trace = msgspec.json.decode(await browser.stop_tracing())
    return Tasks(_main_thread_tasks(trace), sorted(seen, reverse=True))


def _main_thread_tasks(trace: Any) -> list[float]:
    """Longest first, in milliseconds of processor time, of every page's main thread."""
    events = trace["traceEvents"]
    mains = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    tasks = [
        event.get("tdur", 0) / 1000
        for event in events
        if event["name"] == "RunTask" and (event["pid"], event["tid"]) in mains
    ]
    assert len(tasks) > 50, "the trace has the page's tasks"
    return sorted(tasks, reverse=True)


DRAWN: Final = """([answers, words]) => {
    const all = document.querySelectorAll("[data-testid=message-agent]");
    const last = all[all.length - 1];
    return all.length === answers && last.dataset.streaming === "false" && last.textContent.includes(words)
        && document.querySelector(".md[aria-busy=true]") === null;
}"""
"""True once there are so many answers, the last of them says so, and every block of each is on the page."""


LAST_SAYS: Final = """(words) => {
    const all = document.querySelectorAll("[data-testid=message-agent]");
    return all.length > 0 && all[all.length - 1].textContent.includes(words);
}"""


async def _until_drawn(page: Page, answers: int, words: str = "") -> None:
    await page.wait_for_function(DRAWN, arg=[answers, words], polling=100)


def _expect_short(tasks: Tasks) -> None:
    print(  # noqa: T201
        f"\nlongest tasks, ms of processor: {[round(one) for one in tasks.processor[:6]]}"
        f" of {len(tasks.processor)}; as the page saw them, ms: {tasks.seen[:6]}"
    )
    assert tasks.processor[0] < TASK_MS


async def test_every_answer_is_shown_and_the_page_never_stops(
    gateway: RunningGateway, browser: Browser
) -> None:
    session = fresh_id("hostile")
    await gateway.post("/api/sessions", {"session_id": session, "agent": "hostile"}, status=201)
    for _ in ALL["turns"]:
        await gateway.chat(session, "go on")
    async with _page(browser, f"{gateway.url}/#s={session}") as page:
        await page.wait_for_function(LAST_SAYS, arg="the last word", polling=100)
        await page.keyboard.press("Control+f")
        await page.keyboard.press(
            "Control+f"
        )  # the browser's own search: what is far from the reader is drawn
        await _until_drawn(page, len(ALL["turns"]), "the last word")
        tasks = await _tasks(browser, page)
        await expect(page.get_by_test_id("shown-plain")).to_have_count(0)
        shown = await page.evaluate(
            "[...document.querySelectorAll('.md')].reduce((sum, one) => sum + one.textContent.length, 0)"
        )
    said = sum(len(text) for text in TEXTS.values())
    print(f"\n{shown / 1e6:.2f} of {said / 1e6:.2f} million characters shown")  # noqa: T201
    assert shown > said / 2, "the rest is marks"
    _expect_short(tasks)


async def test_answers_that_grow_do_not_stop_it_either(gateway: RunningGateway, browser: Browser) -> None:
    session = fresh_id("live")
    await gateway.post("/api/sessions", {"session_id": session, "agent": "live"}, status=201)
    async with _page(browser, f"{gateway.url}/#s={session}") as page:
        for number in range(1, len(LIVE["turns"]) + 1):
            await page.locator("#composer").fill("go on")
            await page.locator("#composer").press("Enter")
            await _until_drawn(page, number)
        await _until_drawn(page, number, "the last word")
        tasks = await _tasks(browser, page)
    _expect_short(tasks)
