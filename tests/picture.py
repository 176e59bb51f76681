"""Takes the README's picture: an edit of a real agent, with its diff, waiting for a person's word.

    python -m tests.picture docs/page.png

The gateway, the page, the agent (opencode, unedited) and its edit are real; the model behind the agent is a
script on loopback, because a real one wants a key.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pathlib
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any, Final

from playwright.async_api import Browser, Page, expect

from tests.chromium import launched
from tests.fake_model import fake_model
from tests.gateways import RunningGateway, running_gateway
from tests.real_agents import Launch, opencode

WIDTH: Final = 1280
HEIGHT: Final = 860
SECONDS: Final = 120
OTHERS: Final = ("Release notes for 0.4", "תוכנית שיווק לחנות הטבע", "Plan the herb garden")
FILE: Final = "prices.py"
BEFORE: Final = '''"""What an order costs."""


def total(lines):
    sum = 0
    for line in lines:
        sum = sum + line.price * line.quantity
    return sum
'''
OLD: Final = BEFORE[BEFORE.index("    sum = 0") :]
NEW: Final = "    return sum(line.price * line.quantity for line in lines)\n"
FIRST: Final = "Write prices.py: what an order costs."
SECOND: Final = "total() hides the built-in sum. Make it one line, please."


def script(body: dict[str, Any]) -> dict[str, Any]:
    """What the model says: it writes the file, and when it is asked again, edits it."""
    messages = body["messages"]
    offered = {tool["function"]["name"] for tool in body.get("tools") or ()}
    is_done = messages[-1]["role"] == "tool"
    is_second = SECOND in json.dumps(messages, ensure_ascii=False)
    if not offered:
        return said("Prices of an order")
    if is_second:
        arguments = {"filePath": FILE, "oldString": OLD, "newString": NEW}
        return said("Done.") if is_done else called("edit", arguments, "The loop can go:")
    if is_done:
        return said("`total` adds up **price × quantity** of each line.")
    return called("write", {"filePath": FILE, "content": BEFORE}, "")


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def called(name: str, arguments: dict[str, str], words: str) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return said(words) | {"tool_calls": [{"id": f"call_{name}", "type": "function", "function": function}]}


def config_of(launch: Launch) -> str:
    readable = json.dumps([str(path) for path in launch.readable])
    lines = ["[agents.opencode]", f"command = {json.dumps(launch.command)}", f"readable = {readable}"]
    env = [f"{name} = {json.dumps(value)}" for name, value in launch.env.items()]
    return "\n".join([*lines, 'network = "shared"', "[agents.opencode.env]", *env])


async def take(path: pathlib.Path) -> None:
    """Writes the picture."""
    with tempfile.TemporaryDirectory() as directory:
        async with fake_model() as model, launched() as browser:
            model.script = script
            launch = await asyncio.to_thread(opencode, model.url)
            async with running_gateway(pathlib.Path(directory), config=config_of(launch)) as gateway:
                await talk_of_others(gateway)
                await gateway.post("/api/sessions", {"session_id": "prices", "agent": "opencode"}, status=201)
                look = {"viewport": {"width": WIDTH, "height": HEIGHT}, "color_scheme": "light"}
                await shoot(browser, f"{gateway.url}/#s=prices", converse, path, **look)


async def talk_of_others(gateway: RunningGateway) -> None:
    """Conversations beside the one in the picture."""
    for number, title in enumerate(reversed(OTHERS)):
        body = {"session_id": f"other-{number}", "agent": "built-in"}
        await gateway.post("/api/sessions", body, status=201)
        await gateway.chat(f"other-{number}", title)


async def shoot(
    browser: Browser, url: str, ready: Callable[[Page], Awaitable[None]], path: pathlib.Path, **look: Any
) -> None:
    """Writes the picture of an address in a window of its own, once it is ready."""
    context = await browser.new_context(locale="en-US", reduced_motion="reduce", **look)
    page = await context.new_page()
    page.set_default_timeout(SECONDS * 1000)
    await page.goto(url)
    await ready(page)
    await page.mouse.move(0, 0)
    await page.screenshot(path=path, animations="disabled", caret="hide")
    await context.close()


async def converse(page: Page) -> None:
    """Up to the moment of the picture."""
    await say(page, FIRST)
    await page.get_by_test_id("permission").get_by_role("button", name="Allow once").click()
    await expect(page.get_by_test_id("message-agent").last).to_contain_text(
        "quantity", timeout=SECONDS * 1000
    )
    await say(page, SECOND)
    await expect(page.get_by_test_id("permission").last).to_contain_text(
        "line.quantity", timeout=SECONDS * 1000
    )


async def say(page: Page, text: str) -> None:
    await page.get_by_test_id("composer").fill(text)
    await page.get_by_test_id("composer").press("Enter")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Takes the README's picture.")
    parser.add_argument("path", type=pathlib.Path)
    asyncio.run(take(parser.parse_args().path))
