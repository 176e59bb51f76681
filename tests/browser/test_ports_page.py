"""A hostile page of an agent's server in a real browser: it works, and reaches nothing of the gateway."""

from __future__ import annotations

import json
import pathlib
from urllib.parse import quote

import pytest
from playwright.async_api import Browser, expect

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
        await expect(page).to_have_title("done", timeout=15_000)
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
