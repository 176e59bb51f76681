"""The page in a real Chromium for guests: what is theirs stays theirs, comes along and moves with them."""

from __future__ import annotations

import pathlib
import re
import subprocess
from typing import Final
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from playwright.async_api import expect

from tests.browser.conftest import OpenPage
from tests.browser.test_page import expect_answer, say
from tests.browser.test_sign_in import TENANTS, choose, share, sign_in
from tests.chromium import FRONTEND, needed_browser
from tests.gateways import RunningGateway, running_gateway
from tests.inside import gateway_inside
from tests.issuer import SECRET, running_issuer
from tests.patience import crowding
from tests.shared import SHARED, free_port, shared_gateway

OIDC: Final = """
[auth]
modes = ["anonymous", "oidc"]
[visitors]
commands = true
[oidc]
issuer = "{issuer}"
client_id = "gateway"
client_secret_file = "{secret}"
redirect_url = "http://127.0.0.1:{port}/api/auth/oidc/callback"
"""
CHAT: Final = """async ([backendUrl, text]) => {
    const { ChatManager } = await import("/core.js");
    return new Promise((done, failed) => {
        const manager = new ChatManager({ backendUrl, sessionId: "cart" }, {
            onError: failed,
            onMessage: (messages) => {
                const last = messages.at(-1);
                if (last?.sender === "agent" && !last.is_streaming && "/echo " + last.content === text) {
                    manager.stop();
                    done(last.content);
                }
            },
        });
        setTimeout(() => failed(new Error("no answer")), 10_000);
        manager.connect();
        void manager.sendMessage(text);
    });
}"""
HISTORY: Final = """async (baseUrl) => {
    const { Api } = await import("/core.js");
    const api = new Api({ baseUrl, storage: localStorage });
    return [(await api.sessions()).length, (await api.state("cart")).messages.length];
}"""
guests = shared_gateway('[auth]\nmodes = ["anonymous", "keys"]\n[visitors]\ncommands = true\n' + TENANTS)
pytestmark = [SHARED, pytest.mark.browser]


async def test_a_guest_keeps_what_it_made_across_a_reload(
    guests: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(guests.url)
    await say(page, "/echo mine")
    await expect_answer(page, "mine")
    await expect(page.get_by_test_id("account")).to_have_text("Guest")
    await page.reload()
    await expect_answer(page, "mine")
    await expect(page.get_by_test_id("session-item")).to_have_count(1)
    stranger = await open_page(page.url)
    await expect(stranger.get_by_test_id("welcome")).to_be_visible()
    await expect(stranger.get_by_test_id("session-item")).to_have_count(0)


async def test_a_guest_signs_in_with_a_provider_and_comes_back_to_its_conversation(
    open_page: OpenPage, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "secret").write_text(SECRET)
    port = free_port()
    async with running_issuer() as issuer:
        config = OIDC.format(issuer=issuer.url, secret=tmp_path / "secret", port=port)
        async with running_gateway(tmp_path, "--port", str(port), config=config) as own:
            page = await open_page(f"{own.url}/#s=kept-open")
            await say(page, "/echo before the provider")
            await expect_answer(page, "before the provider")
            await page.evaluate("localStorage.setItem('agw.session', 'of-another-tab')")
            await choose(page, "account-sign-in")
            await page.get_by_role("link", name="Sign in with your organisation").click()
            await expect(page.get_by_test_id("account")).to_have_text("alice")
            await expect_answer(page, "before the provider")
            assert page.url.endswith("/#s=kept-open")
            await page.context.close()


@pytest.fixture(scope="module")
def shop_site(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The files of a site of its own that brings the page's core along."""
    needed_browser()
    site = tmp_path_factory.mktemp("shop")
    (site / "index.html").write_text("<title>shop</title>")
    rolldown = str(FRONTEND / "node_modules" / ".bin" / "rolldown")
    command = [
        rolldown,
        "src/core/index.ts",
        "--format",
        "esm",
        "--no-codeSplitting",
        "-o",
        str(site / "core.js"),
    ]
    subprocess.run(command, cwd=FRONTEND, check=True, capture_output=True, timeout=60 * crowding())
    return site


async def test_a_page_of_another_site_is_one_guest_across_reloads(
    open_page: OpenPage, shop_site: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    app, port = web.Application(), free_port()
    app.router.add_static("/", shop_site)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    shop = f"http://localhost:{port}"
    config = f'[auth]\nmodes = ["anonymous"]\n[visitors]\ncommands = true\norigins = ["{shop}"]\n'
    try:
        async with gateway_inside(tmp_path, config=config) as own:
            page = await open_page(f"{shop}/index.html")
            assert await page.evaluate(CHAT, [own.url, "/echo from the shop"]) == "from the shop"
            await page.reload()
            assert await page.evaluate(CHAT, [own.url, "/echo once more"]) == "once more"
            assert await page.evaluate(HISTORY, own.url) == [1, 4]
            assert await page.context.cookies() == []
            await page.context.close()
    finally:
        await runner.cleanup()


async def test_nothing_is_asked_before_the_gateway_has_made_its_guest(
    guests: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page("about:blank")
    order: list[tuple[str, str]] = []
    page.on("request", lambda request: order.append(("asked", urlsplit(request.url).path)))
    page.on("response", lambda response: order.append(("answered", urlsplit(response.url).path)))
    await page.goto(guests.url)
    await expect(page.get_by_test_id("active-count")).to_contain_text(re.compile(r"\d"))
    of_api = [one for one in order if one[1].startswith("/api/")]
    assert of_api[:2] == [("asked", "/api/auth"), ("answered", "/api/auth")]
    assert len(of_api) > 4
    names = [cookie["name"] for cookie in await page.context.cookies()]
    assert names == [f"agw_visitor_{urlsplit(guests.url).port}"]


async def test_a_guest_signs_in_and_what_it_made_comes_along(
    guests: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(guests.url)
    await say(page, "/echo said as a guest")
    await expect_answer(page, "said as a guest")
    await choose(page, "account-sign-in")
    await page.get_by_test_id("sign-in-back").click()
    await expect_answer(page, "said as a guest")
    await choose(page, "account-sign-in")
    await sign_in(page, await guests.mint("named", tenant="acme"))
    await expect(page.get_by_test_id("account")).to_contain_text("named")
    await expect_answer(page, "said as a guest")
    await say(page, "/echo said by name")
    await expect_answer(page, "said by name")
    await expect(page.get_by_test_id("message-user")).to_have_count(2)


@pytest.mark.parametrize("keeps", [False, True])
async def test_a_guest_with_links_is_asked_about_them_and_another_tab_goes_on(
    guests: RunningGateway, open_page: OpenPage, keeps: bool
) -> None:
    page = await open_page(guests.url)
    await choose(page, "account-sign-in")
    await expect(page.get_by_label("API key")).to_be_focused()
    await expect(page.get_by_test_id("keep-shares")).to_have_count(0)
    await page.get_by_test_id("sign-in-back").click()
    await say(page, "/echo said as a guest")
    await expect_answer(page, "said as a guest")
    url = await share(page)
    reader = await open_page(url)
    await expect_answer(reader, "said as a guest")
    other_tab = await page.context.new_page()
    await other_tab.goto(page.url)
    await expect_answer(other_tab, "said as a guest")

    await choose(page, "account-sign-in")
    box = page.get_by_label("Keep the links that I have shared")
    await expect(box).not_to_be_checked()
    await box.set_checked(keeps)
    await sign_in(page, await guests.mint(f"sharer-{keeps}", tenant="acme"))
    await say(page, "/echo said by name")
    await expect_answer(page, "said by name")
    await expect(other_tab.get_by_test_id("account")).to_contain_text("sharer")
    await expect_answer(other_tab, "said by name")
    await expect(other_tab.get_by_test_id("message-user")).to_have_count(2)
    if keeps:
        await expect_answer(reader, "said by name")
        await expect(reader.get_by_test_id("message-user")).to_have_count(2)
    else:
        await expect(reader.get_by_test_id("shared-gone")).to_be_visible()
        await expect(reader.locator("body")).not_to_contain_text("said by name")


async def test_a_guest_continues_in_another_browser_once(guests: RunningGateway, open_page: OpenPage) -> None:
    old, new = await open_page(guests.url), await open_page(guests.url)
    await say(old, "/echo made in the old one")
    await expect_answer(old, "made in the old one")
    await say(new, "/echo made in the new one")
    await expect_answer(new, "made in the new one")
    await choose(old, "handover")
    dialog = old.get_by_role("dialog", name="Continue in another browser")
    await expect(dialog).to_contain_text("Valid until")
    url = await dialog.get_by_label("Link", exact=True).input_value()

    await new.goto(url)
    asked = new.get_by_role("dialog", name="Continue here?")
    await expect(asked).to_contain_text("are kept")
    assert "handover" not in new.url
    await asked.get_by_role("button", name="Cancel").click()
    await expect(new.get_by_test_id("session-item")).to_have_count(1)
    await new.goto(url)
    await new.get_by_test_id("claim").click()
    await expect(new.get_by_test_id("toast")).to_contain_text("Welcome")
    await expect(new.get_by_test_id("session-item")).to_have_count(2)
    await new.get_by_test_id("session-item").filter(has_text="old one").click()
    await expect_answer(new, "made in the old one")
    await new.go_back()
    assert "handover" not in new.url

    late = await open_page(url)
    await late.get_by_test_id("claim").click()
    await expect(late.get_by_test_id("claim-error")).to_contain_text("already used")
    await expect(late.get_by_test_id("claim-error")).to_have_role("alert")
