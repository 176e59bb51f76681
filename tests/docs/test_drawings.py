"""Every Mermaid drawing of the documents is drawn by Mermaid itself, in the tests' browser.

Mermaid is one file of its npm package, fetched once into `.cache`; where it or a browser cannot be had, the
drawings are not tested, and that is said.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import shutil
import subprocess
import tarfile
from typing import Any, Final

import pytest
from playwright.async_api import Page

from tests.chromium import launched
from tests.docs.documents import DOCUMENTS, MAPS, blocks
from tests.gateways import ROOT
from tests.patience import crowding
from tests.real_agents import INSTALL_TIMEOUT_SECONDS, AgentUnavailable, installed

MERMAID: Final = "mermaid@12.3.0"
PROGRAM: Final = "mermaid.min.js"
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


def by_pack(folder: pathlib.Path, pin: str) -> None:
    """The one file, without the packages that it was made of. Raises AgentUnavailable."""
    npm = shutil.which("npm")
    if npm is None:
        raise AgentUnavailable(f"{pin}: there is no npm")
    command = (npm, "pack", "--silent", "--pack-destination", str(folder), pin)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_SECONDS * crowding()
    )
    if done.returncode != 0:
        raise AgentUnavailable(f"{pin}: {done.stderr.strip()[-300:] or 'no reason given'}")
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as tar:
        content = tar.extractfile(f"package/dist/{PROGRAM}")
        assert content is not None
        (folder / PROGRAM).write_bytes(content.read())
    archive.unlink()


async def mermaid() -> pathlib.Path:
    try:
        folder = await asyncio.to_thread(installed, "mermaid", MERMAID, by_pack, below=ROOT / ".cache")
    except AgentUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"NOT TESTED, Mermaid cannot be had: {error}")
    return folder / PROGRAM


async def drawn(page: Page, text: str) -> str:
    """An SVG, or what is wrong with the text."""
    return str(await page.evaluate(DRAW, text))


async def test_every_drawing_is_drawn_by_mermaid() -> None:
    script = await mermaid()
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
