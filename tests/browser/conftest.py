"""Windows of a real Chromium for the tests of the page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from tests.chromium import launched
from tests.shared import crowding

OpenPage = Callable[..., Awaitable[Page]]
"""Opens a page in a window of its own: `await open_page(url, viewport=…, locale=…)`."""
PATIENCE_MS: Final = 15_000


@pytest.fixture(autouse=True)
def patience() -> None:
    """What is expected of a page may take longer on a busy machine."""
    expect.set_options(timeout=PATIENCE_MS * crowding())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all tests of a module; each test has windows of its own."""
    async with launched() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def open_page(browser: Browser) -> AsyncIterator[OpenPage]:
    """Opens windows that share nothing; at the end none of them may have complained on its console."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    async def open_one(url: str, *, width: int = 1100, height: int = 800, locale: str = "en-US") -> Page:
        context = await browser.new_context(viewport={"width": width, "height": height}, locale=locale)
        contexts.append(context)
        page = await context.new_page()
        page.set_default_timeout(PATIENCE_MS * crowding())
        page.on("console", listen)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(url)
        return page

    yield open_one
    for context in contexts:
        await context.close()
    refused = [text for text in complaints if "ERR_" not in text]
    assert not refused, refused
