"""What models cost, on the page and for operators, in a real Chromium against a real gateway."""

from __future__ import annotations

import pathlib

import pytest
from playwright.async_api import expect

from tests.browser.conftest import OpenPage
from tests.fake_model import Behaviour, fake_model
from tests.inside import gateway_inside
from tests.shared import SHARED

pytestmark = [SHARED, pytest.mark.browser]
CONFIG = '[model]\nretries = 0\n[model.prices."fake-model"]\ninput = 3.0\noutput = 10.0\n'
USAGE = {"prompt_tokens": 1_000, "completion_tokens": 100}


async def test_people_and_operators_see_what_models_cost(tmp_path: pathlib.Path, open_page: OpenPage) -> None:
    async with fake_model() as model:
        model.behaviour = Behaviour(usage=USAGE)
        environ = {"AGENT_MODEL_URL": model.url, "AGENT_MODEL": "fake-model", "AGENT_MODEL_KEY": "k"}
        async with gateway_inside(tmp_path, config=CONFIG, environ=environ) as gateway:
            page = await open_page(f"{gateway.url}/")
            await page.get_by_test_id("composer").fill("hello")
            await page.get_by_test_id("composer").press("Enter")
            cost = page.get_by_test_id("cost")
            await expect(cost).to_have_text("$0.0040")
            await expect(cost).to_have_attribute("aria-label", "The model calls cost $0.0040")
            await cost.click()
            usage = page.get_by_test_id("usage")
            await expect(usage).to_contain_text("fake-model")
            await expect(usage).to_contain_text("1,100")
            await page.keyboard.press("Escape")
            await expect(usage).to_have_count(0)
            operations = await open_page(f"{gateway.url}/#/operations")
            costs = operations.get_by_test_id("costs")
            await expect(costs).to_contain_text("$0.0040 for 1 calls")
            await operations.get_by_test_id("costs-by").select_option("person")
            await expect(costs).to_contain_text("default/local")
            async with operations.expect_download() as download:
                await costs.get_by_role("link", name="CSV").click()
            text = pathlib.Path(await (await download.value).path()).read_text()
            assert text.splitlines()[1].startswith("default/local,1,1000,")
