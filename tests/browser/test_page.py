"""The page in a real Chromium against a real gateway: what a person does and sees."""

from __future__ import annotations

import asyncio
import os
import pathlib
import re
import signal
from typing import Any, Final

import pytest
from playwright.async_api import Page, Request, expect

from tests.browser.conftest import OpenPage
from tests.gateways import RunningGateway, running_gateway
from tests.inside import gateway_inside
from tests.shared import SHARED, crowding, free_port, fresh_id, shared_gateway

gateway = shared_gateway()
PLACE: Final = "(one) => Math.round(one.scrollTop)"
pytestmark = [SHARED, pytest.mark.browser]

HIDE: Final = """(hidden) => {
    const value = hidden ? "hidden" : "visible";
    Object.defineProperty(document, "visibilityState", {value, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


async def say(page: Page, text: str) -> None:
    """Writes a message and sends it with Enter."""
    await page.get_by_test_id("composer").fill(text)
    await page.get_by_test_id("composer").press("Enter")


async def expect_answer(page: Page, text: str | re.Pattern[str]) -> None:
    """Waits until the newest answer is finished and says `text`."""
    answer = page.get_by_test_id("message-agent").last
    await expect(answer).to_contain_text(text)
    await expect(answer).to_have_attribute("data-streaming", "false")


def at(gateway: RunningGateway, name: str) -> str:
    """The address of a session that no other test uses."""
    return f"{gateway.url}/#s={fresh_id(name)}"


async def width_of(page: Page) -> int:
    return int(await page.evaluate("document.documentElement.scrollWidth"))


async def test_two_windows_never_see_each_other(gateway: RunningGateway, open_page: OpenPage) -> None:
    first, second = await open_page(gateway.url), await open_page(gateway.url)
    await asyncio.gather(say(first, "/echo canary-one"), say(second, "/echo canary-two"))
    await asyncio.gather(expect_answer(first, "canary-one"), expect_answer(second, "canary-two"))
    await expect(first.get_by_test_id("transcript")).not_to_contain_text("canary-two")
    await expect(second.get_by_test_id("transcript")).not_to_contain_text("canary-one")
    assert first.url != second.url


async def test_a_reload_in_the_middle_of_an_answer_loses_nothing(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(gateway.url)
    await say(page, "/count 40 50")
    await expect(page.get_by_test_id("message-agent")).to_contain_text("1 2 3")
    await page.reload()
    await expect_answer(page, " ".join(str(n) for n in range(1, 41)))
    await expect(page.get_by_test_id("message-user")).to_have_count(1)


async def test_the_session_comes_back_without_its_address(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(gateway.url)
    await say(page, "/echo remember me")
    await expect_answer(page, "remember me")
    again = await page.context.new_page()
    await again.goto(gateway.url)
    await expect_answer(again, "remember me")


async def test_stop_ends_the_answer_and_keeps_its_text(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(at(gateway, "stop"))
    await say(page, "/count 1000 50")
    await expect(page.get_by_test_id("message-agent")).to_contain_text("1 2 3")
    await page.get_by_test_id("stop").click()
    await expect(page.get_by_test_id("stop")).to_have_count(0, timeout=3_000 * crowding())
    await expect(page.get_by_test_id("message-system")).to_have_text("Interrupted by user")
    await expect_answer(page, "1 2 3")


async def test_escape_stops_too_and_held_messages_are_sent_or_dropped(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(at(gateway, "queue"))
    await say(page, "/count 1000 50")
    await expect(page.get_by_test_id("message-agent")).to_contain_text("1 2 3")
    await say(page, "/echo sent later")
    await expect(page.get_by_test_id("queue")).to_contain_text("/echo sent later")
    await page.keyboard.press("Escape")
    await page.get_by_test_id("queue-send").click()
    await expect_answer(page, "sent later")
    await expect(page.get_by_test_id("queue")).to_have_count(0)

    await say(page, "/count 1000 50")
    await say(page, "/echo never sent")
    await expect(page.get_by_test_id("queue")).to_contain_text("never sent")
    await page.keyboard.press("Escape")
    await page.get_by_test_id("queue-drop").click()
    await expect(page.get_by_test_id("queue")).to_have_count(0)
    await say(page, "/echo afterwards")
    await expect_answer(page, "afterwards")
    await expect(page.get_by_test_id("message-agent").filter(has_text="never sent")).to_have_count(0)


async def test_a_permission_takes_the_focus_and_is_answered_in_place(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(at(gateway, "permission"))
    await say(page, "/permission May I water the plants?")
    prompt = page.get_by_test_id("permission")
    await expect(prompt).to_contain_text("May I water the plants?")
    await expect(prompt).to_be_focused()
    await expect(page.get_by_test_id("announcer")).to_contain_text("May I water the plants?")
    allow = page.locator("[data-testid=permission-option][data-kind=allow_once]")
    await expect(allow).to_be_visible()
    await page.keyboard.press("1")
    await expect(prompt).to_have_count(0)
    await expect(page.get_by_test_id("permission-answered")).to_contain_text("May I water the plants?")
    await expect(page.get_by_test_id("message-agent")).to_have_count(1)
    await expect(page.get_by_test_id("composer")).to_be_focused()


async def test_a_permission_shows_the_diff_the_files_and_the_input_that_it_is_asked_for(
    tmp_path: pathlib.Path, open_page: OpenPage
) -> None:
    async with gateway_inside(tmp_path, agents={"edits": "asks_with_its_diff"}) as gateway:
        session_id = fresh_id("edit")
        await gateway.send(session_id, "go", agent="edits")
        page = await open_page(f"{gateway.url}/#s={session_id}")
        card = page.get_by_test_id("permission")
        await expect(card.locator("del")).to_have_text("old words")
        await expect(card.locator("ins")).to_have_text("new words")
        await expect(card).to_contain_text("/work/index.txt")
        await expect(page.get_by_test_id("tool-call")).to_be_hidden()  # it is in the card
        await card.get_by_test_id("permission-input").locator("summary").click()
        await expect(card).to_contain_text("replace_all")
        await page.locator("[data-testid=permission-option][data-kind=allow_once]").click()
        await expect(page.get_by_test_id("tool-call")).to_have_attribute("data-status", "completed")
        await expect(page.get_by_test_id("tool-call").locator("ins")).to_have_count(0)  # folded away
        await page.get_by_test_id("permission-answered").click()
        await expect(page.get_by_test_id("tool-call").locator("ins")).to_have_text("new words")


async def test_a_permission_survives_a_reload(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(at(gateway, "permission"))
    await say(page, "/permission Still there?")
    await expect(page.get_by_test_id("permission")).to_be_visible()
    await page.reload()
    await page.get_by_test_id("permission-option").last.click()
    await expect(page.get_by_test_id("permission-answered")).to_be_visible()


async def test_a_tool_call_is_a_card_that_opens(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(at(gateway, "tool"))
    await say(page, '/tool write_file {"path": "a.txt", "content": "hello from a tool"}')
    card = page.get_by_test_id("tool-call")
    await answer_permissions(page)
    await expect(card).to_have_attribute("data-status", "completed")
    if await card.get_attribute("open") is None:
        await card.locator("summary").click()
    await expect(card).to_contain_text("hello from a tool")


async def answer_permissions(page: Page) -> None:
    """Allows what the agent asks for, if it asks."""
    option = page.get_by_test_id("permission-option").first
    done = page.locator("[data-testid=tool-call][data-status=completed]")
    await expect(option.or_(done).first).to_be_visible()
    if await option.count():
        await option.click()


async def test_nothing_in_an_answer_runs(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(at(gateway, "markdown"))
    evil = (
        "<script>window.ran=1</script>\n\n<img src=x onerror='window.ran=2'>\n\n[x](javascript:window.ran=3)"
    )
    await say(page, f"/echo {evil} **bold**")
    answer = page.get_by_test_id("message-agent")
    await expect(answer.locator("strong")).to_have_text("bold")
    await expect(answer.locator("script, img, [onerror], a[href^=javascript]")).to_have_count(0)
    assert await page.evaluate("window.ran") is None
    await expect(answer).to_contain_text("<script>window.ran=1</script>")
    await expect(page.get_by_test_id("message-user")).to_contain_text("<script>")


async def test_links_and_code_are_drawn(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(at(gateway, "code"))
    await say(page, "/echo See [docs](https://example.org/).\n\n```python\nx = 'one'\n```")
    link = page.get_by_test_id("message-agent").get_by_role("link", name="docs")
    await expect(link).to_have_attribute("rel", re.compile("noopener"))
    await expect(link).to_have_attribute("target", "_blank")
    await expect(page.locator(".code .hljs-string")).to_have_text("'one'")


async def test_hebrew_turns_the_page_round_and_stays(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(at(gateway, "hebrew"))
    await page.get_by_test_id("language-toggle").click()
    await expect(page.locator("html")).to_have_attribute("dir", "rtl")
    await expect(page.get_by_test_id("new-session")).to_have_text("שיחה חדשה")
    await say(page, "/echo שלום עולם")
    await expect_answer(page, "שלום עולם")
    await page.reload()
    await expect(page.locator("html")).to_have_attribute("lang", "he")
    sidebar = await page.get_by_test_id("session-list").bounding_box()
    assert sidebar is not None
    assert sidebar["x"] > 700
    assert await width_of(page) <= 1100


async def test_a_hebrew_browser_gets_hebrew(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.url, locale="he-IL")
    await expect(page.locator("html")).to_have_attribute("dir", "rtl")


async def test_the_keyboard_is_enough(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(at(gateway, "keyboard"))
    field = page.get_by_test_id("composer")
    await expect(field).to_be_focused()
    await page.keyboard.type("/echo one")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("two")
    await expect(field).to_have_value("/echo one\ntwo")
    await page.keyboard.press("Enter")
    await expect(field).to_have_value("")
    await expect_answer(page, "two")

    await page.keyboard.type("/cou")
    await expect(page.get_by_test_id("command")).to_have_count(1)
    await page.keyboard.press("Tab")
    await expect(field).to_have_value("/count ")
    await page.keyboard.type("3 0")
    await page.keyboard.press("Enter")
    await expect_answer(page, "1 2 3")


async def test_a_draft_belongs_to_its_session(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(at(gateway, "draft"))
    await say(page, "/echo first")
    await expect_answer(page, "first")
    await page.get_by_test_id("composer").fill("half a thought")
    await page.get_by_test_id("new-session").click()
    await expect(page.get_by_test_id("composer")).to_have_value("")
    await page.go_back()
    await expect(page.get_by_test_id("composer")).to_have_value("half a thought")
    await page.reload()
    await expect(page.get_by_test_id("composer")).to_have_value("half a thought")


async def test_a_phone_has_no_sideways_scroll(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(at(gateway, "phone"), width=360, height=740)
    wide = "x" * 200
    await say(page, f"/echo {wide}\n\n```\n{wide}\n```\n\n|{'a|' * 30}\n|{'-|' * 30}\n|{'b|' * 30}")
    await expect(page.get_by_test_id("message-agent").locator("table")).to_be_visible()
    assert await width_of(page) == 360
    await expect(page.get_by_test_id("new-session")).not_to_be_visible()
    await page.get_by_test_id("open-sessions").click()
    await page.get_by_test_id("new-session").click()
    await expect(page.get_by_test_id("welcome")).to_be_visible()
    await expect(page.get_by_test_id("new-session")).not_to_be_visible()
    assert await width_of(page) == 360


async def test_sessions_are_listed_renamed_exported_and_deleted(
    gateway: RunningGateway, open_page: OpenPage, tmp_path: pathlib.Path
) -> None:
    session_id = fresh_id("list")
    page = await open_page(f"{gateway.url}/#s={session_id}")
    await say(page, "/echo for the list")
    row = page.locator(f"[data-testid=session-item][data-session-id='{session_id}']")
    await expect(row).to_be_visible()
    await expect(page.get_by_test_id("active-count")).to_contain_text(re.compile(r"\d"))

    await row.hover()
    await row.get_by_test_id("session-menu").click()
    await row.get_by_test_id("rename").click()
    await page.get_by_test_id("rename-field").fill("Another name")
    await page.keyboard.press("Enter")
    await expect(row).to_contain_text("Another name")

    await row.hover()
    await row.get_by_test_id("session-menu").click()
    async with page.expect_download() as waiting:
        await row.get_by_test_id("export-markdown").click()
    download = await waiting.value
    await download.save_as(tmp_path / "export.md")
    assert download.suggested_filename == "Another-name.md"
    assert "for the list" in (tmp_path / "export.md").read_text()

    await row.hover()
    await row.get_by_test_id("session-menu").click()
    await row.get_by_test_id("delete").click()
    await page.get_by_test_id("delete-confirm").click()
    await expect(row).to_have_count(0)
    await expect(page.get_by_test_id("transcript")).not_to_contain_text("for the list")
    listed = await gateway.get("/api/sessions")
    assert session_id not in {one["session_id"] for one in listed["sessions"]}


async def test_a_session_made_elsewhere_is_listed_when_it_is_opened(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(at(gateway, "first"))
    await expect(page.get_by_test_id("active-count")).to_contain_text(re.compile(r"\d"))
    session_id = fresh_id("elsewhere")
    await gateway.chat(session_id, "/echo from elsewhere")
    await page.evaluate("id => { location.hash = `#s=${id}` }", session_id)
    await expect_answer(page, "from elsewhere")
    row = page.locator(f"[data-testid=session-item][data-session-id='{session_id}']")
    await expect(row).to_be_visible(timeout=5_000 * crowding())


async def test_the_offline_model_is_named(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(at(gateway, "offline"))
    await expect(page.get_by_test_id("offline-line")).to_be_visible()


async def test_without_a_model_what_the_agent_can_do_is_offered(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(at(gateway, "starters"))
    await expect(page.get_by_test_id("offline-line")).to_be_visible()
    offered = page.get_by_test_id("welcome").get_by_role("button")
    await expect(offered).to_have_text(["Show me what you can do", "/help"])


async def test_the_theme_is_kept(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(at(gateway, "theme"))
    html = page.locator("html")
    await expect(html).to_have_attribute("data-theme", "light")
    await page.get_by_test_id("theme-toggle").click()
    await expect(html).to_have_attribute("data-theme", "dark")
    await page.reload()
    await expect(html).to_have_attribute("data-theme", "dark")


async def test_a_reader_who_scrolled_up_is_left_there(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(at(gateway, "scroll"))
    await say(page, "/echo " + "line\n\n" * 80)
    await expect_answer(page, "line")
    await page.locator(".scroller").hover()
    await page.mouse.wheel(0, -100_000)
    await expect(page.get_by_test_id("jump-latest")).to_be_visible()
    await say_quietly(gateway, page, "/echo more")
    await expect_answer(page, "more")
    assert await page.locator(".scroller").evaluate("box => box.scrollTop") == 0
    await page.get_by_test_id("jump-latest").click()
    await expect(page.get_by_test_id("jump-latest")).to_have_count(0)


async def say_quietly(gateway: RunningGateway, page: Page, text: str) -> None:
    """Sends a message to the page's session from elsewhere."""
    await gateway.send(page.url.split("#s=")[1], text)


async def test_a_hidden_tab_gives_its_stream_back_and_catches_up(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(at(gateway, "hidden"))
    await say(page, "/echo before")
    await expect_answer(page, "before")

    def is_stream(request: Request) -> bool:
        return "/api/chat/stream" in request.url

    async with page.expect_event("requestfailed", is_stream):
        await page.evaluate(HIDE, True)
    await say_quietly(gateway, page, "/echo while hidden")
    async with page.expect_request(lambda request: is_stream(request) and "after=0" not in request.url):
        await page.evaluate(HIDE, False)
    await expect_answer(page, "while hidden")
    await expect(page.get_by_test_id("message-user")).to_have_count(2)


async def test_a_message_that_could_not_be_sent_is_kept(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(at(gateway, "unsent"))
    await page.route("**/api/chat", lambda route: route.abort())
    await say(page, "/echo at last")
    await expect(page.get_by_test_id("retry")).to_be_visible()
    await page.unroute("**/api/chat")
    await page.get_by_test_id("retry").click()
    await expect_answer(page, "at last")
    await expect(page.get_by_test_id("message-user")).to_have_count(1)


async def test_a_message_that_is_too_long_comes_back_to_be_shortened(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(at(gateway, "too-long"))
    long = "/echo " + "x" * 40_000
    await say(page, long)
    await expect(page.get_by_test_id("composer")).to_have_value(long)
    await expect(page.get_by_test_id("retry")).to_have_count(0)
    await page.reload()
    await expect(page.get_by_test_id("composer")).to_have_value(long)
    await page.get_by_test_id("composer").fill("/echo shorter")
    await page.get_by_test_id("send").click()
    await expect_answer(page, "shorter")


async def test_the_conversation_goes_on_after_the_gateway_came_back(
    open_page: OpenPage, tmp_path: pathlib.Path
) -> None:
    port = str(free_port())
    async with running_gateway(tmp_path, "--port", port) as before:
        page = await open_page(before.url)
        await say(page, "/echo before the restart")
        await expect_answer(page, "before the restart")
    await expect(page.get_by_test_id("connection-banner")).to_be_visible()
    async with running_gateway(tmp_path, "--port", port):
        await expect(page.get_by_test_id("connection-banner")).to_have_count(0, timeout=30_000 * crowding())
        await say(page, "/echo after the restart")
        await expect_answer(page, "after the restart")
        await expect(page.get_by_test_id("message-user")).to_have_count(2)
        await page.context.close()


async def test_after_a_kill_the_page_says_it_once_and_sends_what_was_written_meanwhile(
    open_page: OpenPage, tmp_path: pathlib.Path
) -> None:
    port = str(free_port())
    words = "The gateway was restarted before the answer was complete."
    async with running_gateway(tmp_path, "--port", port) as before:
        writer, reader = await open_page(before.url), await open_page(before.url, height=400)
        await say(reader, "/echo " + "a line of it " * 400)
        await expect(reader.get_by_test_id("answer-copy")).to_have_count(1)
        for page in (writer, reader):
            await say(page, "/count 500 50")
            await expect(page.get_by_test_id("message-agent").last).to_contain_text("1 2 3")
        await reader.locator(".scroller").hover()
        await reader.mouse.wheel(0, -3_000)
        await expect(reader.get_by_test_id("jump-latest")).to_be_visible()
        place = await reader.locator(".scroller").evaluate(PLACE)
        os.kill(before.pid, signal.SIGKILL)
        await before.process.wait()
    await say(writer, "/echo written meanwhile")
    await expect(writer.get_by_test_id("message-outgoing")).to_contain_text("will be sent")
    await expect(writer.get_by_test_id("retry")).to_have_count(0)
    async with running_gateway(tmp_path, "--port", port):
        await expect(reader.get_by_test_id("failure")).to_contain_text(words)
        await expect(reader.get_by_text(words)).to_have_count(1)
        # Who reads far up stays there, and is a click from what happened.
        assert await reader.locator(".scroller").evaluate(PLACE) == place
        await reader.get_by_test_id("jump-latest").click()
        await expect(reader.get_by_test_id("failure")).to_be_in_viewport()
        await expect_answer(writer, "written meanwhile")
        await expect(writer.get_by_text(words)).to_have_count(1)
        await expect(writer.get_by_test_id("failure")).to_have_count(0)
        await expect(writer.get_by_test_id("message-user")).to_have_count(2)
        drawn = await writer.get_by_test_id("transcript").inner_text()
        assert drawn.index(words) < drawn.index("/echo written meanwhile")
        await writer.context.close()
        await reader.context.close()


async def test_after_a_kill_before_the_first_word_nothing_empty_is_drawn(
    open_page: OpenPage, tmp_path: pathlib.Path
) -> None:
    """State keeps the place of the answer that never came; a page has nothing to show for it."""
    port = str(free_port())
    async with running_gateway(tmp_path, "--port", port) as before:
        page = await open_page(before.url, locale="he-IL")
        await say(page, "/permission May I?")
        await expect(page.get_by_test_id("permission")).to_be_visible()
        os.kill(before.pid, signal.SIGKILL)
        await before.process.wait()
    async with running_gateway(tmp_path, "--port", port):
        # By its code, in the reader's language.
        await expect(page.get_by_test_id("failure")).to_contain_text("השרת הופעל מחדש לפני שהתשובה הושלמה.")
        await expect(page.get_by_test_id("permission")).to_have_count(0)
        await expect(page.get_by_test_id("message-agent")).to_have_count(0)
        drawn = await page.get_by_test_id("transcript").locator(".item:visible").all_inner_texts()
        assert all(text.strip() for text in drawn), drawn
        await page.context.close()


async def test_the_page_loads_nothing_from_elsewhere(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page("about:blank")
    asked: list[Any] = []
    page.on("request", lambda request: asked.append(request.url))
    answer = await page.goto(gateway.url)
    assert answer is not None
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    await expect(page.get_by_test_id("composer")).to_be_visible()
    assert all(url.startswith(gateway.url) for url in asked), asked
