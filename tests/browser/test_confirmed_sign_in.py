"""The page in a real Chromium whose sign-in by a provider has to be confirmed."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator
from typing import Final

import pytest
from aiohttp import web
from playwright.async_api import expect

from gateway.auth.sign_ins import CONFIRM_SECONDS
from tests.browser.conftest import OpenPage
from tests.browser.test_page import expect_answer, say
from tests.inside import gateway_inside
from tests.issuer import SECRET, running_issuer
from tests.patience import within
from tests.shared import SHARED

CONFIG = """
[auth]
modes = ["oidc"]
[oidc]
issuer = "{issuer}"
client_id = "gateway"
client_secret_file = "{secret}"
redirect_url = "{back}"
[oidc.groups.staff]
"""
pytestmark = [SHARED, pytest.mark.browser]
IS_KEPT: Final = """text => !window.isBefore && (
    document.querySelector("[data-testid=composer]")?.value === text ||
    [...document.querySelectorAll("[data-testid=message-user]")]
        .some((one) => one.textContent.includes(text)))"""


@contextlib.asynccontextmanager
async def way_back(led_to: list[str]) -> AsyncIterator[str]:
    """An address that leads to the callback of a gateway whose port is not known yet."""

    async def lead(request: web.Request) -> web.Response:
        raise web.HTTPFound(f"{led_to[0]}/api/auth/oidc/callback?{request.query_string}")

    app = web.Application()
    app.add_routes([web.get("/back", lead)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/back"
    finally:
        await runner.cleanup()


async def test_a_person_is_asked_nothing_while_the_provider_knows_them(
    tmp_path: pathlib.Path, open_page: OpenPage
) -> None:
    """And what they wrote meanwhile is not lost."""
    led_to: list[str] = []
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    async with running_issuer() as provider, way_back(led_to) as back:
        provider.claims = {"groups": ["staff"]}
        config = CONFIG.format(issuer=provider.url, secret=secret, back=back)
        async with gateway_inside(tmp_path, config=config) as gateway:
            led_to.append(gateway.url)
            page = await open_page(gateway.url)
            await page.get_by_test_id("sign-in-provider").click()
            await expect(page.get_by_test_id("composer")).to_be_visible()
            await say(page, "/echo before")
            await expect_answer(page, "before")
            gateway.clock.advance(CONFIRM_SECONDS + 1)
            provider.ahead_seconds += CONFIRM_SECONDS + 1
            await page.evaluate("window.isBefore = true")
            await say(page, "/echo after")
            async with within(15):
                while not provider.asked["silent"]:
                    await asyncio.sleep(0.02)
            # Another request of the page may have met the old sign-in first: then the message goes by itself.
            await page.wait_for_function(IS_KEPT, arg="/echo after", polling=100)
            if await page.get_by_test_id("composer").input_value():
                await page.get_by_test_id("composer").press("Enter")
            await expect_answer(page, "after")
            assert provider.asked["silent"] == 1
            provider.asks_people = True
            gateway.clock.advance(CONFIRM_SECONDS + 1)
            provider.ahead_seconds += CONFIRM_SECONDS + 1
            await page.reload()
            await expect(page.get_by_test_id("sign-in-provider")).to_be_visible()
            assert provider.asked["silent"] == 2
