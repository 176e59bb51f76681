"""A hostile page of an agent's server in a real browser: it works, and reaches nothing of the gateway."""

from __future__ import annotations

import json
import pathlib
from urllib.parse import quote

import pytest
from playwright.async_api import Browser, expect

from tests.browser.conftest import OpenPage
from tests.gateway.test_ports import config, served
from tests.inside import gateway_inside
from tests.shared import SHARED

pytestmark = [SHARED, pytest.mark.browser]


@pytest.mark.parametrize("ports_host", ["auto", "none"])
async def test_a_hostile_page_works_and_reaches_nothing_of_the_gateway(
    tmp_path: pathlib.Path, browser: Browser, ports_host: str
) -> None:
    settings = config("broker") + f'[server]\nports_host = "{ports_host}"\n'
    async with gateway_inside(tmp_path, config=settings) as gateway:
        at_localhost = gateway.url.replace("127.0.0.1", "localhost")
        port = await served(gateway, "s")
        page = await browser.new_page()  # its console is full of refusals
        await page.goto(f"{at_localhost}/api/sessions/s/ports/{port}/evil?{quote(at_localhost, safe='')}")
        await expect(page).to_have_title("done")
        found = json.loads(await page.inner_text("body"))
        await page.close()
        sessions = await gateway.get("/api/sessions")
    assert [each["session_id"] for each in sessions["sessions"]] == ["s"]
    assert found["own"] == "true"
    assert found["socket"] == "hello"
    assert (found["read"], found["write"]) == ("refused", "refused")
    if ports_host == "none":
        assert found["origin"] == "null"
        assert (found["cookie"], found["storage"], found["worker"]) == ("refused", "refused", "refused")
    else:
        assert "//p-" in found["origin"]
        assert "agw" not in found["cookie"]


async def test_a_server_is_opened_from_the_panel_of_files(
    tmp_path: pathlib.Path, open_page: OpenPage
) -> None:
    async with gateway_inside(tmp_path, config=config("broker")) as gateway:
        at_localhost = gateway.url.replace("127.0.0.1", "localhost")
        port = await served(gateway, "s")
        page = await open_page(f"{at_localhost}/#s=s")
        await page.get_by_test_id("open-files").click()
        link = page.get_by_test_id("servers").get_by_role("link")
        await expect(link).to_have_accessible_name(f"Open port {port} in a new tab")
        async with page.expect_popup() as opening:
            await link.click()
        shown = await opening.value
        await expect(shown.locator("body")).to_contain_text("GET / HTTP/1.1")
        assert "//p-" in shown.url
        assert "agw_ticket" not in shown.url
        await shown.close()
