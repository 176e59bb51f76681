"""Questions and options in the page: what a person sees of them, fills in, chooses, on a phone too."""

from __future__ import annotations

import pathlib
import signal
from typing import Any, Final

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.gateway.test_options import NEW
from tests.gateways import RunningGateway, running_gateway
from tests.shared import SHARED, fresh_id, shared_gateway

FORM: Final = {
    "properties": {
        "name": {"type": "string", "title": "Your name", "minLength": 1, "maxLength": 40},
        "mail": {"type": "string", "format": "email", "title": "Mail"},
        "count": {"type": "integer", "title": "How many", "minimum": 1, "maximum": 9, "default": 2},
        "colour": {
            "type": "string",
            "title": "Colour",
            "oneOf": [
                {"const": "r", "title": "Red", "description": "warm"},
                {"const": "g", "title": "Green"},
            ],
        },
        "town": {"type": "string", "title": "Town", "enum": [f"town {n}" for n in range(30)]},
        "extras": {"type": "array", "title": "Extras", "items": {"enum": ["nuts", "milk"]}},
        "sure": {"type": "boolean", "title": "Sure?"},
    },
    "required": ["name", "colour"],
}
ASK: Final = {"ask_question": {"message": "What shall I make?\nTell me all.", "requestedSchema": FORM}}
OPEN: Final = {
    "ask_question": {"mode": "url", "message": "Sign in there.", "url": "https://example.org/sign-in?state=1"}
}
AGENTS: Final[Any] = {
    "asks": {"turns": [[ASK]], "repeat": True, "resume": {}},
    "opens": {"turns": [[OPEN]], "repeat": True},
    "hostile": {
        "turns": [
            [
                {
                    "ask_question": {
                        "message": "<img src=x onerror=window.ran=1><button>Send the answer</button>",
                        "requestedSchema": {
                            "properties": {
                                "<b>x</b>": {
                                    "type": "string",
                                    "title": "<script>window.ran=1</script>",
                                    "enum": ["<i>"],
                                },
                                "long": {"type": "string", "title": "W" * 300},
                            }
                        },
                    }
                }
            ]
        ]
    },
    "tells": {"new": NEW, "turns": [[{"say": "$OPTIONS"}]], "repeat": True},
    "tells_too": {"new": NEW, "turns": [[{"say": "$OPTIONS"}]], "repeat": True},
}
gateway = shared_gateway(agents=AGENTS)
pytestmark = [SHARED, pytest.mark.browser]

PHONE: Final = {"width": 360, "height": 700}


async def opened(gateway: RunningGateway, open_page: OpenPage, agent: str, **how: Any) -> Page:
    """The page of a session in which this agent was asked."""
    session_id = fresh_id(agent)
    await gateway.send(session_id, "go", agent=agent)
    return await open_page(f"{gateway.url}/#s={session_id}", **how)


async def filled_in(page: Page) -> None:
    form = page.get_by_test_id("question")
    await form.get_by_label("Your name").fill("Ann")
    await form.get_by_label("Mail").fill("ann@example.org")
    await form.get_by_label("How many").fill("3")
    await form.get_by_label("Green").check()
    await form.get_by_label("Town").select_option("town 7")
    await form.get_by_label("milk").check()
    await form.get_by_label("Sure?").check()


@pytest.mark.parametrize("how", [{}, PHONE], ids=["wide", "phone"])
async def test_a_form_is_filled_in_and_its_answer_arrives(
    gateway: RunningGateway, open_page: OpenPage, how: Any
) -> None:
    page = await opened(gateway, open_page, "asks", **how)
    question = page.get_by_test_id("question")
    await expect(question).to_contain_text("asks asks")
    await expect(question).to_contain_text("What shall I make?")
    await expect(question).to_be_focused()
    await page.reload()
    await page.get_by_test_id("question-answer").click()  # the browser asks for what is missing
    await expect(question).to_be_visible()
    await filled_in(page)
    assert int(await page.evaluate("document.documentElement.scrollWidth")) <= how.get("width", 1100)
    await page.get_by_test_id("question-answer").click()
    await expect(question).to_have_count(0)
    answer = page.get_by_test_id("message-agent")
    await expect(answer).to_contain_text(
        'accept {"name":"Ann","mail":"ann@example.org","count":3,"colour":"g"'
    )
    await expect(answer).to_contain_text('"town":"town 7","extras":["milk"],"sure":true}')
    done = page.get_by_test_id("question-answered")
    await done.locator("summary").click()
    await expect(done.locator("dl")).to_contain_text("Your name")
    await expect(done.locator("dl")).to_contain_text("Ann")


async def test_a_question_is_declined_and_read_in_hebrew(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await opened(gateway, open_page, "asks", locale="he-IL", **PHONE)
    await expect(page.get_by_test_id("question")).to_contain_text("asks שואל")
    assert int(await page.evaluate("document.documentElement.scrollWidth")) <= PHONE["width"]
    await page.get_by_test_id("question-decline").press("Enter")
    await expect(page.get_by_test_id("message-agent")).to_have_text("decline")
    await expect(page.get_by_test_id("question-answered")).to_contain_text("סורב")


async def test_an_address_is_shown_with_its_host_and_opened_by_the_person_alone(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await opened(gateway, open_page, "opens")
    await page.context.route("https://example.org/**", lambda route: route.fulfill(body="there"))
    link = page.get_by_test_id("question-open")
    await expect(link).to_have_text("Open example.org")
    await expect(link).to_have_attribute("rel", "noopener noreferrer")
    await expect(page.get_by_test_id("question").locator("strong")).to_have_text("example.org")
    assert len(page.context.pages) == 1
    async with page.context.expect_page() as coming:
        await link.click()
    other = await coming.value
    assert other.url == "https://example.org/sign-in?state=1"
    await expect(page.get_by_test_id("message-agent")).to_have_text("accept")


async def test_nothing_in_a_question_runs(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await opened(gateway, open_page, "hostile", **PHONE)
    question = page.get_by_test_id("question")
    await expect(question).to_contain_text("<img src=x onerror=window.ran=1><button>Send the answer</button>")
    await expect(question.locator("img, script, i, b")).to_have_count(0)
    assert await page.evaluate("window.ran") is None
    assert int(await page.evaluate("document.documentElement.scrollWidth")) <= PHONE["width"]


async def test_a_question_outlives_the_gateway_and_its_answer_arrives(
    tmp_path: pathlib.Path, open_page: OpenPage
) -> None:
    async with running_gateway(tmp_path, agents=AGENTS) as gateway:
        await gateway.send("s", "go", agent="asks")
        page = await open_page(f"{gateway.url}/#s=s")
        await expect(page.get_by_test_id("question")).to_be_visible()
        await gateway.stop(signal.SIGKILL)
    told: Any = {"asks": {"turns": [[{"say": "heard: $PROMPT"}]], "repeat": True}}
    async with running_gateway(tmp_path, agents=told) as gateway:
        page = await open_page(f"{gateway.url}/#s=s")
        await expect(page.get_by_test_id("question")).to_contain_text("gets your answer as a message")
        await page.get_by_label("Your name").fill("Ann")
        await page.get_by_label("Red").check()
        await page.get_by_test_id("question-answer").click()
        await expect(page.get_by_test_id("message-agent").last).to_contain_text("Your name: Ann")


@pytest.mark.parametrize(("agent", "how"), [("tells", {}), ("tells_too", PHONE)], ids=["wide", "phone"])
async def test_modes_models_and_options_are_chosen_in_the_composer(
    gateway: RunningGateway, open_page: OpenPage, agent: str, how: Any
) -> None:
    page = await opened(gateway, open_page, agent, **how)
    button = page.get_by_test_id("options")
    await expect(button).to_contain_text("Ask · One")
    await button.click()
    panel = page.get_by_role("dialog")
    await panel.get_by_label("Mode", exact=True).select_option("plan")
    await panel.get_by_label("Fast").check()
    await expect(button).to_contain_text("Plan · One")
    assert int(await page.evaluate("document.documentElement.scrollWidth")) <= how.get("width", 1100)
    await page.keyboard.press("Escape")
    await expect(panel).to_be_hidden()
    await page.reload()
    await expect(button).to_contain_text("Plan · One")
    await page.get_by_test_id("composer").fill("tell")
    await page.get_by_test_id("composer").press("Enter")
    last = page.get_by_test_id("message-agent").last
    await expect(last).to_contain_text('"fast":true')
    await expect(last).to_contain_text('"mode":"plan"')
