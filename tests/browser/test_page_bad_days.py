"""What happens to people's machines and networks: a key that runs out, a sleeping tab, a wrong clock, no
network. Nothing is lost or there twice, and nothing is said that is not so.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.browser.test_page import expect_answer, say
from tests.browser.test_sign_in import sign_in
from tests.inside import GatewayInside
from tests.shared import SHARED, eventually, fresh_id, shared_gateway

HOUR_MS: Final = 3_600_000
YEAR_MS: Final = 365 * 24 * HOUR_MS
KEY_SECONDS: Final = 60
SHIFTED: Final = """
(() => {
  const Real = Date;
  window.shiftMs = %d;
  const now = () => Real.now() + window.shiftMs;
  window.Date = class extends Real {
    constructor(...given) { given.length ? super(...given) : super(now()); }
    static now() { return now(); }
  };
})()
"""
"""The machine's clock, which a test sets."""
COUNT: Final = "/count 40 40"
NUMBERS: Final = " ".join(str(number) for number in range(1, 41))
"""What `/count 40` answers."""
gateway = shared_gateway('[auth]\nmodes = ["keys"]\n')
pytestmark = [SHARED, pytest.mark.browser]


async def _opened(gateway: GatewayInside, open_page: OpenPage) -> Page:
    page = await open_page(gateway.url)
    await sign_in(page, await gateway.mint(fresh_id("person")))
    return page


async def test_a_key_that_runs_out_in_the_middle_of_an_answer_takes_no_word_along(
    gateway: GatewayInside, open_page: OpenPage
) -> None:
    page = await open_page(gateway.url)
    await sign_in(page, await gateway.mint("short", subject="ruth", days=KEY_SECONDS / 86_400))
    await say(page, COUNT)
    await expect(page.get_by_test_id("message-agent")).to_contain_text("1 2 3")
    await page.get_by_test_id("composer").fill("half a thought")
    gateway.clock.advance(KEY_SECONDS + 1)
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # somebody comes back to it
    await expect(page.get_by_test_id("sign-in")).to_be_visible()
    await sign_in(page, await gateway.mint("next", subject="ruth"))
    await expect(page.get_by_test_id("composer")).to_have_value("half a thought")
    await expect_answer(page, NUMBERS)
    await expect(page.get_by_test_id("message-user")).to_have_count(1)


class Cable:
    """The way from a browser to the gateway, which a test cuts and mends."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ends: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self._passes = asyncio.Event()
        self._passes.set()
        self.url = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator[Cable]:
        cable = cls(int(url.rsplit(":", 1)[1]))
        server = await asyncio.start_server(cable._carry, "127.0.0.1", 0)
        cable.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield cable
        finally:
            server.close()
            cable.cut()

    def cut(self) -> None:
        self._is_cut = True
        for end in self._ends:
            end.transport.abort()

    def swallow(self) -> None:
        """Nothing arrives any more until it is mended, and nobody is told."""
        self._passes.clear()

    def mend(self) -> None:
        self._is_cut = False
        self._passes.set()

    async def _carry(self, near_reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        if self._is_cut:
            return near.transport.abort()
        far_reader, far = await asyncio.open_connection("127.0.0.1", self._port)
        self._ends |= {near, far}
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pass_on(near_reader, far), self._pass_on(far_reader, near))
        self._ends -= {near, far}

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            await self._passes.wait()
            writer.write(data)
            await writer.drain()
        writer.close()


async def test_a_tab_that_slept_and_a_network_that_was_away_lose_nothing(
    gateway: GatewayInside, open_page: OpenPage
) -> None:
    async with Cable.to(gateway.url) as cable:
        page = await open_page(cable.url)
        await sign_in(page, await gateway.mint(fresh_id("person")))
        protocol = await page.context.new_cdp_session(page)
        agents, banner = page.get_by_test_id("message-agent"), page.get_by_test_id("connection-banner")
        await say(page, COUNT)
        await expect(agents).to_contain_text("1 2 3")
        await protocol.send("Page.setWebLifecycleState", {"state": "frozen"})
        async with gateway.operator() as operator:

            async def is_over() -> bool:
                every = (await operator.watched_sessions()).sessions
                return all(one.state != "running" for one in every)

            await eventually(is_over)
        await protocol.send("Page.setWebLifecycleState", {"state": "active"})
        await expect_answer(page, NUMBERS)

        await say(page, COUNT)
        await expect(agents.last).to_contain_text("1 2 3")
        outgoing = page.get_by_test_id("message-outgoing")
        await expect(outgoing).to_have_count(0)
        await page.context.set_offline(True)
        cable.cut()
        await expect(banner).to_contain_text("You are offline")
        await say(page, "/echo written meanwhile")
        await expect(outgoing).to_contain_text("will be sent")
        cable.mend()
        await page.context.set_offline(False)
        await expect(banner).to_have_count(0)
        await expect_answer(page, "written meanwhile")
        await expect(agents).to_have_text([NUMBERS, NUMBERS, "written meanwhile"])


async def test_a_wrong_clock_of_the_machine_moves_no_time_that_is_shown(
    gateway: GatewayInside, open_page: OpenPage
) -> None:
    page = await _opened(gateway, open_page)
    await page.add_init_script(SHIFTED % YEAR_MS)
    await page.reload()
    await say(page, "/echo a")
    await expect_answer(page, "a")
    age = page.get_by_test_id("session-item").locator(".session-time").first
    await expect(age).to_have_text("now")
    await page.evaluate(f"window.shiftMs = -{HOUR_MS}")
    await say(page, "/echo b")
    await expect_answer(page, "b")
    await expect(age).to_have_text("now")
    await expect(page.get_by_test_id("connection-banner")).to_have_count(0)
