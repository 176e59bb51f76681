"""Repositories in the page: one is chosen for a new conversation, and its branch is pushed from there."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests import shell_agent
from tests.browser.conftest import OpenPage
from tests.browser.readable import complaints
from tests.git_host import GitHost, git_host
from tests.inside import GatewayInside, gateway_inside
from tests.shared import SHARED

pytestmark = [SHARED, pytest.mark.browser]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: Any) -> AsyncIterator[tuple[GatewayInside, GitHost]]:
    path: pathlib.Path = tmp_path_factory.mktemp("page")
    async with git_host(path / "repos") as host:
        host.make("app", {"README.md": "hello\n"})
        config = f'default_agent = "shell"\n{shell_agent.toml()}\n'
        config += f'[workspaces.app]\ntitle = "The app"\nrepo = "{host.url("app")}"\n'
        config += 'pull_request_url = "https://git.example/new?b={branch}"\n'
        async with gateway_inside(path, config=config) as gateway:
            yield gateway, host


async def test_a_branch_is_pushed_from_the_page(
    place: tuple[GatewayInside, GitHost], open_page: OpenPage
) -> None:
    gateway, host = place
    page = await open_page(gateway.url)
    await page.get_by_test_id("workspace-choice").select_option("app")
    await page.get_by_test_id("composer").fill("echo two >> README.md")
    await page.get_by_test_id("send").click()
    await expect(page.get_by_text("These files are those of app")).to_be_visible()
    await expect(page.get_by_test_id("message-agent")).to_contain_text("done")
    await expect(page.get_by_test_id("workspace-choice")).to_have_text("app")
    await page.get_by_test_id("language-toggle").click()
    await page.set_viewport_size({"width": 375, "height": 700})
    await page.get_by_test_id("take-out").click()
    async with page.expect_download() as diff:
        await page.get_by_test_id("take-diff").click()
    assert "+two" in pathlib.Path(await (await diff.value).path()).read_text()
    await page.get_by_test_id("take-out").press("Enter")
    await page.get_by_test_id("take-branch").press("Enter")
    await page.get_by_test_id("branch-name").fill("agent/page")
    assert await complaints(page) == []
    await page.get_by_test_id("branch-name").press("Enter")
    await expect(page.get_by_test_id("branch-pushed")).to_contain_text("agent/page")
    link = page.get_by_test_id("pull-request")
    await expect(link).to_have_attribute("href", "https://git.example/new?b=agent/page")
    assert host.git("app", "show", "agent/page:README.md") == "hello\ntwo"
