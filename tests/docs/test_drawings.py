"""Every Mermaid drawing of the documents is drawn by Mermaid itself, in the tests' browser.

Mermaid is one file of the package that the page is built with; where it or a browser cannot be had, the
drawings are not tested, and that is said.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any, Final

import pytest
from playwright.async_api import Page

from tests.chromium import FRONTEND, launched
from tests.docs.documents import DOCUMENTS, MAPS, blocks
from tests.gateways import ROOT

LEAST: Final = 6
"""So many drawings there are at least: one whose fence is misspelt is shown as text, and not found here."""
DRAW: Final = """async text => {
    try { return (await mermaid.render("drawing", text)).svg } catch (error) { return String(error) }
}"""


def drawings() -> list[Any]:
    return [
        pytest.param(block.text, id=f"{path.relative_to(ROOT)}:{block.line}")
        for path in (*DOCUMENTS, *MAPS)
        for block in blocks(path)
        if block.language == "mermaid"
    ]


def mermaid() -> pathlib.Path:
    """The program, of which the page has the package."""
    script = FRONTEND / "node_modules" / "mermaid" / "dist" / "mermaid.min.js"
    if not script.is_file():
        words = "the drawings are NOT TESTED: missing `npm ci` in frontend/"
        pytest.fail(words) if os.environ.get("CI") else pytest.skip(words)
    return script


async def drawn(page: Page, text: str) -> str:
    """An SVG, or what is wrong with the text."""
    return str(await page.evaluate(DRAW, text))


async def test_every_drawing_is_drawn_by_mermaid() -> None:
    script = mermaid()
    async with launched() as browser:
        page = await browser.new_page()
        await page.add_script_tag(path=script)
        await page.evaluate("mermaid.initialize({startOnLoad: false})")
        assert not (await drawn(page, "flowchart LR\n    a[open --> b")).startswith("<svg"), (
            "it finds nothing"
        )
        found = drawings()
        assert len(found) >= LEAST
        for drawing in found:
            said = await drawn(page, drawing.values[0])
            assert said.startswith("<svg"), f"{drawing.id}: {said}"
