"""Product chat in a real Chromium: the demonstration page, the widget in a foreign page, the inbox."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.chromium import FRONTEND, launched
from tests.gateways import RunningGateway, running_gateway
from tests.inside import gateway_inside
from tests.products.shop import PASSWORD, config, fresh_id
from tests.shared import SHARED

pytestmark = [SHARED, pytest.mark.browser]

EVIL: Final = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>\'"&lt;'
WIDGET_BYTES: Final = 40_000
FULL: Final = (
    "value: {getItem: () => null, removeItem: () => undefined,"
    " setItem() { throw new DOMException('full', 'QuotaExceededError'); }}"
)
FOREIGN: Final = """<!doctype html><html lang="en"><head><title>A shop</title></head>
<body><h1>A page of somebody else</h1>{tags}</body></html>"""
TAG: Final = '<script src="{gateway}/widget.js" {more} data-title="Ask us"></script>'
TAGS: Final = {
    "": [TAG.replace("{more}", 'data-product="1"')],
    "twice": [
        TAG.replace("{more}", 'data-product="1" defer'),
        TAG.replace("{more}", 'data-product="2" defer'),
    ],
    "bare": [TAG.replace("{more}", "")],
}
"""Path → the widget's tags on that page."""


class ForeignSite:
    """A shop's own site on another host, under a policy that allows the gateway and nothing else."""

    def __init__(self) -> None:
        self.gateway = ""
        self.origin = ""

    async def page(self, request: web.Request) -> web.Response:
        policy = (
            f"default-src 'none'; script-src {self.gateway}; "
            f"connect-src {self.gateway} {self.gateway.replace('http', 'ws', 1)}; "
            "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
        )
        tags = "".join(TAGS[request.match_info["name"]]).format(gateway=self.gateway)
        html = FOREIGN.format(tags=tags)
        return web.Response(text=html, content_type="text/html", headers={"Content-Security-Policy": policy})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[ForeignSite]:
    site = ForeignSite()
    app = web.Application()
    app.router.add_get("/{name:.*}", site.page)
    runner = web.AppRunner(app)
    await runner.setup()
    server = web.TCPSite(runner, "127.0.0.1", 0)
    await server.start()
    port = runner.addresses[0][1]
    site.origin = f"http://localhost:{port}"
    yield site
    await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(
    site: ForeignSite, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    text = config(address_rate=6000, sockets_per_address=1000).replace("http://localhost:1", site.origin)
    async with gateway_inside(tmp_path_factory.mktemp("gateway"), config=text) as running:
        site.gateway = running.url
        yield running


async def open_widget(page: Page) -> None:
    await page.locator(".launcher").click()
    await expect(page.locator(".panel")).to_be_visible()


async def say(page: Page, text: str) -> None:
    await page.locator(".panel textarea").fill(text)
    await page.locator(".panel textarea").press("Enter")


async def expect_message(page: Page, sender: str, text: str) -> None:
    found = page.locator(f'.log li[data-sender="{sender}"] .bubble', has_text=text)
    await expect(found.first).to_be_visible()


async def logged_in(open_page: OpenPage, gateway: RunningGateway, **window: Any) -> Page:
    inbox = await open_page(f"{gateway.url}/inbox", **window)
    await log_in(inbox)
    return inbox


async def log_in(inbox: Page) -> None:
    await inbox.locator("input[name=username]").fill("ruth")
    await inbox.locator("input[name=password]").fill(PASSWORD)
    await inbox.locator("form.login button").click()
    await expect(inbox.locator("#chats")).to_be_attached()


@pytest.mark.parametrize(
    ("name", "launchers", "words"), [("twice", 1, "more than once"), ("bare", 0, "has no data-product")]
)
async def test_a_widget_that_is_put_in_wrongly_says_so(
    gateway: RunningGateway, site: ForeignSite, open_page: OpenPage, name: str, launchers: int, words: str
) -> None:
    page = await open_page("about:blank")
    async with page.expect_console_message(lambda message: words in message.text) as said:
        await page.goto(f"{site.origin}/{name}")
    assert (await said.value).type == "warning"
    await expect(page.locator(".launcher")).to_have_count(launchers)


async def test_a_visitor_chats_reloads_and_sees_the_history_and_a_second_tab_follows(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(f"{gateway.url}/demo/product?id=1")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Cedar birdhouse")
    await open_widget(page)
    await say(page, "/echo it's here & stays")
    await expect_message(page, "assistant", "it's here & stays")
    await page.reload()
    await open_widget(page)
    await expect_message(page, "customer", "/echo it's here & stays")
    await expect_message(page, "assistant", "it's here & stays")
    second = await page.context.new_page()
    await second.goto(page.url)
    await open_widget(second)
    await expect_message(second, "assistant", "it's here & stays")
    await say(page, "/echo live")
    await expect_message(second, "customer", "/echo live")
    await expect_message(second, "assistant", "live")
    await expect(page.locator('.log li[data-sender="customer"]')).to_have_count(2)
    await expect(second.locator('.log li[data-sender="customer"]')).to_have_count(2)


async def test_a_person_takes_over_in_the_inbox_and_answers(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(f"{gateway.url}/demo/product?id=2")
    inbox = await logged_in(open_page, gateway)
    await open_widget(page)
    await say(page, "I need a human")
    chat = inbox.locator('#chats li[data-priority="urgent"] button', has_text="Enamel kettle")
    await chat.click()
    await expect(inbox.locator("#log li[data-sender=customer] p")).to_have_text("I need a human")
    await inbox.get_by_role("button", name="Take over").click()
    await expect(inbox.locator(".status")).to_have_text("ruth answers")
    await expect(page.locator(".note")).to_contain_text("ruth")
    await inbox.locator("#pane textarea").fill("Hello, this is Ruth")
    await inbox.get_by_role("button", name="Answer").click()
    await expect_message(page, "admin", "Hello, this is Ruth")
    await say(page, "/echo thanks")
    await expect(inbox.locator("#log li[data-sender=customer] p").last).to_have_text("/echo thanks")
    await inbox.get_by_role("button", name="Hand back").click()
    await expect(inbox.locator(".status")).to_have_text("The agent answers")
    await say(page, "/echo back again")
    await expect_message(page, "assistant", "back again")
    await expect(page.locator('.log li[data-sender="assistant"]', has_text="thanks")).to_have_count(0)


async def test_script_in_every_field_is_shown_and_never_runs(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(f"{gateway.url}/demo/product?id=3")
    data = {
        "globalSessionId": "a",
        "productSessions": {},
        "userPreferences": {"name": EVIL[:90], "email": EVIL},
    }
    await page.evaluate("(data) => localStorage.setItem('chat_session_data', JSON.stringify(data))", data)
    await page.reload()
    inbox = await logged_in(open_page, gateway)
    await open_widget(page)
    await say(page, f"/echo {EVIL}")
    await expect_message(page, "assistant", EVIL)
    chat = inbox.locator("#chats button", has_text="Wool blanket")
    await expect(chat).to_contain_text("<img src=x")
    await chat.click()
    await expect(inbox.locator("#log li[data-sender=customer] p").first).to_have_text(f"/echo {EVIL}")
    await inbox.locator("#pane textarea").fill(EVIL)
    await inbox.get_by_role("button", name="Answer").click()
    await expect_message(page, "admin", EVIL)
    for one in (page, inbox):
        assert await one.evaluate("window.pwned") is None
        assert await one.locator(".log img, #log img, #chats img, .log script").count() == 0
    session = await page.evaluate(
        "Object.values(JSON.parse(localStorage.chat_session_data).productSessions)[0]"
    )
    chat_page = await page.context.new_page()
    await chat_page.goto(f"{gateway.url}/#s={session['sessionId']}")
    await expect(chat_page.get_by_test_id("transcript")).to_contain_text("window.pwned")
    assert await chat_page.evaluate("window.pwned") is None


async def test_the_widget_lives_in_a_foreign_page_under_a_strict_policy_without_cookies(
    gateway: RunningGateway, site: ForeignSite
) -> None:
    async with launched("--test-third-party-cookie-phaseout") as chromium:
        context = await chromium.new_context()
        page = await context.new_page()
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(site.origin)
        await open_widget(page)
        await say(page, "/echo from elsewhere")
        await expect_message(page, "assistant", "from elsewhere")
        await page.reload()
        await open_widget(page)
        await expect_message(page, "assistant", "from elsewhere")
        assert await context.cookies() == []
        assert str(await page.evaluate("localStorage.agw_visitor_token")).startswith("agv_")
        color = await page.evaluate(
            "getComputedStyle(document.querySelector('#agent-gateway-chat').shadowRoot"
            ".querySelector('form button')).backgroundColor"
        )
        assert color == "rgb(11, 95, 255)", "the policy of the page does not take the widget's look away"
        assert complaints == []
        await context.close()


async def test_the_widget_works_from_right_to_left_by_keyboard_and_in_a_small_window(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(f"{gateway.url}/demo/product?id=1&lang=he", width=360)
    await page.locator(".launcher").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator(".panel textarea")).to_be_focused()
    await page.keyboard.type("/echo שלום")
    await page.keyboard.press("Enter")
    await expect_message(page, "assistant", "שלום")
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    mine = await page.locator('.log li[data-sender="customer"]').bounding_box()
    theirs = await page.locator('.log li[data-sender="assistant"]').bounding_box()
    assert mine is not None
    assert theirs is not None
    assert mine["x"] < theirs["x"], "mine stand at the end, which is left here"
    await page.keyboard.press("Escape")
    await expect(page.locator(".launcher")).to_be_focused()


async def test_staff_log_in_where_storage_is_forbidden(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page("about:blank")
    await page.add_init_script(
        "for (const name of ['localStorage', 'sessionStorage']) Object.defineProperty("
        "window, name, {get() { throw new DOMException('no', 'SecurityError'); }})"
    )
    await page.goto(f"{gateway.url}/inbox")
    await log_in(page)
    await page.get_by_role("button", name="Log out").click()
    await expect(page.locator("input[name=username]")).to_be_visible()


@pytest.mark.parametrize("width", [320, 1100, 1400])
async def test_the_form_to_log_in_is_no_taller_than_what_is_in_it(
    gateway: RunningGateway, open_page: OpenPage, width: int
) -> None:
    page = await open_page(f"{gateway.url}/inbox", width=width)
    for part in (page.locator("input[name=username]"), page.get_by_role("button", name="Log in")):
        box = await part.bounding_box()
        assert box is not None
        assert box["height"] < 60


async def test_on_a_phone_the_product_is_shown_once_it_is_unfolded(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(f"{gateway.url}/demo/product?id=1")
    await open_widget(page)
    await say(page, "/echo from a phone")
    await expect_message(page, "assistant", "from a phone")
    inbox = await logged_in(open_page, gateway)
    await inbox.set_viewport_size({"width": 320, "height": 640})
    await inbox.reload()
    await inbox.locator("#chats li", has_text="from a phone").first.click()
    product = inbox.locator("#beside").get_by_text("Cedar birdhouse")
    await expect(product).to_be_attached()
    await expect(product).to_be_hidden()
    await inbox.locator("#beside > summary").click()
    await expect(product).to_be_visible()


@pytest.mark.parametrize("broken", ["get() { throw new DOMException('no', 'SecurityError'); }", FULL])
async def test_the_widget_works_where_storage_is_forbidden_or_full(
    gateway: RunningGateway, open_page: OpenPage, broken: str
) -> None:
    page = await open_page(f"{gateway.url}/demo/product?id=4")
    await page.add_init_script(f"Object.defineProperty(window, 'localStorage', {{{broken}}})")
    await page.reload()
    await open_widget(page)
    await say(page, "/echo still fine")
    await expect_message(page, "assistant", "still fine")


async def test_the_conversation_of_an_older_client_goes_on(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(f"{gateway.url}/demo/product?id=5")
    name = fresh_id()
    begun = await page.evaluate(
        """async ([name]) => {
            localStorage.clear();
            localStorage.setItem('chat_session_id', name);
            localStorage.setItem('chat_customer_name', 'Dana');
            const headers = {'Content-Type': 'application/json'};
            const body = JSON.stringify({session_id: name, initial_message: '/echo long ago'});
            const path = '/api/products/5/chat/sessions';
            return (await fetch(path, {method: 'POST', headers, body})).status;
        }""",
        [name],
    )
    assert begun == 200
    await page.reload()
    await open_widget(page)
    await expect_message(page, "assistant", "long ago")
    assert await page.evaluate("localStorage.chat_session_id") is None
    assert await page.evaluate("localStorage.global_chat_session") == name


async def test_a_visitor_comes_back_after_the_gateway_was_gone(
    tmp_path_factory: pytest.TempPathFactory, open_page: OpenPage
) -> None:
    directory = tmp_path_factory.mktemp("again")
    async with running_gateway(directory, config=config()) as first:
        page = await open_page(f"{first.url}/demo/product?id=1")
        await open_widget(page)
        await say(page, "/echo before")
        await expect_message(page, "assistant", "before")
        port = first.url.rpartition(":")[2]
    async with running_gateway(directory, "--port", port, config=config()) as second:
        await say(page, "/echo after")
        await expect_message(page, "assistant", "after")
        assert second.url == first.url
    await page.close()


async def test_the_widget_is_small() -> None:
    size = len(gzip.compress((FRONTEND / "dist" / "widget.js").read_bytes(), 9))
    assert size < WIDGET_BYTES
