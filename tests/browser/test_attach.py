"""Files in the page, in a real Chromium: pasted, dropped, picked; cut, gone on with, removed; sent."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio
from playwright.async_api import FilePayload, Page, Route, expect

from tests.browser.conftest import OpenPage
from tests.browser.readable import complaints
from tests.browser.test_page import expect_answer, width_of
from tests.fake_model import FakeModel, fake_model
from tests.gateways import RunningGateway
from tests.inside import GatewayInside, gateway_inside
from tests.shared import SHARED, fresh_id

pytestmark = [SHARED, pytest.mark.browser]

PNG: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGP4z8DAAMIMUAoAHfAD/QvD0VkAAAAASUVORK5CYII="
)
GIVE: Final = """([kind, name, type, data]) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, {type}));
    const field = document.getElementById("composer");
    const init = {bubbles: true, cancelable: true};
    if (kind === "paste") {
        field.dispatchEvent(new ClipboardEvent("paste", {...init, clipboardData: transfer}));
    } else {
        field.dispatchEvent(new DragEvent(kind, {...init, dataTransfer: transfer}));
    }
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model() -> AsyncIterator[FakeModel]:
    async with fake_model() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(model: FakeModel, tmp_path_factory: Any) -> AsyncIterator[GatewayInside]:
    environ = {"AGENT_MODEL_URL": model.url, "AGENT_MODEL": "fake-model", "AGENT_MODEL_KEY": "k"}
    config = '[files]\nfile_bytes = 3_000_000\ntypes = ["image/*", "text/*"]\n'
    directory = tmp_path_factory.mktemp("gateway")
    async with gateway_inside(directory, config=config, environ=environ) as running:
        yield running


def at(gateway: RunningGateway, name: str) -> str:
    return f"{gateway.url}/#s={fresh_id(name)}"


async def give(page: Page, kind: str, name: str, media_type: str, data: bytes) -> None:
    """Pastes or drops a file."""
    await page.evaluate(GIVE, [kind, name, media_type, base64.b64encode(data).decode()])


async def pick(page: Page, *files: tuple[str, bytes]) -> None:
    payloads: list[FilePayload] = [
        {"name": name, "mimeType": "application/octet-stream", "buffer": data} for name, data in files
    ]
    await page.get_by_test_id("attach-input").set_input_files(payloads)


async def test_a_pasted_image_reaches_the_model_and_is_seen_in_the_message(
    gateway: GatewayInside, model: FakeModel, open_page: OpenPage
) -> None:
    page = await open_page(at(gateway, "paste"))
    await expect(page.get_by_test_id("composer")).to_be_visible()
    await give(page, "paste", "image.png", "image/png", PNG)
    file = page.get_by_test_id("attachment")
    await expect(file).to_have_attribute("data-state", "done")
    await expect(page.get_by_test_id("announcer")).to_have_text("image.png is attached.")
    await give(page, "dragenter", "b.md", "text/markdown", b"# b")
    await expect(page.get_by_test_id("drop-target")).to_be_visible()
    await give(page, "drop", "b.md", "text/markdown", b"# b")
    await expect(page.get_by_test_id("drop-target")).to_have_count(0)
    await give(page, "paste", "image.png", "image/png", PNG)
    await expect(page.locator("[data-testid=attachment][data-state=done]")).to_have_count(3)
    await expect(file.nth(2)).to_contain_text("image (2).png")

    await page.reload()
    await expect(page.locator("[data-testid=attachment][data-state=done]")).to_have_count(3)
    await file.nth(2).get_by_role("button", name="Remove image (2).png").click()
    await expect(file).to_have_count(2)
    await page.get_by_test_id("composer").fill("what is this?")
    await page.get_by_test_id("composer").press("Enter")
    await expect_answer(page, "what is this?")
    content = model.requests[-1].body["messages"][-1]["content"]
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert [part for part in content if part["type"] == "image_url"] == [
        {"type": "image_url", "image_url": {"url": url}}
    ]
    assert "# b" in content[0]["text"]
    await expect(file).to_have_count(0)
    sent = page.get_by_test_id("sent-attachment")
    await expect(sent).to_have_count(2)
    shown = sent.first.locator("img")
    await expect(shown).to_have_js_property("naturalWidth", 2)
    await page.reload()
    await expect(sent.first.locator("img")).to_have_js_property("naturalWidth", 2)
    await expect(page.get_by_test_id("attachment")).to_have_count(0)
    await pick(page, ("c.txt", b"c"))
    await expect(file).to_have_attribute("data-state", "done")
    assert await complaints(page) == []


async def test_a_cut_upload_says_so_and_goes_on_where_it_ended(
    gateway: GatewayInside, open_page: OpenPage
) -> None:
    page = await open_page(at(gateway, "cut"))
    parts: list[str] = []
    is_cut = True

    async def on_part(route: Route) -> None:
        parts.append(route.request.headers["content-range"])
        if is_cut and len(parts) > 1:
            await route.abort()
        else:
            await route.continue_()

    await page.route("**/files/content?*", on_part)
    data = b"x" * 2_500_000
    await pick(page, ("long.txt", data))
    file = page.get_by_test_id("attachment")
    await expect(file).to_have_attribute("data-state", "failed")
    await expect(file).to_contain_text("The gateway cannot be reached")
    is_cut = False
    await file.get_by_role("button", name="Retry the upload of long.txt").click()
    await expect(file).to_have_attribute("data-state", "done")
    assert parts[0] == "bytes 0-2097151/2500000"
    assert set(parts[1:]) == {"bytes 2097152-2499999/2500000"}
    session_id = page.url.partition("#s=")[2]
    async with gateway.http.get(f"/api/sessions/{session_id}/uploads/long.txt") as response:
        assert await response.read() == data


async def test_what_is_refused_is_said_in_words_and_a_message_waits_for_its_files(
    gateway: GatewayInside, open_page: OpenPage
) -> None:
    page = await open_page(at(gateway, "phone"), width=360, height=700, locale="he-IL")
    await pick(page, ("large.txt", b"x" * 3_000_001), ("program.png", b"MZ\0\0"), ("תמונה.png", PNG))
    files = page.get_by_test_id("attachment")
    await expect(files.nth(0)).to_contain_text("הקובץ גדול מהמותר כאן.")
    await expect(files.nth(1)).to_contain_text("קבצים מסוג זה אינם מתקבלים כאן.")
    await expect(files.nth(2)).to_have_attribute("data-state", "done")
    await expect(page.get_by_test_id("send")).to_be_disabled()
    assert await width_of(page) <= 360
    for _ in range(2):
        await files.first.get_by_test_id("attachment-remove").focus()
        await page.keyboard.press("Enter")
    await expect(files).to_have_count(1)
    await page.get_by_test_id("send").click()
    await expect(page.get_by_test_id("sent-attachment")).to_contain_text("תמונה.png")
    await expect_answer(page, "You said")
    await pick(page, ("large.txt", b"x" * 3_000_001))
    await expect(files.first).to_have_attribute("data-state", "failed")
    assert await complaints(page) == []
