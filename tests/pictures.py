"""Takes the pictures of the page: each view in light, in dark, and on a phone.

    python -m tests.pictures                       # into docs/pictures
    python -m tests.pictures FOLDER --only chat operations

The gateways and the page are real; what the agents say is a scenario, so that a picture changes only if the
page does. `gateways` is the operations page of two gateways on one PostgreSQL. A picture larger than
`BYTES_MOST` is named, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from msgspec import Struct
from playwright.async_api import Page, expect

from gateway.telemetry.recent import Recent
from tests.chromium import launched
from tests.gateways import RunningGateway, Scenario
from tests.inside import GatewayInside, gateway_inside
from tests.nodes import PATIENT, running_nodes
from tests.picture import BEFORE, NEW, OLD, OTHERS, SECOND, shoot, talk_of_others
from tests.products.shop import PASSWORD, config

FOLDER: Final = pathlib.Path(__file__).parent.parent / "docs" / "pictures"
BYTES_MOST: Final = 150_000
PATIENCE_MS: Final = 60_000
SESSION: Final = "pictures"
HISTORY_MINUTES: Final = 60
NODES: Final = 2
HERE: Final = 2
"""Conversations of the second of them."""
LAG_SECONDS: Final = 0.001
"""How long a lag of the loop is known: not until somebody looks."""
LOOKS: Final[dict[str, dict[str, Any]]] = {
    "light": {"viewport": {"width": 1200, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1200, "height": 800}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 780}, "color_scheme": "light"},
}

AFTER: Final = BEFORE.replace(OLD, NEW)
ANSWER: Final = """The prices are right now. `total` hid the built-in `sum`, so I removed the loop:

| order | before | after |
|---|---:|---:|
| 3 × cedar birdhouse | 74.70 | 74.70 |
| an empty order | 0 | 0 |

```python
def total(lines):
    return sum(line.price * line.quantity for line in lines)
```

1. The tests pass, **12 of 12**.
2. Nothing else uses the old name.
"""
EDIT: Final = {
    "toolCallId": "edit-1",
    "title": "Edit prices.py",
    "kind": "edit",
    "content": [{"type": "diff", "path": "prices.py", "oldText": BEFORE, "newText": AFTER}],
    "locations": [{"path": "prices.py", "line": 4}],
}
FILES: Final = (
    "mkdir -p src tests && printf '# Orders\\n\\nWhat they cost.\\n' > README.md && "
    "printf 'def total(lines):\\n    return sum(line.price for line in lines)\\n' > src/prices.py && "
    "printf 'order,total\\n1,74.70\\n2,0\\n' > orders.csv && touch tests/test_prices.py"
)
LOOKED: Final = {"title": "Read src/prices.py", "kind": "read", "input": {"path": "src/prices.py"}}
TESTED: Final = {"title": "pytest -q", "kind": "execute", "output": "12 passed in 0.31s"}
TURNS: Final[dict[str, list[dict[str, Any]]]] = {
    "chat": [
        {"think": "The loop can be one expression. First I look at who calls it."},
        {"plan": ["Read the code", "Replace the loop", "Run the tests"]},
        {"tool": {**LOOKED, "output": BEFORE}},
        {"tool": TESTED},
        {"say": ANSWER},
    ],
    "diff": [
        {"say": "The loop can go:"},
        {"update": {"sessionUpdate": "tool_call", "status": "completed", **EDIT}},
        {"tool": TESTED},
        {"say": "Done. `total` is one line now."},
    ],
    "permission": [{"say": "I would change one function:"}, {"ask": {"toolCall": EDIT}}],
    "files": [{"run": FILES}, {"say": "The report is in `orders.csv`."}],
}
SOLD: Final = "Yes. It is oiled **cedar**, and it stays outside all year."
MESSAGES: Final = {
    "chat": "What does an order cost? Something is wrong in prices.py.",
    "diff": "Make total() one line, please.",
    "permission": SECOND,
    "files": "Write the report of last week's orders.",
}


class View(Struct, frozen=True):
    """One view: its address, and what is done until it is ready to be taken."""

    address: str
    ready: Callable[[Page], Awaitable[None]]


# -- the gateways --------------------------------------------------------------------------------


@asynccontextmanager
async def office(directory: pathlib.Path) -> AsyncIterator[GatewayInside]:
    """A gateway whose agents play the conversations, with an hour of history for its operators."""
    agents: dict[str, Scenario] = {name: {"turns": [turn], "repeat": True} for name, turn in TURNS.items()}
    text = "[quotas.subject]\nmessages_per_day = 200\n[tenants.acme]\ntitle = 'Acme Ltd'\n"
    begun = time.time_ns() // 1_000_000 - HISTORY_MINUTES * 60_000
    async with gateway_inside(directory, config=text, agents=agents, at_ms=begun) as gateway:
        await talk_of_others(gateway)
        for name, message in MESSAGES.items():
            body = {"session_id": f"{SESSION}-{name}", "agent": name}
            await gateway.post("/api/sessions", body, status=201)
            if name != "permission":
                await gateway.chat(f"{SESSION}-{name}", message)
        await gateway.send(f"{SESSION}-permission", MESSAGES["permission"])
        await _an_hour_passes(gateway)
        yield gateway


async def _an_hour_passes(gateway: GatewayInside) -> None:
    """Until it is now. That the clock jumps is no lag of the loop, and none is shown."""
    metrics = gateway.inner.services.metrics
    for minute in range(HISTORY_MINUTES):
        gateway.clock.advance(60)
        if minute % 7 == 0:
            await gateway.chat(f"other-{minute % len(OTHERS)}", "And then?")
        await gateway.inner.own.pulse.beat()
    await asyncio.sleep(1)
    metrics.loop_lags = Recent(gateway.clock.monotonic, window_seconds=LAG_SECONDS)


@asynccontextmanager
async def shop(directory: pathlib.Path) -> AsyncIterator[GatewayInside]:
    """A gateway with a shop and its staff."""
    agents: dict[str, Scenario] = {"clerk": {"turns": [[{"say": SOLD}]], "repeat": True}}
    text = config(address_rate=6000, agent="clerk")
    async with gateway_inside(directory, config=text, agents=agents) as gateway:
        yield gateway


@asynccontextmanager
async def two_gateways(directory: pathlib.Path) -> AsyncIterator[RunningGateway]:
    """One of two gateways on one database, each with conversations."""
    async with running_nodes(directory, NODES, environ=PATIENT) as nodes:
        await talk_of_others(nodes[0])
        for number in range(HERE):
            await nodes[1].chat(f"{SESSION}-there-{number}", "And over there?")
        yield nodes[0]


# -- the views -----------------------------------------------------------------------------------


async def _shows(page: Page, text: str) -> None:
    await expect(page.get_by_text(text).last).to_be_visible()


async def _coloured(page: Page) -> None:
    """The colours of code come later than the code."""
    await expect(page.locator("[class^=hljs-]").first).to_be_attached()


async def _chat(page: Page) -> None:
    await _shows(page, "Nothing else uses the old name")
    await _coloured(page)


async def _diff(page: Page) -> None:
    await _shows(page, "is one line now")
    for fold in await page.locator("details:not([open]) > summary").all():
        await fold.click()
    await _coloured(page)


async def _permission(page: Page) -> None:
    await expect(page.get_by_test_id("permission").last).to_be_visible()
    await _coloured(page)


async def _files(page: Page) -> None:
    await _shows(page, "The report is in")
    await page.get_by_test_id("open-files").click()
    await expect(page.get_by_test_id("file-row").first).to_be_visible()


async def _operations(page: Page) -> None:
    await expect(page.get_by_test_id("people")).to_be_visible()


async def _gateways(page: Page) -> None:
    await expect(page.get_by_test_id("nodes").locator("tbody tr")).to_have_count(NODES)
    await page.locator("#ops-nodes").evaluate("(table) => table.scrollIntoView({ block: 'center' })")


async def _widget(page: Page) -> None:
    await page.locator(".launcher").click()
    await page.locator(".panel textarea").fill("May it stay outside in winter?")
    await page.locator(".panel textarea").press("Enter")
    await expect(page.locator('.log li[data-sender="assistant"]').last).to_contain_text("outside all year")


async def _inbox(page: Page) -> None:
    await page.locator("input[name=username]").fill("ruth")
    await page.locator("input[name=password]").fill(PASSWORD)
    await page.locator("button[type=submit]").first.click()
    row = page.locator("#chats li button").first
    await row.click()
    await expect(page.locator("#log li").first).to_be_visible()


def _views(office: RunningGateway, shop: RunningGateway, node: RunningGateway | None) -> dict[str, View]:
    of = f"{office.url}/#s={SESSION}"
    return {
        "chat": View(f"{of}-chat", _chat),
        "permission": View(f"{of}-permission", _permission),
        "diff": View(f"{of}-diff", _diff),
        "files": View(f"{of}-files", _files),
        "operations": View(f"{office.url}/#/operations", _operations),
        **({} if node is None else {"gateways": View(f"{node.url}/#/operations", _gateways)}),
        "widget": View(f"{shop.url}/demo/product?id=1", _widget),
        "inbox": View(f"{shop.url}/inbox", _inbox),
    }


async def take(folder: pathlib.Path, only: list[str]) -> list[pathlib.Path]:
    """Takes them; the answer are those that are too large."""
    folder.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=PATIENCE_MS)
    large = []
    async with AsyncExitStack() as stack:
        places = [pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(3)]
        is_wanted = not only or "gateways" in only
        node = await stack.enter_async_context(two_gateways(places[2])) if is_wanted else None
        views = _views(
            await stack.enter_async_context(office(places[0])),
            await stack.enter_async_context(shop(places[1])),
            node,
        )
        browser = await stack.enter_async_context(launched())
        for name, view in views.items():
            for look in LOOKS if name in (only or views) else ():
                path = folder / f"{name}-{look}.png"
                await shoot(browser, view.address, view.ready, path, **LOOKS[look])
                size = path.stat().st_size
                sys.stdout.write(f"{path.name:24} {size / 1000:6.1f} kB\n")
                large += [path] if size > BYTES_MOST else []
    return large


def main() -> int:
    """Takes the pictures that the command line names; 1 if one is too large."""
    parser = argparse.ArgumentParser(description="Takes the pictures of the page.")
    parser.add_argument("folder", type=pathlib.Path, nargs="?", default=FOLDER)
    parser.add_argument("--only", nargs="+", default=[], help="views, by name")
    options = parser.parse_args()
    large = asyncio.run(take(options.folder, options.only))
    for path in large:
        sys.stderr.write(f"{path.name} is larger than {BYTES_MOST / 1000:.0f} kB\n")
    return 1 if large else 0


if __name__ == "__main__":
    raise SystemExit(main())
