"""Whether everybody can read a page: what axe finds wrong with it, and that it fits its window."""

from __future__ import annotations

import os
from typing import Any, Final

import pytest
from playwright.async_api import Page

from tests.chromium import PACKAGED

STILL: Final = """() => Promise.all(document.getAnimations()
    .filter((one) => one.effect?.getComputedTiming().endTime !== Infinity)
    .map((one) => one.finished.catch(() => 0)))"""
"""Waits for what moves to come to rest; the dots of an agent that works never do."""


async def fits(page: Page) -> bool:
    """Whether nothing has to be scrolled sideways."""
    return bool(await page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


async def complaints(page: Page) -> list[str]:
    """What axe finds wrong with the page as it is."""
    source = PACKAGED / "node_modules" / "axe-core" / "axe.min.js"
    if not source.is_file():
        words = "axe is NOT run: missing `npm ci` in tests/browser"
        pytest.fail(words) if os.environ.get("CI") else pytest.skip(words)
    await page.evaluate(STILL)
    await page.evaluate(source.read_text())  # the page lets no script in that is not its own
    found: Any = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [f"{one['id']}: {[node['target'] for node in one['nodes']]}" for one in found["violations"]]
